"""What operators ask of the engine: look at jobs, submit, step in, tell a job's story, replay, count, spend, verify.

One layer of use cases for every face: the command line today, an HTTP API and a console tomorrow. Each is an async
function of an Engine, with typed results and the errors of errors.py; there is no terminal, no exit code and no global here.

    engine = Engine(Settings.from_env(os.environ))
    job = await queries.status(engine, "abc-123")
    await engine.close()
"""
