"""Avro encoders made of a schema: one Python function for each record, which writes what fastavro writes, byte for byte.

fastavro walks the schema for each value, looks each field up in a mapping and checks it. The engine's messages are made
by the engine's own rules from values whose types are checked long before, so a function that says "this field, then that
one" is enough, takes the values as they are, and costs a quarter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

Encoder = Callable[[Any], bytes]

_BOOLEANS = (b"\x00", b"\x01")


# Two bytes of seven bits each: with another byte behind them, and as the end of a number.
_PAIRS = tuple(bytes((pair & 127 | 128, pair >> 7 | 128)) for pair in range(0x4000))
_ENDS = tuple(bytes((pair,)) if pair < 0x80 else bytes((pair & 127 | 128, pair >> 7)) for pair in range(0x4000))


def long(number: int) -> bytes:
    """A number as Avro writes int and long: zigzag, seven bits a byte. Raises OverflowError beyond 64 bits."""
    n = number << 1 if number >= 0 else ~(number << 1)
    if n < 0x4000:
        return _ENDS[n]
    if n < 0x10000000:
        return _PAIRS[n & 0x3FFF] + _ENDS[n >> 14]
    if n < 0x40000000000:
        # Milliseconds of our century.
        return _PAIRS[n & 0x3FFF] + _PAIRS[n >> 14 & 0x3FFF] + _ENDS[n >> 28]
    if n >> 64:
        raise OverflowError(f"{number} doesn't fit in 64 bits")
    out = b""
    while n >= 0x4000:
        out += _PAIRS[n & 0x3FFF]
        n >>= 14
    return out + _ENDS[n]


class _Longs(dict[int, bytes]):
    """Numbers as they are written: the small ones, and those met lately, for a timestamp occurs again and again."""

    _SMALL = 4_096
    _KEPT = 32_768

    def __missing__(self, number: int) -> bytes:
        if not self or len(self) >= self._KEPT:
            self.clear()
            self.update((small, long(small)) for small in range(self._SMALL))
        encoded = self[number] = long(number)
        return encoded


_LONGS = _Longs()


def compile_encoder(
    schema: Mapping[str, Any],
    header: bytes,
    fields: Mapping[str, str] | None = None,
    *,
    mapping: bool = False,
    known: Mapping[str, Any] | None = None,
) -> Encoder:
    """Return a function that encodes an object by a record schema, after `header`.

    A field is the object's attribute of the same name, or the entry of a `mapping` (then what is missing has the schema's
    default), or the Python expression over `value` that `fields` gives for it. `known` holds, by name of an inner record,
    one object that occurs again and again and is encoded once. Types that no message of ours has are refused with
    ValueError.
    """
    made = _Module(mapping, known or {})
    expressions = made.record_fields(schema, dict(fields or {}))
    made.scope["header"] = header
    return made.function("header", *expressions)


class _Module:
    """The names that generated functions use, and the functions."""

    def __init__(self, mapping: bool, known: Mapping[str, Any]) -> None:
        self._mapping = mapping
        self._known = known
        self._named: dict[str, str] = {}
        self.scope: dict[str, Any] = {"LONGS": _LONGS, "BOOLEANS": _BOOLEANS, "NULL": b"\0"}

    def function(self, *expressions: str) -> Encoder:
        """Make a function of `value` that joins what the expressions give."""
        source = f"def encode(value):\n    return b''.join(({', '.join(expressions)},))"
        found: dict[str, Any] = {}
        # The source is made of a schema that lies in this package, and of nothing else.
        exec(source, self.scope, found)
        return cast(Encoder, found["encode"])

    def record_fields(self, schema: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
        """One expression for each field of a record."""
        return [self._write(field["type"], given.get(field["name"]) or self._read(field)) for field in schema["fields"]]

    def _read(self, field: Mapping[str, Any]) -> str:
        name = field["name"]
        if not self._mapping:
            return f"value.{name}"
        if "default" not in field:
            return f"value[{name!r}]"
        default = field["default"]
        return f"value.get({name!r}, {default.encode('latin-1') if field['type'] == 'bytes' else default!r})"

    def _write(self, schema: Any, value: str) -> str:
        kind = schema["type"] if isinstance(schema, Mapping) else schema
        match kind:
            case "long" | "int":
                return f"LONGS[{value}]"
            case "string":
                return f"LONGS[len(bytes_ := {value}.encode())], bytes_"
            case "bytes":
                return f"LONGS[len(bytes_ := {value})], bytes_"
            case "boolean":
                return f"BOOLEANS[{value}]"
            case "enum":
                symbols = {symbol: long(place) for place, symbol in enumerate(schema["symbols"])}
                return f"{self._name(schema, symbols)}[{value}]"
            case "record":
                return f"{self._name(schema, None)}({value})"
            case "array":
                return f"{self._block(schema['items'], 'for value in items', 'value')}({value})"
            case "map":
                key = "LONGS[len(bytes_ := key.encode())], bytes_, "
                block = self._block(schema["values"], "for key, value in items.items()", "value", key)
                return f"{block}({value})"
            case ["null", other]:
                return f"(NULL if (some_ := {value}) is None else {self._optional(other)}(some_))"
            case named if isinstance(named, str) and named in self._named:
                known = self._named[named]
                return f"{known}[{value}]" if isinstance(self.scope[known], dict) else f"{known}({value})"
            case _:
                raise ValueError(f"no encoder for an Avro type {schema!r}")

    def _name(self, schema: Mapping[str, Any], what: dict[str, bytes] | None) -> str:
        name = f"_{len(self._named)}_{schema['name']}"
        self._named[schema["name"]] = name
        self.scope[name] = what if what is not None else self._inner(schema)
        return name

    def _inner(self, schema: Mapping[str, Any]) -> Encoder:
        encode = self.function(*self.record_fields(schema, {}))
        if schema["name"] not in self._known:
            return encode
        known = self._known[schema["name"]]
        encoded = encode(known)
        return lambda value: encoded if value is known else encode(value)

    def _optional(self, schema: Any) -> str:
        """A function for the value of a union with null that is not null."""
        one = self.function("b'\\x02'", self._write(schema, "value"))
        name = f"_optional_{len(self.scope)}"
        self.scope[name] = one
        return name

    def _block(self, items: Any, loop: str, value: str, before: str = "") -> str:
        """A function for arrays and maps: one block of all items, if there are any, and the end."""
        name = f"_block_{len(self.scope)}"
        one = self._write(items, value)
        source = (
            f"def encode(items):\n    if not items:\n        return b'\\0'\n    parts = [LONGS[len(items)]]\n"
            f"    {loop}:\n        parts += ({before}{one},)\n    parts.append(b'\\0')\n    return b''.join(parts)"
        )
        found: dict[str, Any] = {}
        exec(source, self.scope, found)
        self.scope[name] = found["encode"]
        return name
