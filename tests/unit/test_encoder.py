"""Messages are written as fastavro writes them, byte for byte, whichever values they hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.messages.wire import decode_saga_fields, encode_command, encode_saga
from processors.saga.commands import StepCommand
from processors.saga.state import Action
from schemas.codec import codec
from schemas.encoder import compile_encoder, long
from tests.sagas import Driven, compensated, completed, parked, plan, running

COMPILED = ("submitted", "timed_out", "step_command", "step_result", "saga_state")


def values_of(schema: Any, named: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Any value of an Avro schema."""
    kind = schema["type"] if isinstance(schema, Mapping) else schema
    if isinstance(schema, Mapping) and "name" in schema:
        named[schema["name"]] = schema
    match kind:
        case ["null", other]:
            return st.none() | values_of(other, named)
        case "long":
            return st.integers(-(2**63), 2**63 - 1)
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "string":
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
        case "bytes":
            return st.binary(max_size=5000)
        case "boolean":
            return st.booleans()
        case "enum":
            return st.sampled_from(schema["symbols"])
        case "array":
            return st.lists(values_of(schema["items"], named), max_size=4)
        case "map":
            return st.dictionaries(st.text("abcdé", max_size=5), values_of(schema["values"], named), max_size=4)
        case "record":
            return st.fixed_dictionaries({one["name"]: values_of(one["type"], named) for one in schema["fields"]})
        case _:
            return values_of(named[kind], named)


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_encoder_writes_what_fastavro_writes(name: str) -> None:
    """Every message of the hot path has the same bytes, header included, as the reference encoder gives it."""
    message = codec(name)
    encode = message.encoder(mapping=True)

    @settings(max_examples=150, deadline=None)
    @given(values_of(message.schema, {}))
    def compare(value: dict[str, Any]) -> None:
        written = encode(value)
        assert written == message.encode(value)
        assert message.decode(written) == value

    compare()


@pytest.mark.parametrize(
    "driven",
    [Driven(plan("abc")), running(), parked(), completed(), compensated()],
    ids=["new", "running", "parked", "completed", "compensated"],
)
def test_states_of_the_core_are_written_as_fastavro_writes_their_fields(driven: Driven) -> None:
    """A state's attributes land in the fields of their names."""
    if driven.saga is None:
        driven.submit()
    assert driven.saga is not None
    written = encode_saga(driven.saga)
    assert codec("saga_state").encode(decode_saga_fields(written)) == written


@given(st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**n + d for n in range(63) for d in (-1, 0, 1)]))
def test_a_number_of_any_size_is_a_zigzag_varint(number: int) -> None:
    """Reading it back by the definition gives the number, in as few bytes as there can be."""
    written = long(number)
    read = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(written))
    assert (read >> 1) ^ -(read & 1) == number
    assert all(byte & 0x80 for byte in written[:-1]) and not written[-1] & 0x80
    assert len(written) == 1 or written[-1]


def test_a_number_beyond_64_bits_is_refused() -> None:
    """It would be written as something that no reader takes."""
    with pytest.raises(OverflowError, match="64 bits"):
        long(2**63)


def test_a_missing_entry_has_the_schemas_default() -> None:
    """Bytes too, which a schema writes as text."""
    message = codec("step_result")
    some = {"job_id": "j", "run": 1, "seq": 2, "step": "s", "action": "EXECUTE", "outcome": "FAILED"}
    defaults = {
        one["name"]: b"" if one["type"] == "bytes" else one["default"]
        for one in message.schema["fields"]
        if one["name"] not in some
    }
    some = {name: value for name, value in some.items() if name not in defaults}
    assert message.encoder(mapping=True)(some) == message.encode({**defaults, **some})


def test_a_type_that_no_message_has_is_refused() -> None:
    """An encoder that guessed would write what nobody can read."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "double"}]}
    with pytest.raises(ValueError, match="no encoder for an Avro type 'double'"):
        compile_encoder(schema, b"")


def test_commands_keep_the_order_of_their_inputs() -> None:
    """The map of earlier outputs is written in the order of the steps."""
    command = StepCommand(
        "j", 1, 2, "c", Action.EXECUTE, 1, "j:1:c", "hash", "u", b"p", "", 9, {"b": b"1", "a": b"2"}, b"", ""
    )
    assert list(codec("step_command").decode(encode_command(command))["inputs"]) == ["b", "a"]


def test_numbers_are_right_however_many_were_met_before() -> None:
    """Numbers met lately are kept, to a bound: beyond it the encoder forgets them, and writes all others as before."""
    encode = compile_encoder({"fields": [{"name": "n", "type": "long"}]}, b"", mapping=True)
    for number in (*range(-9_000, 80_000), 5, -5, 1_790_000_000_000):
        assert encode({"n": number}) == long(number)
