#!/usr/bin/env python3
"""Writes the packet cases: `tests/cases/*.json`. Needs scapy 2.5 (Debian: python3-scapy), and neither root nor a kernel.

    /usr/bin/python3 tests/cases/generate.py            writes all files
    /usr/bin/python3 tests/cases/generate.py --check    only says whether the committed ones are what it would write

What a packet must become is said here by the rules of the design and laid out by scapy; the program is never asked.
"""

import pathlib
import sys

sys.dont_write_bytecode = True

from generator import BOOKS  # noqa: E402


def main() -> int:
    folder = pathlib.Path(__file__).resolve().parent
    wanted = {f"{book.name}.json": book.text() for book in BOOKS}
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    committed = {path.name: path.read_text() for path in folder.glob("*.json")}
    different = sorted(name for name in wanted.keys() | committed.keys() if wanted.get(name) != committed.get(name))
    if sys.argv[1:]:
        print("\n".join(f"{name}: not as generated" for name in different) or "all files are as generated")
        return 1 if different else 0
    for name in different:
        if name in wanted:
            (folder / name).write_text(wanted[name])
        else:
            (folder / name).unlink()
    total = sum(len(book.cases) for book in BOOKS)
    print(f"{total} cases in {len(wanted)} files, {len(different)} of them changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
