"""Reports without people: what goes, what stays, how dates move, and how much of what is planted is found."""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from benchmarks import planted_text
from benchmarks.deidentified_text import leftover, measure, plant, real_reports, simulated_reports, wilson
from medvlm.cli import main
from medvlm.report_cleaning import ReportCleaner, Subject, Subjects
from reports.deidentify import LONGEST, TextDeidentifier
from reports.deidentify_vocabulary import is_abbreviation, is_eponym, is_misspelt, is_word, names
from reports.findings import find
from reports.sourced import CodedMeasurement, SourcedReport
from tests.deidentified import film, outputs, run, study_tags, write_key
from volumes.deidentify_keys import Pseudonyms
from volumes.errors import VolumeError
from volumes.instance import Refusal, patient_key

DATA = Path(__file__).parents[2] / "shared/data"
PSEUDONYMS = Pseudonyms(b"a key that is long enough")
CLEANER = TextDeidentifier(PSEUDONYMS)
TAGS = TextDeidentifier(PSEUDONYMS, style="tags")


def tagged(text: str, *known: str) -> str:
    return TAGS.clean(text, "p", known).text


@pytest.mark.parametrize(
    "text",
    [
        "Hodgkin lymphoma with a Swan-Ganz catheter and a Port-A-Cath.",
        "Kerley B lines. Chilaiditi sign. Morgagni hernia. Dobhoff tube in the stomach.",
        "Baker cyst of the left knee; Hill-Sachs lesion; circle of Willis aneurysm.",
        "Stanford type B dissection, Bosniak IIF cyst, Fleischner 2017 guideline.",
        "A 5 x 3.2 cm mass, 120 HU, SUV 3.5, 2/6 murmur, pain 3/10, strength 4/5.",
        "T4/5 disc, L4-5, C3-4 and T9-L2, ribs 5/6, nodules of 1-2 mm, 100-1200 HU.",
        "Follow-up in 3 weeks; unchanged for 2 years; yesterday; 6 months ago at 10:45 AM.",
        "BP 120/80, WBC 13.5, Hct 32.5, FiO2 40%, 500 mg, series 3, image 45.",
        "Tc-99m MDP, ICD-10 J18.9, CPT 71260, COVID-19, T1-weighted FLAIR, BI-RADS 4.",
        "Right Upper Lobe Nodule",
        "CT CHEST WITHOUT CONTRAST: NO PULMONARY EMBOLISM.",
        "A. Lungs are clear. B. No effusion.",
        "The outside hospital sent images; an interventional radiology consult is recommended.",
        "Mediastimal shift and Thorocolumbar scoliosis.",
        "Seen at the emergency department of the hospital. Christmas tree appearance.",
        "XXXX-year-old XXXX with XXXX. Comparison: XXXX, XXXX.",
        "45-year-old and 89-year-old; 3.5 years; a 90-degree angle.",
        "Discussed with Cardiology and Radiology by telephone. Per protocol.",
        "May represent scarring. March fracture of the foot. No change in the effusion.",
    ],
)
def test_medicine_stays(text: str) -> None:
    assert CLEANER.clean(text, "p").text == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Seen by Dr. Long and Dr. White.", "Seen by Dr. [NAME] and Dr. [NAME]."),
        ("Jane A. Smith, MD", "[NAME], MD"),
        ("SMITH, JOHN", "[NAME]"),
        ("Patient Name: smith", "Patient Name: [NAME]"),
        ("Discussed with Okonkwo today.", "Discussed with [NAME] today."),
        ("spoke with john smith", "spoke with [NAME]"),
        ("dr smith agrees", "dr [NAME] agrees"),
        ("His wife Karen called.", "His wife [NAME] called."),
        ("Dictated by: JDS", "Dictated by: [NAME]"),
        ("Mr. van der Berg", "Mr. van der [NAME]"),
        ("The Olga Petrova silhouette is normal.", "The [NAME] silhouette is normal."),
        ("Seen by O'Brien-Smythe.", "Seen by [NAME]."),
        ("王小东 has no effusion. Иванов Петр.", "[NAME] has no effusion. [NAME]."),
        ("MRN 48213; SSN 123-45-6789.", "MRN [NUMBER]; SSN [NUMBER]."),
        ("Accession: RAD-2019-00123", "Accession: [NUMBER]"),
        ("call (555) 123-4567 ext. 12, pager 4471", "call [PHONE], pager [PHONE]"),
        ("mail a.b@c.org or www.c.org/x", "mail [MAIL] or [URL]"),
        ("in Room 412, bed 3A", "in Room [ROOM], bed [ROOM]"),
        ("Pacemaker, serial number A12-99812", "Pacemaker, serial number [NUMBER]"),
        ("from Mercy Hospital", "from [INSTITUTION] Hospital"),
        ("at the University of Chicago Medical Center", "at the University of [INSTITUTION] Medical Center"),
        ("lives at 12 Oak Street, Pellston, IL 62704", "lives at [ADDRESS], [PLACE], IL [ADDRESS]"),
        ("a 94-year-old woman", "a 90-year-old woman"),
        ("ninety-four-year-old woman", "ninety-year-old woman"),
    ],
)
def test_people_go(text: str, left: str) -> None:
    assert tagged(text) == left


