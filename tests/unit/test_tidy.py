"""The repository's own lint finds what it is for, and its exceptions only shrink."""

from __future__ import annotations

import pytest

from tests.tidy.code import check_code
from tests.tidy.findings import Allowed, Finding
from tests.tidy.words import Words, check_document, check_python

WORDS = Words({"Gadget": "Producer"}, {"villa": "environment"}, {"it tinkles": "it fires"})


@pytest.mark.parametrize(
    ("path", "text", "rule"),
    [
        ("processors/a.py", "x = 1\n" * 401, "module-size"),
        ("processors/a.py", "def f():\n" + "    x = 1\n" * 60, "function-length"),
        ("processors/a.py", f"x = '{'y' * 140}'", "line-length"),
        ("processors/a.py", "assert x", "assert"),
        ("processors/a.py", "if TYPE_CHECKING:\n    import x", "type-checking"),
        ("processors/a.py", "if typing.TYPE_CHECKING:\n    import x", "type-checking"),
        ("tests/a.py", "def test_x():\n    pass", "test-docstring"),
        ("tests/a.py", "async def test_x():\n    pass", "test-docstring"),
    ],
)
def test_each_rule_finds_its_fault(path: str, text: str, rule: str) -> None:
    """One planted fault, one failure of the rule that is for it."""
    assert [one.rule for one in check_code(path, text) if one.fails] == [rule]


def test_sizes_to_aim_at_are_warnings() -> None:
    """Between the size to aim at and the size that fails a module is listed, and passes."""
    found = list(check_code("processors/a.py", "x = 1\n" * 201))
    assert [(one.rule, one.fails) for one in found] == [("module-size", False)]


def test_tests_may_assert() -> None:
    """Only shipped code runs with python -O."""
    assert not list(check_code("tests/a.py", "assert x"))


def test_words_are_found_in_names_and_in_prose() -> None:
    """A whole name, a part of a name in any spelling, words in a comment and in a text; nothing else."""
    text = "Gadget = villaHall = VILLA_OF = downvilla = 1  # it tinkles\nx = 'when it tinkles'\nGadgets = ring\n"
    found = [one.where for one in check_python("a.py", text, WORDS)]
    assert found == ["a.py:Gadget", "a.py:villaHall", "a.py:VILLA_OF", "a.py:it tinkles", "a.py:it tinkles"]


def test_code_in_a_page_is_no_prose() -> None:
    """Only sentences are looked at, and the line is the page's."""
    page = "Fine.\n```\nit tinkles\n```\n`it tinkles`\nAnd then it tinkles.\n"
    assert [one.line for one in check_document("a.md", page, WORDS)] == [6]


def test_an_exception_lets_pass_what_it_names() -> None:
    """A place, or a pattern of places, up to its size."""
    allowed = Allowed({"size": {"a.py": {"size": 450, "why": "x"}}, "dead": {"*:do_GET": "http.server calls it"}})
    found = [Finding("size", "a.py", "long", size=450), Finding("dead", "b.py:do_GET", "unused")]
    assert not list(allowed.remaining(found))
    (grown,) = allowed.remaining([found[0]._replace(size=451), found[1]])
    assert "allows 450" in grown.says


def test_an_exception_that_is_not_needed_fails() -> None:
    """Neither one that nothing needs, nor one that is far too wide: the list only shrinks."""
    allowed = Allowed({"size": {"a.py": {"size": 450, "why": "x"}, "b.py": {"size": 450, "why": "x"}}})
    found = list(allowed.remaining([Finding("size", "a.py", "long", size=420)]))
    assert [one.where for one in found] == ["a.py", "b.py"]


def test_an_exception_says_why() -> None:
    """Without a reason it is refused."""
    with pytest.raises(ValueError, match=r"b\.py has to say why"):
        Allowed({"size": {"b.py": {"size": 450}}})
