"""Runs benchmarks and writes what they print into docs/benchmarks.md, each under its command, with machine and date.

    python benchmarks/page.py "benchmarks/reading.py" "benchmarks/million.py runs/million --kills 20 --ray"

A section of the page is replaced by a new run of the same script; the others stay. Run it on a quiet machine.
"""

from __future__ import annotations

import datetime
import os
import platform
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each section is what its command printed, on the machine and day that it names, written by `python benchmarks/page.py`.
Read ratios to the named peers in one run, not seconds. All data are simulated.
"""


def main(commands: list[str]) -> int:
    """Run each command and replace its section; stops at the first that fails without a result, and says which."""
    for command in commands:
        script, *arguments = shlex.split(command)
        finished = subprocess.run(
            [sys.executable, script, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        # 1 with a table says that a goal was missed, which is a result like another
        if finished.returncode > 1 or not finished.stdout.strip():
            print(f"page: `{command}` ended with exit code {finished.returncode}; its section is unchanged")
            return 1
        sections = read_sections(PAGE.read_text(encoding="utf-8") if PAGE.is_file() else "")
        sections[Path(script).stem] = section(command, finished.stdout)
        PAGE.write_text(HEAD + "".join(f"\n{text}" for _, text in sorted(sections.items())), encoding="utf-8")
        print(f"page: {command}: written to docs/{PAGE.name}")
    return 0


def read_sections(page: str) -> dict[str, str]:
    """Sections of the page by the name of their script."""
    parts = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return {part.splitlines()[0].removeprefix("## ").strip(): part.rstrip() + "\n" for part in parts[1:]}


def section(command: str, printed: str) -> str:
    """One section: the command, where and when, and the output; a Markdown table in it stays one."""
    script = Path(shlex.split(command)[0]).stem
    where = f"Python {platform.python_version()}, {os.cpu_count()} logical cores, {datetime.date.today().isoformat()}"
    lines = printed.strip().splitlines()
    body = spaced(lines) if any(line.startswith("|") for line in lines) else "```\n" + printed.strip() + "\n```"
    return f"## {script}\n\n`python {command}` on {where}:\n\n{body}\n"


def spaced(lines: list[str]) -> str:
    """Lines with a table among them: Markdown takes what follows a table for another row unless a line lies between."""
    text = "\n".join(lines)
    text = re.sub(r"(?m)^(\|.*)\n(?![|\n])", r"\1\n\n", text)
    return re.sub(r"(?m)^([^|\n].*)\n(?=[^\n])", r"\1\n\n", text)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
