"""How the paid API fails: rates per kind of fault, drawn from the seed, the key and the attempt, never from a clock."""

import hashlib
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import msgspec

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]


class PaidFault(StrEnum):
    """One way in which a single request goes wrong."""

    RATE_LIMITED = "rate_limited"
    """429 with Retry-After, nothing done."""
    UNAVAILABLE = "unavailable"
    """503, nothing done."""
    HANG_BEFORE = "hang_before"
    """No answer ever, nothing done."""
    LATE = "late"
    """Done only after `hang_seconds`, when the client has likely given up, or cancelled."""
    ERROR_AFTER = "error_after"
    """500, yet done."""
    HANG_AFTER = "hang_after"
    """No answer ever, yet done."""
    RESET_AFTER = "reset_after"
    """Connection reset, yet done."""
    MALFORMED_AFTER = "malformed_after"
    """200 with half a JSON document, yet done."""


class Mode(StrEnum):
    """The state of the whole service."""

    NORMAL = "normal"
    HANG = "hang"
    """Every request waits for the mode to change, at most `hang_seconds`, then breaks without effect."""
    DOWN = "down"
    """Every connection breaks at once, without effect."""


class PaidFaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rates between 0 and 1 for each fault; together at most 1."""

    mode: Mode = Mode.NORMAL
    rate_limited: Rate = 0.0
    unavailable: Rate = 0.0
    hang_before: Rate = 0.0
    late: Rate = 0.0
    error_after: Rate = 0.0
    hang_after: Rate = 0.0
    reset_after: Rate = 0.0
    malformed_after: Rate = 0.0
    permanent_rate: Rate = 0.0
    """Share of the products that /enrich and /classify refuse for good, with 422."""
    late_charge_rate: Rate = 0.0
    """Share of the products, for each of the two, that are charged at the end of a call that takes very long.

    No attempt is answered before. A cancellation that comes before finds nothing, is answered 404 and forgotten: the
    charge comes all the same, and a cancellation after it refunds.
    """
    late_charge_seconds: Annotated[float, msgspec.Meta(ge=0)] = 60.0
    """How long after the first attempt of a key it is charged, whether anybody waits for it or not."""
    faulty_attempts: Annotated[int, msgspec.Meta(ge=0)] = 2
    """A key's requests beyond this number are served: a client that retries often enough always gets through."""
    cancels_fail: bool = True
    """Whether drawn faults meet cancellations too; the mode always does."""
    hang_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0

    def __post_init__(self) -> None:
        total = sum(self.rate(fault) for fault in PaidFault)
        if total > 1 + 1e-9:
            raise ValueError(f"the rates sum up to {total:g}: lower them to 1 or less together")

    @classmethod
    def spread(cls, fault_rate: float, **others: float) -> "PaidFaults":
        """The same share for every kind of fault, `fault_rate` together; `others` are fields of their own."""
        rates: dict[str, object] = {fault.value: fault_rate / len(PaidFault) for fault in PaidFault}
        return msgspec.convert(rates | others, cls)

    def changed(self, changes: dict[str, object]) -> "PaidFaults":
        """These faults with some fields replaced; raises msgspec.ValidationError that names the wrong field."""
        return msgspec.convert(msgspec.to_builtins(self) | changes, PaidFaults)

    def rate(self, fault: PaidFault) -> float:
        """The share of attempts that this fault spoils."""
        return float(getattr(self, fault.value))

    def drawn(self, seed: int, subject: str, attempt: int) -> PaidFault | None:
        """What goes wrong with the subject's n-th attempt (from 1), the same in every process."""
        if attempt > self.faulty_attempts:
            return None
        draw = share(f"{seed}:{subject}:{attempt}")
        for fault in PaidFault:
            draw -= self.rate(fault)
            if draw < 0:
                return fault
        return None

    def refuses(self, seed: int, product: str) -> bool:
        """Whether this product, named by its URL, is one of those refused for good."""
        return share(f"{seed}:permanent:{_name(product)}") < self.permanent_rate

    def charges_late(self, seed: int, path: str, product: str) -> bool:
        """Whether this product, named by its URL, is one of those that the endpoint charges late."""
        return share(f"{seed}:late:{path}:{_name(product)}") < self.late_charge_rate


def _name(product: str) -> str:
    # Only the end of the path: the sample shop has another port on every start, and a product that redirects has two
    # addresses, of which the one that was fetched may not be the one that was asked for.
    return urlsplit(product).path.rpartition("/")[2] or product


def share(text: str) -> float:
    """A number in [0, 1) that only the text decides, spread evenly."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