def test_what_the_header_names_goes_wherever_it_stands_and_misspelt() -> None:
    text = "Zorvath and zorvat, QUENBY; number 4471-8823 or 44718823. Young male, long axis."
    left = tagged(text, "Zorvath^Quenby", "44718823", "Long^Young")
    assert left == "[NAME] and [NAME]; number [NUMBER] or [NUMBER]. [NAME] male, long axis."


def test_one_name_of_one_patient_has_one_substitute() -> None:
    first = CLEANER.clean("Dr. Okonkwo called. OKONKWO agrees with okonkwo.", "p").text
    made = re.findall(r"[A-Za-z]+", first.removeprefix("Dr. "))
    assert made[0].lower() == made[2].lower() == made[-1].lower() != "okonkwo"
    assert made[2].isupper()
    assert made[-1].islower()
    assert CLEANER.clean("Dr. Okonkwo", "p").text == f"Dr. {made[0]}"
    others = {CLEANER.clean("Dr. Okonkwo", f"patient {n}").text for n in range(20)}
    assert len(others) > 10, "another patient, another substitute"
    assert TextDeidentifier(Pseudonyms(b"another key, long enough")).clean("Dr. Okonkwo", "p").text != f"Dr. {made[0]}"


def test_a_substitute_keeps_the_form() -> None:
    made = CLEANER.clean("MRN AB-12345, (555) 123-4567, Maria Lopez, JOHN DOE", "p").text
    assert re.fullmatch(r"MRN [A-Z]{2}-\d{5}, \(\d{3}\) \d{3}-\d{4}, [A-Z][a-z]+ [A-Z][a-z]+, [A-Z]+ [A-Z]+", made)
    assert "12345" not in made
    assert made.split(", ")[2].split()[0] in names().surrogate_female


SHIFT = PSEUDONYMS.shift("p")


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%B %d, %Y", "%d %B %Y", "%d-%b-%Y", "%d%b%Y", "%Y%m%d", "%Y/%m/%d",
        "%b %d, %Y", "%A, %B %d, %Y", "%m/%d/%y", "%Y-%m-%dT10:45:00",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "day", [dt.date(2019, 3, 24), dt.date(2020, 2, 29), dt.date(2011, 12, 31), dt.date(2017, 10, 17)]
)
def test_dates_move_and_keep_their_form(form: str, day: dt.date) -> None:
    text = f"Compared with {day.strftime(form)}."
    assert CLEANER.clean(text, "p").text == f"Compared with {(day + SHIFT).strftime(form)}."


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        ("March 3rd, 2019", "April 2nd, 2017"),
        ("the 3rd of March, 2019", "the 2nd of April, 2017"),
        ("vom 4. März 2019", "vom 3. April 2017"),
        ("5 de mayo de 2019", "4 de junio de 2017"),
        ("March 3-5, 2019", "April 2-4, 2017"),
        ("3/4-3/6/2019", "4/3-4/5/2017"),
        ("in March 2019, 3/2019", "in April 2017, 4/2017"),
        ("since 2015 and 2016", "since 2013 and 2014"),
        ("On 3/4/19 and 3/10", "On 4/3/17 and 4/9"),
        ("study of 31/12/2019 and 01/02/2019", "study of 30/01/2018 and 03/03/2017"),
        ("dated 31/02/2019", "dated [DATE]"),
        ("on Christmas Day", "on [DATE]"),
        ("2019-03-04T10:45:00Z", "2017-04-03T10:45:00Z"),
    ],
)
def test_forms_of_dates(text: str, moved: str) -> None:
    class Fixed(Pseudonyms):
        def shift(self, patient: str) -> dt.timedelta:
            return dt.timedelta(days=-700)

    assert TextDeidentifier(Fixed(b"x" * 32)).clean(text, "p").text == moved


