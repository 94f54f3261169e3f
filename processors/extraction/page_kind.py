"""Whether a page is a product's page, or one that only speaks of products: an article, a list, a forum, a home page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from processors.extraction.buttons import buy_buttons
from processors.extraction.jsonld import KINDS, types_of
from processors.extraction.offers import offers, products
from processors.extraction.page import Page
from processors.extraction.product_words import GTIN_LABEL, OWN_NUMBER_LABEL, SKU_LABEL
from processors.extraction.regions import is_aside
from processors.extraction.shown_prices import CERTAIN, listed_cards, shown_prices
from processors.extraction.stated import stated

_ARTICLES = KINDS["Article"] | {
    *("Recipe", "HowTo", "QAPage", "FAQPage", "DiscussionForumPosting", "JobPosting", "ProfilePage", "AboutPage"),
    *("ContactPage", "LiveBlogPosting", "OpinionNewsArticle", "ReviewNewsArticle", "AnalysisNewsArticle", "Blog"),
    *("MedicalWebPage", "CheckoutPage", "SearchResultsPage", "CollectionPage", "Question", "SocialMediaPosting"),
}
_LISTS = frozenset(("ItemList", "CollectionPage", "SearchResultsPage", "OfferCatalog", "ProductCollection"))
_PRODUCT_TYPES = ("product", "og:product", "product.item", "book", "books.book", "video.movie", "music.album")
_ARTICLE_TYPES = ("article", "blog", "profile", "news", "website.article")
_PRODUCT_PATH = re.compile(
    r"/(?:p|pd|dp|ip|itm|item|items|product|products|produkt|produkty|produit|producto|productos|prodotto|produto|prod|artikel|"
    r"tovar|product_info\.php|shop/[^/]+/[^/]+)[/-]|-p-?\d{4,}|[?&](?:pid|sku|product_?id|products_id|variant)=",
    re.IGNORECASE,
)
_ARTICLE_PATH = re.compile(
    r"/(?:blog|news|article|articles|story|magazin|magazine|ratgeber|guide|guides|post|posts|forum|forums|thread|threads|topic|wiki|help|"
    r"hilfe|faq|about|about-us|ueber-uns|kontakt|contact|press|careers|jobs|recipes?|category|categories|kategorie|tag|tags|author|search|"
    r"suche)(?:/|$|\.)|/(?:19|20)\d\d/[01]\d/|/viewtopic|/showthread|^/?(?:index\.\w+|home)?$",
    re.IGNORECASE,
)
# A paragraph, not a line of a specification.
_PARAGRAPH = 120
_MUCH_PROSE = 1500
# Less text than this is a page that has yet to be filled, of which nobody can say what it is.
_ANY_CONTENT = 300
_MOST_TEXTS = 3000
_MANY_CARDS = 4
_NEAR = 60
_STRUCK = frozenset(("del", "s", "strike"))
# One sign against is not enough, where nothing speaks for it: a poor page has nothing to show.
_SURE, _NOT = 3.0, -3.0
_SIGN, _NOTHING = 1.0, 0.5
_CLEARLY = 1.0
_CARDS = "it shows several products alike"


class Kind(StrEnum):
    """What a page is to the preset `product`."""

    PRODUCT = "product"
    UNSURE = "unsure"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The kind, with how much speaks for a product's page, and what speaks against it, in words."""

    kind: Kind
    signs: float
    weight: float = 0.0
    against: str = ""

    @property
    def is_doubted(self) -> bool:
        """Whether something speaks against a product's page, and not clearly less than what speaks for it."""
        return self.kind is not Kind.PRODUCT and bool(self.against) and self.signs - self.weight < _CLEARLY


def verdict(page: Page) -> Verdict:
    """What the page is, by all that speaks for and against it; no single sign decides against what others show."""
    declared, against = _declared(page), _against(page)
    weight = sum(weight for weight, _ in against)
    reasons = ", ".join(reason for _, reason in against)
    if declared - weight >= _SURE:
        # What the page declares settles it; to look for buttons and prices takes longer.
        return Verdict(Kind.PRODUCT, declared, weight, reasons)
    for_it = declared + _shown(page)
    score = for_it - weight
    if for_it < _NOTHING and (against or sum(len(shown.text) for shown in page.texts[:_MOST_TEXTS]) > _ANY_CONTENT):
        reasons = reasons or "nothing on it is offered, by price, number or button"
        return Verdict(Kind.OTHER, for_it, weight, reasons)
    kind = Kind.OTHER if score <= _NOT else Kind.PRODUCT if score >= _SURE else Kind.UNSURE
    return Verdict(kind, for_it, weight, reasons)


