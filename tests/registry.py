"""A schema registry that speaks the HTTP interface of the real one, as far as its clients use it.

The real ones are JVM servers that need a minute and 150 MB to start: too much for each run of CI. What is written against
this one was run against Apicurio's as well: see `tests/unit/test_registry.py`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from schemas.compatibility import problems


class Registry:
    """Subjects with their schemas, ids that count up from 41, and the rule BACKWARD, as a real one has it by default."""

    def __init__(self) -> None:
        self.schemas: list[str] = []
        self.subjects: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.refuses: tuple[int, int, str] | None = None
        """What registrations are answered, if not None: status, code, message."""
        self.unavailable = 0
        """How many of the next requests are answered 503."""
        self.authorization: str | None = None
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; nobody answers any more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def register(self, subject: str, schema: str) -> str:
        """Take a schema; return why not, else empty."""
        known = self.subjects.setdefault(subject, [])
        if schema in known:
            return ""
        if known and (found := problems("", json.loads(known[-1]), json.loads(schema))):
            return found[0]
        known.append(schema)
        if schema not in self.schemas:
            self.schemas.append(schema)
        return ""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        super().__init__(("127.0.0.1", 0), _Answers)


class _Answers(BaseHTTPRequestHandler):
    """Lookup, registration, and schema by id."""

    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """A schema by its id; a registry of today knows more, which its client does without."""
        registry = self.server.registry
        path = self.path.partition("?")[0].split("/")
        registry.requests.append(("get", path[-1]))
        if self._is_away():
            return None
        if path[1:3] != ["schemas", "ids"]:
            return self._answer(404, {"error_code": 404, "message": "not found"})
        place = int(path[3]) - 41
        if not 0 <= place < len(registry.schemas):
            return self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        return self._answer(200, {"schema": registry.schemas[place]})

    def do_POST(self) -> None:
        """Look up, or register."""
        registry = self.server.registry
        _, _, subject, *rest = self.path.partition("?")[0].split("/")
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        registry.requests.append(("register" if rest else "lookup", subject))
        registry.authorization = self.headers["Authorization"]
        if self._is_away():
            return None
        if rest and registry.refuses:
            status, code, message = registry.refuses
            return self._answer(status, {"error_code": code, "message": message})
        if rest and (why := registry.register(subject, schema)):
            return self._answer(409, {"error_code": 409, "message": f"incompatible with an earlier schema: {why}"})
        if schema not in registry.subjects.get(subject, ()):
            return self._answer(404, {"error_code": 40403, "message": "Schema not found"})
        number = 41 + registry.schemas.index(schema)
        return self._answer(200, {"subject": subject, "version": 1, "id": number, "schema": schema})

    def _is_away(self) -> bool:
        registry = self.server.registry
        if not registry.unavailable:
            return False
        registry.unavailable -= 1
        self._answer(503, {"error_code": 50301, "message": "no leader"})
        return True

    def _answer(self, status: int, body: Mapping[str, object]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)
