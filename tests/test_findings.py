from __future__ import annotations

import time

import pytest

from reports.findings import LEXICON, Finding, find
from volumes.lesions import FINDINGS


def statuses(text: str) -> dict[str, str]:
    return {finding.name: finding.status for finding in find(text)}


def only(text: str) -> Finding:
    (finding,) = find(text)
    return finding


@pytest.mark.parametrize(
    "text",
    [
        "No pleural effusion.",
        "There is no evidence of a pleural effusion.",
        "No effusion, pneumothorax or consolidation.",
        "No focal consolidation, large pleural effusion, or pneumothorax.",
        "Clear lungs without pleural effusion.",
        "Pleural effusion was not observed.",
        "Effusion and pneumothorax are not seen.",
        "The left effusion has resolved.",
        "Interval resolution of the left pleural effusion.",
        "The lungs are negative for pneumonia, edema, or effusion.",
        "Neither effusion nor pneumothorax is present.",
        "There is no longer an effusion.",
        "No new effusion.",
        "Heart size is normal, no effusion.",
    ],
)
def test_denied(text: str) -> None:
    assert statuses(text)["pleural effusion"] == "absent"


@pytest.mark.parametrize(
    "text",
    [
        "No change in the left pleural effusion.",
        "No significant interval change in right pneumothorax or pleural effusion.",
        "No pneumothorax, small left pleural effusion.",
        "No pneumothorax but a stable effusion.",
        "No left pneumothorax. Left pleural effusion.",
        "Pleural effusion without pneumothorax.",
        "There is a left effusion, pneumothorax is not seen.",
        "The left effusion has partially resolved.",
        "Resolving left effusion.",
        "Findings are consistent with a small effusion.",
        "The effusion is not significantly changed.",
        "Pneumothorax has resolved, but the effusion persists.",
        "Aside from a small effusion, no abnormality.",
    ],
)
def test_stated(text: str) -> None:
    assert statuses(text)["pleural effusion"] == "present"


@pytest.mark.parametrize(
    "text",
    [
        "Possible pleural effusion.",
        "A small effusion cannot be excluded.",
        "An effusion is not entirely excluded.",
        "Blunting may represent a pleural effusion.",
        "Pleural effusion versus thickening.",
        "Basal density (effusion?).",
        "Suspicious for effusion.",
        "Effusion or atelectasis at the left base.",
        "Blunting of the left costophrenic angle.",
    ],
)
def test_hedged(text: str) -> None:
    assert statuses(text)["pleural effusion"] == "uncertain"


def test_hedging_and_denial_stay_in_their_clause() -> None:
    assert statuses("There is an effusion and pneumonia cannot be excluded.") == {
        "pleural effusion": "present",
        "pneumonia": "uncertain",
    }
    assert statuses("Opacity at the left base may represent pneumonia; no nodule.") == {
        "lung opacity": "present",
        "pneumonia": "uncertain",
        "lung nodule": "absent",
    }
    assert statuses("No left effusion but stable cardiomegaly.")["cardiomegaly"] == "present"


def test_sides_belong_to_their_own_finding() -> None:
    found = {f.name: f.side for f in find("Right apical pneumothorax and left pleural effusion with cardiomegaly.")}
    assert found == {"pneumothorax": "right", "pleural effusion": "left", "cardiomegaly": None}
    assert only("Pleural effusions, right greater than left.").side == "bilateral"
    assert [(f.side, f.severity) for f in find("Small left and moderate right pleural effusions.")] == [
        ("left", "mild"),
        ("right", "moderate"),
    ]
    assert only("Bibasilar atelectasis.").side == "bilateral"
    assert only("Nodule in the lingula.").side == "left"
    assert only("Atelectasis of the middle lobe.").side == "right"
    assert only("The tip of the catheter lies in the right atrium.").side is None


