"""Currency symbols and codes of shop pages, read as ISO 4217 codes."""

from __future__ import annotations

import re

CODES = frozenset(
    (
        "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF CHF "
        "CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HRK "
        "HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL "
        "MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON "
        "RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH "
        "UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL"
    ).split()
)
# Gone, but archived pages show them.
_RETIRED = frozenset(
    "ATS BEF DEM ESP FIM FRF GRD IEP ITL LTL LVL EEK NLG PTE SIT SKK MTL CYP BYR MRO STD VEF ZMK".split()
)

# Prices in these are written without decimals, so that "24.990" is thousands even where a point means decimals.
WITHOUT_DECIMALS = frozenset(
    "CLP COP CRC HUF IDR IRR ISK JPY KRW LAK PYG UGX UZS VND XAF XOF RWF BIF GNF KMF MGA".split()
)

# Unambiguous spellings. Keys are compared without case, spaces or right-to-left marks.
_SYMBOLS = {
    **{
        "€": "EUR",
        "euro": "EUR",
        "euros": "EUR",
        "£": "GBP",
        "₤": "GBP",
        "₹": "INR",
        "₽": "RUB",
        "₴": "UAH",
        "₪": "ILS",
    },
    **{"₺": "TRY", "tl": "TRY", "₩": "KRW", "원": "KRW", "₫": "VND", "đ": "VND", "₱": "PHP", "฿": "THB", "₦": "NGN"},
    **{
        "₡": "CRC",
        "₲": "PYG",
        "₵": "GHS",
        "gh₵": "GHS",
        "₸": "KZT",
        "тг": "KZT",
        "тңг": "KZT",
        "₼": "AZN",
        "ман": "AZN",
    },
    **{"₾": "GEL", "ლარი": "GEL", "৳": "BDT", "টকা": "BDT", "₭": "LAK", "៛": "KHR", "₮": "MNT", "֏": "AMD", "դր": "AMD"},
    **{
        "؋": "AFN",
        "₨": "PKR",
        "zł": "PLN",
        "zl": "PLN",
        "kč": "CZK",
        "ft": "HUF",
        "lei": "RON",
        "leu": "RON",
        "kn": "HRK",
    },
    **{
        "лв": "BGN",
        "руб": "RUB",
        "р": "RUB",
        "rbl": "RUB",
        "грн": "UAH",
        "дин": "RSD",
        "динар": "RSD",
        "dinara": "RSD",
    },
    **{"din": "RSD", "ден": "MKD", "км": "BAM", "km": "BAM", "br": "BYN", "lek": "ALL", "sfr": "CHF", "fr": "CHF"},
    **{"franc": "CHF", "rp": "IDR", "rm": "MYR", "元": "CNY", "yuan": "CNY", "cn¥": "CNY", "rmb": "CNY", "圓": "TWD"},
    **{"円": "JPY", "pound": "GBP", "us$": "USD", "$us": "USD", "au$": "AUD", "a$": "AUD", "ca$": "CAD", "c$": "CAD"},
    **{"nz$": "NZD", "hk$": "HKD", "nt$": "TWD", "s$": "SGD", "r$": "BRL", "mx$": "MXN", "mex$": "MXN", "ar$": "ARS"},
    **{"cl$": "CLP", "co$": "COP", "col$": "COP", "rd$": "DOP", "$u": "UYU", "bz$": "BZD", "tt$": "TTD", "j$": "JMD"},
    **{"g$": "GYD", "n$": "NAD", "b/.": "PAB", "s/.": "PEN", "s/": "PEN", "bs": "BOB", "q": "GTQ", "kshs": "KES"},
    **{"ksh": "KES", "tsh": "TZS", "ush": "UGX", "mk": "MWK", "mt": "MZN", "rf": "RWF", "vt": "VUV", "ks": "MMK"},
    **{"kwz": "AOA", "kz": "AOA", "so'm": "UZS", "сум": "UZS", "fcfa": "XOF", "cfa": "XOF", "db": "STN", "um": "MRU"},
    **{"e£": "EGP", "le": "EGP", "ج.م": "EGP", "جنيه": "EGP", "kd": "KWD", "د.ك": "KWD", "bd": "BHD", "د.ب": "BHD"},
    **{"dt": "TND", "د.ت": "TND", "dh": "AED", "dhs": "AED", "د.إ": "AED", "درهم": "AED", "د.م": "MAD", "د.ج": "DZD"},
    **{"ر.س": "SAR", "ريال": "SAR", "sr": "SAR", "ر.ق": "QAR", "qr": "QAR", "ر.ع": "OMR", "ر.ي": "YER", "د.ع": "IQD"},
    **{"د.أ": "JOD", "دينارأردني": "JOD", "jd": "JOD", "ل.ل": "LBP", "ل.س": "SYP", "ج.س": "SDG", "ش.ص": "SOS"},
    **{"د.ل": "LYD", "تومان": "IRR", "ریال": "IRR", "﷼": "IRR", "نافكا": "ERN", "l": "HNL", "ƒ": "AWG", "d": "GMD"},
}
# Spellings that several countries share, with the one meant when nothing on the page tells.
_SHARED = {
    "$": (
        "USD",
        "AUD CAD NZD HKD SGD TWD MXN ARS CLP COP UYU BBD BMD BND BSD BZD DOP FJD GYD JMD KYD LRD NAD SBD SRD TTD XCD",
    ),
    "¥": ("JPY", "CNY"),
    "￥": ("CNY", "JPY"),
    "kr": ("SEK", "NOK DKK ISK EEK"),
    "rs": ("INR", "PKR LKR NPR MUR SCR"),
    "₨": ("PKR", "INR LKR NPR MUR SCR"),
    "lei": ("RON", "MDL"),
    "£": ("GBP", "EGP LBP SYP FKP GIP SHP SDG"),
    "r": ("ZAR", ""),
    "dh": ("AED", "MAD"),
    "dhs": ("AED", "MAD"),
    "درهم": ("AED", "MAD"),
    "ريال": ("SAR", "QAR OMR YER"),
    "元": ("CNY", "TWD HKD"),
    "円": ("JPY", ""),
    "fcfa": ("XOF", "XAF"),
    "br": ("BYN", "ETB"),
    "fr": ("CHF", "XAF XOF"),
}
_BY_COUNTRY = {
    **{
        "us": "USD",
        "ca": "CAD",
        "au": "AUD",
        "nz": "NZD",
        "hk": "HKD",
        "sg": "SGD",
        "tw": "TWD",
        "mx": "MXN",
        "ar": "ARS",
    },
    **{
        "cl": "CLP",
        "co": "COP",
        "uy": "UYU",
        "do": "DOP",
        "jm": "JMD",
        "tt": "TTD",
        "bz": "BZD",
        "gy": "GYD",
        "na": "NAD",
    },
    **{
        "cn": "CNY",
        "jp": "JPY",
        "se": "SEK",
        "no": "NOK",
        "nb": "NOK",
        "dk": "DKK",
        "da": "DKK",
        "is": "ISK",
        "in": "INR",
    },
    **{
        "pk": "PKR",
        "lk": "LKR",
        "np": "NPR",
        "mu": "MUR",
        "ro": "RON",
        "md": "MDL",
        "eg": "EGP",
        "lb": "LBP",
        "sy": "SYP",
    },
    **{
        "uk": "GBP",
        "gb": "GBP",
        "za": "ZAR",
        "ma": "MAD",
        "ae": "AED",
        "sa": "SAR",
        "qa": "QAR",
        "om": "OMR",
        "ye": "YER",
    },
    **{"by": "BYN", "et": "ETB", "ch": "CHF", "cm": "XAF", "sn": "XOF", "ci": "XOF"},
}
_LANGUAGES = {"ja": "JPY", "zh": "CNY", "sv": "SEK", "nb": "NOK", "no": "NOK", "nn": "NOK", "da": "DKK", "is": "ISK"}
_MARKS = "\u200e\u200f\u202a\u202b\u202c"


