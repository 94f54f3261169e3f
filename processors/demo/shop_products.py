"""What the sample shop sells, how each product misbehaves, and how its saga must end: pure functions of a seed."""

# ruff: noqa: RUF001 - a dash that Latin-1 lacks is meant to be one

from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from random import Random
from typing import Literal, TypedDict

from processors.demo.shop_markets import MARKETS, Market


class Layout(StrEnum):
    """How a page carries its facts."""

    TABLE = "table"
    MICRODATA = "microdata"
    JSON_LD = "json-ld"
    JSON_LD_GRAPH = "json-ld-graph"
    META = "meta"
    NESTED = "nested"


class CharsetHint(StrEnum):
    """Where a page says which charset it uses."""

    HEADER = "header"
    META = "meta"
    BOTH = "both"
    WRONG_HEADER = "wrong-header"
    """The header names a charset that the bytes contradict; the page's own <meta> is right."""


class Offer(StrEnum):
    """How the price is worded."""

    PLAIN = "plain"
    SALE = "sale"
    STARTING_AT = "from"
    FREE = "free"


class Stock(StrEnum):
    """Availability, in schema.org's words."""

    IN_STOCK = "InStock"
    LIMITED = "LimitedAvailability"
    SOLD_OUT = "OutOfStock"


class ProductKind(StrEnum):
    """How the shop behaves when a product is requested."""

    NORMAL = "normal"
    RATE_LIMITED_SECONDS = "rate-limited-seconds"
    RATE_LIMITED_DATE = "rate-limited-date"
    UNAVAILABLE = "unavailable"
    REDIRECTED = "redirected"
    SLOW_FIRST_BYTE = "slow-first-byte"
    SLOW_BODY = "slow-body"
    DROPPED_BODY = "dropped-body"
    REDIRECT_LOOP = "redirect-loop"
    TRUNCATED_GZIP = "truncated-gzip"
    NOT_FOUND = "not-found"
    GONE = "gone"
    BROKEN = "broken"
    NO_PRICE = "no-price"
    EMPTY = "empty"
    GZIP_BOMB = "gzip-bomb"
    PDF = "pdf"


FAULTY_KINDS = tuple(kind for kind in ProductKind if kind is not ProductKind.NORMAL)
REASONS = {
    ProductKind.REDIRECT_LOOP: "redirect_loop",
    ProductKind.TRUNCATED_GZIP: "corrupt_body",
    ProductKind.NOT_FOUND: "http_404",
    ProductKind.GONE: "http_410",
    ProductKind.BROKEN: "http_500",
    ProductKind.NO_PRICE: "missing_field",
    ProductKind.EMPTY: "empty_body",
    ProductKind.GZIP_BOMB: "body_too_large",
    ProductKind.PDF: "content_type",
}
"""Why a saga over such a product must be compensated; a kind that isn't here recovers and completes."""

GUARANTEED_FROM = 100
"""From this many products on, every kind occurs (unless the fault rate is zero)."""
LONGEST_OUTAGE = 3
"""Requests that a passing fault may spoil: fewer than the five attempts that a pipeline's fetch usually has."""


class Truth(TypedDict):
    """The record that a perfect parser gets; `price` has as many decimals as the currency ("12800", "1299.00")."""

    title: str
    price: str
    currency: str
    in_stock: bool
    sku: str
    brand: str
    url: str


@dataclass(frozen=True, slots=True)
class ExpectedProduct:
    """How a saga over one product must end, with the class of the reason when it is compensated.

    "either": it depends on who is faster, the API or the patience of the step.
    """

    outcome: Literal["completed", "compensated", "either"]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Product:
    """One product with everything that its page shows."""

    number: int
    market: Market
    layout: Layout
    charset: str
    hint: CharsetHint
    gzipped: bool
    title: str
    brand: str
    sku: str
    gtin: str
    description: str
    category: str
    offer: Offer
    price: Decimal
    old_price: Decimal | None
    stock: Stock
    released: date
    related: tuple[tuple[str, str], ...]

    @property
    def path(self) -> str:
        """The address that is requested, and the page's canonical link."""
        return f"/p/{self.number}"

    @property
    def in_stock(self) -> bool:
        """Whether it can be ordered today."""
        return self.stock is not Stock.SOLD_OUT

    @property
    def plain_price(self) -> str:
        """The amount as machines read it: a point, no grouping, the currency's decimals."""
        return f"{self.price:.{self.market.decimals}f}"

    @property
    def shown_price(self) -> str:
        """The price as a shopper reads it."""
        amount = self.market.amount(self.price)
        match self.offer:
            case Offer.FREE:
                return self.market.free
            case Offer.STARTING_AT:
                return self.market.starting_at.format(amount)
            case _:
                return amount


