"""CheXbert-F1 in the conventions of its published codes, and its name, which needs its weights."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, classification_report

from evaluation.chexbert import CHEXBERT5, CHEXBERT14, CheXbertLabeller, chexbert_f1, class_table
from evaluation.finding_labels import LabelTable
from evaluation.originals import OriginalMissingError
from reports.schemes import CHEXPERT14


def random_classes(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).choice(4, (n, 14), p=[0.55, 0.2, 0.15, 0.1])


def test_the_package_s_report_is_scikit_learn_s_with_uncertain_as_positive() -> None:
    """What f1chexbert 0.0.2 does after labelling: classes 1 and 3 are positive, two classification reports."""
    said, true = random_classes(200, 1), random_classes(200, 2)
    found = chexbert_f1(class_table(said), class_table(true), "a seed")

    hyps, refs = np.isin(said, [1, 3]).astype(int), np.isin(true, [1, 3]).astype(int)
    five = [CHEXBERT14.index(name) for name in CHEXBERT5]
    assert five == sorted(five)  # the package takes them in the order of the heads
    report = classification_report(refs, hyps, output_dict=True, zero_division=0)
    report_5 = classification_report(refs[:, five], hyps[:, five], output_dict=True, zero_division=0)
    for name in ("micro", "macro", "weighted", "samples"):
        assert found.scores[f"{name}_14"] == pytest.approx(report[f"{name} avg"]["f1-score"], abs=1e-12)
        assert found.scores[f"{name}_5"] == pytest.approx(report_5[f"{name} avg"]["f1-score"], abs=1e-12)
    assert found.scores["accuracy_5"] == pytest.approx(accuracy_score(refs[:, five], hyps[:, five]))
    assert found.n == 200


def test_conventions_disagree_on_one_uncertain_label() -> None:
    """One report, "possible edema" against "edema": right for f1chexbert, missed for CXRMate, both for RGRG."""
    said, true = np.zeros((1, 14), int), np.zeros((1, 14), int)
    said[0, CHEXBERT14.index("Edema")], true[0, CHEXBERT14.index("Edema")] = 3, 1
    pred, ref = class_table(said), class_table(true)

    loose = chexbert_f1(pred, ref, "us")
    strict = chexbert_f1(pred, ref, "us", "cxrmate")
    mixed = chexbert_f1(pred, ref, "us", "rgrg")

    assert loose.scores["micro_14"] == 1.0
    assert loose.scores["macro_14"] == pytest.approx(1 / 14)  # 0/0 is 0 for the other thirteen
    assert chexbert_f1(pred, ref, "us", empty="1").scores["macro_14"] == 1.0
    assert strict.scores == pytest.approx(
        {"f1_macro": 0.0, "f1_micro": 0.0, "precision_example": 0.0, "recall_example": 0.0, "f1_example": 0.0}
    )
    assert mixed.scores["f1_micro_5"] == 1.0
    assert mixed.scores["f1_example"] == 0.0
    assert "CXRMate" in strict.variant
    assert "uncertain counted as negative" in strict.variant


def test_cxrmate_averages_the_counts_of_a_study() -> None:
    said, true = np.zeros((3, 14), int), np.zeros((3, 14), int)
    true[:, 4] = 1  # edema in all
    said[0, 4] = said[2, 4] = 1  # missed in the second image of the first study
    found = chexbert_f1(class_table(said), class_table(true), "us", "cxrmate", studies=["a", "a", "b"])

    assert found.scores["f1_micro"] == pytest.approx(2 * 1.5 / (2 * 1.5 + 0.5))
    assert found.scores["f1_example"] == pytest.approx((2 * 0.5 / (2 * 0.5 + 0.5) + 1) / 2)
    assert found.n == 2


def test_labels_in_the_rule_labeler_s_order_give_the_same_number() -> None:
    pred, ref = class_table(random_classes(50, 3)), class_table(random_classes(50, 4))

    assert chexbert_f1(pred.only(CHEXPERT14), ref.only(CHEXPERT14), "us").scores == chexbert_f1(pred, ref, "us").scores


def test_the_name_is_not_printed_without_the_model() -> None:
    table = class_table(random_classes(5, 1))

    assert chexbert_f1(table, table, "our rules").name == "CheXbert-F1 arithmetic on labels by our rules"
    with pytest.raises(ValueError, match="say who made the labels that CheXbert-F1 is computed on"):
        chexbert_f1(table, table, " ")


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"classes have shape \(2, 3\), expected \(N, 14\)"):
        class_table(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"classes hold \[7\], expected 0 blank, 1 positive"):
        class_table(np.full((1, 14), 7))
    small = LabelTable.of([{"Edema": 1}], ["Edema"])
    with pytest.raises(ValueError, match="the table has no label 'Enlarged Cardiomediastinum'"):
        chexbert_f1(small, small, "us")
    table = class_table(random_classes(2, 1))
    with pytest.raises(ValueError, match='convention is "best"'):
        chexbert_f1(table, table, "us", "best")  # type: ignore[arg-type]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package of the interface of f1chexbert 0.0.2 that finds what the words say."""

    class F1CheXbert:
        def __init__(self, device: str | None = None) -> None:
            if not Path(module.CACHE_DIR, "chexbert.pth").is_file():
                raise AssertionError("would download")
            if Path(module.CACHE_DIR, "no_tokenizer").is_file():
                raise OSError("bert-base-uncased is not in the cache")
            print("chatter of a package")
            self.target_names = list(CHEXBERT14)

        def get_label(self, report: str, mode: str = "rrg") -> list[object]:
            assert mode == "classification"
            edema = -1 if "possible edema" in report else 0 if "no edema" in report else 1 if "edema" in report else ""
            return ["", "", "", "", edema, *[""] * 9]

    parent, module = ModuleType("f1chexbert"), ModuleType("f1chexbert.f1chexbert")
    module.CACHE_DIR = "/nowhere"  # type: ignore[attr-defined]
    module.F1CheXbert = parent.F1CheXbert = F1CheXbert  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "f1chexbert", parent)
    monkeypatch.setitem(sys.modules, "f1chexbert.f1chexbert", module)
    return module


