from __future__ import annotations

import re
import time
from importlib import resources
from pathlib import Path

import pytest

from reports.findings import find
from reports.labels import label, scheme_names
from reports.lexicon import lexicon
from reports.lexicon_file import MAX_BYTES, LexiconError, check, read_yaml
from reports.lexicon_pattern import MAX_LENGTH, pattern_fault


@pytest.fixture
def example(repository: Path, tmp_path: Path) -> Path:
    """The file that docs/lexicon.md shows."""
    page = (repository / "docs" / "lexicon.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    path = tmp_path / "hospital.yaml"
    path.write_text(block, encoding="utf-8")
    return path


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_platforms_own_lexicon_obeys_the_rules() -> None:
    data = resources.files("reports").joinpath("lexicon.yaml").read_bytes()
    book = read_yaml(data, "lexicon.yaml")
    check(book, "lexicon.yaml", {})


def test_the_example_of_the_documentation_adds_words_findings_and_a_scheme(example: Path) -> None:
    book = lexicon(extra=example)
    assert [f.name for f in find("Small pleural-wetness on the left.", book)] == ["pleural effusion"]
    (silicosis,) = find("No silicotic changes in the left lung.", book)
    assert (silicosis.name, silicosis.status, silicosis.side) == ("silicosis", "absent", None)
    (hint,) = find("Eggshell calcification.", book)
    assert (hint.name, hint.status) == ("silicosis", "uncertain")
    assert find("Referred to the silicosis clinic.", book) == ()
    assert {f.name for f in find("Anthracosilicosis.", book)} == {"silicosis", "scarring"}
    assert label("Recesses are free.", "open", book)["pleural effusion"] == 0
    assert find("Peritoneal mesothelioma.", book) == ()
    assert scheme_names("chest-round", book) == ("Dust", "Fluid")
    assert label("Silicosis. No edema, no effusion.", "chest-round", book) == {"Dust": 1, "Fluid": 0}


def test_a_new_finding_counts_in_the_schemes_of_others(example: Path) -> None:
    book = lexicon(extra=example)
    assert label("Silicosis.", "chexpert14", book)["Lung Opacity"] == 1
    assert label("Silicotic nodules.", "nih14", book)["Nodule"] == 1
    assert label("Silicotic changes.", "nih14", book)["Nodule"] is None


def test_parents_and_implied_findings_act_on_labels_and_not_on_findings(example: Path) -> None:
    book = lexicon(extra=example)
    text = "Possible silicosis. Pleural mass."
    labels = label(text, "open", book)
    assert (labels["silicosis"], labels["lung opacity"]) == (-1, -1)
    assert (labels["pleural lesion"], labels["mesothelioma"]) == (1, 1)
    assert {f.name for f in find(text, book)} == {"silicosis", "pleural lesion"}
    assert label("No lung opacity.", "open", book)["silicosis"] == 0
    assert label("No silicosis.", "open", book)["lung opacity"] is None


def test_the_platforms_lexicon_stays_as_it_is(example: Path) -> None:
    lexicon(extra=example)
    assert find("Silicosis.") == ()
    assert "silicosis" not in scheme_names("open")


def test_a_known_finding_can_leave_a_scheme(tmp_path: Path) -> None:
    book = lexicon(extra=write(tmp_path, "findings: {pneumonia: {nih: }}\n"))
    assert label("Pneumonia.", "nih14", book)["Pneumonia"] is None
    assert label("Pneumonia.", "chexpert14", book)["Pneumonia"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", r"own\.yaml: found a list, expected a mapping with some of findings"),
        ("", r"own\.yaml: found nothing, expected a mapping"),
        ("findings: {a: [}\n", r"own\.yaml: no YAML in UTF-8"),
        ("finding: {}\n", r"unknown key 'finding' \(did you mean 'findings'\?\)"),
        ("findings:\n  a: {word: [b]}\n", r"findings > a: unknown key 'word' \(did you mean 'words'\?\)"),
        ("findings:\n  a: {words: [b]}\n  a: {words: [c]}\n", r'line 3: "a" stands twice \(first in line 2\)'),
        ("findings:\n  a: &x {words: [b]}\n  c: *x\n", r"line 3: an alias \(\*\); write the value out"),
        ("findings:\n  Silicosis: {words: [b]}\n", r"findings > Silicosis: the name of a finding is lower-case words"),
        ("findings:\n  a: {sided: true}\n", r"findings > a: no words; a new finding needs `words`"),
        ("findings:\n  a: {words: b}\n", r"findings > a > words: found text, expected a list"),
        ("findings:\n  a: {words: [7]}\n", r"findings > a > words: found 7, expected words"),
        ("findings:\n  a: {words: [b], sided: 3}\n", r"> sided: found 3, expected true or false"),
        ("findings:\n  a: {say: ['b(']}\n", r"> say: 'b\(': no regular expression \(missing \)"),
        ("findings:\n  a: {say: ['(b)']}\n", r"it has a capturing group \( \); write \(\?: \) instead"),
        ("findings:\n  a: {say: ['b*']}\n", r"it matches where nothing stands"),
        ("findings:\n  a: {say: ['B']}\n", r"it has a capital letter"),
        ("findings:\n  a: {words: [b], parents: [lung opacty]}\n", r"no finding 'lung opacty' \(did you mean 'lung op"),
        ("findings:\n  a: {words: [b], chexpert: edema}\n", r"> chexpert: no label 'edema' \(did you mean 'Edema'\?\)"),
        ("findings:\n  a: {words: [b], nih: {label: Mass}}\n", r"> nih: said missing; expected label, said"),
        ("findings:\n  a: {words: [b], parents: [c]}\n  c: {words: [d], parents: [a]}\n", r"a circle, a > c > a"),
        ("joint: [{say: b, names: [edema]}]\n", r"joint > 1 > names: no finding 'edema'"),
        ("normal: {a: {subject: b}}\n", r"normal > a: predicate, rules_out missing"),
        ("schemes: {nih14: {}}\n", r'the platform has a scheme "nih14"; choose another name'),
        ("schemes: {mine: {A: [edema]}}\n", r"schemes > mine > A: no finding 'edema'"),
    ],
)
def test_a_file_that_breaks_a_rule_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(LexiconError, match=message):
        lexicon(extra=write(tmp_path, text))


def test_a_file_that_is_too_large_or_no_text_is_refused() -> None:
    with pytest.raises(LexiconError, match="more than a lexicon may have"):
        read_yaml(b"#" * (MAX_BYTES + 1), "own.yaml")
    with pytest.raises(LexiconError, match="no YAML in UTF-8"):
        read_yaml(b"\xff\xfe\x00", "own.yaml")
    with pytest.raises(LexiconError, match="no YAML in UTF-8"):
        read_yaml(b"!!python/object/apply:os.system ['true']", "own.yaml")


@pytest.mark.parametrize(
    "pattern", ["(?:a+)+b", r"(?:\w+\s*)+x", "(?:lung|lung\\w*)+ nodule", "(?:a|a)*b", r"lung (?:\w*)*\d", "(?:.*){9}z"]
)
def test_expressions_whose_time_grows_without_bound_are_refused_quickly(pattern: str) -> None:
    begun = time.perf_counter()
    assert "nested repeats do that" in (pattern_fault(pattern) or "")
    assert time.perf_counter() - begun < 5


def test_honest_expressions_pass() -> None:
    assert pattern_fault(r"silicotic (?:\w+ ){0,3}nodules?") is None
    assert pattern_fault("a" * (MAX_LENGTH + 1)) == f"{MAX_LENGTH + 1} characters, expected at most {MAX_LENGTH}"
