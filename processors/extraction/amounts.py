"""Every amount of a text with the part that it plays: the price, what it was, per litre, a month, saved, for two."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from processors.extraction.currencies import BESIDE_NUMBER
from processors.extraction.numerals import NUMBER


class PriceRole(StrEnum):
    """What an amount is to the buyer, by the words around it."""

    PRICE = "price"
    WAS = "was"
    REGULAR = "regular"
    UNIT = "unit"
    INSTALMENT = "instalment"
    SEVERAL = "several"
    SAVED = "saved"
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Amount:
    """A number beside a currency; `is_now` if a word such as "now" stands before it."""

    number: str
    currency: str
    part: PriceRole
    is_now: bool
    start: int
    end: int


#: An amount beside a currency, on either side.
AT_CURRENCY = re.compile(
    rf"(?P<before>{BESIDE_NUMBER}):?\s*(?P<number>{NUMBER})|(?P<number2>{NUMBER})\s*(?P<after>{BESIDE_NUMBER})",
    re.IGNORECASE,
)
# "35€ 99" is 35.99.
_CENTS = re.compile(r"\s?(\d\d)(?![\w.,/])")

_SIZE = (
    r"(?:\d+(?:[.,]\d+)?\s*)?(?:m[lgm]|c[lm]|d[lm]|kg|kilo(?:gram\w*)?|gr?|grams?|gramm|l|lt|ltr|lit(?:er|re|ro|"
    r"r)s?|oz|fl\.?\s?oz|ounces?|lbs?|"
    r"pounds?|m[²³23]?|qm|sqm|ft[²2]?|sq\.?\s?ft\.?|yd|кг|мл|л|г|м[²³23]?|公斤|克|升|毫升|斤|"
    r"tab(?:let|lette)s?\.?|caps(?:ule|el|eln)?s?|wash(?:es)?|wl|waschladung\w*|sheets?|doses?|portion\w*|count|"
    r"ct|100|1000)(?!\w)"
)
_PIECE = r"(?:stk|stück|st|pcs?|pieces?|ks|szt|шт|item|unit|unidad|unité|pezzo|stuk|tk|vnt|gab|db)(?!\w)"
_PER = r"(?:/|per|pro|je|par|por|al?|la|le|za|na|за|на|к|kohti|/\s*1)"
_PERIOD = (
    r"(?:mo(?:nth|nat|n|is)?\b|m(?:ese|ês|es|ies|iesiąc|ånad|åned|nd|th|aand|tl)\b|m[eě]s(?:íc|iac)?\b|мес\w*|"
    r"міс\w*|kk\b|ay\b|hó\b|"
    r"week|woche|semaine|semana|w[ke]+\b|y(?:ea)?r\b|jahr|month|月|개월|週)"
)
_MONTHLY = (
    r"(?:monthly|a month|each month|monatlich|mtl\b|měsíčně|mesačne|miesięcznie|mensual\w*|mensuel\w*|mensil\w*|"
    r"mensa(?:l|is)|månatlig|"
    r"månedlig|ежемесячно|щомісяц|havonta|lunar\b|maandelijks|aylık|kuukaudessa|kuus\b|mēnesī|per mån|/mån|"
    r"taksit|cuotas|instal?lments?|"
    r"raten?\b|splát|rat\b|x\s?\d+)"
)
_AFTER = (
    (PriceRole.SAVED, re.compile(r"^\W{0,3}(?:off|rabat\w*|discount|korting|скидк|sleva|zľava|de descuento|"
    r"de réduction|di sconto|de desconto|cashback|savings?|saved|"
        r"gespart|günstiger|zniżki|taniej|引き|オフ|おトク|折扣|할인)", re.IGNORECASE)),
    (PriceRole.INSTALMENT, re.compile(rf"^\s*(?:{_PER}\s*{_PERIOD}|/?\s*{_MONTHLY}|x\s*\d+\b)", re.IGNORECASE)),
    (PriceRole.UNIT, re.compile(rf"^\s*(?:{_PER}\s*{_SIZE}|"
    rf"[*]?\)?\s*/\s*(?:1\s*)?{_PIECE}[^\w]{{0,2}}\))", re.IGNORECASE)),
    (PriceRole.SEVERAL, re.compile(r"^\s*(?:for|für|pour|per|por|voor|за|za)\s+\d+\b", re.IGNORECASE)),
    (PriceRole.EXTRA, re.compile(r"^\W{0,2}(?:shipping|delivery|postage|p&p|versand|de frais de port|livraison|frakt|"
    r"deposit|pfand|минимальн|送料)", re.IGNORECASE)),
)  # fmt: skip
_BEFORE = (
    (PriceRole.SAVED, re.compile(r"(?:\bsav(?:e|ed|ing|ings)|discount|\boff|spar(?:en|st|nis)?|ersparnis|rabat\w*|"
    r"économi\w*|ahorr\w*|risparmi\w*|poup\w+|descuento|"
        r"desconto|sconto|oszczęd\w*|zniżka|taniej|скидк\w*|эконом\w*|ušetř\w*|ušetr\w*|sleva|zľava|korting|"
        r"besparing|megtakarítás|kedvezmény|économie|"
        r"coupon|voucher|gutschein|cashback|bonus|割引|値引き?|おトク|立減|立减|折扣|省)\W*(?:up to|bis zu|di|de|von|o|"
        r"med)?\W*$", re.IGNORECASE)),
    (PriceRole.SEVERAL, re.compile(r"(?<!\bof)(?:^|[^\w.,])\d+\s*(?:for|für|pour|per|por|voor|за|za|för|til)\s*(?:only|just|"
    r"nur)?\W*$", re.IGNORECASE)),
    (PriceRole.INSTALMENT, re.compile(rf"(?:\d\s*[x×]\s*(?:de|of|da|à|von|po|по)?\s*|(?:{_MONTHLY}|instal?lments? of|"
    rf"rate[ns]?|parcelas de|cuotas de|splátk\w+|rata|"
        r"financ\w+|klarna|afterpay|affirm)\W*(?:from|ab|od|à partir de|desde|da|de|po|of)?\W*)$", re.IGNORECASE)),
    (PriceRole.UNIT, re.compile(rf"(?:{_SIZE}\s*[=:≙]\W*|(?:\bper|\bpro|\bje|grundpreis|base price|unit price|"
    rf"prix au (?:kilo|litre)|jednotková cena|cena jednostkowa|"
        rf"цена за)\s*(?:{_SIZE})?\W*|\(\s*{_SIZE}\s+)$", re.IGNORECASE)),
    (PriceRole.WAS, re.compile(r"(?:\b(?:was|were|before|rrp|r\.r\.p\.?|msrp|m\.r\.p\.?|mrp|list(?: ?price)?|"
    r"retail(?: price)?|orig(?:inal(?:ly)?)?\.?"
        r"(?: price)?|old price|uvp|unverb\.?\s?preisempf\.?|statt|früher(?:er preis)?|bisher|vorher|listenpreis|"
        r"streichpreis|instead of|avant|au lieu de|prix (?:conseillé|de vente conseillé|barré|public)|"
        r"antes|pvpr|precio (?:anterior|de lista)|prima|anziché|invece di|(?:di )?listino|prezzo consigliato|"
        r"preço de tabela|было|стар\w+ цена|вместо|"
        r"dříve|původn\w+(?: cena)?|pôvodn\w+(?: cena)?|zamiast|cena (?:katalogowa|wcześniej)|najniższa cena\D*|"
        r"adviesprijs|van\s*(?:voor)?|oude prijs|ord(?:\.|inarie)?(?: ?pris)?|"
        r"før(?:pris)?|tidligere|ovh|eredeti(?: ár)?|korábbi|cijena prije|stara cijena|prej|tavahind|vana hind)|"
        r"定価|メーカー希望小売価格|参考価格|原價|原价|市價|市价|市場價|建議售價|划线价|정가|소비자가|"
        r"giá gốc|giá cũ|ราคาปกติ|قبل|بدلا?ً? من|במקום|"
        r"eski fiyat)\W*$", re.IGNORECASE)),
    (PriceRole.REGULAR, re.compile(r"(?:\breg(?:\.|ular(?:ly)?)(?: ?price)?|\bnorm(?:al(?:er)?|aal)?(?: ?(?:price|"
    r"preis|prijs|pris|hinta|ár))?|precio (?:normal|regular)|preço normal|"
        r"prix (?:normal|habituel)|běžná cena|bežná cena|cena (?:regularna|normalna)|обычная цена|звичайна ціна|"
        r"tavahind|通常価格|通常販売価格|정상가)\W*$", re.IGNORECASE)),
    (PriceRole.EXTRA, re.compile(r"(?:\+\s*|shipping|delivery|postage|p&p|versand(?:kosten)?|lieferung|livraison|"
    r"frais de port|env[ií]o|spedizione|frete|доставк\w*|doprav\w*|wysyłk\w*|dostaw\w*|"
        r"verzend\w*|frakt|porto|toimitus|送料|運費|运费|배송비?|deposit|pfand|\bfee|\bover|\babove|orders? (?:over|from|"
        r"above)|spend|minimum order|"
        r"mindestbestellwert|au-dessus de|ab einem \w+ von|от суммы|points?)\W*(?:from|ab|of|"
        r":)?\W*$", re.IGNORECASE)),
)  # fmt: skip
_NOW = re.compile(
    r"(?:\b(?:now|today|sale(?: price)?|special(?: price)?|our price|your price|only|just|jetzt|nur|aktuell|"
    r"heute|angebot(?:spreis)?|maintenant|ahora|adesso|ora|agora|"
    r"por|teď|nyní|teraz|dnes|сейчас|сегодня|nu|nå|nyt|sada|most|acum|şimdi)|现价|現價|現在|特価|特價|セール価格?|今|할인가|المخفض|"
    r"الآن|עכשיו)\W*$",
    re.IGNORECASE,
)
# Longer texts are not kept.
_SHORT = 300
# As far as words are looked for on either side of an amount.
_SIDE = 40


# The same few texts are asked about as price, as card and as part of what is around them.
@lru_cache(maxsize=1024)
def _amounts(text: str) -> tuple[Amount, ...]:
    return tuple(_found(text))


def amounts(text: str) -> tuple[Amount, ...]:
    """The amounts of a text that `plain_digits` has been through, in order, each with its part."""
    return _amounts(text) if len(text) <= _SHORT else tuple(_found(text))


def _found(text: str) -> Iterator[Amount]:
    matches = list(AT_CURRENCY.finditer(text))
    start = 0
    for at, match in enumerate(matches):
        stop = matches[at + 1].start() if at + 1 < len(matches) else len(text)
        number, currency, end = match["number"] or match["number2"], match["before"] or match["after"], match.end()
        cents = _CENTS.match(text, end) if match["after"] and number.isdigit() else None
        if cents:
            number, end = f"{number}.{cents[1]}", cents.end()
        before, after = text[max(start, match.start() - _SIDE) : match.start()], text[end : min(stop, end + _SIDE)]
        part, taken = _part(before, after)
        yield Amount(number, currency, part, _NOW.search(before) is not None, match.start(), end)
        # "202 a month, 6290": the words after an amount that say what it is are no label of the next.
        start = end + taken


def _part(before: str, after: str) -> tuple[PriceRole, int]:
    """What the amount is, with how much of the text after it says so."""
    if (found := next((part for part, words in _BEFORE if words.search(before)), None)) is not None:
        return found, 0
    for part, words in _AFTER:
        if match := words.match(after):
            return part, match.end()
    return PriceRole.PRICE, 0
