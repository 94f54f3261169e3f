"""Currency symbols and codes of shop pages, read as ISO 4217 codes."""

from __future__ import annotations

import re

CODES = frozenset(
    """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF CLP
    CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK HTG HUF
    IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK
    MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR
    SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES
    VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL
    """.split()
)
# Gone, but archived pages show them.
_RETIRED = frozenset(("ATS", "BEF", "DEM", "EEK", "ESP", "FIM", "FRF", "GRD", "IEP", "ITL", "LTL", "LVL", "NLG", "SKK"))

# Prices in these are written without decimals, so that "24.990" is thousands even where a point means decimals.
_WITHOUT_DECIMALS = frozenset(
    ("CLP", "COP", "CRC", "HUF", "IDR", "IRR", "ISK", "JPY", "KRW", "PYG", "UGX", "UZS", "VND")
)
_THREE_DECIMALS = frozenset(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"))


def decimals_of(code: str) -> int:
    """How many decimals prices in the currency are written with, at most."""
    return 0 if code in _WITHOUT_DECIMALS else 3 if code in _THREE_DECIMALS else 2


# Spellings with one meaning, compared without case, spaces or right-to-left marks.
_SPELLINGS = """
AED د.إ | AFN ؋ | ALL lek | AMD ֏ դր | AOA kwz kz | ARS ar$ | AUD au$ a$ | AWG ƒ | AZN ₼ ман | BAM км km | BDT ৳ টকা
BGN лв | BHD bd د.ب | BOB bs | BRL r$ | BZD bz$ | CAD ca$ c$ | CHF sfr franc | CLP cl$ | CNY yuan cn¥ rmb | COP co$ col$
CRC ₡ | CZK kč | DOP rd$ | DZD د.ج | EGP e£ ج.م جنيه | ERN نافكا | EUR € euro euros | GBP ₤ pound | GEL ₾ ლარი
GHS ₵ gh₵ | GMD d | GTQ q | GYD g$ | HKD hk$ | HNL l | HRK kn | HUF ft | IDR rp | ILS ₪ | INR ₹ | IQD د.ع
IRR ریال ﷼ | JMD j$ | JOD د.أ دينارأردني jd | KES kshs ksh | KHR ៛ | KRW ₩ 원 | KWD kd د.ك | KZT ₸ тг тңг | LAK ₭
LBP ل.ل | LYD د.ل | MAD د.م | MKD ден | MMK ks | MNT ₮ | MRU um | MWK mk | MXN mx$ mex$ | MYR rm | MZN mt | NAD n$ | NGN ₦
NZD nz$ | OMR ر.ع | PAB b/. | PEN s/. s/ | PHP ₱ | PLN zł zl | PYG ₲ | QAR ر.ق qr | RON leu | RSD дин динар dinara din
RUB ₽ руб р rbl | RWF rf | SAR ر.س sr | SDG ج.س | SGD s$ | SOS ش.ص | STN db | SYP ل.س | THB ฿ | TND dt د.ت | TRY ₺ tl
TTD tt$ | TWD 圓 nt$ | TZS tsh | UAH ₴ грн | UGX ush | USD us$ $us | UYU $u | UZS so'm сум | VND ₫ đ | VUV vt | YER ر.ي
"""
# Spellings that several countries share: first the one meant when nothing on the page tells.
_SHARED_SPELLINGS = """
$ USD AUD CAD NZD HKD SGD TWD MXN ARS CLP COP UYU BBD BMD BND BSD BZD DOP FJD GYD JMD KYD LRD NAD SBD SRD TTD XCD
¥ JPY CNY | ￥ CNY JPY | 元 CNY TWD HKD | 円 JPY | £ GBP EGP LBP SYP FKP GIP SHP SDG | kr SEK NOK DKK ISK EEK
rs INR PKR LKR NPR MUR SCR | ₨ PKR INR LKR NPR MUR SCR | lei RON MDL | r ZAR | dh AED MAD | dhs AED MAD | درهم AED MAD
ريال SAR QAR OMR YER | fcfa XOF XAF | cfa XOF XAF | br BYN ETB | fr CHF XAF XOF
"""
# Countries, and languages spoken in one currency only, by currency.
_PLACES = """
AED ae | ARS ar | AUD au | BYN by | BZD bz | CAD ca | CHF ch | CLP cl | CNY cn zh | COP co | DKK dk da | DOP do | EGP eg
ETB et | GBP uk gb | GYD gy | HKD hk | INR in hi | ISK is | JMD jm | JPY jp ja | LBP lb | LKR lk si | MAD ma | MDL md
MUR mu | MXN mx | NAD na | NOK no nb nn | NPR np ne | NZD nz | OMR om | PKR pk ur | QAR qa | RON ro | SAR sa | SEK se sv
SGD sg | SYP sy | TTD tt | TWD tw | USD us | UYU uy | XAF cm | XOF sn ci | YER ye | ZAR za | AMD am hy
PHP ph fil tl | PLN pl | CZK cz cs | HUF hu | BGN bg | RSD rs | TRY tr | UAH ua | RUB ru
KRW kr ko | THB th | VND vn vi | IDR id | MYR my ms | ILS il he | KWD kw | BHD bh | JOD jo | TND tn | LYD ly | IQD iq
DZD dz | PEN pe | BRL br | KES ke | NGN ng | GHS gh | KZT kz kk | GEL ge ka | AZN az | ALL al sq | MKD mk | GTQ gt
HNL hn | BOB bo | PYG py | CRC cr | GMD gm | IRR ir fa
"""


def _rows(table: str) -> list[list[str]]:
    return [row.split() for row in table.replace("\n", "|").split("|") if row.strip()]


_SYMBOLS = {spelling: code for code, *spellings in _rows(_SPELLINGS) for spelling in spellings}
_SHARED = {spelling: codes for spelling, *codes in _rows(_SHARED_SPELLINGS)}
_OF_PLACE = {place: code for code, *places in _rows(_PLACES) for place in places}
_MARKS = re.compile("[\\s\u200e\u200f\u202a\u202b\u202c]")


def code_of(symbol: str, *, near: tuple[str, ...] = (), places: tuple[str, ...] = ()) -> str | None:
    """The ISO 4217 code that a symbol, code or name stands for, or None if it is none.

    For a shared symbol such as `$` the first code in `near` that it may stand for is taken (a hint, then what the
    page itself declares), then the currency of the first place that fits (a country's domain, a language tag),
    then its most frequent.
    """
    word = _MARKS.sub("", symbol).lower()[:16]
    if word in _SHARED:
        possible = _SHARED[word]
        return next((code for code in (*near, *map(_of_place, places)) if code in possible), possible[0])
    if word.upper() in CODES or word.upper() in _RETIRED:
        return word.upper()
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    if (bare := word.strip(".")) != word:
        return code_of(bare, near=near, places=places)
    if "$" not in word:
        return None
    # "NZD$": the code decides; "m$" is nothing but the sign.
    letters = word.replace("$", "").upper()
    return letters if letters in CODES else code_of("$", near=near, places=places)


def local(places: tuple[str, ...]) -> frozenset[str]:
    """The currencies of countries' domains and of language tags, as far as they tell one."""
    return frozenset(code for place in places if (code := _of_place(place)))


def _of_place(tag: str) -> str | None:
    language, _, region = tag.lower().partition("-")
    return _OF_PLACE.get(region or language)


_SIGNS = {sign for sign in {*_SYMBOLS, *_SHARED} if not sign.isalpha() and sign not in "$£"} | set("đƒ元圓円원£")
_NAMES = {name for name in {*_SYMBOLS, *_SHARED} if name.isalpha() and len(name) > 1}
# Codes that are words in some language: "all 5", "aus dem 3.", "top 10". In capitals only they mean money.
_WORDS = frozenset(
    ("ALL", "BAM", "COP", "CUP", "DEM", "GEL", "KES", "LAK", "MAD", "MOP", "PEN", "RON", "SOS", "TOP", "TRY")
)


def _either(words: set[str] | frozenset[str]) -> str:
    """Any of the words, the longest first; by their first letters, since a few hundred branches are tried one by one."""
    by_first: dict[str, list[str]] = {}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        by_first.setdefault(word[0], []).append(re.escape(word[1:]))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(rests)})" for first, rests in by_first.items())


