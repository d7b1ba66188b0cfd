"""What is wrong in one draft: findings missed, invented or on the wrong side, and the sentences that say so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from evaluation.clinical import present
from reports.findings import find
from reports.sections import sentences, split_sections


@dataclass(frozen=True)
class Errors:
    """What went wrong in one study. Names of findings, in alphabetical order."""

    missed: tuple[str, ...]
    invented: tuple[str, ...]
    wrong_side: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many."""
        return len(self.missed) + len(self.invented) + len(self.wrong_side)


def errors_of(
    said: Mapping[str, Collection[str]], true: Mapping[str, Collection[str]], names: Collection[str]
) -> Errors:
    """Errors among `names` from present findings with their sides; a side is wrong when both have one, none shared."""
    kept_said, kept_true = ({name for name in found if name in names} for found in (said, true))
    swapped = {
        name for name in kept_said & kept_true if said[name] and true[name] and set(said[name]).isdisjoint(true[name])
    }
    return Errors(*(tuple(sorted(found)) for found in (kept_true - kept_said, kept_said - kept_true, swapped)))


def marked(text: str, wrong: Errors) -> tuple[tuple[str, str], ...]:
    """Sentences of findings and impression, each with the finding that makes it wrong, or "".

    Wrong is a sentence that states what was invented or is on the wrong side, or denies what was missed.
    """
    rows = []
    for sentence in body(text):
        facts = find(sentence)
        stated = sorted(present(facts) & {*wrong.invented, *wrong.wrong_side})
        denied = sorted({fact.name for fact in facts if fact.status == "absent"} & set(wrong.missed))
        rows.append((sentence, (stated or denied or [""])[0]))
    return tuple(rows)


def missed_in(text: str, wrong: Errors) -> tuple[tuple[str, str], ...]:
    """Sentences of a reference report, each with the first finding in it that the draft missed or put elsewhere."""
    rows = []
    for sentence in body(text):
        names = sorted(present(find(sentence)) & {*wrong.missed, *wrong.wrong_side})
        rows.append((sentence, names[0] if names else ""))
    return tuple(rows)


def body(text: str) -> tuple[str, ...]:
    """Sentences of findings and impression without repeats; of a text without sections all of them."""
    sections = split_sections(text)
    parts = [sections[name] for name in ("findings", "impression") if sections.get(name)] or [text]
    return tuple(dict.fromkeys(sentence for part in parts for sentence in sentences(part)))