def test_places_and_severity() -> None:
    assert only("Displaced fracture of the left 6th rib.").location == "sixth rib"
    assert only("Mass in the RUL.").location == "upper lobe"
    assert only("Biapical emphysema.").location == "apex"
    assert only("Perihilar consolidation.").location == "hilum"
    assert only("Trace left effusion.").severity == "tiny"
    assert only("Small to moderate effusion.").severity == "moderate"
    assert only("The heart is mildly enlarged.").severity == "mild"
    assert only("Large pneumothorax.").severity == "severe"


def test_sizes_in_millimeters() -> None:
    assert only("A 12 x 8 mm nodule.").size_mm == 12.0
    assert only("Mass measuring 3.4 cm by 5.1 cm.").size_mm == 51.0
    assert only("A 14-mm nodule.").size_mm == 14.0
    assert only("Nodule of 1,2 cm.").size_mm == 12.0
    assert only("A 9 mm nodule, previously 6 mm.").size_mm == 9.0
    assert only("The endotracheal tube tip is 4 cm above the carina.").size_mm is None
    assert only("No nodule larger than 4 mm.").size_mm is None
    first, second = find("A 12 mm nodule in the right upper lobe and a 5 mm nodule in the left apex.")
    assert (first.size_mm, first.side, second.size_mm, second.side) == (12.0, "right", 5.0, "left")


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("New left effusion.", "new"),
        ("The effusion has increased.", "increased"),
        ("Worsening pulmonary edema.", "increased"),
        ("Improved atelectasis.", "decreased"),
        ("Stable cardiomegaly.", "unchanged"),
        ("No interval change in the effusion.", "unchanged"),
        ("The pneumothorax is no longer seen.", "resolved"),
        ("The endotracheal tube has been removed.", "resolved"),
        ("Left effusion.", None),
    ],
)
def test_change(text: str, change: str | None) -> None:
    assert only(text).change == change


def test_normal_statements_rule_out_what_they_mean_and_no_more() -> None:
    assert statuses("The heart size is normal.") == {"cardiomegaly": "absent"}
    assert statuses("The heart is not enlarged.") == {"cardiomegaly": "absent"}
    assert statuses("Heart size is at the upper limits of normal.") == {}
    clear = statuses("The lungs are clear.")
    assert set(clear) == {"consolidation", "atelectasis", "lung nodule", "lung mass", "pulmonary edema", "lung opacity"}
    assert set(clear.values()) == {"absent"}
    assert all(finding.by == "implied" for finding in find("The lungs are clear."))


def test_a_stated_finding_outweighs_a_normal_statement() -> None:
    found = [
        f
        for f in find("FINDINGS: The lungs are otherwise clear. 5 mm nodule. Lungs are clear.")
        if f.name == "lung nodule"
    ]
    assert [f.status for f in found] == ["present"]


def test_questions_of_the_indication_state_nothing() -> None:
    text = "INDICATION: Rule out pneumothorax.\nCOMPARISON: CT with nodule.\nFINDINGS: Left effusion."
    (finding,) = find(text)
    assert (finding.name, finding.sentence) == ("pleural effusion", 2)
    assert find("History of pneumonia.") == ()
    assert find("") == ()


def test_other_organs_are_not_the_lung() -> None:
    assert find("Thyroid nodule of 12 mm.") == ()
    assert statuses("Pericardial effusion.") == {"pericardial effusion": "present"}
    assert statuses("Pericardial or pleural effusion was not detected.") == {
        "pericardial effusion": "absent",
        "pleural effusion": "absent",
    }
    assert find("No mass effect.") == ()


def test_the_lexicon_knows_every_finding_of_the_phantom() -> None:
    assert set(FINDINGS) <= set(LEXICON)
    assert len(LEXICON) == len(set(LEXICON))


def test_thousands_of_sentences_per_second() -> None:
    text = (
        "No focal consolidation, pleural effusion, or pneumothorax. There is a small left pleural effusion,"
        " unchanged. " * 200
    )
    find(text)
    start = time.process_time()
    assert len(find(text)) == 800
    assert 400 / (time.process_time() - start) > 2000
