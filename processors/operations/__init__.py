"""The use cases of operators: look at jobs, submit, intervene, show the history of a job, replay, count, spend, verify.

One layer of use cases for every face: the command line today, an HTTP API and a console tomorrow. Each is an async
function of an Engine, with typed results and the errors of errors.py; there is no terminal, no exit code and no global here.

    engine = Engine(Settings.from_env(os.environ))
    job = await queries.status(engine, "abc-123")
    await engine.close()
"""
