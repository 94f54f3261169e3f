"""What elements are called: the words that the rules look for in class, id, itemprop and test id, found in one walk."""

from __future__ import annotations

import re
from functools import lru_cache

from lxml import etree

#: A class, id or the like that is longer than this is no name that anybody wrote.
LONGEST_NAME = 500

PRICE = re.compile(
    r"price|preis|prix|precio|prezzo|preco|cena|amount|cijena|hind|kaina|pris\b|fiyat|harga|hinta|pret\b|tien\b|gia-"
)
STOCK = re.compile(r"availab|stock|inventory|disponib|verfueg|lager|skladom|skladem|dostupn|sold-?out|voorraad|nalichi")
BRAND = re.compile(r"brand|byline|manufacturer")
CODE = re.compile(r"sku|(?:product|article|item|cat)[-_]?(?:code|n(?:o\b|r|um))|artnr")
SKU = re.compile(r"\bsku\b")
RATED = re.compile(r"rating|review|stars?\b|bewertung|avis")
CRUMBS = re.compile(r"bread-?crumb|breadcrumb|crumbs")
GALLERY = re.compile(
    r"gallery|product-?(?:image|photo|media|slid)|main-?image|image-?main|carousel-?product|thumb|zoom|swiper-?product"
)
# None of them holds white space: each name is looked at by itself.
_ALL = (PRICE, STOCK, BRAND, CODE, SKU, RATED, CRUMBS, GALLERY)


class NamedElements:
    """The elements of a page whose names hold words of a rule, by the rule."""

    def __init__(self, elements: list[etree._Element]) -> None:
        by_words: dict[int, list[tuple[int, etree._Element]]] = {}
        for at, element in enumerate(elements):
            get = element.get
            found = 0
            if name := get("class"):
                found = _words_in(name[:LONGEST_NAME])
            if identity := get("id"):
                found |= _words_in(identity[:LONGEST_NAME])
            if prop := get("itemprop"):
                found |= _words_in(prop[:LONGEST_NAME])
            if (name or identity or prop) and (test := get("data-testid")):
                found |= _words_in(test[:LONGEST_NAME])
            if found:
                by_words.setdefault(found, []).append((at, element))
        self._by_words = by_words

    def by(self, rule: re.Pattern[str]) -> list[etree._Element]:
        """The elements in whose class, id, itemprop or test id (in lower case) the rule finds a word, in document order."""
        bit = 1 << _ALL.index(rule)
        found = [place for words, places in self._by_words.items() if words & bit for place in places]
        # Places are never equal, so elements are not compared.
        return [element for _, element in sorted(found)]


# A shop calls its elements the same on all of its pages.
@lru_cache(maxsize=16_384)
def _words_in(name: str) -> int:
    lowered = name.lower()
    return sum(1 << at for at, rule in enumerate(_ALL) if rule.search(lowered))
