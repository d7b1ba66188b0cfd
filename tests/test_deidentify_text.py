"""Free text keeps what describes the image and loses whoever is named in it; keys and dates behind it."""

from __future__ import annotations

import datetime
import stat
import time
from pathlib import Path

import pytest

from volumes.deidentify_keys import Pseudonyms, is_date, is_time, read_key, shift_date, shift_datetime
from volumes.deidentify_profile import Profile, action_of, resolve, safe_private, type_of
from volumes.deidentify_text import Identifiers, TextCleaner, identifiers_of, is_known_code, is_known_word
from volumes.volume import VolumeError

PSEUDONYMS = Pseudonyms(b"a key that is long enough")
SHIFT = datetime.timedelta(days=-700)


def cleaner(identifiers: Identifiers | None = None, shift: datetime.timedelta | None = SHIFT) -> TextCleaner:
    found = identifiers or identifiers_of(["Kaufman^Scott", "MRN-004217", "O'Brien^Li"], ["St. Ursula Chest Clinic"])
    return TextCleaner(found, PSEUDONYMS.uid, shift)


@pytest.mark.parametrize(
    "text",
    [
        "CT Thorax w/o contrast 5.0 B30f",
        "t1_mprage_sag_p2_iso",
        "Head 3.0 H31s (Adult)",
        "AXIAL^HEAD",
        "Chest PA and lateral, 2 views",
        "No pleural effusion. No pneumothorax.",
        "L5-S1, 120 kV",
        "REMOVED",
    ],
)
def test_descriptions_of_images_stay_as_they_are(text: str) -> None:
    assert cleaner().free(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Chest of Scott Kaufman", "Chest of"),
        ("KAUFMAN_CHEST_AP", "CHEST_AP"),
        ("kaufmann chest, Kaufmn?", "chest"),
        ("SCOTT^KAUFMAN", ""),
        ("MRN004217 thorax", "thorax"),
        ("Patient 0042178 chest", "Patient chest"),
        ("Reviewed with Dr. Jane Holme: normal chest", "with normal chest"),
        ("Mary Smith, M.D. chest", "chest"),
        ("chest, phone +49 30 1234567", "chest, phone"),
        ("mail anna@ursula.example chest", "chest"),
        ("Clinic of Ursula: chest", "Clinic of chest"),
        ("O'Brien chest", "chest"),
        ("Müller Thorax", "Thorax"),
        ("王小东 Thorax", "Thorax"),
        ("DOB 07/22/1943 chest", "chest"),
        ("in 1943, thorax", "in thorax"),
        ("Zürcher Spital Thorax", "Thorax"),
    ],
)
def test_whoever_is_named_goes(text: str, left: str) -> None:
    assert cleaner().free(text) == left


def test_dates_move_and_uids_are_mapped_inside_text() -> None:
    uid = "1.2.826.0.1.3680043.8.1"
    found = cleaner().free(f"compared to 2024-01-31, 31.01.2024, 20240131 and {uid}")
    assert found == f"compared to 2022-03-02, 02.03.2022, 20220302 and {PSEUDONYMS.uid(uid)}"
    assert cleaner(shift=None).free("compared to 2024-01-31") == "compared to"
    assert cleaner().free("SOP 1.2.840.10008.5.1.4.1.1.2").endswith(" 1.2.840.10008.5.1.4.1.1.2")


def test_names_of_products_lose_identifiers_only() -> None:
    assert cleaner().technical("SOMATOM go.Top VA20A") == "SOMATOM go.Top VA20A"
    assert cleaner().technical("syngo CT kaufman 123456789") == "syngo CT"


def test_a_patient_called_like_a_word_of_radiology_leaves_it() -> None:
    named = cleaner(identifiers_of(["Long^Chest"]))
    assert named.free("chest AP, long axis") == "AP, axis"
    assert is_known_code("CHEST", named.identifiers), "a defined term names nobody"


@pytest.mark.parametrize("value", ["ORIGINAL", "SCREEN SAVE", "M_FFE", "YBR_FULL_422", "HFS", "CSA MPR", "T2_STAR"])
def test_defined_terms_are_known(value: str) -> None:
    assert is_known_code(value)


@pytest.mark.parametrize("value", ["KAUFMAN", "SMITH JOHN", "004217889", "王", "ORIGINAL KAUFMAN"])
def test_names_are_no_defined_terms(value: str) -> None:
    assert not is_known_code(value)


