"""A pipeline's fields: what to find on a page and how to read it, checked before anything runs.

```yaml
title: h1                                  # short form: a CSS selector
price: {jsonld: Product.offers, css: [".price", "#price"], type: money, currency: EUR}
images: {css: ".gallery img", attr: src, type: list, items: url, required: false}
```

A field's sources are tried in this order, whatever order they are written in, and several of one kind in the order
of their list: `jsonld`, `microdata`, `meta`, `css`, `xpath`, `regex`, then a preset's own rules. The first that has
text which can be read as the field's type wins.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from processors.extraction import product, sources
from processors.extraction.currencies import CODES
from processors.extraction.dates import known_languages, known_locale
from processors.extraction.sources import Guess, Source, SourceError
from processors.extraction.values import Hints, Type

_SOURCES = ("jsonld", "microdata", "meta", "css", "xpath", "regex")
#: Below this a preset's value is left out: a coin's toss is no value.
DEFAULT_QUALITY = 0.5
# A preset's field that has no rule beyond its paths.
_PLAIN = product.FieldRule()
PRESETS: Mapping[str, Mapping[str, Mapping[str, object]]] = {"product": product.FIELDS}


class FieldError(ValueError):
    """A field cannot be used; the message names the field, its selector and what is wrong."""


class Field(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One field: its sources, its type, what to do when nothing is found.

    `attr` takes that attribute of the elements that `css` or `xpath` find. `items` is the type of a list's items.
    `required: false` leaves the field out when nothing is found, `default` gives it that value instead.
    Hints for ambiguous text: `currency` (ISO 4217) for money, `decimal` ("." or ",") for money and numbers, `locale`
    (en-GB), `languages` ([de, en]) or `date_order` (DMY) for dates. `min_quality` (0 to 1) leaves out what a preset is
    less sure of; what the author's own selectors find is always 1.
    """

    css: str | list[str] = []
    xpath: str | list[str] = []
    jsonld: str | list[str] = []
    microdata: str | list[str] = []
    meta: str | list[str] = []
    regex: str | list[str] = []
    attr: str | None = None
    type: Type = Type.TEXT
    items: Type | None = None
    required: bool = True
    default: Any = msgspec.UNSET
    currency: str | None = None
    decimal: Literal[".", ","] | None = None
    locale: str | None = None
    languages: list[str] = []
    date_order: Literal["DMY", "MDY", "YMD", "YDM", "DYM", "MYD"] | None = None
    min_quality: float | None = None


@dataclass(frozen=True, slots=True)
class CompiledField:
    """A field ready to be looked for. `kind` is the type of one value: of an item, if it is a list."""

    name: str
    sources: tuple[Source, ...]
    kind: Type
    many: bool
    required: bool
    has_default: bool
    default: object
    hints: Hints
    tidy: Callable[[str], str | None] | None
    #: Of a preset's field, its rule; None where the author's own selectors took its place.
    rule: product.FieldRule | None = None
    least: float = 0.0
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """The compiled fields of one parse step, in the order they were written."""

    fields: tuple[CompiledField, ...]

    def __iter__(self) -> Iterator[CompiledField]:
        return iter(self.fields)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields, to be checked against the record schema."""
        return tuple(field.name for field in self.fields)

    @property
    def optional(self) -> frozenset[str]:
        """The names of the preset's fields that the mapping doesn't name: a record may lack them."""
        return frozenset(field.name for field in self.fields if field.rule is not None and not field.is_named)

    def within(self, known: Collection[str]) -> Fields:
        """The fields without those of the preset that the record doesn't have."""
        return Fields(tuple(field for field in self.fields if field.name in known or field.name not in self.optional))