def test_dates_stay_or_go_when_asked_and_without_a_patient() -> None:
    text = "Compared with 2019-03-04."
    assert TextDeidentifier(PSEUDONYMS, "keep").clean(text, "p").text == text
    assert TextDeidentifier(PSEUDONYMS, "remove").clean(text, "p").text == "Compared with [DATE]."
    assert CLEANER.clean(text, "").text == "Compared with [DATE]."


def test_the_day_of_the_study_says_which_number_is_the_month() -> None:
    day = dt.date(2019, 4, 3)
    found = CLEANER.clean("Exam of 03/04/2019.", "p", study_date=day).text
    assert found == f"Exam of {(day + SHIFT):%d/%m/%Y}."


def test_a_report_moves_by_the_same_days_as_its_images(tmp_path: Path) -> None:
    key = write_key(tmp_path)
    tags = study_tags()
    film(tmp_path / "in" / "1.dcm", tags)
    run(tmp_path / "in", tmp_path / "out", key)
    image = outputs(tmp_path / "out")[0]
    from medvlm.ingest_deidentify import cleaner_of

    cleaner = cleaner_of([tmp_path / "in"], key)
    day = dt.datetime.strptime(tags.date, "%Y%m%d").date()
    text = f"Exam of {day:%B %d, %Y}. Quenby Zorvath, zorvath@mail.org, has clear lungs. MRN {tags.patient_id}."
    measured = (CodedMeasurement("Length", 12.5, "mm", finding="Nodule seen by Dr. Quenby"),)
    report = SourcedReport(
        text, accession="ACC-5512", patient_key=patient_key(tags.patient_id), source="/x/Zorvath.txt",
        issued=f"{day:%Y-%m-%d}T10:45:00", notes=("read for Zorvath",), measurements=measured,
    )  # fmt: skip
    cleaned = cleaner.report(report)
    assert isinstance(cleaned, SourcedReport)
    moved = dt.datetime.strptime(image.StudyDate, "%Y%m%d").date()
    assert f"{moved:%B %d, %Y}" in cleaned.text
    assert cleaned.issued == f"{moved:%Y-%m-%d}T10:45:00"
    assert cleaned.accession == image.AccessionNumber
    assert cleaned.patient_key == patient_key(image.PatientID)
    said = json.dumps(cleaned.to_json()) + cleaned.source
    assert not re.search(r"zorvath|quenby|4471|5512", said, re.IGNORECASE)
    assert cleaned.measurements[0].value == 12.5


def test_a_report_of_nobody_in_the_archive_is_refused_without_a_word_of_it() -> None:
    cleaner = ReportCleaner(CLEANER, Subjects())
    refused = cleaner.report(SourcedReport("Zorvath is well.", accession="A7755", source="/x/Zorvath.txt"))
    assert isinstance(refused, Refusal)
    assert refused.reason == "no-study"
    assert "Zorvath" not in f"{refused.where}{refused.message}"
    told = cleaner.refusal(Refusal("/x/Zorvath.txt", "empty-report", "report A7755 of Zorvath is empty"))
    assert told.message.startswith("empty-report: details are left out")
    assert "Zorvath" not in f"{told.where}{told.message}"


def test_two_patients_with_one_accession_number_are_told_apart_by_id() -> None:
    one, two = Subject("111", "111"), Subject("222", "222")
    subjects = Subjects(by_accession={"A1": [one, two]}, by_patient={patient_key("222"): two})
    assert subjects.find(SourcedReport("x", accession="A1")) is None
    assert subjects.find(SourcedReport("x", accession="A1", patient_key=patient_key("222"))) is two


def test_what_the_rules_cannot_vouch_for_is_refused() -> None:
    german = "Die Lunge ist beidseits regelrecht belüftet, kein Nachweis eines Pleuraergusses oder einer Stauung."
    with pytest.raises(VolumeError, match=r"of \d+ words \d+ are English or medical; expected at least half"):
        CLEANER.clean(german * 2, "p")
    with pytest.raises(VolumeError, match=f"expected a report of at most {LONGEST}"):
        CLEANER.clean("x" * (LONGEST + 1), "p")