def test_common_names_of_people_are_not_in_the_word_list() -> None:
    for name in ("smith", "john", "maria", "mueller", "rose", "white", "victoria"):
        assert not is_known_word(name)


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    first = read_key(path)
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_key(path) == first
    path.chmod(0o644)
    with pytest.raises(VolumeError, match=r"has mode 644: others may read it\. Expected 600"):
        read_key(path)
    short = tmp_path / "short.key"
    short.write_text("123")
    short.chmod(0o600)
    with pytest.raises(VolumeError, match="holds 3 bytes; expected at least 16"):
        read_key(short)


def test_pseudonyms_are_the_same_for_a_key_and_unlike_for_another() -> None:
    other = Pseudonyms(b"another key, long enough")
    assert PSEUDONYMS.uid("1.2.3.4") == PSEUDONYMS.uid("1.2.3.4 ") != other.uid("1.2.3.4")
    assert len(PSEUDONYMS.uid("1.2.3.4")) == 44
    assert PSEUDONYMS.uid("1.2.840.10008.1.2") == "1.2.840.10008.1.2"
    assert len(PSEUDONYMS.identifier("patient", "0042")) == 16
    assert PSEUDONYMS.identifier("patient", "0042") != PSEUDONYMS.identifier("accession", "0042")
    assert PSEUDONYMS.identifier("patient", " ") == ""
    assert "key" not in repr(PSEUDONYMS)
    shifts = {PSEUDONYMS.shift(str(number)).days for number in range(3000)}
    assert max(shifts) == -7
    assert min(shifts) == -3647
    assert all(days % 7 == 0 for days in shifts)
    assert len(shifts) > 500


def test_dates_move_by_whole_days_and_keep_time_and_zone() -> None:
    assert shift_date("20240229", datetime.timedelta(days=-366)) == "20230228"
    assert shift_date("2024.02.29", datetime.timedelta(days=-1)) == "20240228"
    assert shift_date("20230229", SHIFT) is None
    assert shift_datetime("20240301101500.25+0100", datetime.timedelta(days=-1)) == "20240229101500.25+0100"
    assert shift_datetime("2024", SHIFT) is None
    assert [is_date(v) for v in ("20240229", "20230229", "KAUFMAN", "202402")] == [True, False, False, True]
    assert [is_time(v) for v in ("101500", "1015", "101500.123456", "256000", "KAUFMAN")] == [
        True,
        True,
        True,
        False,
        False,
    ]


# --- the profile -----------------------------------------------------------------------------------------------------


def test_actions_follow_the_options() -> None:
    basic, full = Profile(dates="remove", descriptors=False), Profile(device=True, patient=True)
    assert action_of(0x00080020, basic) == "Z"
    assert action_of(0x00080020, full) == "C"
    assert action_of(0x00081030, basic) == "X"
    assert action_of(0x00181000, basic) == "X/Z/D"
    assert action_of(0x00181000, full) == "K"
    assert action_of(0x60023000, basic) == "X"
    assert action_of(0x00280010, full) is None


def test_types_decide_between_removal_emptying_and_dummies() -> None:
    ct, dx = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.1.1"
    assert type_of(ct, "", "PatientName") == "2"
    assert type_of(ct, "", "SOPInstanceUID") == "1"
    assert type_of(dx, "", "StationName") == "3"
    assert type_of(ct, "ReferencedImageSequence", "ReferencedSOPInstanceUID") == "1"
    assert [resolve("X/Z/D", kind) for kind in ("1", "2", "3")] == ["dummy", "empty", "remove"]
    assert resolve("U", "1") == "uid"


def test_private_attributes_that_are_safe_have_a_known_owner() -> None:
    assert safe_private("Philips PET Private Group", 0x7053, 0x1000) == "DS"
    assert safe_private("Philips PET Private Group", 0x7053, 0x1001) == ""
    assert safe_private("SOMEBODY ELSE", 0x7053, 0x1000) == ""


@pytest.mark.parametrize(
    "unit", ["1", "12-", "a", "A-", "A ", "(", "_ ", "1.2.", "@", "Dr. ", "O'", "\ue000", "2020-01-01 "]
)
def test_texts_made_to_be_slow_are_cleaned_in_time(unit: str) -> None:
    started = time.perf_counter()
    cleaner().free(unit * (150_000 // len(unit)) + "x")
    assert time.perf_counter() - started < 5
    assert cleaner().free("chest " * 100_000) == "", "too long to be a description"
