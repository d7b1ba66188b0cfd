"""Write a radiology report about known lesions, as several houses would write it; and prompts about one finding.

What is written is true of the lesions: each is mentioned in FINDINGS, one per sentence, with its own side, place and
size. The phrases are data (`phrases.yaml`); `reports.findings.find` reads back every statement exactly.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Literal, NamedTuple

import numpy as np

from reports.attributes import severity_in
from reports.comparison import SEVERITIES, compare
from reports.findings import Finding, Status
from reports.phrasing import (
    DEVICES,
    DIFFUSE,
    LesionLike,
    fill,
    is_countable,
    lesion_slots,
    more_phrases,
    noun,
    number_slots,
    phrases,
    place_slots,
    reported_mm,
    usable,
)

Modality = Literal["xray", "ct"]
SECTIONS = ("indication", "technique", "comparison", "findings", "impression")
_RARELY_ABSENT = ("endotracheal tube", "central venous catheter")
_ONLY_CT = ("lymphadenopathy", "pericardial effusion")  # never drawn, so always truly absent
_NEARLY_ALWAYS = ("pleural effusion", "pneumothorax", "consolidation", "cardiomegaly")


class WrittenSentence(NamedTuple):
    """One sentence and the indices of the lesions that it states."""

    section: str
    text: str
    lesions: tuple[int, ...]


@dataclass(frozen=True)
class WrittenReport:
    """A report and its key: `sentences` in the order of the text, `facts` = what a perfect reader finds in it."""

    text: str
    sections: dict[str, str]
    sentences: tuple[WrittenSentence, ...]
    facts: tuple[Finding, ...]


@dataclass(frozen=True)
class PromptPair:
    """Statements that a finding is there, and that it is not."""

    positive: tuple[str, ...]
    negative: tuple[str, ...]


class _Line(NamedTuple):
    text: str
    lesions: tuple[int, ...] = ()
    facts: tuple[Finding, ...] = ()


def _says(template: str, *slots: str) -> bool:
    return any("{" + slot + "}" in template for slot in slots)


class _Writer:
    """The state of writing one report: the house, the draw, the lesions."""

    def __init__(
        self,
        lesions: Sequence[LesionLike],
        prior: Sequence[LesionLike] | None,
        modality: Modality,
        rng: np.random.Generator,
        style: int,
        variety: bool,
    ) -> None:
        self.book = more_phrases() if variety else phrases()
        styles = self.book["styles"]
        self.house: dict[str, Any] = styles[style % len(styles)]
        self.voice: str = self.house["voice"]
        self.centimeters = bool(self.house.get("centimeters"))
        self.lesions, self.modality, self.rng = lesions, modality, rng
        self.change = compare(lesions, prior)
        self.hedged = tuple(
            lesion.severity == "tiny" and "hedged" in self.book["findings"].get(lesion.name, {}) and rng.random() < 0.5
            for lesion in lesions
        )
        self.names = {lesion.name for lesion in lesions}

    def pick(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def present(self, index: int, brief: bool = False) -> _Line:
        """The sentence about one lesion, and the fact that it states."""
        lesion = self.lesions[index]
        forms = self.book["findings"].get(lesion.name, {})
        hedged = self.hedged[index]
        if hedged:
            pool = forms["hedged"]
        elif brief:
            pool = forms.get("brief", [])
        else:
            pool = forms.get(self.voice, []) + (forms.get(self.modality, []) if self.voice == "any" else [])
        slots = lesion_slots(lesion, self.centimeters)
        pool = [template for template in pool if usable(template, lesion.name, slots)]
        template = self.pick(pool) if pool else "There {is} {a} {sev} {adj} {noun}."
        text = fill(template, slots)
        trend = self.change.now[index]
        chance = 0.9 if trend != "unchanged" else 0.35 if lesion.name in DEVICES else 0.7
        stated = trend if trend is not None and self.chance(chance) else None
        if stated is not None:
            text = f"{text[:-1]}{self._tail(lesion.name, stated, brief)}."
        size = reported_mm(lesion.size_mm) if "{size}" in template and lesion.size_mm else None
        status: Status = "uncertain" if hedged else "present"
        side = lesion.side if _says(template, "side", "adj", "at", "of", "on") else None
        location = lesion.location if _says(template, "adj", "at", "of") else None
        severity = lesion.severity if _says(template, "sev", "sevly") and severity_in(slots["sev"]) else None
        fact = Finding(lesion.name, status, side, location, severity, size, stated)
        return _Line(text, (index,), (fact,))

    def _tail(self, name: str, trend: str, brief: bool) -> str:
        voice = "short" if brief or self.voice == "short" else "diffuse" if name in DIFFUSE else "any"
        return self.pick(self.book["change"][voice][trend])

    def resolved(self, lesion: LesionLike) -> _Line:
        """The sentence about a lesion of the prior that is gone."""
        template = self.pick(self.book["removed" if lesion.name in DEVICES else "resolved"])
        text = fill(template, lesion_slots(lesion, self.centimeters))
        location = lesion.location if _says(template, "adj") else None
        return _Line(text, (), (Finding(lesion.name, "absent", lesion.side, location, change="resolved"),))

    def absent(self, names: Sequence[str]) -> _Line:
        """One sentence that denies one or several findings."""
        words = [self.pick(self.book["absent_names"][name]) for name in names]
        facts = tuple(Finding(name, "absent") for name in names)
        if len(words) == 1:
            template = self.pick(self.book["absent"][self.voice])
            return _Line(fill(template, {"x": words[0], "X": words[0]}), (), facts)
        comma = "," if len(words) > 2 and self.chance(0.5) else ""
        either = f"{', '.join(words[:-1])}{comma} or {words[-1]}"
        both = f"{', '.join(words[:-1])}{comma} and {words[-1]}"
        return _Line(fill(self.pick(self.book["absent_together"][self.voice]), {"xs": either, "Ys": both}), (), facts)

    def normal(self, organ: str) -> _Line | None:
        """A statement of normality if it is true of these lesions."""
        for entry in self.book["normal"].get(organ, ()):
            if not self.names & {*entry["rules_out"], *entry.get("needs", ())}:
                facts = tuple(Finding(name, "absent") for name in entry["rules_out"])
                return _Line(self.pick(entry[self.voice]), (), facts)
        return None

    def absent_names(self) -> list[str]:
        """Which absent findings to mention: the common ones nearly always, the rest now and then."""
        known = [*self.book["findings"], *(_ONLY_CT if self.modality == "ct" else ())]
        gone = {lesion.name for lesion in self.change.resolved}
        free = [name for name in known if name not in self.names and name not in gone]
        chances = dict.fromkeys(_NEARLY_ALWAYS, 0.95) | dict.fromkeys(_RARELY_ABSENT, 0.08)
        return [name for name in free if self.chance(chances.get(name, 0.3))]

    def findings(self) -> list[_Line]:
        """All lines of FINDINGS in the order of the house."""
        lines: list[_Line] = []
        to_deny = self.absent_names()
        trio = [name for name in ("consolidation", "pleural effusion", "pneumothorax") if name in to_deny]
        if len(trio) > 1 and self.chance(0.3):
            to_deny = [name for name in to_deny if name not in trio]
        else:
            trio = []
        for organ in self.house["organs"]:
            here = self._organ(organ, to_deny)
            if organ == "pleura" and trio:
                here.append(self.absent(trio))
            if here and self.house.get("labelled"):
                here[0] = here[0]._replace(text=f"{self.book['organ_labels'][organ]}: {here[0].text}")
            lines += here
        for kind, p in (("mediastinum", 0.3), (self.modality, 0.25)):
            if self.voice == "any" and self.chance(p):
                lines.append(_Line(self.pick(self.book["filler"][kind])))
        return lines

    def _organ(self, organ: str, to_deny: Sequence[str]) -> list[_Line]:
        members = self.book["organs"][organ]
        lines = [self.present(i) for i, lesion in enumerate(self.lesions) if lesion.name in members]
        lines += [self.resolved(old) for old in self.change.resolved if old.name in members]
        deny = [name for name in members if name in to_deny]
        # One draw per organ, whether or not the statement would be true, keeps the draws of other organs in step.
        say_normal = self.chance({"heart": 0.75, "lungs": 0.5, "bones": 0.4}.get(organ, 0.0))
        resolved_here = any(old.name in members for old in self.change.resolved)
        normal = self.normal(organ) if say_normal and not resolved_here else None
        if normal is not None:
            lines.append(normal)
            said = {fact.name for fact in normal.facts}
            deny = [name for name in deny if name not in said or (name in _NEARLY_ALWAYS and self.chance(0.3))]
        if len(deny) > 1 and self.chance(0.65):
            return [*lines, self.absent(deny)]
        return lines + [self.absent([name]) for name in deny]

    def impression(self) -> list[_Line]:
        """The conclusion: every lesion in brief (tubes half of the time), or a normal study."""
        order = sorted(range(len(self.lesions)), key=lambda i: -SEVERITIES.index(self.lesions[i].severity))
        lines = [self.present(i, brief=True) for i in order if self.lesions[i].name not in DEVICES]
        lines += [self.present(i, brief=True) for i in order if self.lesions[i].name in DEVICES and self.chance(0.5)]
        if not lines or all(self.lesions[line.lesions[0]].name in DEVICES for line in lines):
            return [_Line(self.pick(self.book["normal_impression"])), *lines]
        lines += [self.resolved(old) for old in self.change.resolved if self.chance(0.5)]
        for name, options in self.book["follow_up"].items():
            if name in self.names and self.chance(0.5):
                lines.append(_Line(self.pick(options)))
        if self.chance(0.2):
            lines.append(_Line(self.pick(self.book["minor_impression"])))
        return lines

    def preamble(self, views: int, has_prior: bool, sex: str, age: int) -> dict[str, list[_Line]]:
        """Indication, technique and comparison; the indication knows nothing of the lesions."""
        who = {"F": "woman", "M": "man"}.get(sex.upper()[:1], "patient")
        if self.voice == "any" and self.chance(0.6):
            indication = self.pick(self.book["indication_aged"]).format(age=age, who=who)
        else:
            indication = self.pick(self.book["indication"])
        technique = "ct" if self.modality == "ct" else "xray_two" if views > 1 else "xray_one"
        comparison = self.pick(self.book["comparison"][self.modality if has_prior else "none"])
        made = {
            "indication": indication,
            "technique": self.pick(self.book["technique"][technique]),
            "comparison": comparison,
        }
        return {section: [_Line(text)] for section, text in made.items()}


def write_report(
    lesions: Sequence[LesionLike],
    *,
    modality: Modality = "xray",
    views: int = 2,
    prior: Sequence[LesionLike] | None = None,
    sex: str = "",
    age: int = 60,
    rng: np.random.Generator,
    style: int = 0,
    variety: bool = False,
) -> WrittenReport:
    """A report that is true of `lesions`.

    Args:
        lesions: What is there. Lesions of severity "tiny" are hedged ("possible") half of the time.
        modality: Choice of technique and words.
        views: Films of an x-ray study, 1 or 2.
        prior: Lesions of the previous visit; None when there is none (then nothing is compared).
        sex: DICOM sex, M, F or O; with `age` in years for the indication only.
        rng: All draws come from here: equal state, equal report.
        style: House style, taken modulo their number.
        variety: Draw from more phrases and more houses; the same `rng` and `style` then give another report.

    Raises: ValueError if `modality` is not xray or ct.
    """
    if modality not in ("xray", "ct"):
        raise ValueError(f'modality is "{modality}"; a report can be written for "xray" or "ct"')
    writer = _Writer(lesions, prior, modality, rng, style, variety)
    sections = writer.preamble(views, prior is not None, sex, age)
    sections["findings"] = writer.findings()
    sections["impression"] = writer.impression()
    order = list(SECTIONS)
    if writer.house.get("impression_first"):
        order = ["impression", *order[:-1]]
    return _compose(writer.house, sections, order)


def _compose(house: dict[str, Any], sections: dict[str, list[_Line]], order: Sequence[str]) -> WrittenReport:
    headings = dict(zip(SECTIONS, house["headings"], strict=True))
    texts: dict[str, str] = {}
    parts: list[str] = []
    written: list[WrittenSentence] = []
    facts: list[Finding] = []
    layout = house["layout"]
    for section in order:
        numbered = section == "impression" and house["numbered"]
        said = [f"{n}. {line.text}" if numbered else line.text for n, line in enumerate(sections[section], 1)]
        body = ("\n" if layout == "lines" or (numbered and layout == "block") else " ").join(said)
        texts[section] = body
        parts.append(f"{headings[section]}:{' ' if layout == 'inline' else chr(10)}{body}")
        for line in sections[section]:
            facts += [_placed(fact, len(written)) for fact in line.facts]
            written.append(WrittenSentence(section, line.text, line.lesions))
    text = ("\n" if layout == "inline" else "\n\n").join(parts)
    return WrittenReport(text, texts, tuple(written), tuple(facts))


def _placed(fact: Finding, sentence: int) -> Finding:
    return replace(fact, sentence=sentence)


def prompts(name: str, side: str | None = None) -> PromptPair:
    """Statements for zero-shot diagnosis of `name`, at least three for and three against; `side` left/right/bilateral.

    An unknown name is used as it stands, so that any finding can be asked for.
    """
    book = phrases()["prompts"]
    plural = side == "bilateral" and is_countable(name)
    known = name in phrases()["findings"]
    slots = place_slots(name, side, None) if known else {"adj": side or ""}
    # After a side, "left lung nodule" is plainer than "left nodule", unlike after a lobe.
    said = ("lung " if name.startswith("lung ") else "") + noun(name, plural)
    slots |= {"noun": said} | number_slots(plural)
    extra = book["extra"].get(name, {})
    positive = list(book["positive" if is_countable(name) else "positive_mass"]) + extra.get("positive", [])
    negative = list(book["negative"]) + extra.get("negative", [])
    return PromptPair(tuple(fill(t, slots) for t in positive), tuple(fill(t, slots) for t in negative))


def _read_descriptors() -> dict[str, tuple[str, ...]]:
    text = resources.files("reports").joinpath("descriptors.json").read_text(encoding="utf-8")
    return {entry["finding"]: tuple(entry["descriptors"]) for entry in json.loads(text)["findings"]}


# What a reader looks for, per finding, in our words; the sources stand beside them in descriptors.json.
DESCRIPTORS: dict[str, tuple[str, ...]] = _read_descriptors()
