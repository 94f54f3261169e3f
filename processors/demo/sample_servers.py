"""The sample world, the shop and the paid API, as one child process that ends with its parent."""

import argparse
import asyncio
import json
import logging
import os
import secrets
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from aiohttp import web

from processors.demo.paid_api import PRICES, PaidApi
from processors.demo.paid_faults import PaidFaults
from processors.demo.paid_ledger import InvoiceLedger, LedgerCorrupt
from processors.demo.shop import Shop
from processors.demo.shop_products import ExpectedProduct, ProductCatalogue, Truth

READY_SECONDS = 60.0
"""A cold start takes one second; a machine that needs longer than this is broken or overloaded beyond use."""
STOP_SECONDS = 5.0
API_TOKEN = "SAMPLE_API_TOKEN"
"""The variable with the bearer token that the API asks for."""
CHECKOUT = Path(__file__).parents[2]


class SampleServersFailed(Exception):
    """The sample world did not start; the message names the log to read."""


class Announcement(msgspec.Struct, frozen=True):
    """The line that the child prints once both servers listen."""

    shop_url: str
    api_url: str


class SampleServers:
    """A running sample world: where it listens, what it serves, and how each saga over it must end."""

    def __init__(
        self,
        data_dir: Path,
        *,
        seed: int = 1,
        products: int = 100,
        fault_rate: float = 0.0,
        permanent_rate: float = 0.0,
        slow_seconds: float = 2.0,
        late_charge_rate: float = 0.0,
        late_charge_seconds: float = 60.0,
        api_token: str | None = None,
        shop_port: int = 0,
        api_port: int = 0,
    ) -> None:
        """Nothing starts yet; ledger and log live in `data_dir`, and a restart keeps ports, token and ledger."""
        self.catalogue = ProductCatalogue(seed, products, fault_rate)
        self.api_token = api_token or secrets.token_urlsafe(16)
        self.shop_url = ""
        self.api_url = ""
        self._data_dir = data_dir
        self._more_faults = {
            "permanent_rate": permanent_rate,
            "late_charge_rate": late_charge_rate,
            "late_charge_seconds": late_charge_seconds,
        }
        self._faults = PaidFaults.spread(fault_rate, hang_seconds=slow_seconds, **self._more_faults)
        self._slow_seconds = slow_seconds
        self._ports = (shop_port, api_port)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def ledger_path(self) -> Path:
        """The paid API's books, one JSON line an entry."""
        return self._data_dir / "paid-api.jsonl"

    @property
    def log_path(self) -> Path:
        """What the child process had to say."""
        return self._data_dir / "world.log"

    @property
    def pid(self) -> int:
        """The child's process id; raises SampleServersFailed if there is none."""
        if self._child is None:
            raise SampleServersFailed("the sample world isn't running: call start() first")
        return self._child.pid

    def url(self, number: int) -> str:
        """The address of one product."""
        return self.shop_url + self.catalogue.product(number).path

    def urls(self) -> list[str]:
        """The address of every product, in order."""
        return [self.url(number) for number in range(1, self.catalogue.products + 1)]

    def truth(self, number: int) -> Truth:
        """The record that a perfect parser extracts from this product's page."""
        return self.catalogue.truth(number, self.shop_url)

    def expected(self, number: int) -> ExpectedProduct:
        """How a saga that scrapes this product and then asks the paid API must end."""
        scraped = self.catalogue.expected(number)
        if scraped.outcome != "completed":
            return scraped
        seed, url = self.catalogue.seed, self.truth(number)["url"]
        if self._faults.refuses(seed, url):
            return ExpectedProduct("compensated", "refused")
        late = any(self._faults.charges_late(seed, path, url) for path in PRICES)
        return ExpectedProduct("either", "charged late") if late else scraped

    def start(self) -> Self:
        """Run the child and return once both servers listen; raises WorldFailed."""
        if self._child is not None:
            raise SampleServersFailed(f"the sample world already runs as process {self._child.pid}: stop() it first")
        self._data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                # Ctrl-C goes to the parent alone: sagas still compensate against the API while it shuts down.
                start_new_session=True,
            )
        try:
            announced = self._announcement(self._child)
        except BaseException:
            self.kill()
            raise
        self.shop_url, self.api_url = announced.shop_url, announced.api_url
        self._ports = (int(self.shop_url.rpartition(":")[2]), int(self.api_url.rpartition(":")[2]))
        return self

    def stop(self) -> None:
        """End the child in an orderly way, by force after five seconds; no-op when it isn't running."""
        if self._child is None:
            return
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the child at once, as a crash would; start() brings it back on the same ports."""
        if self._child is None:
            return
        child, self._child = self._child, None
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _command(self) -> list[str]:
        options = {
            "--seed": self.catalogue.seed,
            "--products": self.catalogue.products,
            "--fault-rate": self.catalogue.fault_rate,
            **{f"--{name.replace('_', '-')}": value for name, value in self._more_faults.items()},
            "--slow-seconds": self._slow_seconds,
            "--ledger": self.ledger_path,
            "--shop-port": self._ports[0],
            "--api-port": self._ports[1],
        }
        # -P: a folder named `schemas` where the user stands must not shadow anything of ours.
        command = [sys.executable, "-P", "-m", "processors.demo.sample_servers", "--end-with-stdin"]
        return command + [f"{option}={value}" for option, value in options.items()]

    def _environment(self) -> dict[str, str]:
        # Not on the command line, which every user of the machine can read.
        environment = {**os.environ, API_TOKEN: self.api_token}
        if CHECKOUT.name not in ("site-packages", "dist-packages"):
            # A checkout that isn't installed; -P keeps Python from finding it by itself.
            inherited = environment.get("PYTHONPATH")
            environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *([inherited] if inherited else [])])
        return environment

    def _announcement(self, child: subprocess.Popen[bytes]) -> Announcement:
        if child.stdout is None:
            raise SampleServersFailed("the sample world was started without a pipe to announce itself on")
        ready, _, _ = select.select([child.stdout], [], [], READY_SECONDS)
        line = child.stdout.readline() if ready else b""
        try:
            return msgspec.json.decode(line, type=Announcement)
        except msgspec.DecodeError:
            state = "ended" if ready else f"said nothing for {READY_SECONDS:.0f} s"
            raise SampleServersFailed(f"the sample world {state} before it was ready: read {self.log_path}") from None


async def serve(options: argparse.Namespace) -> None:
    """Run both servers until SIGTERM, SIGINT or, if asked for, the end of stdin."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if options.end_with_stdin:
        # The parent holds the other end: however it dies, the pipe closes and no orphan stays.
        loop.add_reader(sys.stdin.fileno(), stopped.set)
    catalogue = ProductCatalogue(options.seed, options.products, options.fault_rate)
    faults = PaidFaults.spread(
        options.fault_rate,
        hang_seconds=options.slow_seconds,
        permanent_rate=options.permanent_rate,
        late_charge_rate=options.late_charge_rate,
        late_charge_seconds=options.late_charge_seconds,
    )
    ledger = InvoiceLedger(options.ledger)
    shop = Shop(catalogue, slow_seconds=options.slow_seconds)
    api = PaidApi(ledger, token=options.api_token, seed=options.seed, faults=faults)
    # Handlers that hang on purpose are cut off rather than waited for.
    runners = [
        web.AppRunner(app, access_log=None, shutdown_timeout=0.2) for app in (shop.application(), api.application())
    ]
    try:
        urls = [
            await listen(runner, port)
            for runner, port in zip(runners, (options.shop_port, options.api_port), strict=True)
        ]
        announced = {"shop_url": urls[0], "api_url": urls[1], "api_token": options.api_token}
        print(json.dumps(announced), flush=True)
        await stopped.wait()
    finally:
        for runner in runners:
            await runner.cleanup()
        ledger.close()