def test_with_package_and_weights_the_number_has_its_name(package: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "chexbert.pth").write_bytes(b"weights")
    labeller = CheXbertLabeller(tmp_path)

    table = labeller.labels(["edema", "no edema", "possible edema", ""])
    found = chexbert_f1(table, table, labeller.original)

    assert table.codes[:, 4].tolist() == [1, 0, -1, -2]
    assert found.name.startswith("CheXbert-F1 (f1chexbert of unknown version, weights ")
    assert labeller.labels([]).codes.shape == (0, 14)


def test_a_package_s_chatter_is_no_answer_and_its_failure_is_explained(
    package: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "chexbert.pth").write_bytes(b"weights")
    CheXbertLabeller(tmp_path)
    assert capsys.readouterr().out == ""

    (tmp_path / "no_tokenizer").touch()
    with pytest.raises(
        OriginalMissingError, match=r"needs the configuration and tokenizer of bert-base-uncased.*OSError"
    ):
        CheXbertLabeller(tmp_path)


def test_without_weights_nothing_is_downloaded(package: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(OriginalMissingError, match=r"chexbert\.pth not found there.*nothing is downloaded"):
        CheXbertLabeller(tmp_path)


def test_without_the_package_the_error_says_what_brings_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(OriginalMissingError, match=r"needs the package f1chexbert.*medvlm-platform\[originals\]"):
        CheXbertLabeller(tmp_path)


def test_another_version_of_the_package_is_refused(package: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "chexbert.pth").write_bytes(b"weights")
    del package.CACHE_DIR
    with pytest.raises(OriginalMissingError, match=r"expected the layout of version 0\.0\.2"):
        CheXbertLabeller(tmp_path)
