"""SIGKILL at a chosen moment: between what a process has sent and what it would have done next.

A process looks for a file of its role's name in the folder of failpoints at each send. The file says when to die: "before"
or "after" Kafka has acknowledged records for a topic whose name ends as given, for example "after .events". A failpoint
fires once: the process takes the file away and dies, as it would by the kernel's hand, with nothing committed or cleaned up.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from processors.kafka.producer import Outgoing, Producer

FOLDER = "FAILPOINTS_FOLDER"


def arm(folder: Path, role: str, when: str) -> None:
    """Have a role die "before" or "after" its next send to a topic, such as "after .events"."""
    (folder / f"{role}.new").write_text(when)
    # At once as a whole: the role may look at any moment.
    (folder / f"{role}.new").rename(folder / role)


def armed(folder: Path) -> list[str]:
    """Return the roles whose failpoint has not fired yet."""
    return sorted(path.name for path in folder.iterdir())


def install() -> None:
    """Put the failpoints in, where the environment names a folder for them."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return
    file = Path(folder) / sys.argv[-1]
    send = Producer.send

    def die_if_armed(moment: str, items: Sequence[Outgoing]) -> None:
        try:
            wanted, suffix = file.read_text().split()
        except FileNotFoundError:
            return
        if wanted == moment and any(item.topic.endswith(suffix) for item in items):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    async def send_or_die(self: Producer, items: Sequence[Outgoing]) -> list[int]:
        die_if_armed("before", items)
        offsets = await send(self, items)
        die_if_armed("after", items)
        return offsets

    Producer.send = send_or_die  # type: ignore[method-assign]  # that is the point