@pytest.mark.parametrize(
    "unit", ["1", "12-", "a", "A-", "A ", "Aa ", "(", "Dr. ", "O'", "\ue000", "1/2", "2020-01-01 ", "March ", "of Aa ",
             "St. Aa ", "1.", "a@", "no. ", "Aa, ", "MRN ", "Aa\n", "12 Aa ", "by Aa "],
)  # fmt: skip
def test_texts_made_to_be_slow_are_cleaned_in_time(unit: str) -> None:
    started = time.process_time()
    with suppress(VolumeError):  # no language
        CLEANER.clean(unit * (20_000 // len(unit)) + "x", "p")
    assert time.process_time() - started < 4


# --- words ------------------------------------------------------------------------------------------------------------


def test_words_of_medicine_are_known_by_list_and_by_how_they_are_made() -> None:
    for word in (
        "effusion",
        "Pneumobilia",
        "retroperitoneal",
        "cholangiocarcinoma",
        "opacities",
        "thickening",
        "rituximab",
    ):
        assert is_word(word), word
    for word in ("Okonkwo", "Gelashvili", "Etxeberria", "Petrosyan", "Rebane"):
        assert not is_word(word), word
        assert not is_misspelt(word), word
    assert is_misspelt("mediastimal")
    assert is_eponym("Swan-Ganz")
    assert not is_eponym("Drew-Sparks")
    assert is_abbreviation("IIIb")
    assert not is_abbreviation("SMITH")


def test_the_held_out_names_are_in_no_list_of_the_rules() -> None:
    listed = json.loads((Path(__file__).parents[1] / "reports/deidentify_names.json").read_text(encoding="utf-8"))
    rules = {word.lower() for key in listed if key != "source" for line in listed[key] for word in line.split()}
    held = [name for key in ("held_out_given", "held_out_family", "held_out_words") for name in planted_text.words(key)]
    assert len(held) > 200
    assert not rules.intersection(word.lower() for word in held)


# --- measured ---------------------------------------------------------------------------------------------------------


def test_planted_identifiers_are_found_and_clinical_words_stay() -> None:
    reports = real_reports(DATA) or simulated_reports(100)
    outcome = measure(plant(reports, 2000, seed=11), TextDeidentifier(Pseudonyms(b"the key of this test")))
    assert outcome.recall.of >= 2000
    assert outcome.recall.hit >= 0.99 * outcome.recall.of, outcome.missed
    assert outcome.by_group["held out"].hit >= 0.98 * outcome.by_group["held out"].of, outcome.missed
    assert outcome.words.hit < 0.01 * outcome.words.of, outcome.changed
    assert outcome.facts_kept.hit >= 0.98 * outcome.facts_kept.of


def test_the_measure_sees_a_cleaner_that_does_nothing_and_one_that_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    from reports.deidentify import CleanedText
    from reports.deidentify_spans import Span

    cases = plant(simulated_reports(20), 100, seed=3)
    monkeypatch.setattr(TextDeidentifier, "clean", lambda self, text, patient: CleanedText(text))
    blind = measure(cases, CLEANER)
    assert blind.recall.hit <= 0.05 * blind.recall.of
    monkeypatch.setattr(
        TextDeidentifier, "clean", lambda self, text, patient: CleanedText("", (Span(0, len(text), "name"),))
    )
    greedy = measure(cases, CLEANER)
    assert greedy.recall.hit == greedy.recall.of
    assert greedy.words.hit == greedy.words.of


def test_what_is_left_of_an_identifier_is_seen() -> None:
    assert leftover("Mercy Hospital", bytearray(b"\1" * 5 + b"\0" * 9)) == ""
    assert leftover("John Smith", bytearray(b"\1" * 4 + b"\0" * 6)) == "Smith"
    assert wilson(10, 10)[0] == pytest.approx(0.7225, abs=1e-3)


def test_findings_of_real_reports_are_the_same_after_cleaning() -> None:
    reports = [text for source, text in real_reports(DATA) if source != "MedPix cases"][::12]
    if not reports:
        pytest.skip("no real reports beside the repository (../shared/data/reports)")
    changed = [text for text in reports if find(text) != find(CLEANER.clean(text, "p").text)]
    assert not changed, changed[:1]


# --- commands ---------------------------------------------------------------------------------------------------------


def test_ingest_joins_cleaned_reports_to_the_cleaned_archive(tiny_hospital: Any, tmp_path: Path) -> None:
    studies = sorted(tiny_hospital.archive.iterdir())[:3]
    out, key = tmp_path / "clean.db", tmp_path / "site.key"
    call = [
        "ingest",
        *map(str, studies),
        "--reports",
        str(tiny_hospital.archive.parent / "messages"),
        "--out",
        str(out),
    ]
    call += ["--deidentify", "--key", str(key), "--workers", "0"]
    assert main(call) == 0
    with sqlite3.connect(out) as db:
        rows = db.execute("SELECT study_uid, text, accession, source FROM reports").fetchall()
        uids = {uid for (uid,) in db.execute("SELECT study_uid FROM studies")}
        dump = "\n".join(db.iterdump())
    assert {row[0] for row in rows} == uids
    assert len(rows) == 3
    assert all(row[3].startswith("report-") for row in rows)
    truth = [json.loads(line) for line in (tiny_hospital.truth / "studies.jsonl").read_text().splitlines()]
    for study in truth:
        assert study["accession"] not in dump
        assert study["study_uid"] not in dump
    assert "SIM4-" not in dump
    assert str(tiny_hospital.archive.parent / "messages") not in dump
    assert main(call) == 0


def test_a_table_is_cleaned_row_by_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = write_key(tmp_path)
    tags = study_tags()
    film(tmp_path / "in" / "1.dcm", tags)
    table = tmp_path / "Zorvath.csv"
    with table.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["PatientID", "AccessionNumber", "findings", "Cardiomegaly", "Comment", "StudyDate"])
        writer.writerow([tags.patient_id, "ACC-5512", "Seen 04/05/2021 by Dr. Bright.", "1", "ask Mary", "20210405"])
        writer.writerow(["99-1", "ACC-9", "=Zorvath is unknown here, no effusion.", "0", "", ""])
    call = ["deidentify", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--reports", str(table)]
    assert main([*call, "--column", "findings"]) == 1
    assert "--reports needs --key FILE" in capsys.readouterr().err
    assert main([*call, "--column", "findings", "--key", str(key), "--workers", "0"]) == 0
    assert "columns left out: Comment" in capsys.readouterr().out
    written = list((tmp_path / "out" / "reports").glob("report-*.csv"))
    rows = list(csv.DictReader(written[0].open(encoding="utf-8", newline="")))
    image = outputs(tmp_path / "out")[0]
    assert rows[0]["PatientID"] == image.PatientID
    assert rows[0]["AccessionNumber"] == image.AccessionNumber
    assert rows[0]["StudyDate"] == image.StudyDate
    moved = dt.datetime.strptime(image.StudyDate, "%Y%m%d")
    assert re.fullmatch(rf"Seen {moved:%m/%d/%Y} by Dr\. [A-Z]\w+\.", rows[0]["findings"])
    assert "Bright" not in rows[0]["findings"]
    assert [row["Cardiomegaly"] for row in rows] == ["1", "0"]
    assert rows[1]["findings"].startswith("'="), "no spreadsheet runs it as a formula"
    assert "Zorvath" not in rows[1]["findings"]


def test_messages_become_lines_that_ingest_reads(tiny_hospital: Any, tmp_path: Path) -> None:
    studies = sorted(tiny_hospital.archive.iterdir())[:2]
    key = write_key(tmp_path)
    call = ["deidentify", *map(str, studies), "--out", str(tmp_path / "out"), "--key", str(key), "--workers", "0"]
    assert main([*call, "--reports", str(tiny_hospital.archive.parent / "messages")]) == 0
    lines = (tmp_path / "out/reports/reports.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) >= 2, "other visits of the same patients are theirs too"
    audit = json.loads((tmp_path / "out/reports/reports_audit.json").read_text(encoding="utf-8"))
    assert audit["written"] == {"reports.jsonl": len(lines)}
    assert audit["refused"] == {"no-study": 24 - len(lines)}
    catalog = tmp_path / "c.db"
    folders = [str(path) for path in (tmp_path / "out").iterdir() if path.is_dir() and path.name != "reports"]
    lines_file = str(tmp_path / "out/reports/reports.jsonl")
    assert main(["ingest", *folders, "--reports", lines_file, "--out", str(catalog), "--workers", "0"]) == 0
    with sqlite3.connect(catalog) as db:
        assert db.execute("SELECT COUNT(*) FROM reports").fetchone() == (2,)
