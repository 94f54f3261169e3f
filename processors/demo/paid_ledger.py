"""The paid API's books: each idempotency key is charged at most once, and a cancelled key never."""

import json
import logging
import os
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path

logger = logging.getLogger(__name__)


class InvoiceStatus(StrEnum):
    """What an invoice says today."""

    CHARGED = "charged"
    CANCELLED = "cancelled"


class Refund(StrEnum):
    """What a cancellation found, the same however often it is asked."""

    CANCELLED = "cancelled"
    NOTHING_TO_CANCEL = "nothing_to_cancel"


class KeyCancelled(Exception):
    """The key was cancelled, before or after it was charged: it is never charged again."""


class KeyReused(Exception):
    """The key already paid for another request."""


class LedgerCorrupt(Exception):
    """The ledger file holds a line that this program did not write; move the file away or repair that line."""


@dataclass(frozen=True, slots=True)
class Invoice:
    """One paid request, with the answer that it bought."""

    key: str
    endpoint: str
    amount: str
    payload_sha256: str
    answer: dict[str, object]
    at: str
    """When it was charged, UTC, ISO 8601."""
    status: InvoiceStatus = InvoiceStatus.CHARGED
    charged_times: int = 1
    """Charges booked under this key; anything but 1 is a double charge."""


class InvoiceLedger:
    """Invoices by key; given a path, each entry is a JSON line there before it takes effect, read back at start."""

    def __init__(self, path: Path | None = None) -> None:
        self._invoices: dict[str, Invoice] = {}
        self._blocked: set[str] = set()
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._read(path)

    def close(self) -> None:
        """Release the file; the ledger accepts no entry after this."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def invoices(self) -> tuple[Invoice, ...]:
        """Every invoice ever written, in the order of the charges."""
        return tuple(self._invoices.values())

    @property
    def blocked(self) -> frozenset[str]:
        """Keys that were cancelled before they were ever charged."""
        return frozenset(self._blocked)

    def paid(self, key: str, endpoint: str, payload_sha256: str) -> Invoice | None:
        """What this key already bought, or None if it is new; raises KeyCancelled or KeyReused."""
        invoice = self._invoices.get(key)
        if key in self._blocked or (invoice is not None and invoice.status is InvoiceStatus.CANCELLED):
            raise KeyCancelled(key)
        if invoice is not None and (invoice.endpoint, invoice.payload_sha256) != (endpoint, payload_sha256):
            raise KeyReused(key)
        return invoice

    def knows(self, key: str) -> bool:
        """Whether this key was ever charged or cancelled."""
        return key in self._invoices or key in self._blocked

    def charge(self, invoice: Invoice) -> Invoice:
        """Book the invoice unless its key is paid already; returns what stands in the books."""
        standing = self.paid(invoice.key, invoice.endpoint, invoice.payload_sha256)
        if standing is not None:
            return standing
        self._append({"entry": "charged"} | asdict(invoice))
        self._book(invoice)
        return invoice

    def cancel(self, key: str, at: str) -> Refund:
        """Refund the key if it was charged, and never let it be charged from now on."""
        invoice = self._invoices.get(key)
        if invoice is None:
            if key not in self._blocked:
                self._append({"entry": "blocked", "key": key, "at": at})
                self._blocked.add(key)
            return Refund.NOTHING_TO_CANCEL
        if invoice.status is InvoiceStatus.CHARGED:
            self._append({"entry": "cancelled", "key": key, "at": at})
            self._invoices[key] = replace(invoice, status=InvoiceStatus.CANCELLED)
        return Refund.CANCELLED

    def _book(self, invoice: Invoice) -> None:
        earlier = self._invoices.get(invoice.key)
        times = invoice.charged_times if earlier is None else earlier.charged_times + invoice.charged_times
        self._invoices[invoice.key] = replace(invoice, charged_times=times)

    def _append(self, entry: dict[str, object]) -> None:
        # One write call a line: a killed process leaves whole lines, at worst one torn at the end.
        if self._file is not None:
            os.write(self._file, json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    def _read(self, path: Path) -> None:
        written = path.read_bytes()
        whole = written[: written.rfind(b"\n") + 1]
        if len(whole) < len(written) and self._file is not None:
            # The entry took no effect: nobody was answered before its line was complete.
            logger.warning("%s ends in a torn line: %d bytes cut off", path, len(written) - len(whole))
            os.ftruncate(self._file, len(whole))
        for position, line in enumerate(whole.splitlines(), start=1):
            try:
                self._apply(json.loads(line))
            except (ValueError, KeyError, TypeError) as wrong:
                raise LedgerCorrupt(
                    f"{path}, line {position}: {wrong}; move the file away or repair the line"
                ) from wrong

    def _apply(self, entry: dict[str, object]) -> None:
        kind = entry.pop("entry")
        match kind:
            case "charged":
                self._book(Invoice(**entry | {"status": InvoiceStatus(str(entry["status"]))}))  # type: ignore[arg-type]  # JSON
            case "cancelled":
                key = str(entry["key"])
                self._invoices[key] = replace(self._invoices[key], status=InvoiceStatus.CANCELLED)
            case "blocked":
                self._blocked.add(str(entry["key"]))
            case _:
                raise ValueError(f"unknown entry {kind!r}")
