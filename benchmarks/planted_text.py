"""Identifiers of people who never were, in sentences in which reports name such things.

Names, forms and sentences lie in planted_text.json. The names "held out" are in no list of the rules (a test sees to
it): Georgian, Armenian, Icelandic, Basque, Sinhala, Khmer, Yoruba, Igbo, Amharic, Mongolian, Baltic, Albanian, Welsh,
Hawaiian, Maori and others; "held out, a word" are names that are English words as well, the hardest kind.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LISTS: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
GROUPS = ("listed", "held out", "held out, a word")
_SHARES = (5, 4, 1)
_SLOT = re.compile(r"\{(\w+)\}")


def words(key: str) -> list[str]:
    """One list of words of planted_text.json."""
    return [word for line in LISTS[key] for word in line.split()]


_GIVEN = dict(zip(GROUPS, (words("dictionary_given"), words("held_out_given"), words("held_out_given")), strict=True))
_FAMILY = dict(
    zip(GROUPS, (words("dictionary_family"), words("held_out_family"), words("held_out_words")), strict=True)
)


@dataclass(frozen=True)
class Planted:
    """One identifier in a text: where it is, its kind, and the group of its name (empty for what is no name)."""

    start: int
    stop: int
    kind: str
    group: str


class Inventor:
    """Makes identifiers, the same for the same seed."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def make(self, form: str, group: str) -> str:
        """A form filled: % as dates have it (%e with its ending), # a digit, & a letter, <...> a word of a list."""
        if form.startswith("%"):
            return self._date(form)
        made = re.sub(r"<(\w+)>", lambda found: self._word(found[1], group), form)
        made = re.sub("#", lambda _: str(self.draw.randrange(1, 10)), made)
        return re.sub("&", lambda _: self.draw.choice("ABDEGHJKLMRST"), made)

    def _word(self, kind: str, group: str) -> str:
        if kind in ("given", "GIVEN"):
            name = self.draw.choice(_GIVEN[group])
        elif kind in ("family", "FAMILY", "small"):
            name = self.draw.choice(_FAMILY[group])
        elif kind == "hospital":
            return str(self.draw.choice(LISTS["hospitals"]))
        else:
            name = self.draw.choice(words("streets" if kind == "street" else "towns"))
        return name.upper() if kind.isupper() else name.lower() if kind in ("small", "Town") else name

    def _date(self, form: str) -> str:
        day = dt.date(1998, 1, 1) + dt.timedelta(days=self.draw.randrange(9500))
        ending = "th" if 11 <= day.day <= 13 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        return day.strftime(form.replace("%e", f"{day.day}{ending}"))


def fill(template: str, draw: random.Random) -> tuple[str, list[Planted]]:
    """A template with invented identifiers, and where they stand in it. Half of the names are listed ones."""
    inventor = Inventor(draw)
    text, planted, at = "", [], 0
    for slot in _SLOT.finditer(template):
        kind, *forms = LISTS["slots"][slot[1]]
        group = draw.choices(GROUPS, _SHARES)[0]
        made = inventor.make(draw.choice(forms), group)
        text += template[at : slot.start()]
        planted.append(Planted(len(text), len(text) + len(made), kind, group if kind == "name" else ""))
        text += made
        at = slot.end()
    return text + template[at:], planted
