"""A drafted sentence is believed only as far as probabilities, experts, rulers and headers carry it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from reports.draft import Draft, DraftSentence, Evidence, ImageExtent, ProposedSentence, dropped_notes, ground
from reports.evidence import side_of
from reports.findings import Finding
from reports.knowledge import Glossary, Passage
from volumes.volume import Region

FILM = {"1.2.5": ImageExtent((1000, 800), "PA")}
LEFT = Region("1.2", "1.2.5", (600.0, 500.0), (900.0, 780.0))  # the patient's left is at the right of the image
RIGHT = Region("1.2", "1.2.5", (600.0, 20.0), (900.0, 300.0))


@dataclass(frozen=True)
class Measured:
    name: str
    value: float
    unit: str
    uncertainty: float | None = None
    region: Region | None = LEFT
    by: str = "ruler"


def check(text: str, p: dict[str, Any], *experts: Finding, section: str = "findings", **more: Any) -> DraftSentence:
    """Ground one sentence; `p` maps findings to a probability or to (probability, region)."""
    diagnoses = {name: value if isinstance(value, tuple) else (value, None) for name, value in p.items()}
    (sentence,) = ground([ProposedSentence(section, text)], diagnoses, experts, **({"extents": FILM} | more))
    return sentence


@pytest.mark.parametrize(
    ("text", "p", "verdict", "confidence"),
    [
        ("There is a pleural effusion.", 0.90, "supported", 0.90),
        ("There is a pleural effusion.", 0.40, "unsupported", 0.40),
        ("There is a pleural effusion.", 0.10, "contradicted", 0.10),
        ("No pleural effusion.", 0.10, "supported", 0.90),
        ("No pleural effusion.", 0.70, "unsupported", 0.30),
        ("No pleural effusion.", 0.90, "contradicted", 0.10),
        ("Possible pleural effusion.", 0.30, "supported", 0.30),
        ("Possible pleural effusion.", 0.05, "unsupported", 0.05),
    ],
)
def test_probability_decides(text: str, p: float, verdict: str, confidence: float) -> None:
    sentence = check(text, {"pleural effusion": p})
    assert sentence.verdict == verdict
    assert sentence.confidence == pytest.approx(confidence)
    assert f"probability of pleural effusion {p:.2f}" in sentence.evidence[0].text


def test_the_threshold_of_a_finding_moves_both_verdicts() -> None:
    low = {"thresholds": {"pleural effusion": 0.08}}
    assert check("There is a pleural effusion.", {"pleural effusion": 0.10}, **low).verdict == "supported"
    assert check("No pleural effusion.", {"pleural effusion": 0.10}, **low).verdict == "unsupported"


def test_a_sentence_is_as_sure_as_its_least_sure_finding() -> None:
    sentence = check("No pleural effusion or pneumothorax.", {"pleural effusion": 0.05, "pneumothorax": 0.30})
    assert sentence.confidence == pytest.approx(0.70)
    assert sentence.verdict == "supported"
    half = check("No pleural effusion or hiatal hernia.", {"pleural effusion": 0.05})
    assert half.confidence is None
    assert (half.verdict, half.reason) == (
        "unsupported",
        "hiatal hernia: nothing that looked at the image speaks about it",
    )


def test_an_expert_can_support_and_contradict() -> None:
    seen = Finding("pleural effusion", "present", by="expert-a")
    gone = Finding("pleural effusion", "absent", by="expert-b")
    assert check("There is a pleural effusion.", {"pleural effusion": 0.4}, seen).verdict == "supported"
    both = check("There is a pleural effusion.", {"pleural effusion": 0.9}, seen, gone)
    assert both.verdict == "contradicted"
    assert "expert-b: pleural effusion absent (for it: probability" in both.reason


def test_a_kind_of_a_finding_speaks_for_it() -> None:
    healthy = {
        "consolidation": 0.04,
        "lung nodule": 0.20,
        "atelectasis": 0.1,
        "lung mass": 0.01,
        "pulmonary edema": 0.02,
    }
    clear = check("The lungs are clear.", healthy)
    assert clear.verdict == "supported"
    assert clear.confidence == pytest.approx(0.80)
    nodule = Finding("lung nodule", "present", by="expert-a")
    assert check("No focal opacity in the lungs.", healthy, nodule).verdict == "contradicted"


def test_no_acute_abnormality_denies_what_is_acute() -> None:
    text = "No acute cardiopulmonary abnormality."
    calm = check(text, {"pneumothorax": 0.05, "pleural effusion": 0.2, "cardiomegaly": 0.95}, section="impression")
    assert calm.verdict == "supported"
    assert calm.confidence == pytest.approx(0.8)
    assert check(text, {"pneumothorax": 0.95, "cardiomegaly": 0.05}).verdict == "contradicted"
    assert check("Normal chest radiograph.", {"cardiomegaly": 0.95}).verdict == "contradicted"


def test_the_side_of_a_region_is_the_patients_side() -> None:
    assert side_of(LEFT, FILM) == "left"
    assert side_of(RIGHT, FILM) == "right"
    assert side_of(Region("1.2", "1.2.5", (0.0, 300.0), (9.0, 500.0)), FILM) is None
    assert side_of(LEFT, {"1.2.5": ImageExtent((1000, 800), "LATERAL")}) is None
    volume = Region("1.3", "", (0.0, 0.0, 0.0), (9.0, 9.0, 9.0), (12.0, 0.0, 0.0), (60.0, 9.0, 9.0))
    assert side_of(volume, {"1.3": ImageExtent((64, 64, 64), midline=2.0)}) == "left"


def test_a_side_is_checked_against_place_and_expert() -> None:
    text = "Left pleural effusion."
    assert check(text, {"pleural effusion": (0.9, LEFT)}).verdict == "supported"
    wrong = check(text, {"pleural effusion": (0.9, RIGHT)})
    assert (wrong.verdict, wrong.reason) == ("unsupported", "pleural effusion: says left, the region lies on the right")
    right, left = (Finding("pleural effusion", "present", side, by="expert-a") for side in ("right", "left"))
    assert check(text, {"pleural effusion": 0.9}, right).verdict == "contradicted"
    assert check(text, {"pleural effusion": 0.9}, right, left).verdict == "supported"


def test_probabilities_of_a_side_are_preferred() -> None:
    p = {"pleural effusion": 0.95, "left pleural effusion": 0.05, "right pleural effusion": 0.95}
    assert check("Left pleural effusion.", p).verdict == "contradicted"
    assert check("No left pleural effusion.", p).verdict == "supported"
    assert check("Bilateral pleural effusions.", p).verdict == "contradicted"
    assert (
        check("No left pleural effusion.", {"pleural effusion": 0.95}).verdict == "unsupported"
    )  # may be the right one


def test_the_cardiothoracic_ratio_decides_on_a_pa_film_only() -> None:
    narrow = Measured("cardiothoracic ratio", 0.42, "1", 0.02)
    text, p = "The heart is enlarged.", {"cardiomegaly": 0.6}
    assert check(text, p, measurements=[narrow]).verdict == "contradicted"
    unsure = Measured("cardiothoracic ratio", 0.48, "1", 0.02)
    assert check(text, p, measurements=[unsure]).verdict == "supported"
    bedside = {"1.2.5": ImageExtent((1000, 800), "AP")}
    assert check(text, p, measurements=[narrow], extents=bedside).verdict == "supported"


def test_fluid_on_one_side_says_nothing_about_the_other() -> None:
    fluid = Measured("right pleural fluid volume", 220.0, "ml", 20.0, RIGHT)
    assert check("No pleural effusion.", {"pleural effusion": 0.3}, measurements=[fluid]).verdict == "contradicted"
    assert check("No left pleural effusion.", {"pleural effusion": 0.3}, measurements=[fluid]).verdict == "supported"


def test_a_size_needs_a_ruler() -> None:
    text, p = "A 12 mm nodule in the right upper lobe.", {"lung nodule": 0.9}
    alone = check(text, p)
    assert (alone.verdict, alone.reason) == ("unsupported", "lung nodule: says 12 mm, but nothing measured it")
    near, far = (Finding("lung nodule", "present", "right", size_mm=size, by="ruler") for size in (13.0, 25.0))
    assert check(text, p, near).verdict == "supported"
    assert "says 12 mm, ruler measured 25 mm" in check(text, p, far).reason
    assert check(text, p, far).verdict == "contradicted"


def test_a_change_needs_a_prior() -> None:
    text, p = "The pleural effusion has increased.", {"pleural effusion": 0.95}
    alone = check(text, p)
    assert alone.verdict == "unsupported"
    assert alone.reason == "pleural effusion: states a change (increased), but no prior study was read"
    assert check(text, p, has_prior=True).verdict == "supported"


@pytest.mark.parametrize(
    ("section", "text", "header", "verdict", "reason"),
    [
        ("technique", "PA radiograph of the chest.", {"modality": "DX", "view": "PA"}, "supported", "as in the header"),
        (
            "technique",
            "Lateral radiograph.",
            {"modality": "DX", "view": "PA"},
            "contradicted",
            "says LATERAL, the header says PA",
        ),
        ("technique", "CT of the chest.", {"modality": "DX"}, "contradicted", "says ct, the header says xray"),
        ("technique", "CT with contrast.", {"modality": "CT"}, "unsupported", "does not give contrast"),
        ("technique", "PA radiograph.", {}, "unsupported", "does not give modality, view"),
        ("technique", "Two views of the chest.", {"view": "PA, LATERAL"}, "supported", "as in the header"),
        ("technique", "Single view.", {"view": "PA, LATERAL"}, "contradicted", "says 1 view(s), the header gives 2"),
        ("technique", "As usual.", {"modality": "CT"}, "unsupported", "nothing that the header could confirm"),
        ("comparison", "None available.", {}, "supported", "no prior study was given"),
        ("comparison", "Radiograph of last week.", {}, "unsupported", "names a prior study, but none was read"),
        ("indication", "Cough, fever.", {"indication": "Fever and cough"}, "supported", "as in the order"),
        ("indication", "Trauma.", {}, "unsupported", "no order was read"),
        ("findings", "The patient is rotated.", {}, "unsupported", "states no finding that can be checked"),
    ],
)
def test_sentences_no_image_can_prove(
    section: str, text: str, header: dict[str, str], verdict: str, reason: str
) -> None:
    sentence = check(text, {"pneumothorax": 0.1}, section=section, header=header)
    assert sentence.verdict == verdict
    assert reason in sentence.reason
    assert sentence.confidence is None


def test_an_indication_that_asks_is_no_finding() -> None:
    sentence = check("Pneumothorax?", {"pneumothorax": 0.01}, section="indication")
    assert sentence.findings == ()
    assert sentence.verdict == "unsupported"


def test_evidence_that_leads_nowhere_is_dropped_and_counted() -> None:
    outside = Region("1.2", "1.2.5", (900.0, 700.0), (1100.0, 900.0))
    stranger = Region("9.9", "9.9.9", (0.0, 0.0), (5.0, 5.0))
    nameless = Passage("text", "title", "", "source", "", "", "", "")
    bad = (
        Evidence("region", "outside", outside),
        Evidence("region", "stranger", stranger),
        Evidence("region", "no region"),
        Evidence("measurement", "no unit", value=3.0),
        Evidence("measurement", "no value", value=float("nan"), unit="mm"),
        Evidence("passage", "no id", passage=nameless),
    )
    kept = Evidence("measurement", "fine", value=3.0, unit="mm")
    proposed = ProposedSentence("findings", "No pneumothorax.", evidence=(*bad, kept))
    sentences = ground([proposed, proposed], {"pneumothorax": (0.1, None)}, extents=FILM)
    assert sentences[0].evidence[0].text == "fine"
    assert not set(bad) & set(sentences[0].evidence)
    assert dropped_notes(sentences) == (
        "evidence dropped (2): measurement of 3 without a unit",
        "evidence dropped (2): measurement without a finite value (nan)",
        "evidence dropped (2): passage without an id",
        "evidence dropped (2): region evidence without a region",
        "evidence dropped (2): region from (900, 700) to (1100, 900) outside the image of 1000 x 800",
        "evidence dropped (2): region in an image that is not part of this study",
    )


def test_passages_are_cited_for_what_is_there_only() -> None:
    entry = Glossary().concept("pneumothorax")
    assert entry is not None
    passages = {"pneumothorax": [entry]}
    there = check("There is a pneumothorax.", {"pneumothorax": 0.9}, passages=passages)
    assert [e.passage for e in there.evidence if e.kind == "passage"] == [entry]
    gone = check("No pneumothorax.", {"pneumothorax": 0.1}, passages=passages)
    assert not any(e.kind == "passage" for e in gone.evidence)


def test_the_gain_over_a_blank_image_is_shown() -> None:
    proposed = ProposedSentence("findings", "No pneumothorax.", log_likelihood=-0.5, blank_log_likelihood=-2.0)
    (sentence,) = ground([proposed], {"pneumothorax": (0.1, None)})
    assert sentence.evidence[0].value == pytest.approx(1.5)
    assert "log-likelihood -0.50 nat per token, +1.50 against a blank image" in sentence.evidence[0].text


def test_a_logit_is_not_a_probability() -> None:
    with pytest.raises(ValueError, match=r"'pneumothorax' is 2\.3; expected .* in \[0, 1\], not a logit"):
        check("There is a pneumothorax.", {"pneumothorax": 2.3})


def test_a_draft_counts_its_verdicts() -> None:
    sentences = ground(
        [ProposedSentence("findings", text) for text in ("No pneumothorax.", "There is a pneumothorax.", "Sunny.")],
        {"pneumothorax": (0.05, None)},
    )
    draft = Draft("1.2", ("1.2.3",), "DX", sentences, {})
    assert draft.verdicts == {"supported": 1, "unsupported": 1, "contradicted": 1}
