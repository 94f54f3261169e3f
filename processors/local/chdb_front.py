"""ClickHouse's HTTP interface on loopback over a chDB engine, for whoever knows the password.

This is not the ClickHouse server. The engine is the same, so SQL, types, MergeTree tables and errors are real; there
are no users, quotas, replication, progress headers or streamed results: a whole answer is held in memory.
"""

from __future__ import annotations

import gzip
import io
import json
import socket
import socketserver
import uuid
import zlib
from datetime import timedelta
from email import message_from_bytes
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import lz4.frame  # type: ignore[import-untyped]  # it ships no types
import zstandard

from processors.local.chdb_callers import NO_PAGES, Refusal, refusal
from processors.local.chdb_engine import ChdbEngine, EngineError, Query
from processors.local.faults import InsertFault, InsertFaults

_READ_OF_STRANGERS = 65_536
# Parameters of the transport; every other one is a setting of the engine, as with the server.
_TRANSPORT = frozenset(
    {
        "query",
        "database",
        "default_format",
        "session_id",
        "session_timeout",
        "session_check",
        "query_id",
        "user",
        "password",
        "quota_key",
        "role",
        "client_protocol_version",
        "wait_end_of_query",
        "buffer_size",
        "enable_http_compression",
        "send_progress_in_http_headers",
        "http_headers_progress_interval_ms",
    }
)
# As the server maps them; anything else is a 500.
_STATUS = {
    36: 400,
    62: 400,
    27: 400,
    6: 400,
    53: 400,
    47: 404,
    60: 404,
    81: 404,
    115: 404,
    373: 423,
    241: 500,
    159: 408,
}


class RequestError(ValueError):
    """The request cannot be understood; the message says why."""


