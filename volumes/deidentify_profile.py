"""What PS3.15 table E.1-1 says of each attribute, under the chosen options; and what the IOD asks of it.

The table lies in deidentify.json, the types of attributes (1, 1C, 2, 2C; PS3.3) in deidentify_types.json.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Action = Literal["keep", "clean", "uid", "remove", "empty", "dummy"]
Dates = Literal["shift", "keep", "remove"]


@dataclass(frozen=True)
class Profile:
    """The Basic Profile and its options (PS3.15 E.2, E.3). Cleaned structured content is part of all of them.

    `dates`: "shift" retains longitudinal information with modified dates, "keep" with full dates, "remove" neither.
    """

    dates: Dates = "shift"
    descriptors: bool = True
    pixels: bool = True
    device: bool = False
    patient: bool = False
    institution: bool = False
    uids: bool = False
    private: bool = True
    graphics: bool = False

    def options(self) -> tuple[str, ...]:
        """The options in force, by their names in the table."""
        on = [
            name for name in ("descriptors", "device", "patient", "institution", "uids", "graphics") if self.has(name)
        ]
        return ("structured", *on, *(("dates",) if self.dates != "remove" else ()))

    def has(self, option: str) -> bool:
        """Whether an option is in force."""
        return bool(getattr(self, option))

    def codes(self) -> tuple[tuple[str, str], ...]:
        """(code value, meaning) of the method, PS3.16 CID 7050."""
        offered = ("pixels", "graphics", "descriptors", "patient", "device", "uids", "private", "institution")
        names = ["basic", "structured", *(name for name in offered if self.has(name))]
        names += [f"dates-{self.dates}"] if self.dates != "remove" else []
        known = _table()["codes"]
        return tuple(sorted((known[n][0], known[n][1]) for n in names))


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("deidentify.json").read_text(encoding="utf-8"))
    return found


@cache
def _types() -> dict[str, Any]:
    path = Path(__file__).with_name("deidentify_types.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def table() -> dict[str, dict[str, str]]:
    """Table E.1-1 by tag ("00080050", also "60XX3000"): name, `basic` action, and the action of each option."""
    found: dict[str, dict[str, str]] = _table()["attributes"]
    return found


def kept_lists() -> dict[str, frozenset[str]]:
    """Attributes and coding schemes that the table does not name and that stay: `bytes`, `free`, `technical`, ..."""
    return {name: frozenset(words) for name, words in _table()["kept"].items()}


@cache
def action_of(tag: int, profile: Profile) -> str | None:
    """The action code of the table for a tag under a profile ("K", "C", "X/Z", "U", ...); None when not listed."""
    group = tag >> 16
    name = f"{tag:08X}"
    if 0x5000 <= group <= 0x50FF:
        name = "50XXXXXX"
    elif 0x6000 <= group <= 0x60FF:
        name = f"60XX{name[4:]}"
    row = table().get(name)
    if row is None:
        return None
    asked = {row[option] for option in profile.options() if option in row}
    return "K" if "K" in asked else "C" if "C" in asked else row["basic"]


@cache
def type_of(sop_class: str, parent: str, keyword: str) -> str:
    """The type of an attribute ("1", "1C", "2", "2C"), or "3" when optional or not part of the IOD.

    `parent` is the keyword of the sequence it lies in, empty at the root. Of several modules the strictest counts.
    """
    known = _types()
    if parent:
        return str(known["nested"].get(parent, {}).get(keyword, "3"))
    modules = known["classes"].get(sop_class)
    if modules is None:  # an unknown class: what any module asks may be asked here
        modules = range(len(known["modules"]))
    found = {known["modules"][i][keyword] for i in modules if keyword in known["modules"][i]}
    return min(found, default="3")  # "1" < "1C" < "2" < "2C" < "3"


def resolve(code: str, kind: str) -> Action:
    """One action from a code of the table and the type of the attribute: nothing that the IOD asks for goes missing."""
    if code == "K":
        return "keep"
    if code == "C":
        return "clean"
    if code.startswith("U") or (code.endswith("U*")):
        return "uid"
    if kind in ("1", "1C"):
        return "dummy"
    if kind in ("2", "2C"):
        return "empty"
    return "dummy" if code == "D" else "empty" if code in ("Z", "Z/D") else "remove"


def safe_private(creator: str, group: int, element: int) -> str:
    """The VR of a private attribute that is safe to keep (table E.3.10-1), empty when it is not."""
    known = _table()["safe_private"].get(creator.strip(), {})
    return str(known.get(f"{group:04X}", {}).get(f"{element & 0xFF:02X}", ""))
