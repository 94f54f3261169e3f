"""`make picture`: run the real demo in a terminal of its own, and keep what it printed as docs/images/demo.svg."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_PICTURE = Path(__file__).parents[1] / "images" / "demo.svg"
_PROGRAM = Path(sys.executable).with_name("scrapesaga")
_ARGUMENTS = ("demo", "--urls", "100", "--kill", "coordinator")
# What fits into a README without a scroll bar.
_COLUMNS = 80

# What a program sends to move about: line end, carriage return, cursor up, erase the line, show or hide the cursor.
_MOVES = re.compile(r"(\n|\r|\x1b\[\d*A|\x1b\[2K|\x1b\[\?25[lh])")

_THEME = TerminalTheme(
    (22, 27, 34),
    (215, 221, 228),
    [(22, 27, 34), (255, 123, 114), (86, 211, 100), (227, 179, 65), (121, 192, 255), (210, 168, 255), (57, 197, 207),
     (215, 221, 228)],
    [(110, 118, 129), (255, 161, 152), (126, 231, 135), (242, 204, 96), (165, 214, 255), (226, 197, 255), (86, 212, 221),
     (255, 255, 255)],
)  # fmt: skip

# rich's own format asks another host for a font; every glyph run has its length, so any monospaced font fits.
_FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
  <title>{command}</title>
  <style>
    .{unique_id}-matrix {{
      font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
      font-size: {char_height}px;
      line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font: 600 17px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; }}
{styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
{lines}
  </defs>
{chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
    <g class="{unique_id}-matrix">
{matrix}
    </g>
  </g>
</svg>
"""


def main() -> None:
    """Run the demo, and write the picture if the verdict is clean."""
    with tempfile.TemporaryDirectory() as folder:
        status, output = record([str(_PROGRAM), *_ARGUMENTS], Path(folder))
    if status:
        sys.exit(f"the demo ended with status {status}, so there is no picture:\n{output}")
    _PICTURE.parent.mkdir(exist_ok=True)
    _PICTURE.write_text(drawn(screen(output), f"scrapesaga {' '.join(_ARGUMENTS)}"), "utf-8")
    print(f"wrote {_PICTURE}")


def record(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in a new terminal and folder; return its status and all that it wrote, escape sequences included."""
    ours, theirs = pty.openpty()
    lines = shutil.get_terminal_size().lines
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", max(lines, 50), _COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": ""}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = bytearray()
    try:
        while piece := os.read(ours, 65_536):
            written += piece
    except OSError:
        pass  # Linux reports the end of a terminal so.
    finally:
        os.close(ours)
    return process.wait(), written.decode("utf-8", "replace")


def screen(output: str) -> list[str]:
    """Return the lines that stand on the screen at the end, with their colours: what was erased is gone."""
    lines, row = [""], 0
    for piece in _MOVES.split(output):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece.endswith("A") and piece.startswith("\x1b["):
            row = max(row - int(piece[2:-1] or 1), 0)
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece != "\r" and not piece.startswith("\x1b[?25"):
            lines[row] += piece
    while lines and not Text.from_ansi(lines[-1]).plain.strip():
        lines.pop()
    return lines


def drawn(lines: list[str], command: str) -> str:
    """Return the lines as SVG, below the command that made them."""
    console = Console(record=True, width=_COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "bright_black"), (command, "bold")))
    for line in lines:
        console.print(Text.from_ansi(line), no_wrap=True, highlight=False)
    # A margin below the last line.
    console.print()
    # `replace` instead of `format`: rich formats the template with its own names.
    template = _FORMAT.replace("{command}", command)
    return console.export_svg(title="scrapesaga", theme=_THEME, code_format=template, unique_id="demo")


if __name__ == "__main__":
    main()