class Front(ThreadingHTTPServer):
    """The listening socket, with what its request handlers share."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, engine: ChdbEngine, password: str, faults: InsertFaults | None) -> None:
        self.engine = engine
        self.password = password
        self.faults = faults
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look its own name up in the DNS, which can take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # One packet an answer: with headers and body apart, Nagle's algorithm adds 40 ms.
    wbufsize = 65_536
    disable_nagle_algorithm = True
    server: Front

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_OPTIONS(self) -> None:
        # What a browser asks before it lets a web page send more than a form: no page may.
        self._turn_away(Refusal(HTTPStatus.FORBIDDEN, NO_PAGES))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of each request: the log is for what fails."""

    def _handle(self) -> None:
        try:
            refused = refusal(self.headers, self.path, self.server.server_port, self.server.password)
            if refused is not None:
                self._turn_away(refused)
                return
            body = self._read_body()
            path = urlsplit(self.path).path
            if path == "/_faults" and self.server.faults is not None:
                self._set_faults(body, self.server.faults)
            elif path in ("/ping", "/"):
                self._serve(body)
            else:
                self._reply(404, b"There is no such page: ask / or /ping.\n")
        except ConnectionError:
            # The client went away; what it had not sent to the end was not carried out.
            self.close_connection = True

    def _turn_away(self, refused: Refusal) -> None:
        """Answer without reading more of the request than a polite client sends, and close the connection."""
        self.close_connection = True
        sent = self.headers.get("Content-Length", "0")
        self.rfile.read(min(int(sent), _READ_OF_STRANGERS) if sent.isascii() and sent.isdigit() else 0)
        headers = {"Connection": "close"}
        if refused.code:
            headers["X-ClickHouse-Exception-Code"] = str(refused.code)
        self._reply(refused.status, f"{refused.message}\n".encode(), headers)

    def _serve(self, body: bytes) -> None:
        try:
            request = self._request(body)
        except ValueError as error:
            self._reply(
                400,
                f"Code: 36. DB::Exception: {error} (BAD_ARGUMENTS)\n".encode(),
                {"X-ClickHouse-Exception-Code": "36"},
            )
            return
        fault = self.server.faults.next(is_insert=request.is_insert) if self.server.faults else InsertFault.OK
        if fault is InsertFault.REFUSE:
            self._reply(503, b"Refused on request.\n")
            return
        if fault is InsertFault.HANG and self.server.faults:
            self.server.faults.hang()
        if not request.sql:
            self._reply(200, b"Ok.\n")
            return
        self._execute(request, answers=fault is not InsertFault.DROP_MID_INSERT)

    def _execute(self, request: Query, *, answers: bool) -> None:
        query_id = self._parameters.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Timezone": self.server.engine.timezone}
        try:
            answer = self.server.engine.execute(request)
        except EngineError as error:
            headers["X-ClickHouse-Exception-Code"] = str(error.code)
            self._reply(_STATUS.get(error.code, 500), f"{error.message}\n".encode(), headers)
            return
        if not answers:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        headers["X-ClickHouse-Summary"] = json.dumps({name: str(value) for name, value in answer.summary.items()})
        if answer.format is not None:
            headers["X-ClickHouse-Format"] = answer.format
        body = answer.body
        encoding = self._answer_encoding() if body else None
        if encoding is not None:
            headers["Content-Encoding"] = encoding
            body = _compress(body, encoding)
        self._reply(200, body, headers)

    def _request(self, body: bytes) -> Query:
        url = urlsplit(self.path)
        parameters = dict(parse_qsl(url.query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape"))
        if url.path == "/ping":
            self._parameters: dict[str, str] = {}
            return Query(b"")
        if self.headers.get_content_type() == "multipart/form-data":
            parameters |= _form(self.headers["Content-Type"], body)
            body = b""
        self._parameters = parameters
        body = _decompress(body, self.headers.get("Content-Encoding", "identity"))
        query = parameters.get("query", "").encode(errors="surrogateescape")
        sql, data = (query, body) if query else (body, b"")
        return Query(
            sql,
            data,
            database=parameters.get("database") or self.headers.get("X-ClickHouse-Database"),
            settings={
                name: value
                for name, value in parameters.items()
                if name not in _TRANSPORT and not name.startswith("param_")
            },
            parameters={name[6:]: value for name, value in parameters.items() if name.startswith("param_")},
            default_format=parameters.get("default_format") or self.headers.get("X-ClickHouse-Format"),
            session_id=parameters.get("session_id"),
            session_timeout=timedelta(seconds=float(parameters.get("session_timeout", "60"))),
        )

    def _answer_encoding(self) -> str | None:
        if self._parameters.get("enable_http_compression") != "1":
            return None
        offered = [offer.partition(";")[0].strip() for offer in self.headers.get("Accept-Encoding", "").split(",")]
        return next((encoding for encoding in offered if encoding in ("lz4", "zstd", "gzip")), None)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length", "0")))
        chunks = []
        while size := int(self._read_line().partition(b";")[0], 16):
            chunks.append(self._read(size))
            self._read_line()
        while self._read_line().strip():
            pass
        return b"".join(chunks)

    def _read(self, size: int) -> bytes:
        read = self.rfile.read(size)
        if len(read) < size:
            raise ConnectionError("The client closed the connection within its request.")
        return read

    def _read_line(self) -> bytes:
        line = self.rfile.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("The client closed the connection within its request.")
        return line

    def _set_faults(self, body: bytes, faults: InsertFaults) -> None:
        try:
            if self.command == "POST":
                faults.set_from_json(body)
        except ValueError as error:
            self._reply(400, f"{error}\n".encode())
            return
        self._reply(200, faults.as_json() + b"\n", {"Content-Type": "application/json"})

    def _reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in {"Content-Type": "text/plain; charset=UTF-8", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


def _form(content_type: str, body: bytes) -> dict[str, str]:
    message = message_from_bytes(b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + body)
    fields: dict[str, str] = {}
    for part in message.walk():
        name = part.get_param("name", header="Content-Disposition")
        if not isinstance(name, str):
            continue
        if part.get_filename() is not None:
            raise RequestError(f"External table {name} cannot be taken here: put the data into a table first.")
        content = part.get_payload(decode=True)
        fields[name] = content.decode(errors="surrogateescape") if isinstance(content, bytes) else ""
    return fields


def _decompress(body: bytes, encoding: str) -> bytes:
    """Undo Content-Encoding; clients send one frame a block, one after the other."""
    try:
        match encoding:
            case "identity" | "":
                return body
            case "gzip":
                return gzip.decompress(body)
            case "deflate":
                return zlib.decompress(body)
            case "zstd":
                return zstandard.ZstdDecompressor().stream_reader(body, read_across_frames=True).read()
            case "lz4":
                with lz4.frame.LZ4FrameFile(io.BytesIO(body)) as frames:
                    return bytes(frames.read())
    except (OSError, EOFError, RuntimeError, zlib.error, zstandard.ZstdError) as error:
        raise RequestError(f"The body is not {encoding}: {error}.") from error
    raise RequestError(f"Content-Encoding {encoding} cannot be taken here: use gzip, zstd, lz4 or none.")


def _compress(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.compress(body, compresslevel=1)
        case "zstd":
            return zstandard.ZstdCompressor(level=1).compress(body)
        case _:
            return bytes(lz4.frame.compress(body))
