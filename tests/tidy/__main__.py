"""The repository's own lint, for what ruff doesn't know: `python -m tests.tidy`; exceptions are in tests/tidy/allowed.toml."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator

from tests.tidy.code import LINE_FAILS, check_code
from tests.tidy.dead import check_dead
from tests.tidy.findings import ROOT, Allowed, Finding
from tests.tidy.words import check_document, check_python, read_words

# The list of words itself, history, and the pages that say what a word was called before.
_MAY_SAY_ANYTHING = ("tests/tidy/", "CHANGELOG.md", "docs/glossary.md", "LICENSE")


def tracked(*patterns: str) -> list[str]:
    """Return the files of the repository that match, new ones too, as they lie on the disk."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [path for path in dict.fromkeys(listed) if (ROOT / path).is_file()]


def check_all() -> Iterator[Finding]:
    """Yield everything that the rules find, allowed or not."""
    words = read_words()
    modules = tracked("*.py")
    for path in modules:
        text = (ROOT / path).read_text("utf-8")
        yield from check_code(path, text)
        if not path.startswith(_MAY_SAY_ANYTHING):
            yield from check_python(path, text, words)
    for path in tracked("*.md"):
        if not path.startswith(_MAY_SAY_ANYTHING):
            yield from check_document(path, (ROOT / path).read_text("utf-8"), words)
    for number, line in enumerate((ROOT / "pyproject.toml").read_text("utf-8").splitlines(), 1):
        if len(line) > LINE_FAILS:
            yield Finding("line-length", "pyproject.toml", f"is more than {LINE_FAILS} characters long", number)
    yield from check_dead(modules)


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--warnings", action="store_true", help="list what is over the size to aim at, too")
    options = parser.parse_args()
    found = list(Allowed.read().remaining(check_all()))
    failures = [one for one in found if one.fails]
    warnings = [one for one in found if not one.fails]
    for one in [*(warnings if options.warnings else ()), *failures]:
        print(one)
    print(f"tidy: {len(failures)} to mend, {len(warnings)} over the size to aim at (--warnings lists them)")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