@dataclass(frozen=True)
class ProductCatalogue:
    """Products 1 to `products`, decided by the seed; `fault_rate` is the share that misbehaves."""

    seed: int
    products: int
    fault_rate: float = 0.0

    def __post_init__(self) -> None:
        if self.products < 1:
            raise ValueError(f"products is {self.products}: a shop needs at least one")
        if not 0.0 <= self.fault_rate <= 1.0:
            raise ValueError(f"fault_rate is {self.fault_rate}: give a share between 0 and 1")

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and 1 <= number <= self.products

    def product(self, number: int) -> Product:
        """The product itself, whatever its page does."""
        return _product(self.seed, self._known(number))

    def truth(self, number: int, shop_url: str = "") -> Truth:
        """The record that a perfect parser extracts."""
        product = self.product(number)
        return Truth(
            title=product.title,
            price=product.plain_price,
            currency=product.market.currency,
            in_stock=product.in_stock,
            sku=product.sku,
            brand=product.brand,
            url=shop_url + product.path,
        )

    def kind(self, number: int) -> ProductKind:
        """How the shop behaves for this product."""
        return _kinds(self.seed, self.products, self.fault_rate)[self._known(number) - 1]

    def expected(self, number: int) -> ExpectedProduct:
        """How a saga that only scrapes this product must end."""
        reason = REASONS.get(self.kind(number))
        return ExpectedProduct("completed") if reason is None else ExpectedProduct("compensated", reason)

    def outage(self, number: int) -> int:
        """How many first requests a passing fault spoils."""
        return Random(f"{self.seed}:outage:{self._known(number)}").randint(1, LONGEST_OUTAGE)

    def redirects(self, number: int) -> tuple[int, ...]:
        """The status codes of the redirects that lead to the page, in order."""
        random = Random(f"{self.seed}:redirects:{self._known(number)}")
        return tuple(random.sample((301, 302, 307), random.randint(1, 3)))

    def _known(self, number: int) -> int:
        if number not in self:
            raise ValueError(f"there is no product {number}: the shop sells 1 to {self.products}")
        return number


@lru_cache(maxsize=8)
def _kinds(seed: int, products: int, fault_rate: float) -> tuple[ProductKind, ...]:
    faulty = round(products * fault_rate)
    if fault_rate > 0 and products >= GUARANTEED_FROM:
        faulty = max(faulty, len(FAULTY_KINDS))
    kinds = [ProductKind.NORMAL] * products
    for position, number in enumerate(Random(f"{seed}:kinds").sample(range(products), faulty)):
        kinds[number] = FAULTY_KINDS[position % len(FAULTY_KINDS)]
    return tuple(kinds)


@lru_cache(maxsize=1024)
def _product(seed: int, number: int) -> Product:
    random = Random(f"{seed}:product:{number}")
    market = random.choice(MARKETS)
    layout = random.choice(tuple(Layout))
    charset = random.choice(market.charsets)
    phrase, category = random.choice(market.goods)
    brand = random.choice(market.brands)
    model = f"{random.choice('ABEKLMRTX')}{random.choice('ADGNRSX')}-{random.randint(10, 990)}"
    offer = random.choices(tuple(Offer), weights=(6, 2, 1, 1))[0]
    if offer is Offer.FREE and layout in (Layout.TABLE, Layout.NESTED):
        # Nothing on these pages would say which currency the gift isn't charged in.
        offer = Offer.PLAIN
    price = Decimal(0) if offer is Offer.FREE else _price(random, market)
    released = date(2019, 1, 1) + timedelta(days=random.randrange(2000))
    return Product(
        number=number,
        market=market,
        layout=layout,
        charset=charset,
        hint=_hint(random, market),
        gzipped=random.random() < 0.5,
        title=f"{brand} {phrase} {model}",
        brand=brand,
        sku=f"{model.replace('-', '')}-{number:05d}",
        gtin=_gtin(random),
        description=f"{phrase} – {category}. {brand}, {model}.",
        category=category,
        offer=offer,
        price=price,
        old_price=(price * random.choice((2, 3))) if offer is Offer.SALE else None,
        stock=random.choices(tuple(Stock), weights=(6, 2, 2))[0],
        released=released,
        related=tuple(
            (f"{random.choice(market.brands)} {random.choice(market.goods)[0]}", market.amount(_price(random, market)))
            for _ in range(random.randint(1, 3))
        ),
    )


def _price(random: Random, market: Market) -> Decimal:
    euros = random.choice((random.randint(4, 99), random.randint(100, 999), random.randint(1000, 2900)))
    whole = euros * market.scale + random.randrange(market.scale)
    ending = random.choice(market.cents)
    return Decimal(f"{whole}.{ending}") if ending else Decimal(whole // 10 * 10)


def _hint(random: Random, market: Market) -> CharsetHint:
    # English pages may hold ASCII only, where a wrong header would contradict nothing.
    hints = tuple(hint for hint in CharsetHint if hint is not CharsetHint.WRONG_HEADER or market.lang[:2] != "en")
    return random.choice(hints)


def _gtin(random: Random) -> str:
    digits = [4, 0] + [random.randrange(10) for _ in range(10)]
    weighed = sum(digit * (3 if place % 2 else 1) for place, digit in enumerate(digits))
    return "".join(map(str, digits)) + str(-weighed % 10)
