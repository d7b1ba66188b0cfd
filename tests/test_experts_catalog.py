"""Cards come before code, and whoever declines or fails is heard."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from experts import catalog
from experts.card import Expert, ExpertError, Opinion, listing
from experts.catalog import cards, find
from experts.consult import consult
from volumes.volume import Film, Source, Volume

SOURCE = Source("1.2.3", "1.2.3.4", ("1.2.3.4.5",), "CT")


def volume(unit="HU", modality="CT") -> Volume:
    return Volume(torch.zeros(4, 5, 6), torch.eye(4, dtype=torch.float64), unit, replace(SOURCE, modality=modality))


class Broken:
    """Fails as foreign code does: with an error of its own kind."""

    def look(self, image: Volume | Film) -> Opinion:
        raise ZeroDivisionError("division by zero")


class Silent:
    """Has no opinion, and no method to give one either."""


def test_listing_cards_imports_no_expert(repository) -> None:
    code = (
        "import sys; from experts.catalog import cards; from experts.card import listing; print(listing(cards()));"
        "print(sorted(m for m in sys.modules if m.startswith('experts.')))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    ).stdout

    assert "ct-body" in out
    assert "film-thorax" in out
    assert "experts.ct_body" not in out
    assert "experts.film_thorax" not in out


def test_every_card_is_complete_and_loads() -> None:
    for card in cards():
        assert isinstance(card.expert(), Expert)
        assert card.source
        assert card.licence
        assert card.not_for
        assert card.gives
        assert card.network == "none"
    assert len({card.name for card in cards()}) == len(cards())
    assert listing(cards()).count("\n") == len(cards()) - 1


def test_an_unknown_name_gets_the_likely_one() -> None:
    with pytest.raises(KeyError, match=r"there is no expert 'ct-bodi'.*did you mean 'ct-body'"):
        find("ct-bodi")


@pytest.mark.parametrize(
    ("image", "expert", "reason"),
    [
        (volume(unit="raw"), "ct-body", "wrong-unit: this is a volume of modality CT in unit 'raw'"),
        (volume(modality="MR", unit="raw"), "ct-body", "wrong-modality: this is a volume of modality MR"),
        (volume(), "film-thorax", "wrong-kind: this is a volume of modality CT"),
        (volume(), "ct-body", "too-few-slices: 6 slices every 1.0 mm cover 6 mm of the body"),
    ],
)
def test_a_refusal_says_what_was_found(image: Volume, expert: str, reason: str) -> None:
    found = consult([expert], image)

    assert [(report.expert, report.ok) for report in found.reports] == [(expert, False)]
    assert found.reports[0].reason.startswith(reason)
    assert found.findings == ()
    assert found.measurements == ()


def test_all_experts_are_asked_and_all_are_in_the_answer() -> None:
    assert [report.expert for report in consult(None, volume()).reports] == [card.name for card in cards()]


def test_a_broken_expert_is_reported_and_stops_nobody(monkeypatch) -> None:
    broken = replace(cards()[0], name="broken", load="test_experts_catalog:Broken")
    missing = replace(cards()[0], name="missing", load="no_such_package:Expert")
    silent = replace(cards()[0], name="silent", load="test_experts_catalog:Silent")
    monkeypatch.setattr(catalog, "_CARDS", (broken, missing, silent))
    monkeypatch.setitem(sys.modules, "test_experts_catalog", sys.modules[__name__])

    reports = consult(["broken", "missing", "silent"], volume()).reports

    assert [report.ok for report in reports] == [False, False, False]
    assert reports[0].reason == "failed: ZeroDivisionError: division by zero"
    assert reports[1].reason.startswith("not-installed: missing: no_such_package:Expert cannot be loaded")
    assert reports[2].reason == "not-an-expert: silent: test_experts_catalog:Silent has no method `look`"


def test_a_name_that_no_card_has_is_refused_before_anybody_is_asked() -> None:
    with pytest.raises(KeyError, match=r"there is no expert 'oracle'"):
        consult(["ct-body", "oracle"], volume())


def test_a_refusal_keeps_its_reason() -> None:
    assert ExpertError("too dark", "too-dark").reason == "too-dark"
