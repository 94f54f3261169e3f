"""The ten markets of the sample shop: words, currency, number format and charsets of each, as data."""

# ruff: noqa: RUF001 - letters of other scripts are the point here

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Market:
    """How one country writes a product page; `amount` and `day` render a price and a date as a shopper sees them."""

    lang: str
    currency: str
    charsets: tuple[str, ...]
    amount: Callable[[Decimal], str]
    day: Callable[[date], str]
    scale: int
    """Price of one euro's worth, roughly: keeps the prices of each currency plausible."""
    cents: tuple[str, ...]
    """Endings that shops of this market like; "" prices in whole units."""
    decimals: int
    """Digits after the point that the currency has (ISO 4217)."""
    starting_at: str
    free: str
    on_request: str
    in_stock: str
    few_left: str
    sold_out: str
    labels: tuple[str, str, str, str, str]
    """Price, brand, item number, availability, on sale since."""
    home: str
    related: str
    brands: tuple[str, ...]
    goods: tuple[tuple[str, str], ...]
    """Noun phrases with their category; outside English each holds a letter that ASCII lacks."""


def grouped(amount: Decimal, separator: str, point: str) -> str:
    """Two decimals, thousands separated by `separator`, decimals introduced by `point`."""
    return f"{amount:,.2f}".replace(",", "\0").replace(".", point).replace("\0", separator)


def whole_grouped(amount: Decimal, separator: str) -> str:
    """No decimals, thousands separated by `separator`."""
    return f"{amount:,.0f}".replace(",", separator)


def swiss(amount: Decimal) -> str:
    """Francs as Swiss shops print them: a dash stands for no centimes."""
    if amount == amount.to_integral_value():
        return f"CHF {whole_grouped(amount, chr(39))}.-"
    return f"CHF {grouped(amount, chr(39), '.')}"


def indian(amount: Decimal) -> str:
    """Rupees in lakhs: the last three digits, then groups of two."""
    whole, paise = f"{amount:.2f}".split(".")
    head, tail = whole[:-3], whole[-3:]
    groups: list[str] = []
    while head:
        head, group = head[:-2], head[-2:]
        groups.insert(0, group)
    return f"₹{','.join([*groups, tail])}.{paise}"


def named_month(names: str, pattern: str) -> Callable[[date], str]:
    """A date format whose month is a word out of twelve."""
    months = names.split()
    return lambda day: pattern.format(d=day.day, m=months[day.month - 1], y=day.year)


ENGLISH_MONTHS = "January February March April May June July August September October November December"
RUSSIAN_MONTHS = "января февраля марта апреля мая июня июля августа сентября октября ноября декабря"
FRENCH_MONTHS = "janvier février mars avril mai juin juillet août septembre octobre novembre décembre"
NBSP = "\u00a0"

