"""Serves the sample shop on port 8001 and the sample paid API on 8002, for pods to call.

Usage: sample_world.py SEED PRODUCTS FAULT_RATE PERMANENT_RATE API_TOKEN
"""

from __future__ import annotations

import asyncio
import signal
import sys

from aiohttp import web

from processors.demo.paid_api import PaidApi
from processors.demo.paid_faults import PaidFaults
from processors.demo.paid_ledger import InvoiceLedger
from processors.demo.shop import Shop
from processors.demo.shop_products import ProductCatalogue

SHOP_PORT, API_PORT = 8001, 8002
# Longer than the pipeline's patience with the API, so that late answers are late indeed.
SLOW_S = 4.0


async def serve(seed: int, products: int, fault_rate: float, permanent_rate: float, token: str) -> None:
    """Run both servers until SIGTERM; the invoices are kept in memory."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    faults = PaidFaults.spread(fault_rate, permanent_rate=permanent_rate, hang_seconds=SLOW_S)
    shop = Shop(ProductCatalogue(seed, products, fault_rate), slow_seconds=SLOW_S)
    api = PaidApi(InvoiceLedger(), token=token, seed=seed, faults=faults)
    for app, port in ((shop.application(), SHOP_PORT), (api.application(), API_PORT)):
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, None, port).start()
    await stopped.wait()


if __name__ == "__main__":
    seed_, products_, fault_rate_, permanent_rate_, token_ = sys.argv[1:]
    asyncio.run(serve(int(seed_), int(products_), float(fault_rate_), float(permanent_rate_), token_))
