"""Values of a record: JSON-able in, Avro's Python types out, and back; every problem is collected with its path."""

from __future__ import annotations

import base64
import binascii
import math
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import assert_never

from schemas.record_types import (
    MAX_PRECISION,
    Choice,
    Exact,
    Fixed,
    Keyed,
    Many,
    Nullable,
    RecordType,
    Scalar,
    ScalarKind,
    Shape,
    Text,
)

# Rounding must not depend on the process-wide decimal context, whose 28 digits are fewer than a schema may ask for.
_DECIMALS = Context(prec=2 * MAX_PRECISION, rounding=ROUND_HALF_EVEN)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_RANGES = {ScalarKind.INT: 2**31, ScalarKind.LONG: 2**63}
_FLOAT_MAX = 3.4028234663852886e38
# Date32 and DateTime64 end here; a day outside would be clamped in the warehouse without a word.
_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2299, 12, 31)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Unfit(Exception):
    """A value that does not fit its type; only ever seen inside this module."""


def fit_record(shape: RecordType, values: Mapping[str, object], path: str, problems: list[str]) -> dict[str, object]:
    """The values as the record's types; what does not fit is left out and told in `problems`."""
    record: dict[str, object] = {}
    for member in shape.members:
        below = f"{path}.{member.name}" if path else member.name
        if member.name in values:
            record[member.name] = fit(member.shape, values[member.name], below, problems)
        elif member.has_default:
            record[member.name] = schema_default(member.shape, member.default)
        elif isinstance(member.shape, Nullable):
            record[member.name] = None
        else:
            problems.append(f"{below}: missing, and the schema has no default for it")
    known = {member.name for member in shape.members}
    for name in values:
        if name not in known:
            problems.append(
                f"{path + '.' if path else ''}{name}: not in the schema, which has {', '.join(sorted(known))}"
            )
    return record


def fit(shape: Shape, value: object, path: str, problems: list[str]) -> object:
    """The value as the shape's type, or None after adding to `problems`."""
    match shape:
        case Nullable():
            return None if value is None else fit(shape.of, value, path, problems)
        case RecordType() if isinstance(value, Mapping):
            return fit_record(shape, value, path, problems)
        case Many() if isinstance(value, (list, tuple)):
            return [fit(shape.items, item, f"{path}[{at}]", problems) for at, item in enumerate(value)]
        case Keyed() if isinstance(value, Mapping):
            return {
                _text(key): fit(shape.values, item, f"{path}.{key}", problems)
                for key, item in value.items()
                if _key_fits(key, path, problems)
            }
        case RecordType() | Many() | Keyed():
            problems.append(f"{path}: {quoted(value)} is not {_wanted(shape)}")
        case _:
            try:
                return _fit_leaf(shape, value)
            except _Unfit as unfit:
                problems.append(f"{path}: {quoted(value)} {unfit}")
    return None


def _key_fits(key: object, path: str, problems: list[str]) -> bool:
    try:
        _text(key)
    except _Unfit as unfit:
        problems.append(f"{path}: key {quoted(key)} {unfit}")
        return False
    return True


def _fit_leaf(shape: Scalar | Text | Exact | Choice | Fixed, value: object) -> object:
    if value is None:
        raise _Unfit("is not allowed: the field is not nullable")
    match shape:
        case Text():
            return _text(_amount_of(value))
        case Exact():
            return _exact(shape, _amount_of(value))
        case Choice():
            if value not in shape.symbols:
                raise _Unfit(f"is not one of {', '.join(shape.symbols)}")
            return value
        case Fixed():
            return _bytes(value, shape.size)
        case Scalar():
            return _scalar(shape.kind, value)
        case _:
            assert_never(shape)


def _scalar(kind: ScalarKind, value: object) -> object:
    match kind:
        case ScalarKind.BOOLEAN:
            return _boolean(value)
        case ScalarKind.INT | ScalarKind.LONG:
            return _integer(value, _RANGES[kind])
        case ScalarKind.FLOAT | ScalarKind.DOUBLE:
            return _floating(_amount_of(value), _FLOAT_MAX if kind is ScalarKind.FLOAT else math.inf)
        case ScalarKind.BYTES:
            return _bytes(value, None)
        case ScalarKind.UUID:
            return _uuid(value)
        case ScalarKind.DATE:
            return _day(value)
        case ScalarKind.TIMESTAMP_MILLIS:
            return _moment(value, timedelta(milliseconds=1))
        case ScalarKind.TIMESTAMP_MICROS:
            return _moment(value, timedelta(microseconds=1))
        case _:
            assert_never(kind)


def _amount_of(value: object) -> object:
    """Extracted money is {"amount", "currency"}; a field with room for one number takes the amount."""
    if isinstance(value, Mapping) and "amount" in value and value.keys() <= {"amount", "currency"}:
        return value["amount"]
    return value


def _text(value: object) -> str:
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise _Unfit("is not text")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Unfit("has a lone surrogate, which UTF-8 cannot carry") from None
    return value


