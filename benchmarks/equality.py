"""Our metrics beside the programs that they come from: the largest difference of each, on the same input.

    python benchmarks/equality.py [--text] [--clinical] [...] [--out docs/equality.md]

Without a choice, every section. A section is a file `equality_<name>.py` beside this one, whose `main()` yields rows
with `name` ("metric | original and version"), `n`, `ours`, `original` and `difference`; an original that is not
installed gives a row that says so; the extras `dev`, `originals` and `text-originals` bring what an index offers. Ends
with 1 if a metric differs from its original by more than 1e-6. With --out, a section that was not run keeps its table.
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

LIMIT = 1e-6
PREFIX = "equality_"
PAGE_HEAD = """# Equality with the originals

Written by `python benchmarks/equality.py --out docs/equality.md`. Each metric is computed by us and by the program that
it comes from, on the same input in one run. The last column is the largest difference over all values compared, single
cases included where the original gives them.
"""


class Row(Protocol):
    """One comparison; `original` and `difference` are None where the original is not installed."""

    @property
    def name(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def ours(self) -> float: ...
    @property
    def original(self) -> float | None: ...
    @property
    def difference(self) -> float | None: ...


def names() -> list[str]:
    """The sections that exist."""
    return sorted(path.stem.removeprefix(PREFIX) for path in HERE.glob(f"{PREFIX}*.py"))


def section(name: str) -> tuple[str, bool]:
    """The table of one section under its title, and whether nothing differs."""
    module = importlib.import_module(PREFIX + name)
    rows: list[Row] = list(module.main())
    title = (module.__doc__ or name).strip().splitlines()[0]
    lines = [f"## {name}", "", title, "", "| metric | original | n | ours | original's | largest difference |"]
    lines.append("|---|---|---:|---:|---:|---:|")
    lines += [shown(row) for row in rows]
    return "\n".join(lines) + "\n", not any(differs(row) for row in rows)


def shown(row: Row) -> str:
    """One line of the table."""
    metric, _, original = row.name.rpartition(" | ")
    begin = f"| {metric or row.name} | {original if metric else ''} | {row.n} | {row.ours:.6f} |"
    if row.original is None or row.difference is None:
        return f"{begin} not installed | |"
    return f"{begin} {row.original:.6f} | {row.difference:.1e}{' **differs**' if differs(row) else ''} |"


def differs(row: Row) -> bool:
    """Whether a row shows more than the limit; nan is a difference."""
    return row.difference is not None and not row.difference <= LIMIT


def sections_of(page: str) -> Iterator[tuple[str, str]]:
    """Name and text of each section of a page."""
    for part in re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]:
        yield part.splitlines()[0].removeprefix("## ").strip(), part.rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in names():
        parser.add_argument(f"--{name}", dest="chosen", action="append_const", const=name, help=f"the section {name}")
    parser.add_argument("--out", type=Path, help="page to write, such as docs/equality.md")
    options = parser.parse_args(arguments)
    found = {name: section(name) for name in options.chosen or names()}
    print("\n".join(text for text, _ in found.values()))
    if options.out is not None:
        old = dict(sections_of(options.out.read_text(encoding="utf-8"))) if options.out.is_file() else {}
        merged = old | {name: text for name, (text, _) in found.items()}
        body = "".join(f"\n{text}" for _, text in sorted(merged.items()))
        options.out.write_text(PAGE_HEAD + body, encoding="utf-8")
    return 0 if all(equal for _, equal in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