# Letters before a dollar sign: those of a country or a code, else a word that only stands there ("2 for $5").
_BEFORE_DOLLAR = {name.removesuffix("$") for name in _SYMBOLS if len(name) > 1 and name.endswith("$")} | {
    code.lower() for code in (*_SHARED["$"], "BRL")
}
_DOLLARS = rf"(?:(?<![^\W\d_])(?:(?:{_either(_BEFORE_DOLLAR)})\s?|[a-z]{{1,2}}))?\$(?:U\b)?"
_LETTER_BEFORE, _LETTER_AFTER = r"(?<![^\W\d_])", r"(?![^\W\d_])"
_ALWAYS = rf"{_DOLLARS}|{_either(_SIGNS)}|دينار\s?أردني"

#: A currency beside a number, with no case: signs; codes, names and letters that are used as signs, as whole words.
BESIDE_NUMBER = (
    rf"(?:{_ALWAYS}|{_LETTER_BEFORE}(?:{_either((CODES | _RETIRED) - _WORDS)}|(?-i:{_either(_WORDS)})|{_either(_NAMES)}|"
    rf"(?-i:[рРRQLDd])){_LETTER_AFTER}\.?)"
)
#: A currency anywhere in text: signs, and codes in capitals.
ANYWHERE = re.compile(rf"{_ALWAYS}|{_LETTER_BEFORE}(?-i:{_either(CODES | _RETIRED)}){_LETTER_AFTER}", re.IGNORECASE)
