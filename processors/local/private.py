"""Files and folders that only their owner can read, and passwords that are kept in such files."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from processors.local.errors import LocalError

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def private_folder(folder: Path) -> Path:
    """Make the folder if it is missing, and close it to everybody else. Raises LocalError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & _OTHERS:
            folder.chmod(0o700)
    except OSError as error:
        raise LocalError(
            f"{folder} can't be created, or can't be protected from other users ({error.strerror}): choose another folder."
        ) from error
    return folder


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; it is either the old or the new one, never a part of it."""
    # A name of its own, made new: a link that somebody put there is not followed.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def kept_password(path: Path) -> str:
    """Return the password in the file, or make one: when there is none yet, or when others could have read it."""
    try:
        found = path.lstat()
        is_private = stat.S_ISREG(found.st_mode) and not found.st_mode & _OTHERS and found.st_uid == os.getuid()
        if is_private and (password := path.read_text("utf-8").strip()):
            return password
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    # URL-safe characters: it goes into properties files and into the address of a client.
    password = secrets.token_urlsafe(24)
    write_private(path, password + "\n")
    return password
