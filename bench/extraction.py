"""How well, and how fast, the `product` preset reads labelled product pages and price strings.

    python bench/extraction.py --pages DIR [--prices FILE] [--misses] [--readers N]

DIR holds `ground-truth.json` ({id: {"url": ..., "price": [accepted...], "sku": [...], ...}}) with the pages as
`html/<id>.html.gz`. FILE is a JSON list of {"price_raw", "currency_raw", "amount", "currency"}.
F1 counts an attribute as right if the page has it and the value is among those accepted; a value found where the
labels have none is a false positive, a missing one a false negative, a wrong one both.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import statistics
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from processors.extraction.charset import decode
from processors.extraction.currencies import code_of
from processors.extraction.extract import FieldMissing, extract
from processors.extraction.fields import compile_fields
from processors.extraction.money import PriceContext, read_money
from processors.extraction.readers import PageReaders
from processors.extraction.reading import ReadPage, read_page

_SOLD_OUT = frozenset(("OutOfStock", "SoldOut", "Discontinued"))
_PASSES = 3


@dataclass(slots=True)
class Tally:
    """Counts of one attribute over all pages."""

    right: int = 0
    wrong: int = 0
    spurious: int = 0
    missed: int = 0

    def line(self, name: str) -> str:
        """The counts with precision, recall and F1."""
        predicted, labelled = self.right + self.wrong + self.spurious, self.right + self.wrong + self.missed
        precision, recall = self.right / max(predicted, 1), self.right / max(labelled, 1)
        f1 = 2 * precision * recall / max(precision + recall, 1e-9)
        return (
            f"{name:<13} F1 {f1:.3f}  precision {precision:.3f}  recall {recall:.3f}  "
            f"({self.right} right, {self.wrong} wrong, {self.spurious} spurious, {self.missed} missed)"
        )


def _amount(text: object) -> object:
    return Decimal(str(text).strip())


def _letters(text: object) -> str:
    plain = unicodedata.normalize("NFKC", str(text)).casefold()
    return re.sub(r"\s+", " ", plain).strip()


def _stock(text: object) -> str:
    return "OutOfStock" if text in _SOLD_OUT else "InStock"


def _digits(text: object) -> str:
    return re.sub(r"\D", "", str(text)).lstrip("0")


_EXACT: Mapping[str, Callable[[object], object]] = {
    "price": _amount,
    "availability": _stock,
    "sku": _letters,
    "brand": _letters,
    "gtin": _digits,
}


def _predicted(values: Mapping[str, Any], name: str) -> object | None:
    value = values.get(name)
    return value["amount"] if name == "price" and value is not None else value


def _count(tally: Tally, found: object | None, accepted: Iterable[str], same: Callable[[object], object]) -> bool:
    wanted = [same(text) for text in accepted]
    if found is None:
        tally.missed += bool(wanted)
        return not wanted
    if not wanted:
        tally.spurious += 1
    elif same(found) in wanted:
        tally.right += 1
        return True
    else:
        tally.wrong += 1
    return False


def measure_pages(folder: Path, show_misses: bool) -> None:
    """Print F1 for each attribute, accuracy of the currency, milliseconds for each page."""
    fields = compile_fields({"title": {"required": False}}, preset="product")
    truth: dict[str, dict[str, Any]] = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    tallies = {name: Tally() for name in _EXACT}
    currencies: list[bool] = []
    times: list[float] = []
    for page, labels in truth.items():
        body = gzip.decompress((folder / "html" / f"{page}.html.gz").read_bytes())
        laps = []
        for _ in range(_PASSES):
            start = time.process_time()
            try:
                values: dict[str, Any] = extract(decode(body, None)[0], labels["url"], fields)
            except FieldMissing as missing:
                raise SystemExit(f"{page}: {missing}") from missing
            laps.append(time.process_time() - start)
        times.append(min(laps) * 1000)
        for name, tally in tallies.items():
            found = _predicted(values, name)
            accepted = labels.get(name, [])
            if not _count(tally, found, accepted, _EXACT[name]) and show_misses:
                print(f"{page[:8]} {name}: found {found!r}, accepted {accepted}  {labels['url']}")
        if (symbol := labels.get("currency")) and (price := values.get("price")):
            near = (price["currency"],) if price["currency"] else ()
            currencies.append(any(code_of(text, near=near) == price["currency"] for text in symbol))
    for name, tally in tallies.items():
        print(tally.line(name))
    print(f"currency      accuracy {sum(currencies) / max(len(currencies), 1):.3f} of {len(currencies)} labelled")
    ranked = sorted(times)
    print(
        f"{len(times)} pages, {1000 * len(times) / sum(times):.0f} a second and core; CPU time each: "
        f"p50 {statistics.median(ranked):.1f} ms, p90 {ranked[int(len(ranked) * 0.9)]:.1f} ms, "
        f"p99 {ranked[int(len(ranked) * 0.99)]:.1f} ms"
    )


async def measure_readers(folder: Path, readers: int) -> None:
    """Print how long pages take in reader processes, as the step reads them, beside the same work in this process."""
    truth: dict[str, dict[str, Any]] = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    fields = msgspec.json.encode({"title": {"required": False}})
    asked = [
        ReadPage(
            zstandard.compress(gzip.decompress((folder / "html" / f"{page}.html.gz").read_bytes())),
            *(None, labels["url"], None, fields, "product"),
        )
        for page, labels in truth.items()
    ] * _PASSES
    pool = PageReaders(readers)
    await asyncio.gather(*(pool.read(page) for page in asked[:readers]))
    begun = time.perf_counter()
    for page in asked:
        read_page(page)
    here = time.perf_counter() - begun
    begun, own = time.perf_counter(), time.process_time()
    await asyncio.gather(*(pool.read(page) for page in asked))
    there, own = time.perf_counter() - begun, time.process_time() - own
    await pool.close()
    print(
        f"{len(asked)} pages unpacked, decoded and read: {len(asked) / here:.0f} a second in this process, "
        f"{len(asked) / there:.0f} by {readers} reader(s), at {1000 * own / len(asked):.2f} ms CPU here for each"
    )


def measure_prices(file: Path, show_misses: bool) -> None:
    """Print how many price strings give the right amount, the right currency, both."""
    examples: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))
    amounts = currencies = both = 0
    for example in examples:
        setting = PriceContext(decimal=example.get("decimal_separator"))
        money = read_money(example["price_raw"] or "", setting, symbol=example["currency_raw"] or "")
        amount = None if example["amount"] is None else Decimal(example["amount"])
        same_amount = (money.amount if money else None) == amount
        # Without an amount there is no money, so its currency does not count.
        currency = code_of(example["currency"] or "") if amount is not None else None
        same_currency = (money.currency if money else None) == currency
        amounts, currencies, both = (
            amounts + same_amount,
            currencies + same_currency,
            both + (same_amount and same_currency),
        )
        if show_misses and not (same_amount and same_currency):
            print(f"{example['price_raw']!r} {example['currency_raw']!r}: {money}, expected {amount} {currency}")
    total = len(examples)
    print(
        f"{total} price strings: amount {amounts / total:.3f}, currency {currencies / total:.3f}, both {both / total:.3f}"
    )


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pages", type=Path, help="folder with ground-truth.json and html/")
    parser.add_argument("--prices", type=Path, help="JSON file of price strings")
    parser.add_argument(
        "--readers", type=int, default=0, help="processes that read the pages too, as the step has them"
    )
    parser.add_argument("--misses", action="store_true", help="print every attribute that was not right")
    given = parser.parse_args()
    if not (given.pages or given.prices):
        parser.error("give --pages, --prices or both")
    if given.pages:
        measure_pages(given.pages, given.misses)
    if given.pages and given.readers:
        asyncio.run(measure_readers(given.pages, given.readers))
    if given.prices:
        measure_prices(given.prices, given.misses)


if __name__ == "__main__":
    main()
