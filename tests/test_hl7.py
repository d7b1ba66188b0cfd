"""HL7 v2 as hospitals write it: character sets, escapes, batches, several orders, and statuses line by line."""

from __future__ import annotations

import base64

import pytest
from report_files import RTF, batch, cda, hl7, pdf, result

from reports.hl7 import read_hl7
from reports.hl7_text import Delimiters, parse, unescape
from reports.sourced import SourcedReport
from volumes.instance import Refusal, patient_key

MARKS = Delimiters("|", "^", "~", "\\", "&")


def read(data: bytes, encoding: str = "") -> list[SourcedReport | Refusal]:
    return list(read_hl7(data, "a.hl7", encoding))


def one(data: bytes, encoding: str = "") -> SourcedReport:
    (found,) = read(data, encoding)
    assert isinstance(found, SourcedReport), found
    return found


def test_a_result_gives_its_text_links_times_modality_and_all_pseudonyms() -> None:
    report = one(result("OBX|1|TX|X||Jane Doe: nodule."))
    assert report.text == "[name]: nodule."
    assert (report.accession, report.modality, report.status) == ("ACC1", "CT", "final")
    assert (report.performed, report.issued) == ("2024-01-02T03:04:00", "2024-01-02T04:00:00")
    assert (report.patient_key, report.other_keys) == (patient_key("P7"), (patient_key("X9"),))


@pytest.mark.parametrize(
    ("escaped", "plain"),
    [
        (r"5 \T\ 6 \F\ \S\ \R\ \E\ ", "5 & 6 | ^ ~ \\ "),
        (r"a\.br\b\.sp\c\.sp+2\d", "a\nb\nc\nd"),
        (r"\H\bold\N\ \.in+4\indent\.sk3\x", "bold indent x"),
        (r"\XC3A4\ and \XE4\ ", "ä and ä "),  # UTF-8 as declared, and the Latin-1 that some systems write
        (r"C:\reports\ and \.br\ ", "C:\\reports\\ and \n "),  # backslashes that escape nothing
        (r"\Zlocal\ \Q\ \X4\ ", r" \Q\ \X4\ "),
    ],
)
def test_escapes_are_undone_and_other_backslashes_stay(escaped: str, plain: str) -> None:
    assert unescape(escaped, MARKS) == plain


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("8859/1", "latin-1", "Größe 5 mm"),
        ("8859/5", "iso8859-5", "Лёгкие без изменений"),
        ("8859/15", "iso8859-15", "Cœur normal, 5 €"),
        ("UNICODE UTF-8", "utf-8", "胸部X線"),
        ("GB 18030-2000", "gb18030", "肺部未见异常"),
        ("KS X 1001", "euc_kr", "폐 결절"),
        ("BIG-5", "big5", "肺部許功蓋正常"),  # second bytes of these characters are backslashes and bars
        ("~ISO IR87", "iso2022_jp_2", "右肺に結節"),
    ],
)
def test_msh_18_decides_how_bytes_become_text(declared: str, codec: str, text: str) -> None:
    assert one(result(f"OBX|1|TX|X||{text}", charset=declared, encoding=codec)).text == text


@pytest.mark.parametrize("codec", ["utf-16", "utf-8-sig", "utf-32"])
def test_a_byte_order_mark_states_the_encoding(codec: str) -> None:
    assert one(result("OBX|1|TX|X||Größe").decode().encode(codec)).text == "Größe"


def test_text_in_another_character_set_than_stated_is_refused_with_the_place() -> None:
    (refusal,) = read(result("OBX|1|TX|X||Größe", charset="ASCII"))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "undecodable-text"
    assert "that is not ascii (MSH-18 'ASCII')" in refusal.message


def test_several_orders_of_one_accession_number_are_one_report_and_of_two_are_two() -> None:
    obr = "OBR|{}|P|F|X" + "|" * 14 + "{}"
    same = hl7("PID|1||P", obr.format(1, "A"), "OBX|1|TX|X||chest", obr.format(2, "A"), "OBX|1|TX|X||abdomen")
    assert one(same).text == "chest\n\nabdomen"
    repeated = hl7("PID|1||P", obr.format(1, "A"), "OBX|1|TX|X||chest", obr.format(2, "A"), "OBX|1|TX|X||chest")
    assert one(repeated).text == "chest"
    empty = hl7("PID|1||P", obr.format(1, "A"), "OBX|1|TX|X||chest", obr.format(2, "A"))
    assert one(empty).text == "chest"
    two = read(hl7("PID|1||P", obr.format(1, "A"), "OBX|1|TX|X||chest", obr.format(2, "B"), "OBX|1|TX|X||knee"))
    assert [(r.accession, r.text) for r in two if isinstance(r, SourcedReport)] == [("A", "chest"), ("B", "knee")]