def _number(value: object) -> Decimal:
    if isinstance(value, Decimal) and value.is_finite():
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    if isinstance(value, float) and math.isfinite(value):
        return Decimal(repr(value))
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    raise _Unfit("is not a number")


def _integer(value: object, limit: int) -> int:
    number = _number(value)
    if not -limit <= number < limit:
        raise _Unfit(f"is out of range: {-limit} to {limit - 1}")
    if number != int(number):
        raise _Unfit("is not a whole number")
    return int(number)


def _floating(value: object, limit: float) -> float:
    number = float(_number(value))
    if not math.isfinite(number) or abs(number) > limit:
        raise _Unfit("is out of range for a floating-point number")
    return number


def _exact(shape: Exact, value: object) -> Decimal:
    number = _number(value)
    if number.adjusted() >= shape.precision - shape.scale and number:
        raise _Unfit(f"has more than {shape.precision - shape.scale} digits before the point")
    rounded = number.quantize(Decimal(1).scaleb(-shape.scale), context=_DECIMALS)
    if len(rounded.as_tuple().digits) > shape.precision:
        raise _Unfit(f"has more than {shape.precision - shape.scale} digits before the point")
    return rounded


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    raise _Unfit("is not true or false")


def _bytes(value: object, size: int | None) -> bytes:
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _Unfit("is not base64") from None
    if not isinstance(value, bytes):
        raise _Unfit("is not bytes (base64 text)")
    if size is not None and len(value) != size:
        raise _Unfit(f"is {len(value)} bytes long, not {size}")
    return value


def _uuid(value: object) -> uuid.UUID:
    if isinstance(value, uuid.UUID):
        return value
    try:
        return uuid.UUID(str(value))
    except ValueError:
        raise _Unfit("is not a UUID") from None


def _day(value: object) -> date:
    if isinstance(value, datetime):
        value = value.date()
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.strip()).date()
        except ValueError:
            raise _Unfit("is not an ISO 8601 date") from None
    if not isinstance(value, date):
        raise _Unfit("is not an ISO 8601 date")
    if not _FIRST_DAY <= value <= _LAST_DAY:
        raise _Unfit(f"is outside {_FIRST_DAY} to {_LAST_DAY}")
    return value


def _moment(value: object, unit: timedelta) -> datetime:
    """A moment in UTC, cut to the unit: from ISO 8601 text (UTC if no zone is named) or a count of units since 1970."""
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        elif isinstance(value, int) and not isinstance(value, bool):
            value = _EPOCH + value * unit
        if not isinstance(value, datetime):
            raise _Unfit("is not an ISO 8601 moment")
        value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise _Unfit("is not an ISO 8601 moment") from None
    if not _FIRST_DAY <= value.date() <= _LAST_DAY:
        raise _Unfit(f"is outside {_FIRST_DAY} to {_LAST_DAY}")
    return value - (value - _EPOCH) % unit


def schema_default(shape: Shape, default: object) -> object:
    """A schema's default as the record's type; Avro writes bytes there as Latin-1 text, decimals as bytes."""
    match shape:
        case Nullable():
            return None if default is None else schema_default(shape.of, default)
        case Exact() if isinstance(default, str):
            unscaled = int.from_bytes(default.encode("latin-1"), "big", signed=True)
            return Decimal(unscaled).scaleb(-shape.scale, context=_DECIMALS)
        case Fixed() | Scalar(kind=ScalarKind.BYTES) if isinstance(default, str):
            return default.encode("latin-1")
        case Scalar(kind=ScalarKind.DATE) if isinstance(default, int):
            return _EPOCH.date() + timedelta(days=default)
        case Many() if isinstance(default, list):
            return [schema_default(shape.items, item) for item in default]
        case Keyed() if isinstance(default, dict):
            return {key: schema_default(shape.values, item) for key, item in default.items()}
        case RecordType() if isinstance(default, dict):
            return {
                member.name: schema_default(member.shape, default.get(member.name, member.default))
                for member in shape.members
            }
        case _:
            return fit(shape, default, "", [])


def jsonable(shape: Shape, value: object) -> object:
    """A record's value as JSON carries it: decimals, dates, moments, UUIDs as text; bytes as base64 text."""
    match shape:
        case Nullable():
            return None if value is None else jsonable(shape.of, value)
        case RecordType() if isinstance(value, Mapping):
            return {member.name: jsonable(member.shape, value[member.name]) for member in shape.members}
        case Many() if isinstance(value, list):
            return [jsonable(shape.items, item) for item in value]
        case Keyed() if isinstance(value, Mapping):
            return {key: jsonable(shape.values, item) for key, item in value.items()}
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    return str(value) if isinstance(value, uuid.UUID) else value


def quoted(value: object) -> str:
    """The value as an error message shows it, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _wanted(shape: RecordType | Many | Keyed) -> str:
    match shape:
        case RecordType():
            return f"an object with {', '.join(member.name for member in shape.members)}"
        case Many():
            return "a list"
        case Keyed():
            return "an object"
        case _:
            assert_never(shape)