def code_of(symbol: str, *, near: tuple[str, ...] = (), countries: tuple[str, ...] = ()) -> str | None:
    """The ISO 4217 code that a symbol, code or name stands for, or None if it is none.

    For a shared symbol such as `$` the first code in `near` that it may stand for is taken (a hint, then what the
    page itself declares), then the currency of the first country or language tag that fits, then its most frequent.
    """
    word = _normal(symbol)
    if not word:
        return None
    if word in _SHARED:
        usual, others = _SHARED[word]
        possible = {usual, *others.split()}
        return next((code for code in (*near, *map(_of_country, countries)) if code in possible), usual)
    upper = word.upper()
    if upper in CODES or upper in _RETIRED:
        return upper
    if word in _SYMBOLS:
        return _SYMBOLS[word]
    if (stripped := word.rstrip(".").lstrip(".")) != word:
        return code_of(stripped, near=near, countries=countries)
    # "NZD$", "A $", "USD $": the code or the letters decide.
    letters = word.replace("$", "").upper()
    if letters == word.upper():
        return None
    return letters if letters in CODES else code_of("$", near=near, countries=countries)


def _normal(symbol: str) -> str:
    return re.sub(rf"[\s{_MARKS}]", "", symbol).lower()[:16]


def _of_country(tag: str) -> str:
    language, _, region = tag.lower().partition("-")
    return _BY_COUNTRY.get(region) or (_LANGUAGES.get(language) or _BY_COUNTRY.get(language, "") if not region else "")


def _alternatives() -> str:
    signs = {*_SYMBOLS, *(shared for shared in _SHARED if shared != "r")}
    # A lone letter of a common alphabet means a currency only as a word of its own; these few letters are signs.
    words = {word for word in signs if word.isalpha() and len(word) > 1}
    marks = {sign for sign in signs if not sign.isalpha()} | set("đƒ元圓円원")
    codes = "|".join(sorted(CODES | _RETIRED))
    spelled = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    signed = "|".join(re.escape(sign) for sign in sorted(marks, key=len, reverse=True))
    dollars = r"(?:(?<![^\W\d_])[A-Z]{1,3}\s?)?\$(?:U\b)?"
    return rf"(?:{dollars}|{signed}|دينار\s?أردني|(?<![^\W\d_])(?:{codes}|{spelled}|[рРRQLDD])(?![^\W\d_])\.?)"


#: Finds a currency in text: signs anywhere, codes and names as whole words.
CURRENCY = re.compile(_alternatives(), re.IGNORECASE)