def kind_of(page: Page) -> Kind:
    """What the page is to the preset."""
    return page.once(verdict).kind


def is_doubted(page: Page) -> bool:
    """Whether the page may be no product's page."""
    return page.once(verdict).is_doubted


def may_guess(page: Page) -> bool:
    """Whether text that stands in no telling place may be the product's: something must say that there is one."""
    found = page.once(verdict)
    # Cards alone say nothing of the text outside them.
    return found.signs >= _SIGN and (not found.is_doubted or found.against == _CARDS)


def _declared(page: Page) -> float:
    declared = products(page)
    score = 0.0
    if declared:
        name = max((page.about.shares_name(str(node.get("name") or "")) for _, node in declared), default=0.0)
        sells = any("offers" in node or "price" in node for _, node in declared)
        score += 2.0 + 1.5 * sells + (1.0 if name >= 0.5 else 0.0)
    elif offers(page):
        score += 1.5
    if any(value.casefold() in _PRODUCT_TYPES for value in page.meta.get("og:type", ())):
        score += 2.0
    if "product:price:amount" in page.meta or "og:price:amount" in page.meta:
        score += 2.0
    return score + (1.0 if _PRODUCT_PATH.search(f"{page.address.path}?{page.address.query}") else 0.0)


def _shown(page: Page) -> float:
    score = 2.0 if page.once(buy_buttons) else 0.0
    # The price under the heading, in a place that is named for it, is what shops have in common.
    best = next((price for price in page.once(shown_prices) if price.is_main), None)
    if best is not None:
        score += 2.0
    elif _strikes(page) or any(
        price.is_current and not price.is_listed and price.score >= CERTAIN for price in page.once(shown_prices)
    ):
        score += 1.0
    if next(stated(page, OWN_NUMBER_LABEL), "") or next(stated(page, GTIN_LABEL), ""):
        score += 1.0
    elif next(stated(page, SKU_LABEL, page.heading_place), ""):
        # "Code" and "Reference" stand on many a form.
        score += 0.5
    return score


def _against(page: Page) -> list[tuple[float, str]]:
    found: list[tuple[float, str]] = []
    types = {name for node in page.jsonld[:200] for name in types_of(node)}
    types |= {name for item in page.microdata[:200] for name in types_of(item)}
    has_product = bool(products(page))
    if articles := sorted(types & _ARTICLES):
        found.append((1.5 if has_product else 4.0, f"it declares itself as {articles[0]}"))
    elif kinds := [value for value in page.meta.get("og:type", ()) if value.casefold() in _ARTICLE_TYPES]:
        found.append((2.0, f"its og:type is {kinds[0]}"))
    if not has_product and any("itemReviewed" in node for node in (*page.jsonld, *page.microdata)):
        found.append((3.0, "it reviews a product"))
    if not has_product and (types & _LISTS or _declares_others(page)):
        found.append((3.0, "it lists several products"))
    elif not has_product and len(page.once(listed_cards)) >= _MANY_CARDS:
        # A shelf of other products under the product is no list.
        found.append((2.0, _CARDS))
    if _ARTICLE_PATH.search(page.address.path) and page.address.netloc and not page.address.query:
        found.append((2.0, f"its address {page.address.path or '/'} is not that of a product"))
    if not has_product and _prose(page) > _MUCH_PROSE:
        found.append((2.0, "most of it is prose"))
    return found


def _strikes(page: Page) -> bool:
    """Whether an amount near the heading is struck through: a former price."""
    near = page.texts[page.heading_place : page.heading_place + _NEAR]
    return any(shown.element.tag in _STRUCK and any(map(str.isdigit, shown.text)) for shown in near)


def _declares_others(page: Page) -> bool:
    return any(types_of(node) & KINDS["Product"] for node in (*page.jsonld, *page.microdata))


def _prose(page: Page) -> int:
    long = (shown for shown in page.texts[:_MOST_TEXTS] if len(shown.text) >= _PARAGRAPH)
    return sum(len(shown.text) for shown in long if not is_aside(shown.element, page.around_heading))