async def listen(runner: web.AppRunner, port: int) -> str:
    """Serve on loopback (port 0: any free one); returns the URL."""
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    host, bound = runner.addresses[0][:2]
    return f"http://{host}:{bound}"


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="processors.demo.sample_servers", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="decides everything that looks random")
    parser.add_argument("--products", type=int, default=100, help="how many the shop sells")
    parser.add_argument("--fault-rate", type=float, default=0.0, help="share of products and API calls that misbehave")
    parser.add_argument("--permanent-rate", type=float, default=0.0, help="share of products that the API refuses")
    parser.add_argument("--late-charge-rate", type=float, default=0.0, help="share of products that are charged late")
    parser.add_argument("--late-charge-seconds", type=float, default=60.0, help="how late that is")
    parser.add_argument("--slow-seconds", type=float, default=2.0, help="how long a slow answer takes")
    parser.add_argument("--ledger", type=Path, help="file that keeps the API's invoices over restarts")
    parser.add_argument("--shop-port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--api-port", type=int, default=0, help="0 picks a free port")
    parser.add_argument("--end-with-stdin", action="store_true", help="stop when stdin closes")
    options = parser.parse_args(arguments)
    options.api_token = os.environ.get(API_TOKEN) or "sample-token"
    return options


def main() -> None:
    """Entry point of the child process; a wrong setting or a taken port is one line on stderr."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(serve(parsed()))
    except (ValueError, OSError, LedgerCorrupt, msgspec.ValidationError) as wrong:
        sys.exit(f"the sample world can't run: {wrong}")


if __name__ == "__main__":
    main()
