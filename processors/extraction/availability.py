"""Words about stock, in many languages, as names of schema.org's ItemAvailability."""

from __future__ import annotations

import re

_NAMES = {
    name.lower(): name
    for name in (
        *("BackOrder", "Discontinued", "InStock", "InStoreOnly", "LimitedAvailability", "MadeToOrder", "OnlineOnly"),
        *("OutOfStock", "PreOrder", "PreSale", "Reserved", "SoldOut"),
    )
}
_NAMES |= {"available": "InStock", "availableforpreorder": "PreOrder", "oos": "OutOfStock"}
_NAMES |= {"unavailable": "OutOfStock", "notavailable": "OutOfStock"}
_NAMES |= {"yes": "InStock", "true": "InStock", "no": "OutOfStock", "false": "OutOfStock"}

_LACKS = frozenset(("Discontinued", "OutOfStock"))
_LONGEST = 400
_NOT_STOCK = re.compile(
    r"image|\bbild|photo|\bfoto|immagine|imagen|imagem|\blist\b|review|rezension|video", re.IGNORECASE
)
# Tried in this order: "not available" holds "available", "no longer in stock" holds "in stock".
_WORDS = tuple(
    (name, re.compile(pattern, re.IGNORECASE))
    for name, pattern in (
        (
            "Discontinued",
            r"discontinued|no longer (?:available|sold|made)|nicht mehr lieferbar|plus commercialisé|fuera de catálogo",
        ),
        (
            "OutOfStock",
            r"out[\s-]*of[\s-]*stock|(?:not|un|in)[\s-]*available|not (?:currently )?in stock|no stock\b|sold[\s-]*out|"
            r"ausverkauft|nicht (?:auf lager|verfügbar|lieferbar|vorrätig)|derzeit nicht|vergriffen|"
            r"rupture|épuisé|indisponible|non disponible|plus disponible|"
            r"agotado|sin stock|no disponible|no hay existencias|esgotado|indisponível|sem estoque|fora de stock|"
            r"esaurito|non disponibile|uitverkocht|niet (?:op voorraad|leverbaar|beschikbaar)|"
            r"slutsåld|ej i lager|udsolgt|ikke på lager|utsolgt|loppuunmyyty|ei varastossa|"
            r"niedostępn|brak w magazynie|wyprzedan|vyprodáno|vypredané|není skladem|nie je skladom|nedostupn|"
            r"elfogyott|nincs (?:raktáron|készleten)|stoc epuizat|indisponibil|nu este (?:în|in) stoc|"
            r"нет в наличии|распродан|закончил|немає в наявності|изчерпан|εξαντλ|stokta yok|tükendi|"
            r"売り切れ|在庫なし|品切れ|售罄|缺货|缺貨|已售完|补货|補貨|품절|hết hàng|สินค้าหมด|habis|"
            r"אזל|לא במלאי|غير متوفر|نفد|نفذت|rasprodan|nema na zalihi|ni na zalogi|razprodano|išparduot|läbimüüd|"
            r"nav noliktavā",
        ),
        (
            "PreOrder",
            r"pre-?[\s-]?order|vorbestell|précommande|reservar ahora|preventa|pré-venda|prenota|předobjedn|predobjedn|"
            r"предзаказ|przedsprzedaż|予約|预订|預購",
        ),
        ("BackOrder", r"back-?[\s-]?order|nachbestell|nabestelling"),
        (
            "LimitedAvailability",
            r"limited (?:stock|availability)|low (?:in )?stock|(?:only|just) \d+ left|nur noch \d+|plus que \d+|"
            r"quedan \d+|solo \d+ (?:disponibil|rimast)|último",
        ),
        (
            "InStock",
            r"in[\s-]*stock|\bavailable|auf lager|sofort lieferbar|lieferbar|verfügbar|vorrätig|en stock|disponib|"
            r"disponív|disponíve|op voorraad|leverbaar|i lager|på lager|varastossa|dostępn|na stanie|skladem|na sklad|"
            r"skladom|raktáron|készleten|(?:în|in) stoc|dostupn|na zalihi|na zalogi|в наличии|в наявності|в наличност|"
            r"άμεσα διαθέσιμο|διαθέσιμ|stokta|在庫あり|有货|有貨|現貨|现货|재고 있음|còn hàng|มีสินค้า|tersedia|במלאי|"
            r"متوفر|متاح|yra sandėlyje|laos|noliktavā|add to (?:cart|basket|bag)|buy (?:it )?now",
        ),
    )
)


def read_availability(text: str) -> str | None:
    """The schema.org name that the text means, such as InStock, or None.

    Takes `http://schema.org/InStock`, `in_stock`, `instock`, or a shop's own words in the usual languages.
    """
    token = re.split(r"[/#]", text.strip().rstrip("/"))[-1]
    return _NAMES.get(re.sub(r"[\s_-]", "", token).lower()) or stock_in_words(text)


def stock_in_words(text: str) -> str | None:
    """The schema.org name that a shop's own words mean, or None; "image unavailable" is not about the product."""
    text = text[:_LONGEST]
    if _NOT_STOCK.search(text):
        return None
    return next((name for name, words in _WORDS if words.search(text)), None)


def lack_in_words(text: str) -> bool:
    """Whether a shop's own words say that the product cannot be had; quicker than to ask which word it is."""
    text = text[:_LONGEST]
    return any(words.search(text) for name, words in _WORDS if name in _LACKS) and not _NOT_STOCK.search(text)