@pytest.mark.parametrize(
    ("obr_25", "letters", "status", "text"),
    [
        ("F", "FF", "final", "one\ntwo"),
        ("P", "PP", "preliminary", "one\ntwo"),
        ("", "PP", "preliminary", "one\ntwo"),
        ("", "FF", "final", "one\ntwo"),
        ("F", "FC", "corrected", "one\ntwo"),
        ("C", "FF", "corrected", "one\ntwo"),
        ("A", "FF", "addendum", "one\ntwo"),
        ("F", "BB", "addendum", "one\ntwo"),
        ("F", "FD", "final", "one"),
        ("F", "WF", "final", "two"),
        ("F", "DD", "cancelled", ""),
        ("C", "WW", "cancelled", ""),
        ("X", "FF", "cancelled", "one\ntwo"),
    ],
)
def test_the_status_is_that_of_the_order_and_of_its_lines(obr_25: str, letters: str, status: str, text: str) -> None:
    lines = [
        f"OBX|{n}|TX|X||{word}||||||{letter}"
        for n, (word, letter) in enumerate(zip(("one", "two"), letters, strict=True))
    ]
    report = one(result(*lines, status=obr_25))
    assert report.status == status
    assert report.text == ("" if status == "cancelled" else text)


def test_a_message_of_nothing_but_an_addendum_is_one() -> None:
    report = one(result("OBX|1|TX|71020&ADT^X||Compared with older films.", status="C"))
    assert (report.status, report.text) == ("addendum", "ADDENDUM: Compared with older films.")


def test_documents_inside_obx_are_read_by_their_type() -> None:
    def attached(kind: str, data: bytes, coding: str = "Base64") -> str:
        body = base64.b64encode(data).decode() if coding == "Base64" else data.hex()
        return one(result(f"OBX|1|ED|X||RIS^{kind}^{coding}^{body}")).text

    assert attached("text^html", b"<p>5 &lt; 6</p><p>mm</p>") == "5 < 6\nmm"
    assert attached("text^rtf", RTF) == "Kleiner Herd links,\n6 mm groß."
    assert attached("text^plain", b"plain", "Hex") == "plain"
    assert "FINDINGS: A nodule in the left lung." in attached("application^xml", cda())
    assert attached("Application^PDF", pdf("No effusion.")) == "No effusion."
    assert attached("^Octet-stream", pdf("No effusion.")) == "No effusion."


def test_a_batch_is_counted() -> None:
    messages = [result("OBX|1|TX|X||one"), result("OBX|1|TX|X||two", accession="ACC2")]
    assert [r.text for r in read(batch(*messages)) if isinstance(r, SourcedReport)] == ["one", "two"]
    refusal, *reports = read(batch(*messages, told=3))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "incomplete-batch"
    assert "found 2 message(s); expected the 3 that BTS-1 counts" in refusal.message
    assert len(reports) == 2
    cut = batch(*messages).partition(b"BTS")[0]
    assert [r.reason for r in read(cut) if isinstance(r, Refusal)] == ["incomplete-batch"]


def test_a_report_of_patient_modality_and_time_needs_no_number() -> None:
    obr = "OBR|1|||X|||202401020304|||||||||||||||||CT|F"
    report = one(hl7("PID|1||P7", obr, "OBX|1|TX|X||text"))
    assert (report.key, report.modality, report.can_be_placed) == ("", "CT", True)
    (refusal,) = read(hl7("PID|1||P7", obr.replace("|CT|", "|RAD|"), "OBX|1|TX|X||text"))
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "no-link"


@pytest.mark.parametrize("head", [b"MSH|||||||||ORU^R01\r", b"MSH|^^^^|a\r", b"MSH\x07a\r", b"MSH|^~"])
def test_broken_heads_are_refused(head: bytes) -> None:
    (refusal,) = read(head)
    assert isinstance(refusal, Refusal)
    assert refusal.reason in ("damaged-message", "not-hl7", "not-a-result", "no-report")


def test_segments_keep_the_numbers_of_the_standard() -> None:
    message = parse(hl7("PID|1||P7^^^H"))
    assert (message.field(message.segments[0], 9), message.field(message.segments[0], 1)) == ("ORU^R01", "|")
    assert message.component(message.field(message.segments[1], 3), 4) == "H"
    assert message.component('""', 1) == '""'
    assert message.field(["PID", '""'], 1) == ""
