"""A rewrite keeps the facts or is refused; a negative changes one fact or is refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from test_round_trip import simulated

from reports.cleaned import cleaned
from reports.findings import find
from reports.minimal_sentences import minimal_sentences
from reports.negative_edits import KINDS
from reports.negatives import negative, negatives
from reports.paraphrase import paraphrase, paraphrases
from reports.prior_free import mentions_prior, prior_free, prior_free_sentence
from reports.rewriting import Refused, Rewritten, keep_facts
from reports.sections import sentences, split_sections
from reports.stated import Change, Stated, counted, difference, stated_in, without_change

DATA = Path(__file__).parents[2] / "shared/data/reports"
needs_reports = pytest.mark.skipif(not DATA.is_dir(), reason="needs the real reports beside the repository")


def text_of(made: Rewritten | Refused) -> str:
    assert isinstance(made, Rewritten), made
    return made.text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Unchanged 6 mm nodule in the right upper lobe.", "6 mm nodule in the right upper lobe."),
        ("There is a new small left pleural effusion.", "There is a small left pleural effusion."),
        ("Small left effusion, unchanged since the prior study.", "Small left effusion."),
        ("Stable cardiomegaly compared with the prior radiograph of 3/4/2012.", "Cardiomegaly."),
        ("Cardiac silhouette is mildly enlarged, similar to prior study.", "Cardiac silhouette is mildly enlarged."),
        ("No significant interval change in the right basal atelectasis.", "Right basal atelectasis is present."),
        ("Interval development of a small right pneumothorax.", "A small right pneumothorax."),
        ("The right effusion has resolved.", "No right effusion."),
        ("Calcified granuloma is again seen in the left lung.", "Calcified granuloma is seen in the left lung."),
        ("The left basal opacity persists.", "The left basal opacity is present."),
        ("A 9 mm nodule in the lingula, previously 6 mm.", "A 9 mm nodule in the lingula."),
        ("The heart remains mildly enlarged.", "The heart is mildly enlarged."),
        ("Compared to the previous study, there is an unchanged left effusion.", "There is a left effusion."),
        ("The nodule has increased from 8 mm to 11 mm.", "The nodule measures 11 mm."),
        ("No pneumothorax.", "No pneumothorax."),
    ],
)
def test_comparisons_are_rewritten(text: str, expected: str) -> None:
    made = prior_free_sentence(text)
    assert text_of(made) == expected
    assert not mentions_prior(expected)
    assert isinstance(made, Rewritten)
    assert made.facts_after == without_change(made.facts_before)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Interval removal of the endotracheal tube.", "removed"),
        ("No new pulmonary nodule.", "only-new"),
        ("No residual pneumothorax.", "only-new"),
        ("The cardiomediastinal silhouette is stable.", "only-change"),
        ("No interval change.", "only-change"),
        ("Near-complete resolution of the left effusion.", "partly-gone"),
        ("The effusion was not seen on the previous examination.", "no-rule"),
        ("A nodule of 4 mm was measured in the previous examination.", "no-rule"),
        ("The case was compared with the old CT dated June 2018.", "no-rule"),
    ],
)
def test_comparisons_without_a_present_are_left_out(text: str, kind: str) -> None:
    made = prior_free_sentence(text)
    assert isinstance(made, Refused)
    assert made.kind == kind
    report = prior_free(f"FINDINGS: {text} Small left effusion.\n\nCOMPARISON: Radiograph of 2011.")
    assert isinstance(report, Rewritten)
    assert report.text == "FINDINGS:\nSmall left effusion."
    assert {one.kind for one in report.dropped} == {kind, "comparison"}
    assert all(one.reason and one.sentence for one in report.dropped)


def test_a_sentence_left_out_does_not_let_another_lie() -> None:
    """ "The lungs are clear" is corrected by the nodule; without the nodule it would deny it."""
    report = "FINDINGS: The lungs are clear. The nodule measured in the previous examination is smaller."
    made = prior_free(report + " Small left effusion.")
    assert isinstance(made, Rewritten)
    assert "lungs are clear" not in made.text
    assert [one.kind for one in made.dropped if "clear" in one.sentence] == ["unmasked"]


def test_nothing_left_is_a_refusal() -> None:
    made = prior_free("No interval change. Stable chest.")
    assert made == Refused("empty", "no sentence that states a fact would remain", made.dropped)
    assert len(made.dropped) == 2


def test_a_side_of_something_without_a_name_is_guarded_too() -> None:
    refused = keep_facts("No ascites.", "Ascites.")
    assert isinstance(refused, Refused)
    assert refused.kind == "words"
    assert isinstance(keep_facts("Left renal cyst.", "Right renal cyst."), Refused)
    assert "would change: present left pleural effusion -> present right pleural effusion" in (
        keep_facts("Left effusion.", "Right effusion.").reason  # type: ignore[union-attr]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Negative chest x-XXXX.", "Negative chest x-ray."),
        ("Small left effusion, discussed with Dr. Smith by telephone at 3 pm.", "Small left effusion."),
        ("Calcified granuloma as on the CT of ___.", "Calcified granuloma as on the CT."),
        ("Large right pneumothorax. Findings were communicated to the team.", "Large right pneumothorax."),
        ("No effusion. Electronically signed by the attending radiologist.", "No effusion."),
        ("No effusion. Dictated by voice recognition.", "No effusion."),
        ("No effusion. There is XXXX pneumothorax.", "No effusion."),
        ("No effusion. [**Name**] left-sided opacity.", "No effusion."),
    ],
)
def test_what_no_image_shows_is_cleaned(text: str, expected: str) -> None:
    assert text_of(cleaned(text)) == expected


def test_marks_that_may_hide_a_polarity_are_named() -> None:
    made = cleaned("No effusion. There is XXXX pneumothorax. Findings were discussed with the surgeon.")
    assert [one.kind for one in made.dropped] == ["mark", "call"]
    assert made.dropped[0].reason == "a removed word may have carried a polarity, a side or a finding"


def test_minimal_sentences_hold_one_fact_each() -> None:
    text = "FINDINGS: Small left effusion with adjacent atelectasis. No pneumothorax. The lungs are clear."
    made = minimal_sentences(
        "Two nodules in the right apex, the larger 8 mm. Heart size is normal, no pneumothorax or edema."
    )
    assert isinstance(made, Rewritten)
    for line in made.text.splitlines():
        assert len(stated_in(line)) == 1, line
    assert set(made.facts_after) == set(made.facts_before)
    assert "There is no pneumothorax." in made.text.splitlines()
    twice = minimal_sentences(f"{text}\n\nIMPRESSION: Small left effusion.")
    assert text_of(twice).count("effusion") == 1
    assert minimal_sentences("The trachea is midline.") == Refused("empty", "the text states no finding")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("No pleural effusion or pneumothorax.", "No pneumothorax or pleural effusion."),
        ("No pneumothorax.", "Pneumothorax is not seen."),
        ("There is a nodule in the left upper lobe.", "In the left upper lobe there is a nodule."),
        ("A small effusion is present on the left.", "A small effusion is seen on the left."),
        ("The heart is mildly enlarged.", "There is mild enlargement of the heart."),
        ("The left costophrenic angle is blunted.", "There is blunting of the left costophrenic angle."),
        ("There is blunting of the left costophrenic angle.", "The left costophrenic angle is blunted."),
        ("The left effusion has increased.", "There has been an increase in the left effusion."),
        ("Heart size is normal.", "The heart is normal in size."),
        ("Consolidation in the right lower lobe.", "Consolidation in the lower lobe of the right lung."),
        ("Opacity in the left lower lobe.", "Opacification in the left lower lobe."),
        ("Findings consistent with pulmonary edema.", "Findings in keeping with pulmonary edema."),
    ],
)
def test_paraphrases(text: str, wanted: str) -> None:
    made = {one.text for one in paraphrases(text)}
    assert wanted in made
    for one in paraphrases(text):
        assert sorted(map(str, one.facts_after)) == sorted(map(str, stated_in(text)))


def test_paraphrase_of_a_report_and_of_what_no_rule_fits() -> None:
    rng = np.random.default_rng(2)
    report = (
        "FINDINGS:\nNo pleural effusion or pneumothorax. The heart is normal in size.\n\nIMPRESSION:\nNormal chest."
    )
    made = paraphrase(report, rng)
    assert text_of(made) != report
    assert made.changed == ()  # type: ignore[union-attr]
    assert paraphrase("Scaphoid abdomen.", rng) == Refused("no-rule", "no rule finds another way to say it")


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("laterality", "Small left pleural effusion.", "Small right pleural effusion."),
        ("laterality", "Nodule in the RUL.", "Nodule in the LUL."),
        (
            "laterality",
            "Left lower lobe consolidation in the left lung.",
            "Right lower lobe consolidation in the right lung.",
        ),
        ("laterality", "Left effusion; right basal atelectasis.", "Right effusion; right basal atelectasis."),
        ("laterality", "Bilateral pleural effusions are seen.", "Left pleural effusion is seen."),
        ("negation", "There is a small left pleural effusion.", "There is no left pleural effusion."),
        ("negation", "A 12 mm nodule is seen in the right apex.", "No nodule is seen in the right apex."),
        ("negation", "The heart is mildly enlarged.", "The heart is not enlarged."),
        ("negation", "No pneumothorax.", "There is a pneumothorax."),
        ("negation", "Heart size is normal.", "Heart is enlarged."),
        ("negation", "No pleural effusion or pneumothorax.", "No pneumothorax. There is a pleural effusion."),
        ("severity", "Small left effusion.", "Large left effusion."),
        ("severity", "The heart is severely enlarged.", "The heart is mildly enlarged."),
        ("location", "Nodule in the left upper lobe.", "Nodule in the left lower lobe."),
        ("location", "Right apical pneumothorax.", "Right basal pneumothorax."),
        ("location", "Fracture of the left fourth rib.", "Fracture of the left seventh rib."),
        ("count", "Two nodules in the left lung.", "Three nodules in the left lung."),
        ("count", "Multiple nodules are seen in the left lung.", "A single nodule is seen in the left lung."),
        ("size", "A 12 x 8 mm nodule in the left apex.", "A 24 x 16 mm nodule in the left apex."),
        ("size", "A 1.2 cm nodule.", "A 2.4 cm nodule."),
        ("change", "The effusion has increased.", "The effusion has decreased."),
        ("change", "Stable left effusion.", "New left effusion."),
    ],
)
def test_negatives_change_the_one_fact(kind: str, text: str, expected: str) -> None:
    made = negative(text, kind)  # type: ignore[arg-type]
    assert text_of(made) == expected
    assert isinstance(made, Rewritten)
    (change,) = made.changed
    assert isinstance(change, Change)
    assert change.before is not None
    assert change.after is not None
    assert change.before.name == change.after.name


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("laterality", "Right middle lobe consolidation.", "one side only"),
        ("laterality", "Left effusion. Right effusion.", "on another side as well"),
        (
            "laterality",
            "Catheter tip in the right atrium.",
            "no fact of the text has what a change of laterality needs",
        ),
        ("negation", "Possible effusion.", "no fact of the text has what a change of negation needs"),
        ("negation", "Effusion on the left. No effusion on the right.", "both as present and otherwise"),
        ("location", "Nodule in the apicoposterior segment of the left upper lobe.", "belongs to the place"),
        ("size", "Nodule not exceeding 5 mm.", "gives a limit"),
        ("negation", "Mediastinal vessels and heart are normal.", "no rule changes the negation"),
        ("count", "Atelectasis.", "no fact of the text has what a change of count needs"),
    ],
)
def test_negatives_that_would_lie_otherwise_are_refused(kind: str, text: str, reason: str) -> None:
    made = negative(text, kind)  # type: ignore[arg-type]
    assert isinstance(made, Refused), made
    assert reason in made.reason


def test_a_negative_of_a_report_is_consistent() -> None:
    report = (
        "FINDINGS: Small left effusion. No pneumothorax. The left effusion is layering.\n\nIMPRESSION: Left effusion."
    )
    made = negative(report, "laterality")
    assert isinstance(made, Rewritten)
    assert "left" not in made.text.lower()
    assert len(made.changed) == 3
    assert {change.after.side for change in made.changed if change.after} == {"right"}
    target = stated_in("No pneumothorax.")[0]
    assert text_of(negative("Left effusion. No pneumothorax.", "negation", target=target)) == (
        "Left effusion. There is a pneumothorax."
    )
    with pytest.raises(ValueError, match='kind is "colour"; expected one of laterality, negation'):
        negative(report, "colour")  # type: ignore[arg-type]
    assert set(negatives("Left effusion.")) == set(KINDS)


def test_counts_and_differences() -> None:
    assert list(counted("Two nodules and a single large effusion; three views.")) == [
        (("lung nodule",), "2"),
        (("pleural effusion",), "1"),
    ]
    assert [fact.number for fact in stated_in("A few nodules.")] == ["few"]
    left, right = Stated("pleural effusion", "present", "left"), Stated("pleural effusion", "present", "right")
    nodule = Stated("lung nodule", "present")
    assert difference((left, nodule), (right,)) == (Change(left, right), Change(nodule, None))
    assert difference((left,), (left, nodule)) == (Change(None, nodule),)
    assert str(right) == "present right pleural effusion"


# Every rewriter on whole reports: what the labeller reads afterwards was there before.


@cache
def real_reports(every: int) -> tuple[str, ...]:
    """Reports of both public sets."""
    with (DATA / "openi_cxr_reports.csv").open(encoding="utf-8-sig", newline="") as file:
        films = [f"FINDINGS: {r['findings']}\n\nIMPRESSION: {r['impression']}" for r in csv.DictReader(file)]
    with (DATA / "ctrate_chest_ct_reports_18labels.csv").open(encoding="utf-8-sig", newline="") as file:
        scans = [row["report_text"] for row in csv.DictReader(file)]
    return (*films[::every], *scans[::every])


@cache
def simulated_reports() -> tuple[str, ...]:
    """Reports of the phantom hospital, half of them with more phrases."""
    return tuple(simulated(seed, variety=seed % 2 == 0).text for seed in range(150))


@cache
def polarities(text: str) -> frozenset[tuple[str, str, str | None]]:
    """Name, status and side of every fact."""
    return frozenset((fact.name, fact.status, fact.side) for fact in find(text))


REWRITERS: MappingProxyType[str, Callable[[str], Rewritten | Refused]] = MappingProxyType(
    {
        "prior-free": prior_free,
        "cleaned": cleaned,
        "minimal": minimal_sentences,
        "paraphrase": lambda text: paraphrase(text, np.random.default_rng(len(text))),
    }
)


def assert_no_flip(texts: tuple[str, ...], name: str) -> int:
    """No fact gets another polarity or side; returns the number of rewritten reports."""
    done = 0
    for text in texts:
        made = REWRITERS[name](text)
        if isinstance(made, Rewritten):
            done += 1
            assert polarities(made.text) <= polarities(text), (made.text, text)
            assert tuple(stated_in(made.text)) == made.facts_after
            if name == "prior-free":
                assert not any(mentions_prior(s) for s in said_in_body(made.text)), made.text
            if name == "paraphrase":
                assert made.changed == ()
    return done


def said_in_body(text: str) -> list[str]:
    """Sentences that are no indication or technique."""
    sections = split_sections(text)
    return [s for name in sections if name not in ("indication", "technique") for s in sentences(sections[name])]


@pytest.mark.parametrize("name", REWRITERS)
def test_no_rewrite_of_a_simulated_report_flips_a_polarity_or_side(name: str) -> None:
    assert assert_no_flip(simulated_reports(), name) > 0.9 * len(simulated_reports())


@needs_reports
@pytest.mark.slow
@pytest.mark.parametrize("name", REWRITERS)
def test_no_rewrite_of_a_real_report_flips_a_polarity_or_side(name: str) -> None:
    texts = real_reports(3 if name != "paraphrase" else 15)
    assert len(texts) >= (1000 if name != "paraphrase" else 200)
    assert assert_no_flip(texts, name) > 0.7 * len(texts)


def assert_one_change(texts: tuple[str, ...]) -> dict[str, int]:
    """Each negative changes one fact, by its kind, and all other facts stand; returns how many were made."""
    rng = np.random.default_rng(4)
    made = dict.fromkeys(KINDS, 0)
    fields = {"laterality": "side", "size": "size_mm", "negation": "status", "count": "number"}
    for text in texts:
        for kind, one in negatives(text, rng).items():
            if isinstance(one, Refused):
                assert one.reason
                continue
            made[kind] += 1
            assert len({(change.before.name, change.after.name) for change in one.changed}) == 1  # type: ignore[union-attr]
            field = fields.get(kind, kind)
            assert all(getattr(c.before, field) != getattr(c.after, field) for c in one.changed), one.text
            if kind != "negation":
                assert {c.before.status for c in one.changed} == {c.after.status for c in one.changed}  # type: ignore[union-attr]
            kept = [fact for fact in one.facts_before if fact not in [change.before for change in one.changed]]
            assert not set(kept) - set(stated_in(one.text))
    return made


def test_negatives_of_simulated_reports() -> None:
    made = assert_one_change(simulated_reports()[:60])
    assert all(made[kind] > 5 for kind in KINDS if kind != "count"), made


@needs_reports
@pytest.mark.slow
def test_negatives_of_real_reports() -> None:
    made = assert_one_change(real_reports(20))
    assert all(made[kind] > 5 for kind in KINDS), made


# The check itself: lies planted in true sentences.

LIES: MappingProxyType[str, tuple[str, str]] = MappingProxyType(
    {
        "side": (r"\b(left|right)\b", "{swapped}"),
        "one side of two": (r"\bbilateral\b", "left"),
        "denial": (r"\b(?:no evidence of|no|not|without) ", ""),
        "new denial": (r"^(?:There (?:is|are) (?:an? )?)", "There is no "),
        "hedge": (r"\b(?:possible|questionable|may represent|cannot be excluded) ?", ""),
        "size": (r"\b(\d+) mm\b", "{longer} mm"),
    }
)


def planted(sentence: str, kind: str) -> str:
    """The sentence with the first such word changed; the sentence itself where it has none."""
    pattern, put = LIES[kind]

    def changed(found: re.Match[str]) -> str:
        word = found[0].lower()
        swapped = {"left": "right", "right": "left"}.get(word, "")
        return put.format(swapped=swapped, longer=int(found[1]) + 5 if found.re.groups and found[1].isdigit() else "")

    return re.sub(pattern, changed, sentence, count=1, flags=re.IGNORECASE)


def assert_lies_are_refused(texts: tuple[str, ...], least: int) -> None:
    seen: set[str] = set()
    caught = dict.fromkeys(LIES, 0)
    for text in texts:
        for sentence in said_in_body(text):
            facts = stated_in(sentence)
            if sentence in seen or not facts or any(fact.change == "unchanged" for fact in facts):
                continue
            seen.add(sentence)
            assert isinstance(keep_facts(sentence, sentence), Rewritten)
            for kind in LIES:
                lie = planted(sentence, kind)
                if kind == "size" and not any(fact.size_mm for fact in facts):
                    continue  # the distance of a tip, a slice thickness
                if lie != sentence and not (kind == "new denial" and " no " in sentence):
                    assert isinstance(keep_facts(sentence, lie), Refused), (sentence, lie)
                    caught[kind] += 1
    assert min(caught.values()) >= least, dict(caught)


def test_planted_lies_are_refused_in_simulated_reports() -> None:
    assert_lies_are_refused(simulated_reports(), 8)


@needs_reports
@pytest.mark.slow
def test_planted_lies_are_refused_in_real_reports() -> None:
    assert_lies_are_refused(real_reports(6), 10)
