"""Small pages, each of one difficulty: what the preset `product` makes of them."""

from __future__ import annotations

import pytest

from processors.extraction.charset import decode
from processors.extraction.extract import FieldMissing, NoProductPage, PageElsewhere, extract
from processors.extraction.fields import compile_fields
from tests.cases.answers import is_right
from tests.cases.tables import Row, rows

_FIELDS = compile_fields({"date": {"css": ".date", "type": "date", "required": False}}, preset="product")
# The address of a page that doesn't say its own: its file's name as a path.
_ADDRESS = "https://shop.example/{}"
_REFUSALS: dict[str, type[FieldMissing]] = {"no product": NoProductPage, "elsewhere": PageElsewhere}
# Answers of tables that are told in words.
_IN_WORDS = {
    ("id_refs.html", "images, brand"): {"images": "https://shop.example/i/mug.jpg", "brand": "Clayworks"},
    ("two_products.html", "title, price"): {"title": "Green Teapot", "price": "21.00"},
    ("utf16_meta.html", "any"): {"title": "Plain mug", "price": "4.5 EUR"},
    ("meta_refresh.html", "any"): {"": "elsewhere"},
}


def _wanted(row: Row) -> dict[str, str]:
    told = _IN_WORDS.get((row["page"], row["field"]))
    return told or {row["field"]: row["right"]}


@pytest.mark.parametrize("row", rows("pages.tsv"), ids=str)
def test_the_page_gives_what_is_right(row: Row) -> None:
    """The values are those of the page's own product; a page without one is refused with its own kind of error."""
    html, _ = decode((row.folder / "pages" / row["page"]).read_bytes(), None)
    address = row.cells.get("address") or _ADDRESS.format(row["page"].removesuffix(".html"))
    for field, right in _wanted(row).items():
        if refusal := _REFUSALS.get(right):
            with pytest.raises(refusal):
                extract(html, address, _FIELDS)
        else:
            found = extract(html, address, _FIELDS).get(field)
            assert is_right(right, found), f"{field}: {found}"
