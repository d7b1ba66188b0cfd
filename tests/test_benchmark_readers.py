"""What the readers of public benchmarks make of their tables: labels, boxes, masks, texts, questions and answers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_benchmarks import FILM, FILMS, films, put, table, text_of
from tiny_benchmarks_texts import TEXTS, workbook

from evaluation.benchmark import Benchmark, open_benchmark
from evaluation.benchmark_item import BenchmarkError, Item
from evaluation.benchmark_regions import Box, MaskFile, Polygon, RunLengths
from evaluation.grounding import target_mask

SHARED = Path(__file__).parents[2] / "shared/data"


def opened(name: str, folder: Path, split: str = "all") -> Benchmark:
    (FILMS | TEXTS)[name].write(folder)
    return open_benchmark(name, folder, split, complete=False)


def item(benchmark: Benchmark, name: str) -> Item:
    return next(one for one in benchmark.items if one.id == name)


def test_chexpert_keeps_uncertain_absent_and_not_mentioned_apart(tmp_path: Path) -> None:
    benchmark = opened("chexpert", tmp_path, "train")
    first = benchmark.items[0]
    assert first.patient == "patient00001"
    assert first.study == "train/patient00001/study1"
    assert first.view == "Frontal AP"
    assert first.details == {"sex": "Female", "age": "61"}
    names, labels = benchmark.label_matrix(["Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "No Finding"])
    assert names[0] == "Enlarged Cardiomediastinum"
    np.testing.assert_array_equal(labels, [[1, 0, -1, math.nan]] * 2)


def test_chexperts_test_set_is_read_by_study_too(tmp_path: Path) -> None:
    opened("chexpert", tmp_path)
    header = ["Study", *text_of(tmp_path / "test.csv").splitlines()[0].split(",")[1:]]
    (tmp_path / "test.csv").unlink()
    put(tmp_path / "groundtruth.csv", table(header, [("CheXpert-v1.0/test/patient00004/study1", *["1"] * 14)]))
    films(tmp_path, "test/patient00004/study1/view2_lateral.jpg")
    benchmark = open_benchmark("chexpert", tmp_path, "test_studies", complete=False)
    assert [Path(image).name for image in benchmark.items[0].images] == ["view1_frontal.jpg", "view2_lateral.jpg"]


def test_a_label_that_is_no_label_is_refused_with_its_place(tmp_path: Path) -> None:
    opened("chexpert", tmp_path)
    put(tmp_path / "test.csv", text_of(tmp_path / "test.csv").replace(",0,", ",maybe,", 1))
    with pytest.raises(
        BenchmarkError, match=r"test\.csv, line 2, No Finding: label 'maybe', expected 1, 0, -1 or nothing"
    ):
        open_benchmark("chexpert", tmp_path, complete=False)


def test_mimic_cxr_joins_reports_and_the_split_of_their_films(tmp_path: Path) -> None:
    benchmark = opened("mimic-cxr", tmp_path, "test")
    assert benchmark.items[0].sections == {"findings": "The lungs are clear.", "impression": "No effusion."}
    assert benchmark.patients == ["11000002"]
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    everything = open_benchmark("mimic-cxr", tmp_path, complete=False)
    assert {one.split for one in everything.items} == {"all"}
    assert any("no official split" in warning for warning in everything.warnings)


def test_a_table_cannot_point_outside_of_its_folder(tmp_path: Path) -> None:
    opened("mimic-cxr", tmp_path)
    path = tmp_path / "cxr-study-list.csv.gz"
    put(path, text_of(path).replace("files/p11/p11000002/s50000003.txt", "../../etc/passwd"))
    with pytest.raises(BenchmarkError, match=r"path '../../etc/passwd', expected files/pXX"):
        open_benchmark("mimic-cxr", tmp_path, complete=False)
    put(tmp_path.parent / "secret.txt", "secret")
    with pytest.raises(BenchmarkError, match="lies outside of the folder"):
        opened("chexpert", tmp_path / "chexpert").image_bytes("../../secret.txt")


def test_mimic_cxr_jpg_keeps_what_each_labeller_said(tmp_path: Path) -> None:
    benchmark = opened("mimic-cxr-jpg", tmp_path)
    film = item(benchmark, "dd")
    assert film.images == ("files/p12/p12000003/s50000003/dd.jpg",)
    assert benchmark.version == "2.1.0"
    assert [film.readings[one]["No Finding"] for one in ("radiologist",)] == [1.0]
    assert film.readings["negbio"]["Enlarged Cardiomediastinum"] == -1
    assert film.labels["Enlarged Cardiomediastinum"] == 1
    assert math.isnan(film.labels["Cardiomegaly"])
    assert [one.view for one in benchmark.items] == ["PA", "LATERAL", "AP", "AP"]


def test_ms_cxr_gathers_the_boxes_of_a_phrase_and_reads_the_coco_file_alike(tmp_path: Path) -> None:
    benchmark = opened("ms-cxr", tmp_path)
    phrase = item(benchmark, "d1/Pneumonia/1")
    assert phrase.text == "patchy opacity"
    assert phrase.boxes == (Box("Pneumonia", 10, 20, 40, 60), Box("Pneumonia", 100, 20, 130, 60))
    assert (phrase.patient, phrase.study) == ("10000001", "50000001")
    boxes = [(1, 1, [10, 20, 30, 40], "patchy opacity"), (1, 1, [100, 20, 30, 40], "patchy opacity"),
             (2, 2, [1, 2, 3, 4], "mild edema")]  # fmt: skip
    coco = {
        "info": {},
        "licenses": [],
        "categories": [{"id": 1, "name": "Pneumonia", "supercategory": "disease"}, {"id": 2, "name": "Edema"}],
        "images": [
            {"id": at, "file_name": f"d{at}.jpg", "width": 2544, "height": 3056, "split": split,
             "path": f"files/p10/p1000000{at}/s5000000{at}/d{at}.jpg"}
            for at, split in ((1, "train"), (2, "test"))
        ],
        "annotations": [
            {"id": at, "image_id": image, "category_id": kind, "bbox": box, "label_text": [text]}
            for at, (image, kind, box, text) in enumerate(boxes)
        ],
    }  # fmt: skip
    (tmp_path / "MS_CXR_Local_Alignment_v1.1.0.csv").unlink()
    put(tmp_path / "MS_CXR_Local_Alignment_v1.1.0.json", json.dumps(coco))
    again = open_benchmark("ms-cxr", tmp_path, complete=False)
    assert again.items == benchmark.items
    assert again.checksum == benchmark.checksum


def test_nih_lists_what_is_there_and_draws_boxes_on_some(tmp_path: Path) -> None:
    benchmark = opened("nih", tmp_path)
    assert item(benchmark, "00000001_000.png").labels["Effusion"] == 1
    assert sum(item(benchmark, "00000001_001.png").labels.values()) == 0
    film = item(benchmark, "00000002_000.png")
    assert film.images == ("images_002/images/00000002_000.png",)
    assert film.boxes[0].label == "Infiltration"
    assert film.boxes[0].x1 == pytest.approx(225.08 + 86.78)
    assert film.boxes[0].rows_columns() == pytest.approx((547.02, 225.08, 626.21, 311.86))


def test_nih_refuses_lists_that_do_not_fit_the_table(tmp_path: Path) -> None:
    opened("nih", tmp_path)
    put(tmp_path / "test_list.txt", "00000009_000.png\n")
    with pytest.raises(
        BenchmarkError, match=r"1 images of Data_Entry_2017.csv are in no list .* 1 of the lists are not"
    ):
        open_benchmark("nih", tmp_path, complete=False)
    put(tmp_path / "test_list.txt", "00000001_000.png\n")
    with pytest.raises(BenchmarkError, match=r"1 images stand in train_val_list.txt and in test_list.txt"):
        open_benchmark("nih", tmp_path, complete=False)


def test_an_unknown_finding_is_refused(tmp_path: Path) -> None:
    opened("nih", tmp_path)
    path = tmp_path / "Data_Entry_2017.csv"
    put(path, text_of(path).replace("Infiltration", "Covid"))
    with pytest.raises(BenchmarkError, match=r"line 4: finding 'Covid', expected one of Atelectasis"):
        open_benchmark("nih", tmp_path, complete=False)


def test_padchest_reads_its_lists_without_evaluating_them(tmp_path: Path) -> None:
    benchmark = opened("padchest", tmp_path)
    assert set(item(benchmark, "a2.png").labels) == {"pleural effusion", "scoliosis"}
    names, labels = benchmark.label_matrix(unlisted=0)
    assert names == ["normal", "pleural effusion", "scoliosis"]
    np.testing.assert_array_equal(labels, [[1, 0, 0], [0, 1, 1]])
    path = tmp_path / FILMS["padchest"].table
    put(path, text_of(path).replace("['normal']", "__import__('os')"))
    with pytest.raises(BenchmarkError, match=r"labels .*__import__.*, expected a list such as"):
        open_benchmark("padchest", tmp_path, complete=False)


def test_open_i_leaves_empty_sections_out_and_refuses_entities(tmp_path: Path) -> None:
    benchmark = opened("iu-xray", tmp_path)
    assert benchmark.items[0].sections == {"findings": "Clear lungs."}
    assert len(benchmark.items[0].images) == 2
    put(tmp_path / "ecgen-radiology/2.xml", '<!DOCTYPE a [<!ENTITY b "c">]><eCitation>&b;</eCitation>')
    with pytest.raises(BenchmarkError, match=r"2\.xml: no XML that can be read \(EntitiesForbidden\)"):
        open_benchmark("iu-xray", tmp_path, complete=False)


@pytest.mark.skipif(
    not (SHARED / "reports/openi_xml_samples").is_dir(), reason="the real reports are not on this machine"
)
def test_real_reports_of_open_i_are_read() -> None:
    benchmark = open_benchmark("iu-xray", SHARED / "reports/openi_xml_samples", complete=False, images=False)
    assert len(benchmark) == len(list((SHARED / "reports/openi_xml_samples").glob("*.xml")))
    assert all(one.text and one.id.startswith("CXR") for one in benchmark.items)
    assert any("findings" in one.sections and one.images for one in benchmark.items)


@pytest.mark.skipif(not (SHARED / "vqa_rad/qa.json").is_file(), reason="the real questions are not on this machine")
def test_real_questions_of_vqa_rad_are_read(tmp_path: Path) -> None:
    put(tmp_path / "VQA_RAD Dataset Public.json", (SHARED / "vqa_rad/qa.json").read_bytes())
    benchmark = open_benchmark("vqa-rad", tmp_path, complete=False, images=False)
    assert len(benchmark) == len(json.loads((SHARED / "vqa_rad/qa.json").read_text(encoding="utf-8")))
    assert {one.split for one in benchmark.items} == {"train", "test"}
    assert {one.answer_type for one in benchmark.items} == {"open", "closed"}
    with pytest.raises(BenchmarkError, match="expected 2,248"):
        open_benchmark("vqa-rad", tmp_path, images=False)


def test_r2gen_refuses_a_row_under_the_wrong_split(tmp_path: Path) -> None:
    benchmark = opened("iu-xray-r2gen", tmp_path)
    assert benchmark.items[0].images == ("images/CXR0_IM-0001/0.png", "images/CXR0_IM-0001/1.png")
    put(
        tmp_path / "annotation.json", text_of(tmp_path / "annotation.json").replace('"split": "test"', '"split": "val"')
    )
    with pytest.raises(BenchmarkError, match="stands under test and says split 'val'"):
        open_benchmark("iu-xray-r2gen", tmp_path, complete=False)


def test_vindr_takes_the_majority_of_three_and_keeps_each_reader(tmp_path: Path) -> None:
    benchmark = opened("vindr-cxr", tmp_path)
    film = item(benchmark, "a")
    assert film.labels["Cardiomegaly"] == 1  # R1 and R2, not R3
    assert [film.readings[reader]["Cardiomegaly"] for reader in ("R1", "R2", "R3")] == [1, 1, 0]
    assert film.boxes == (Box("Cardiomegaly", 10, 20, 110, 70, "R1"),)
    assert item(benchmark, "b").boxes == ()
    assert "Other disease" in film.labels  # the training table says "Other diseases"
    assert "Other disease" in item(benchmark, "c").labels


def test_vindr_refuses_an_image_that_one_reader_left_out_and_boxes_of_no_image(tmp_path: Path) -> None:
    opened("vindr-cxr", tmp_path)
    path = tmp_path / "annotations/annotations_train.csv"
    put(path, text_of(path) + "z,R1,Cardiomegaly,1,2,3,4\n")
    with pytest.raises(BenchmarkError, match=r"annotations_train\.csv: 1 items that no other table has: z; "):
        open_benchmark("vindr-cxr", tmp_path, complete=False)
    path = tmp_path / "annotations/image_labels_train.csv"
    put(path, "\n".join(text_of(path).splitlines()[:-1]) + "\n")
    with pytest.raises(BenchmarkError, match=r"image_labels_train\.csv: 1 images without 3 readers: b"):
        open_benchmark("vindr-cxr", tmp_path, complete=False)


def test_nih_refuses_boxes_of_no_image(tmp_path: Path) -> None:
    opened("nih", tmp_path)
    path = tmp_path / "BBox_List_2017.csv"
    put(path, text_of(path).replace("00000002_000", "00000007_000"))
    with pytest.raises(BenchmarkError, match=r"1 items that no other table has: 00000007_000\.png"):
        open_benchmark("nih", tmp_path, complete=False)


def test_rsna_boxes_and_its_test_set_without_labels(tmp_path: Path) -> None:
    benchmark = opened("rsna-pneumonia", tmp_path)
    assert item(benchmark, "f1").boxes[0] == Box("Pneumonia", 264, 152, 477, 531)
    assert item(benchmark, "f2").labels == {"Pneumonia": 0}
    assert item(benchmark, "f2").details == {"class": "Normal"}
    assert item(benchmark, "f3").labels == {}
    names, labels = benchmark.label_matrix()
    np.testing.assert_array_equal(labels[:, names.index("Pneumonia")], [1, 0, math.nan])


def challenge_mask(runs: str, width: int, height: int) -> np.ndarray:
    """Run lengths as the challenge explains them, pixel by pixel: top to bottom, then left to right, gaps relative."""
    mask = np.zeros((height, width), dtype=bool)
    place, numbers = 0, [int(one) for one in runs.split()]
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        for at in range(place + gap, place + gap + length):
            mask[at % height, at // height] = True
        place += gap + length
    return mask


def test_siim_masks_are_those_of_the_challenge(tmp_path: Path) -> None:
    benchmark = opened("siim-acr", tmp_path)
    film = item(benchmark, "1.2.4")
    assert len(film.masks) == 2
    first = film.masks[0]
    assert isinstance(first, RunLengths)
    np.testing.assert_array_equal(first.array(), challenge_mask("1025 2 1022 3", 1024, 1024))
    assert list(zip(*np.nonzero(first.array()), strict=True)) == [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2)]
    assert item(benchmark, "1.2.3").masks == ()
    small = RunLengths("x", (1, 2, 3, 1), (3, 4))
    np.testing.assert_array_equal(small.array(), challenge_mask("1 2 3 1", 4, 3))


@pytest.mark.parametrize(("runs", "why"), [("5 2 1", "expected pairs"), ("1048570 9", "end at pixel 1048579"),
                                           ("a b", "expected whole numbers or -1")])  # fmt: skip
def test_run_lengths_that_cannot_be_are_refused(runs: str, why: str, tmp_path: Path) -> None:
    opened("siim-acr", tmp_path)
    put(tmp_path / "train-rle.csv", table(("ImageId", "EncodedPixels"), [("1.2.3", runs)]))
    with pytest.raises(BenchmarkError, match=why):
        open_benchmark("siim-acr", tmp_path, complete=False)


def test_chestx_det_outlines_fill_their_box(tmp_path: Path) -> None:
    film = item(opened("chestx-det", tmp_path), "train/36199.png")
    (outline,) = film.masks
    assert isinstance(outline, Polygon)
    boxed = target_mask([film.boxes[0].rows_columns()], (100, 80))
    np.testing.assert_array_equal(outline.array(100, 80), boxed)
    assert film.labels["Effusion"] == 1
    assert film.labels["Mass"] == 0
    put(tmp_path / "ChestX_Det_test.json", text_of(tmp_path / "ChestX_Det_test.json").replace('["Effusion"]', "[]"))
    with pytest.raises(BenchmarkError, match="0 findings, 1 boxes and 1 outlines"):
        open_benchmark("chestx-det", tmp_path, complete=False)


def test_an_outline_is_even_odd_and_cut_at_the_border() -> None:
    bow = Polygon("x", ((0.0, -0.2), (4.0, 4.2), (4.0, -0.2), (0.0, 4.2)))
    np.testing.assert_array_equal(bow.array(4, 4), [[1, 0, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1], [1, 0, 0, 1]])
    outside = Polygon("x", ((-5.0, -5.0), (2.0, -5.0), (2.0, 2.0), (-5.0, 2.0)))
    assert outside.array(4, 4).sum() == 4
    with pytest.raises(ValueError, match="2 points, expected 3 or more"):
        Polygon("x", ((0.0, 0.0), (1.0, 1.0)))
    with pytest.raises(ValueError, match=r"box \(3, 0, 3, 2\) of 'x' has no area"):
        Box("x", 3, 0, 3, 2)


def test_ct_rate_names_patient_study_and_volume(tmp_path: Path) -> None:
    benchmark = opened("ct-rate", tmp_path, "train")
    volume = benchmark.items[1]
    assert (volume.patient, volume.study) == ("train_1", "train_1_a")
    assert volume.images == ("dataset/train/train_1/train_1_a/train_1_a_2.nii.gz",)
    assert volume.sections == {
        "indication": "Cough.",
        "technique": "CT",
        "findings": "No nodule.",
        "impression": "Normal.",
    }
    assert volume.labels["Medical material"] == 1
    assert volume.details == {"Manufacturer": "Maker", "PatientSex": "F"}
    assert len(set(benchmark.patients)) == 2


def test_merlin_reads_its_spreadsheet_and_minus_one_is_not_mentioned(tmp_path: Path) -> None:
    benchmark = opened("merlin", tmp_path)
    study = item(benchmark, "AC2")
    assert study.text == "Spleen: enlarged & soft."
    assert study.labels["splenomegaly"] == 1
    assert math.isnan(study.labels["ascites"])
    assert benchmark.patients == ["item AC1", "item AC2"]
    put(tmp_path / "reports_final.xlsx", workbook([("study id", "Split"), ("AC1", "train")]))
    with pytest.raises(BenchmarkError, match="lacks 'findings'"):
        open_benchmark("merlin", tmp_path, complete=False)
    put(tmp_path / "reports_final.xlsx", b"no zip")
    with pytest.raises(BenchmarkError, match=r"no spreadsheet that can be read \(BadZipFile\); save it as CSV"):
        open_benchmark("merlin", tmp_path, complete=False)
    (tmp_path / "reports_final.xlsx").unlink()
    put(tmp_path / "reports_final.csv", table(("study id", "Findings", "Split"), [("AC1", "Normal.", "Test")]))
    assert open_benchmark("merlin", tmp_path, complete=False).items[0].split == "test"


def test_captions_of_both_rocos(tmp_path: Path) -> None:
    old = opened("roco", tmp_path / "1", "validation")
    assert (old.items[0].text, old.items[0].id) == ("Chest film of case 3.", "ROCO_00003")
    new = opened("rocov2", tmp_path / "2", "test")
    assert new.items[0].labels == {"C0040405": 1, "C0817096": 1}


def test_vqa_rad_splits_by_the_kind_of_phrase(tmp_path: Path) -> None:
    benchmark = opened("vqa-rad", tmp_path)
    assert [(one.id, one.split, one.answer, one.answer_type) for one in benchmark.items] == [
        ("0", "train", "Yes", "closed"), ("1", "train", "2", "open"), ("2", "test", "left", "closed")]  # fmt: skip


def test_slake_keeps_both_languages_and_the_mask(tmp_path: Path) -> None:
    benchmark = opened("slake", tmp_path, "test")
    assert [one.details["language"] for one in benchmark.items] == ["en", "zh"]
    assert benchmark.items[1].question == "成像方式?"
    assert benchmark.items[0].masks == (MaskFile("organs and lesions, see mask.txt", "imgs/xmlab2/mask.png"),)


def test_pmc_vqa_strips_the_letters_from_its_options(tmp_path: Path) -> None:
    question = opened("pmc-vqa", tmp_path, "test_clean").items[0]
    assert question.options == {"A": "Lung", "B": "Liver", "C": "Bone", "D": "Skin"}
    assert question.answer == "B"
    assert question.patient == "PMC2"
    header = (
        "index",
        "Figure_path",
        "Caption",
        "Question",
        "Choice A",
        "Choice B",
        "Choice C",
        "Choice D",
        "Answer",
        "split",
    )
    row = (0, "PMC9_F1.jpg", "A film.", "Which?", "A: x", "B: y", "C: z", "D: w", "D", "test")
    put(tmp_path / "test_2.csv", table(header, [row]))
    with pytest.raises(BenchmarkError, match="holds versions 1 and 2 of PMC-VQA"):
        open_benchmark("pmc-vqa", tmp_path, complete=False)
    for old in ("train", "test", "test_clean"):
        (tmp_path / f"{old}.csv").unlink()
    second = open_benchmark("pmc-vqa", tmp_path, complete=False, images=False)
    assert (second.version, second.items[0].answer, second.items[0].text) == ("2", "D", "A film.")


def test_gmai_finds_the_letter_of_the_answer_and_the_image_in_the_row(tmp_path: Path) -> None:
    benchmark = opened("gmai-mmbench", tmp_path)
    first, second, hidden = benchmark.items
    assert (first.answer, hidden.answer) == ("B", "")
    assert first.options == {"A": "lung", "B": "heart", "C": "skin"}
    assert first.details["clinical vqa task"] == "Disease Diagnosis"
    for place, one in ((1, second), (0, first), (2, hidden)):  # also backwards
        assert benchmark.image_bytes(one.images[0]) == FILM + bytes([place])
    with pytest.raises(BenchmarkError, match="no row '77' with an image"):
        benchmark.image_bytes("GMAI_mm_bench_VAL.tsv#77")


def test_mediconfusion_makes_two_items_of_a_pair(tmp_path: Path) -> None:
    one, two = opened("mediconfusion", tmp_path).items
    assert (one.id, one.answer, two.id, two.answer) == ("10001/1", "B", "10001/2", "A")
    assert one.details["pair"] == two.details["pair"]
    assert two.images == ("data/images/20002.jpg",)
    put(tmp_path / "data/dataset.csv", text_of(tmp_path / "data/dataset.csv").replace("B,A", "B,B"))
    with pytest.raises(BenchmarkError, match="both images have the answer 'B', expected A and B"):
        open_benchmark("mediconfusion", tmp_path, complete=False)


def test_path_vqa_reads_parquet_and_never_a_pickle(tmp_path: Path) -> None:
    put(tmp_path / "pvqa/qas/test_vqa.pkl", b"\x80\x04.")
    with pytest.raises(BenchmarkError, match=r"found only test_vqa.pkl, and pickle files are not opened"):
        open_benchmark("pathvqa", tmp_path, complete=False)
    pytest.importorskip("pyarrow", reason='needs pip install "medvlm-platform[parquet]"')
    benchmark = opened("pathvqa", tmp_path, "test")
    assert [one.answer_type for one in benchmark.items] == ["closed", "open"]
    assert benchmark.items[0].patient == benchmark.items[1].patient  # one image, two questions
    assert benchmark.image_bytes(benchmark.items[1].images[0]) == FILM + bytes([2])


def test_rexval_counts_errors_by_rater_kind_and_weight(tmp_path: Path) -> None:
    benchmark = opened("rexval", tmp_path)
    pair = item(benchmark, "0/radgraph")
    assert pair.sections == {"reference": "No effusion.", "candidate": "Effusion."}
    assert pair.readings == {"0": {"significant: false finding": 2, "insignificant: false finding": 0},
                             "1": {"significant: false finding": 1}}  # fmt: skip
    path = tmp_path / TEXTS["rexval"].table
    put(path, text_of(path) + "7,bleu,0,2,True,1\n")
    with pytest.raises(BenchmarkError, match=r"counts errors of \['7/bleu'\]"):
        open_benchmark("rexval", tmp_path, complete=False)


def test_rexrank_leaves_absent_sections_out(tmp_path: Path) -> None:
    study = item(opened("rexrank", tmp_path), "mimic-cxr/50000001")
    assert study.sections == {"findings": "Clear lungs."}
    assert study.images == ("mimic-cxr/files/p10/p10000001/s50000001/d.jpg",)
    assert study.patient == "mimic-cxr/10000001"
