"""What counts of several versions of one report: a correction replaces, an addendum is added, a withdrawal ends it.

The outcome depends on the versions alone, never on the order of files or messages.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from reports.sourced import ReportStatus, SourcedReport
from volumes.instance import Refusal

Role = Literal["used", "appended", "superseded", "duplicate", "withdrawn", "withdrawal", "conflicting"]
_RANK: dict[ReportStatus, int] = {"preliminary": 0, "final": 1, "corrected": 2, "addendum": 3, "cancelled": 4}


@dataclass(frozen=True)
class Version:
    """One version and what became of it: part of the current text (`used`, `appended`) or not, and why not."""

    report: SourcedReport
    role: Role


@dataclass(frozen=True)
class Current:
    """All versions in their order (time, then kind), and the report that stands now, if any does."""

    versions: tuple[Version, ...]
    report: SourcedReport | None


def settle(reports: Iterable[SourcedReport]) -> Current:
    """Which versions of one report make up its current text.

    1. A text that came twice with one status counts once, at its latest time.
    2. What was issued before a withdrawal, or at the same time, or at no stated time, is withdrawn.
    3. Of the rest, a corrected version counts before a final one and that before a preliminary one, then the latest
       time, then the highest version number. Equals with different texts conflict, and none of them counts.
    4. Addenda are appended in the order of their times. One that is older than the version that counts was written into
       it and is superseded; one that repeats the report replaces it; one without a report stands for it.
    """
    ordered = sorted(reports, key=_place)
    roles: dict[int, Role] = {}
    live = _without_duplicates(ordered, roles)
    live = _without_withdrawn(ordered, live, roles)
    base = _base(ordered, live, roles)
    addenda = [n for n in live if ordered[n].status == "addendum"]
    current = None
    if base is None and addenda and not any(role == "conflicting" for role in roles.values()):
        base, addenda = addenda[0], addenda[1:]
    if base is not None:
        current = _with_addenda(ordered, base, addenda, roles)
    for n in live:
        roles.setdefault(n, "conflicting" if current is None else "superseded")
    return Current(tuple(Version(one, roles[n]) for n, one in enumerate(ordered)), current)


def remarks(current: Current, what: str) -> Iterator[Refusal]:
    """What to say of each version that is not used as it came: refusals where something is lost, else repairs."""
    conflicts = sum(version.role == "conflicting" for version in current.versions)
    for version in current.versions:
        report, role = version.report, version.role
        said = f"{what}, {report.status}" + (f", of {report.issued}" if report.issued else "")
        if role == "superseded" and current.report is not None:
            now = current.report
            when = f" of {now.issued}" if now.issued else ""
            message = f"{said}: replaced by the {now.status} version{when}"
            yield Refusal(report.source, "superseded", message, "repair")
        elif role == "duplicate":
            yield Refusal(report.source, "duplicate-report", f"{said}: the same text arrived twice", "repair")
        elif role == "appended":
            yield Refusal(report.source, "addendum", f"{said}: appended to the report", "repair")
        elif role == "used" and report.status == "addendum" and not _repeats_any(report, current.versions):
            message = f"{said}: an addendum came without its report and stands alone"
            yield Refusal(report.source, "addendum-alone", message, "repair")
        elif role in ("withdrawn", "withdrawal"):
            message = f"{said}: the report was cancelled or entered in error; no version of it is used"
            yield Refusal(report.source, "withdrawn", message)
        elif role == "conflicting":
            message = (
                f"{said}: one of {conflicts} versions with different texts and nothing to tell which one counts. Remove"
                " the wrong ones, or mark the right one as corrected"
            )
            yield Refusal(report.source, "several-reports", message)


def current_reports(found: Iterable[SourcedReport | Refusal]) -> Iterator[SourcedReport | Refusal]:
    """Reports with one key settled among themselves, all in memory; refusals pass. For sources of moderate size."""
    groups: dict[str, list[SourcedReport]] = {}
    for one in found:
        if isinstance(one, Refusal) or not one.key:
            yield one
        else:
            groups.setdefault(one.key, []).append(one)
    for key, group in groups.items():
        current = settle(group)
        if current.report is not None:
            yield current.report
        yield from remarks(current, f"report {key}")


def _place(report: SourcedReport) -> tuple[str, int, int, str, str]:
    digest = hashlib.sha256(report.text.encode(errors="backslashreplace")).hexdigest()
    return report.issued, _RANK[report.status], report.version, digest, report.source


def _without_duplicates(ordered: Sequence[SourcedReport], roles: dict[int, Role]) -> list[int]:
    last: dict[tuple[str, str], int] = {}
    for n, one in enumerate(ordered):
        key = _words(one)
        if key in last:
            roles[last[key]] = "duplicate"
        last[key] = n
    return sorted(last.values())


def _without_withdrawn(ordered: Sequence[SourcedReport], live: list[int], roles: dict[int, Role]) -> list[int]:
    gone = [n for n in live if ordered[n].status == "cancelled"]
    if not gone:
        return live
    undated = any(not ordered[n].issued for n in gone)
    until = max(ordered[n].issued for n in gone)
    kept = []
    for n in live:
        if n in gone:
            roles[n] = "withdrawal"
        elif undated or ordered[n].issued <= until:
            roles[n] = "withdrawn"
        else:
            kept.append(n)
    return kept


def _base(ordered: Sequence[SourcedReport], live: Sequence[int], roles: dict[int, Role]) -> int | None:
    """The version that addenda are added to, or none; equals conflict."""
    bases = [n for n in live if ordered[n].status != "addendum"]
    if not bases:
        return None

    def weight(n: int) -> tuple[int, str, int]:
        return _RANK[ordered[n].status], ordered[n].issued, ordered[n].version

    best = max(map(weight, bases))
    first = [n for n in bases if weight(n) == best]
    if len(first) == 1:
        return first[0]
    for n in first:
        roles[n] = "conflicting"
    return None


def _with_addenda(
    ordered: Sequence[SourcedReport], base: int, addenda: Sequence[int], roles: dict[int, Role]
) -> SourcedReport:
    """The base with the texts of its addenda, and the time and status of the last of them."""
    current = ordered[base]
    roles[base] = "used"
    used = [base]
    again = [one.issued for one in ordered if one.issued and _same(one, current)]
    since = min(again, default="")  # a report that is sent again is not newer for it
    for n in addenda:
        one = ordered[n]
        if one.issued and one.issued < since:
            continue
        if _repeats(one.text, current.text):
            for earlier in used:
                roles[earlier] = "superseded"
            current, roles[n] = one, "used"
        else:
            text = f"{current.text}\n\n{_headed(one.text)}"
            measurements = current.measurements + one.measurements
            current = replace(
                current, text=text, status=one.status, issued=one.issued or current.issued, measurements=measurements
            )
            roles[n] = "appended"
        used.append(n)
    return current


def _words(report: SourcedReport) -> tuple[str, str]:
    return report.status, " ".join(report.text.split())


def _same(one: SourcedReport, other: SourcedReport) -> bool:
    return _words(one) == _words(other)


def _headed(text: str) -> str:
    return text if re.match(r"\W*addendum\b", text, re.IGNORECASE) else f"ADDENDUM: {text}"


def _repeats(longer: str, text: str) -> bool:
    """Whether a text holds another whole, whatever its line ends."""
    return " ".join(text.split()) in " ".join(longer.split())


def _repeats_any(report: SourcedReport, versions: Sequence[Version]) -> bool:
    return any(one.report is not report and one.role == "superseded" for one in versions)