MARKETS = (
    Market(
        "en-US", "USD", ("utf-8",), lambda a: "$" + grouped(a, ",", "."), named_month(ENGLISH_MONTHS, "{m} {d}, {y}"),
        1, ("99", "95", "00"), 2, "from {}", "Free", "Call for price", "In stock", "Only a few left", "Out of stock",
        ("Price", "Brand", "Item no.", "Availability", "Available since"), "Home", "You may also like",
        ("Larkspur & Co.", "Northfell", "Copper Kettle"),
        (("Cast Iron Skillet 12\"", "Cookware"), ("Trail Running Shoes", "Footwear"), ("4-Person Dome Tent", "Camping"),
         ("Salt & Pepper Mill Set", "Kitchen"), ("Noise-Cancelling Headphones", "Audio")),
    ),
    Market(
        "en-GB", "GBP", ("iso-8859-1", "utf-8"), lambda a: "£" + grouped(a, ",", "."),
        named_month(ENGLISH_MONTHS, "{d} {m} {y}"),
        1, ("99", "50", "00"), 2, "from {}", "Free", "Price on application", "In stock", "Low stock", "Sold out",
        ("Our price", "Maker", "Product code", "Availability", "On sale since"), "Home", "Others also bought",
        ("Ashdown & Sons", "Penhallow"),
        (("Stoneware Teapot", "Tableware"), ("Waxed Cotton Jacket", "Clothing"),
         ("Oak Bookcase, 5 Shelves", "Furniture")),
    ),
    Market(
        "de-DE", "EUR", ("iso-8859-1", "utf-8"), lambda a: grouped(a, ".", ",") + NBSP + "€",
        lambda day: day.strftime("%d.%m.%Y"),
        1, ("99", "95", "00"), 2, "ab {}", "kostenlos", "Preis auf Anfrage", "Auf Lager", "Nur noch wenige Stück",
        "Ausverkauft", ("Preis", "Marke", "Artikelnummer", "Verfügbarkeit", "Erhältlich seit"), "Startseite",
        "Das könnte Ihnen auch gefallen", ("Grünwerk", "Hüttenfels", "Weißbach GmbH"),
        (("Kaffeemühle aus Edelstahl", "Küche"), ("Gartenstühle, 2er-Set", "Gärten"), ("Heißklebepistole", "Werkzeug"),
         ("Schlüsselbrett aus Eiche", "Möbel")),
    ),
    Market(
        "fr-FR", "EUR", ("utf-8", "iso-8859-1"), lambda a: grouped(a, NBSP, ",") + NBSP + "€",
        named_month(FRENCH_MONTHS, "{d} {m} {y}"),
        1, ("90", "99", "00"), 2, "à partir de {}", "gratuit", "Prix sur demande", "En stock",
        "Plus que quelques pièces",
        "Épuisé", ("Prix", "Marque", "Référence", "Disponibilité", "En vente depuis le"), "Accueil",
        "Vous aimerez aussi", ("Maison Élan", "Tournebroche"),
        (("Théière en fonte émaillée", "Cuisine"), ("Fauteuil en chêne massif", "Mobilier"),
         ("Sécateur à crémaillère", "Jardin")),
    ),
    Market(
        "pl-PL", "PLN", ("utf-8",), lambda a: grouped(a, NBSP, ",") + NBSP + "zł", lambda day: day.strftime("%d.%m.%Y"),
        4, ("99", "00", "50"), 2, "od {}", "gratis", "Zapytaj o cenę", "Dostępny", "Ostatnie sztuki", "Niedostępny",
        ("Cena", "Marka", "Nr katalogowy", "Dostępność", "W sprzedaży od"), "Strona główna", "Zobacz także",
        ("Żubrowy Szlak", "Dębina"),
        (("Młynek do kawy ręczny", "Kuchnia"), ("Krzesło dębowe", "Meble"), ("Śpiwór puchowy", "Turystyka")),
    ),
    Market(
        "ru-RU", "RUB", ("windows-1251", "utf-8"), lambda a: whole_grouped(a, NBSP) + NBSP + "руб.",
        named_month(RUSSIAN_MONTHS, "{d} {m} {y} г."),
        90, ("",), 2, "от {}", "бесплатно", "Цена по запросу", "В наличии", "Осталось мало", "Нет в наличии",
        ("Цена", "Бренд", "Артикул", "Наличие", "В продаже с"), "Главная", "С этим товаром покупают",
        ("Северный Ветер", "Домострой"),
        (("Кофемолка ручная", "Кухня"), ("Рюкзак походный 60 л", "Туризм"), ("Чайник эмалированный", "Посуда")),
    ),
    Market(
        "ja-JP", "JPY", ("shift_jis", "utf-8"), lambda a: "￥" + whole_grouped(a, ","),
        lambda day: f"{day.year}年{day.month}月{day.day}日",
        150, ("",), 0, "{}～", "無料", "価格はお問い合わせください", "在庫あり", "残りわずか", "在庫切れ",
        ("価格", "ブランド", "商品番号", "在庫状況", "発売日"), "ホーム", "関連商品", ("山ノ音", "きはだ工房"),
        # ソ ends in 0x5C, a backslash, in Shift_JIS: a parser that treats bytes as ASCII trips over it.
        (("二人掛けソファ", "家具"), ("手挽きコーヒーミル", "キッチン用品"), ("南部鉄器 急須", "食器"),
         ("登山用リュック 45L", "アウトドア")),
    ),
    Market(
        "zh-CN", "CNY", ("gbk", "utf-8"), lambda a: f"{a:.2f}元", lambda day: f"{day.year}-{day.month:02}-{day.day:02}",
        8, ("00", "90", "80"), 2, "{}起", "免费", "价格请咨询客服", "有货", "库存紧张", "缺货",
        ("价格", "品牌", "商品编号", "库存", "上架时间"), "首页", "猜你喜欢", ("青禾", "远山户外"),
        (("手摇咖啡研磨机", "厨房用品"), ("实木餐椅", "家具"), ("户外登山背包 45升", "户外"), ("保温水壶", "水具")),
    ),
    Market(
        "de-CH", "CHF", ("iso-8859-1", "utf-8"), swiss, lambda day: f"{day.day}.{day.month}.{day.year}",
        1, ("00", "00", "95", "50"), 2, "ab {}", "gratis", "Preis auf Anfrage", "Lieferbar",
        "Nur noch wenige verfügbar",
        "Nicht lieferbar", ("Preis", "Marke", "Art.-Nr.", "Verfügbarkeit", "Im Sortiment seit"), "Startseite",
        "Ähnliche Produkte", ("Gipfelkäse", "Zähringer"),
        (("Raclette-Öfeli für 4 Personen", "Küche"), ("Schneeschuhe für Damen", "Wintersport"),
         ("Velohelm für Kinder", "Velo")),
    ),
    Market(
        "en-IN", "INR", ("utf-8",), indian, lambda day: day.strftime("%d-%m-%Y"),
        90, ("00", "50"), 2, "From {}", "Free", "Price on request", "In stock", "Hurry, only a few left",
        "Currently unavailable", ("M.R.P.", "Brand", "Model no.", "Availability", "Date first available"), "Home",
        "Customers also viewed", ("Saffron House", "Neelkanth"),
        (("Steel Pressure Cooker 5 L", "Kitchen"), ("Handloom Cotton Bedsheet – King", "Home"),
         ("Teak Wood Dining Table", "Furniture")),
    ),
)  # fmt: skip
"""Every market; the order is part of the seed's meaning, so add at the end."""
