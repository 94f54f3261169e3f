"""Runs one saga through an installed release, and judges it by what the topics hold.

Usage: release_test.py completes|compensates HOST PORT PIPELINE FETCH_STEP

Serves the page itself, at http://HOST:PORT, so that no other host is needed. A page with a heading makes a saga that
completes; one without fails to parse, so that the fetch has to be undone and its archived page deleted.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGES = {
    "completes": b"<!doctype html><title>Kettle</title><h1>Kettle</h1>",
    "compensates": b"<!doctype html><title>Nothing</title><p>A page without a heading.</p>",
}
ENDS_AS = {"completes": "COMPLETED", "compensates": "COMPENSATED"}
WATCHED_S = int(os.environ.get("RELEASE_TEST_SECONDS", "180"))


class Page(BaseHTTPRequestHandler):
    """Answers every GET with the page of this test."""

    body = b""

    def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
        """Serve the page."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)


class Server(ThreadingHTTPServer):
    """Listens on IPv6 and IPv4, where the pod has both."""

    daemon_threads = True
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET


def scrapesaga(*arguments: str) -> list[str]:
    """Run the command line; return the lines it printed. Ends the test if it fails."""
    done = subprocess.run(["scrapesaga", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        fail(f"`scrapesaga {' '.join(arguments)}` ended with {done.returncode}")
    return done.stdout.splitlines()


def fail(why: str) -> None:
    """Say why, and end the test."""
    sys.exit(f"FAILED: {why}")


def main(test: str, host: str, port: str, pipeline: str, fetch: str) -> None:
    """Submit, watch, judge."""
    Page.body = PAGES[test]
    with Server(("", int(port)), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        job = f"release-test-{test}-{time.time_ns()}"
        print(f"submits {job}", flush=True)
        scrapesaga("submit", f"http://{host}:{port}/{test}", "--pipeline", pipeline, "--job-id", job)
        states = [json.loads(line) for line in scrapesaga("watch", job, "--json", "--seconds", str(WATCHED_S))]
        server.shutdown()
    if not states:
        fail(f"no state of {job} within {WATCHED_S} s: are intake and coordinator ready? See dead letters too")
    last = states[-1]
    print(f"{job} is {last['phase']} after {len(states)} states. {last['reason']}", flush=True)
    if last["phase"] != ENDS_AS[test]:
        fail(f"expected {ENDS_AS[test]}; see `scrapesaga status {job}`")
    judge_pages(test, f"{job}:{last['run']}:{fetch}")


def judge_pages(test: str, key: str) -> None:
    """The archived page is there if the saga completed, and deleted if it was undone."""
    archived = [
        json.loads(line) for line in scrapesaga("replay", "--topic", "pages", "--from", "10m", "--job", key, "--json")
    ]
    if not archived:
        fail(f"no archived page under {key}")
    deleted = archived[-1]["value"] is None
    if deleted != (test == "compensates"):
        fail(f"the archived page under {key} {'is deleted' if deleted else 'is still there'}")
    print(f"its archived page {'is deleted' if deleted else 'is there'}", flush=True)


def run(arguments: Sequence[str]) -> None:
    """Read the arguments."""
    if len(arguments) != 5 or arguments[0] not in PAGES:
        sys.exit(__doc__)
    main(*arguments)


if __name__ == "__main__":
    run(sys.argv[1:])
