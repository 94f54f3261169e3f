"""What a table says is right ("1299 CHF", "60 USD or -", "not InStock"), compared with what came out."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

#: In the tables: nothing may come out.
NOTHING = "-"


def is_right(right: str, found: object) -> bool:
    """Whether what was found is what the table says, in one of the ways that it allows; a remark in brackets is none."""
    if " or " in right:
        return any(is_right(part, found) for part in right.split(" or "))
    right = re.sub(r"\s*\(.*\)$", "", right.strip())
    if right.startswith("not "):
        return not is_right(right.removeprefix("not "), found)
    if right == NOTHING:
        return found is None
    if isinstance(found, dict):
        return _is_money(right, found)
    if isinstance(found, list):
        return right.split(", ") == found
    return found is not None and right == str(found)


def _is_money(right: str, found: dict[str, object]) -> bool:
    amount, _, currency = right.partition(" ")
    try:
        return Decimal(amount) == Decimal(str(found["amount"])) and currency in ("", found["currency"])
    except InvalidOperation:
        return False
