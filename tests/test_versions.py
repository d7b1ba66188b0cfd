"""Corrections replace, addenda are appended, withdrawals end a report, and the order of arrival changes nothing."""

from __future__ import annotations

import itertools
import random

import pytest

from reports.sourced import CodedMeasurement, ReportStatus, SourcedReport
from reports.versions import Current, remarks, settle


def report(text: str, status: ReportStatus = "final", day: int = 0, **named: object) -> SourcedReport:
    """A version issued on a day of January 2024; day 0 states no time."""
    issued = f"2024-01-{day:02d}T00:00:00" if day else ""
    return SourcedReport(text, "A", status=status, issued=issued, source=f"{text}-{status}-{day}", **named)  # type: ignore[arg-type]


def text(current: Current) -> str | None:
    return current.report.text if current.report else None


def roles(current: Current) -> dict[str, str]:
    return {f"{v.report.text} {v.report.status}": v.role for v in current.versions}


CASES: list[tuple[list[SourcedReport], str | None]] = [
    ([report("one", day=1)], "one"),
    ([report("draft", "preliminary", 1), report("one", day=2)], "one"),
    ([report("draft", "preliminary", 9), report("one", day=2)], "one"),
    ([report("one", day=1), report("two", "corrected", 2)], "two"),
    ([report("one", day=9), report("two", "corrected", 2)], "two"),
    ([report("one", day=1), report("two", "corrected", 2), report("three", "corrected", 3)], "three"),
    ([report("one", day=1), report("more", "addendum", 2)], "one\n\nADDENDUM: more"),
    ([report("one", day=1), report("Addendum: x", "addendum", 2)], "one\n\nAddendum: x"),
    (
        [report("one", day=1), report("late", "addendum", 5), report("early", "addendum", 2)],
        "one\n\nADDENDUM: early\n\nADDENDUM: late",
    ),
    ([report("one", day=1), report("one\n and more", "addendum", 2)], "one\n and more"),
    (
        [report("one", day=1), report("more", "addendum", 2), report("two", "corrected", 3)],
        "two",
    ),
    (
        [report("one", day=1), report("two", "corrected", 3), report("more", "addendum", 4)],
        "two\n\nADDENDUM: more",
    ),
    ([report("partial", "addendum", 1), report("one", day=2)], "one"),
    ([report("one", day=1), report("more", "addendum", 2), report("one", day=3)], "one\n\nADDENDUM: more"),
    ([report("one", day=1), report("", "cancelled", 2)], None),
    ([report("one", day=2), report("", "cancelled", 2)], None),
    ([report("one", day=2), report("", "cancelled")], None),
    ([report("one"), report("", "cancelled", 2)], None),
    ([report("one", day=3), report("", "cancelled", 2)], "one"),
    ([report("one", "corrected", 1), report("", "cancelled", 2), report("two", day=3)], "two"),
    ([report("one", day=1), report("more", "addendum", 2), report("", "cancelled", 3)], None),
    ([report("one", day=1), report("", "cancelled", 2), report("one", day=3)], "one"),
    ([report("one", day=1), report("two", day=1)], None),
    ([report("one"), report("two")], None),
    ([report("one", day=1), report("two", day=1), report("three", "corrected", 2)], "three"),
    ([report("one", day=1, version=1), report("two", day=1, version=2)], "two"),
    ([report("alone", "addendum", 1)], "alone"),
    ([report("first", "addendum", 1), report("second", "addendum", 2)], "first\n\nADDENDUM: second"),
]


@pytest.mark.parametrize(("versions", "expected"), CASES)
def test_what_stands_is_the_same_in_every_order(versions: list[SourcedReport], expected: str | None) -> None:
    settled = {tuple(order): settle(order) for order in itertools.permutations(versions)}
    assert {text(current) for current in settled.values()} == {expected}
    assert len({current.versions for current in settled.values()}) == 1  # history, too
    assert all(len(current.versions) == len(versions) for current in settled.values())


def test_every_version_has_its_place_and_its_part() -> None:
    current = settle([
        report("late", "addendum", 5), report("two", "corrected", 3), report("early", "addendum", 2),
        report("one", day=1), report("one", day=1, split="again"),
    ])  # fmt: skip
    assert [(v.report.text, v.role) for v in current.versions] == [
        ("one", "duplicate"), ("one", "superseded"), ("early", "superseded"), ("two", "used"), ("late", "appended"),
    ]  # fmt: skip
    assert current.report is not None
    assert (current.report.status, current.report.issued) == ("addendum", "2024-01-05T00:00:00")
    said = [(refusal.kind, refusal.reason) for refusal in remarks(current, "study 1.2")]
    assert said == [("repair", "duplicate-report"), *[("repair", "superseded")] * 2, ("repair", "addendum")]


def test_conflicts_and_withdrawals_are_refusals_that_say_what_to_do() -> None:
    first, _ = remarks(settle([report("one", day=1), report("two", day=1)]), "study 1.2")
    assert (first.kind, first.reason) == ("refusal", "several-reports")
    assert first.message == (
        "study 1.2, final, of 2024-01-01T00:00:00: one of 2 versions with different texts and nothing to tell which one"
        " counts. Remove the wrong ones, or mark the right one as corrected"
    )
    withdrawn = settle([report("one", day=1), report("", "cancelled", 2)])
    assert roles(withdrawn) == {"one final": "withdrawn", " cancelled": "withdrawal"}
    assert [refusal.reason for refusal in remarks(withdrawn, "x")] == ["withdrawn"] * 2
    assert all("entered in error; no version of it is used" in r.message for r in remarks(withdrawn, "x"))


def test_an_addendum_alone_is_said() -> None:
    (remark,) = remarks(settle([report("more", "addendum", 1)]), "study 1.2")
    assert (remark.kind, remark.reason) == ("repair", "addendum-alone")


def test_measurements_of_report_and_addendum_are_both_kept() -> None:
    size, other = CodedMeasurement("Size", 5.0, "mm"), CodedMeasurement("Volume", 2.0, "ml")
    current = settle([report("one", day=1, measurements=(size,)), report("x", "addendum", 2, measurements=(other,))])
    assert current.report is not None
    assert current.report.measurements == (size, other)


def test_random_histories_settle_the_same_however_they_arrive() -> None:
    chance = random.Random(7)
    kinds: tuple[ReportStatus, ...] = ("preliminary", "final", "corrected", "addendum", "cancelled")
    for _ in range(300):
        versions = [
            report(chance.choice("abc"), chance.choice(kinds), chance.randrange(4), version=chance.randrange(2))
            for _ in range(chance.randrange(1, 8))
        ]
        first = settle(versions)
        chance.shuffle(versions)
        assert settle(versions) == first
        standing = {v.role for v in first.versions} & {"used", "appended"}
        assert bool(standing) == (first.report is not None)
