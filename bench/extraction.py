"""How well, and how fast, the `product` preset reads labelled product pages and price strings.

    python -m bench.extraction --pages DIR [--prices FILE] [--misses] [--readers N] [--beside] [--gate]

DIR holds `ground-truth.json` ({id: {"url": ..., "price": [accepted...], "sku": [...], ...}}) with the pages as
`html/<id>.html.gz`. FILE is a JSON list of {"price_raw", "currency_raw", "amount", "currency"}.
F1 counts an attribute as right if the page has it and the value is among those accepted; a value found where the
labels have none is a false positive, a missing one a false negative, a wrong one both.

Labels err too. Beside the figures by the labels as they are stand those without the two errors that the page itself
proves: an amount whose thousands were taken for decimals (labelled 24.99 where the page shows "$24.990" in a currency
without decimals), and a brand that isn't labelled though the page's title names it. The gate goes by these.

`--beside` measures extruct with price-parser on the same pages. Pages without a product are those of
`bench.pages_without_product`: there a price or a number is a claim of what isn't there.
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
from typing import Any, TypeAlias

import msgspec
import zstandard

from bench.extruct_reader import extruct_reader
from bench.pages_without_product import pages
from processors.extraction.charset import decode
from processors.extraction.currencies import code_of
from processors.extraction.extract import NoProductPage, extract
from processors.extraction.fields import compile_fields
from processors.extraction.money import PriceContext, read_money
from processors.extraction.page import Page
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

    @property
    def precision(self) -> float:
        """Of what was found, the share that is right."""
        return self.right / max(self.right + self.wrong + self.spurious, 1)

    @property
    def recall(self) -> float:
        """Of what is labelled, the share that was found."""
        return self.right / max(self.right + self.wrong + self.missed, 1)

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-9)

    def line(self, name: str) -> str:
        """The counts with precision, recall and F1."""
        return (
            f"{name:<13} F1 {self.f1:.3f}  precision {self.precision:.3f}  recall {self.recall:.3f}  "
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


def _proven(name: str, found: object, accepted: list[str], page: Page) -> bool:
    """Whether the page itself proves the label wrong."""
    if name == "price" and accepted:
        shown = {re.sub(r"\D", "", text) for text in re.findall(r"\d{1,3}(?:[.,]\d{3})+(?![\d])", page.html)}
        return str(found) in shown and any(Decimal(text.strip()) * 1000 == found for text in accepted)
    return name == "brand" and not accepted and _letters(found) in _letters(page.titles)


Reader: TypeAlias = Callable[[str, str], Mapping[str, Any]]


def _ours(html: str, url: str) -> Mapping[str, Any]:
    try:
        return extract(html, url, _FIELDS)
    except NoProductPage:
        return {}


_FIELDS = compile_fields({"title": {"required": False}}, preset="product")


def measure_pages(folder: Path, show_misses: bool, reader: Reader = _ours) -> dict[str, float]:
    """Print F1 for each attribute, accuracy of the currency, pages a second; return the F1 that the gate goes by."""
    truth: dict[str, dict[str, Any]] = json.loads((folder / "ground-truth.json").read_text("utf-8"))
    tallies = {name: (Tally(), Tally()) for name in _EXACT}
    lacks = Tally()
    currencies: list[bool] = []
    times: list[float] = []
    for key, labels in truth.items():
        body = gzip.decompress((folder / "html" / f"{key}.html.gz").read_bytes())
        html = decode(body, None)[0]
        laps = []
        for _ in range(_PASSES):
            start = time.process_time()
            values = reader(decode(body, None)[0], labels["url"])
            laps.append(time.process_time() - start)
        times.append(min(laps) * 1000)
        page = Page(html, labels["url"])
        for name, (strict, proven) in tallies.items():
            found = _predicted(values, name)
            accepted = labels.get(name, [])
            is_right = _count(strict, found, accepted, _EXACT[name])
            if found is not None and not is_right and _proven(name, _EXACT[name](found), accepted, page):
                proven.right += bool(accepted)
            else:
                _count(proven, found, accepted, _EXACT[name])
                if not is_right and show_misses:
                    print(f"{key[:8]} {name}: found {found!r}, accepted {accepted}  {labels['url']}")
        _count_lack(lacks, values.get("availability"), labels.get("availability", []))
        if (symbol := labels.get("currency")) and (price := values.get("price")):
            near = (price["currency"],) if price["currency"] else ()
            currencies.append(any(code_of(text, near=near) == price["currency"] for text in symbol))
    for name, (strict, proven) in tallies.items():
        print(strict.line(name))
        if strict != proven:
            print(proven.line("  proven"))
    print(lacks.line("OutOfStock"))
    print(f"currency      accuracy {sum(currencies) / max(len(currencies), 1):.3f} of {len(currencies)} labelled")
    ranked = sorted(times)
    print(
        f"{len(times)} pages, {1000 * len(times) / sum(times):.0f} a second and core; CPU time each: "
        f"p50 {statistics.median(ranked):.1f} ms, p90 {ranked[int(len(ranked) * 0.9)]:.1f} ms, "
        f"p99 {ranked[int(len(ranked) * 0.99)]:.1f} ms"
    )
    return {name: proven.f1 for name, (_, proven) in tallies.items()}


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


def _count_lack(tally: Tally, found: object | None, accepted: list[str]) -> None:
    """Availability as the question whether the product is gone: a constant "InStock" scores nothing here."""
    is_gone, is_found = bool(accepted) and _stock(accepted[0]) == "OutOfStock", found in _SOLD_OUT
    tally.right += is_gone and is_found
    tally.missed += is_gone and not is_found
    tally.spurious += is_found and not is_gone and bool(accepted)


def measure_claims(reader: Reader = _ours, show_misses: bool = False) -> float:
    """Print how many of the pages without a product are given a price or a number; return the share."""
    every = list(pages())
    claims = {name: 0 for name in ("price", "sku", "either")}
    for page in every:
        values = reader(page.html, page.url)
        has = {name: values.get(name) is not None for name in ("price", "sku")}
        if show_misses and any(has.values()):
            print(f"{page.name}: { ({name: values[name] for name, is_there in has.items() if is_there}) }")
        claims = {name: count + has.get(name, any(has.values())) for name, count in claims.items()}
    share = claims["either"] / len(every)
    print(
        f"{len(every)} pages without a product: a price on {claims['price']}, a number on {claims['sku']} ({share:.1%})"
    )
    return share


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


#: The least F1 of each attribute, and the most claims on pages without a product, that `--gate` lets pass.
LEAST = {"price": 0.95, "availability": 0.95, "sku": 0.92, "brand": 0.92}
MOST_CLAIMS = 0.03


def main() -> None:
    """Measure what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--pages", type=Path, help="folder with ground-truth.json and html/")
    parser.add_argument("--prices", type=Path, help="JSON file of price strings")
    parser.add_argument(
        "--readers", type=int, default=0, help="processes that read the pages too, as the step has them"
    )
    parser.add_argument("--misses", action="store_true", help="print every attribute that was not right")
    parser.add_argument("--beside", action="store_true", help="measure extruct with price-parser on the same pages")
    parser.add_argument("--gate", action="store_true", help="exit with 1 where a figure is too low")
    given = parser.parse_args()
    if not (given.pages or given.prices):
        parser.error("give --pages, --prices or both")
    failed: list[str] = []
    if given.pages:
        scores = measure_pages(given.pages, given.misses)
        share = measure_claims(show_misses=given.misses)
        failed = [f"{name} {scores[name]:.3f} < {least}" for name, least in LEAST.items() if scores[name] < least]
        failed += [f"claims {share:.1%} > {MOST_CLAIMS:.0%}"] if share > MOST_CLAIMS else []
        if given.beside:
            print("\nextruct with price-parser, the first declared value of each:")
            measure_pages(given.pages, False, extruct_reader())
            measure_claims(extruct_reader())
    if given.pages and given.readers:
        asyncio.run(measure_readers(given.pages, given.readers))
    if given.prices:
        measure_prices(given.prices, given.misses)
    if given.gate and failed:
        raise SystemExit(f"too low: {', '.join(failed)}")


if __name__ == "__main__":
    main()