def compile_fields(
    mapping: Mapping[str, object], preset: str | None = None, min_quality: float | None = None
) -> Fields:
    """The fields, each a CSS selector or a mapping of Field's keys; raises FieldError.

    With a preset, its fields come first and the mapping's override them: null drops a field, a mapping without
    any source (`price: {required: true}`) changes the preset's field, anything else replaces it. `min_quality` is for
    fields that name none, by default that of the preset.
    """
    least = DEFAULT_QUALITY if min_quality is None else _share("min_quality", min_quality)
    if preset is not None and preset not in PRESETS:
        raise FieldError(f"there is no preset {preset!r}; presets: {', '.join(sorted(PRESETS))}")
    given = PRESETS[preset] if preset else {}
    rules = product.RULES if preset else {}
    compiled = {
        name: _compiled(name, _parsed(name, spec), rules.get(name, _PLAIN), least) for name, spec in given.items()
    }
    for name, spec in mapping.items():
        if spec is None and name in given:
            del compiled[name]
        elif isinstance(spec, Mapping) and name in given and not any(source in spec for source in _SOURCES):
            compiled[name] = _compiled(name, _parsed(name, {**given[name], **spec}), rules.get(name, _PLAIN), least)
        else:
            compiled[name] = _compiled(name, _parsed(name, spec), None, least)
    compiled = {name: replace(field, is_named=name in mapping) for name, field in compiled.items()}
    if not compiled:
        raise FieldError("there are no fields: give `fields`, or a `preset`")
    return Fields(tuple(compiled.values()))


def _share(key: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise FieldError(f"{key} is {value}; give a number from 0 (take any guess) to 1 (take nothing that is guessed)")
    return value


def _parsed(name: str, spec: object) -> Field:
    if isinstance(spec, Field):
        return spec
    if isinstance(spec, str):
        return Field(css=spec)
    try:
        return msgspec.convert(spec, Field)
    except msgspec.ValidationError as error:
        # msgspec names the key that is wrong; what would be right is told here.
        known = (
            f"types are {', '.join(Type)}" if "enum" in str(error) else f"keys are {', '.join(Field.__struct_fields__)}"
        )
        raise FieldError(f"field {name}: {error}; {known}") from error


def _compiled(name: str, field: Field, rule: product.FieldRule | None, least: float) -> CompiledField:
    kind = (field.items or Type.TEXT) if field.type is Type.LIST else field.type
    try:
        found = tuple(_sources(field, kind))
        _check(field)
    except SourceError as error:
        raise FieldError(f"field {name}: {error}") from error
    if rule is not None and rule.guess is not None:
        found = (*found, Guess("the preset's own rules", rule.guess))
    if not found:
        raise FieldError(f"field {name}: it has no source; give one of {', '.join(_SOURCES)}")
    return CompiledField(
        name=name,
        sources=found,
        kind=kind,
        many=field.type is Type.LIST,
        required=field.required and field.default is msgspec.UNSET,
        has_default=field.default is not msgspec.UNSET,
        default=field.default,
        hints=Hints(field.currency, field.decimal, field.locale, tuple(field.languages), field.date_order),
        tidy=rule.tidy if rule else None,
        rule=rule,
        least=least if field.min_quality is None else _share(f"field {name}: min_quality", field.min_quality),
    )


def _sources(field: Field, kind: Type) -> Iterator[Source]:
    for path in _each(field.jsonld):
        yield sources.structured(path, microdata=False, kind=kind)
    for path in _each(field.microdata):
        yield sources.structured(path, microdata=True, kind=kind)
    for name in _each(field.meta):
        yield sources.meta(name)
    for selector in _each(field.css):
        yield sources.css(selector, field.attr, kind)
    for expression in _each(field.xpath):
        yield sources.xpath(expression, field.attr, kind)
    for pattern in _each(field.regex):
        yield sources.regex(pattern)


def _each(given: str | list[str]) -> Iterable[str]:
    return [given] if isinstance(given, str) else given


def _check(field: Field) -> None:
    if field.items is not None and field.type is not Type.LIST:
        raise SourceError(f"`items` is for `type: list`, but the type is {field.type}")
    if field.items is Type.LIST:
        raise SourceError("`items: list` would be a list of lists; give the type of one item")
    if field.attr is not None and not (field.css or field.xpath):
        raise SourceError("`attr` needs `css` or `xpath`, whose elements have it")
    if field.currency is not None and field.currency not in CODES:
        raise SourceError(f"currency {field.currency!r} is not an ISO 4217 code such as EUR")
    if unknown := [language for language in field.languages if language not in known_languages()]:
        raise SourceError(f"dates cannot be read in language {unknown[0]!r}; give a code such as de")
    if field.locale is not None and not known_locale(field.locale):
        raise SourceError(f"dates cannot be read in locale {field.locale!r}; give one such as en-GB")
    if field.default is not msgspec.UNSET and not _is_json(field.default):
        raise SourceError(f"default {field.default!r} is not JSON; put it in quotes")


def _is_json(value: object) -> bool:
    if isinstance(value, list):
        return all(_is_json(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    return value is None or isinstance(value, (str, bool, int, float))
