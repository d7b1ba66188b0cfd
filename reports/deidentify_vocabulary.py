"""Which words of a report name nobody: English, radiology, eponyms, products, abbreviations; and which name people.

A word that is in none of these lists and stands like a proper noun is taken for one. So a name needs no dictionary,
and a list of names is needed only where a name is also a word ("Brown", "Long").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from volumes.deidentify_text import folded, is_known_word

_HERE = Path(__file__).parent
_PREFIXES = re.compile(
    r"(?:abdomino|acro|adeno|aero|angio|ante|anti|antero|arterio|arthro|atlanto|auto|bi|bio|brachio|broncho|calci|"
    r"cardio|centi|cephalo|cerebro|cervico|cheilo|chole|chondro|circum|contra|costo|counter|cranio|crypto|cysto|de|"
    r"dextro|dis|dys|echo|ecto|electro|endo|entero|epi|esophago|extra|fibro|gastro|glomerulo|hemi|hemo|haemo|hepato|"
    r"hetero|homo|hydro|hyper|hypo|iatro|idio|ileo|ilio|immuno|infra|inter|intra|ischio|iso|juxta|kypho|leuko|levo|"
    r"lipo|litho|lobo|lumbo|lympho|macro|mal|mammo|maxillo|medio|mega|meso|meta|micro|mid|milli|mis|mono|muco|multi|"
    r"musculo|myelo|myo|naso|neo|nephro|neuro|non|occipito|oculo|oesophago|omni|oro|osteo|oto|over|pan|para|"
    r"parieto|peri|phlebo|pleura|pleuro|pneumo|poly|post|postero|pre|pro|pseudo|psycho|pulmo|pyelo|pyo|quadri|radio|"
    r"re|reno|retro|rhino|sacro|sarco|sclero|scolio|semi|sero|sino|spleno|spondylo|stereo|sterno|sub|super|supra|syn|"
    r"tele|temporo|thoraco|thrombo|thyro|trabeculo|tracheo|trans|tri|ultra|un|under|uni|uretero|utero|vaso|veno|"
    r"ventriculo|vertebro|vesico|xantho)-?"
)
_ENDINGS = re.compile(
    r"(?:itis|itides|osis|oses|otic|oma|omas|omata|omatous|omatosis|ectomy|ectomies|ectomized|ostomy|otomy|plasty|"
    r"pathy|pathies|pathic|graphy|graphic|graphically|graph|gram|grams|scopy|scopic|scopically|emia|aemia|emic|uria|"
    r"algia|pnea|pnoea|plegia|plegic|trophy|trophic|plasia|plastic|sclerosis|sclerotic|stenosis|stenotic|ectasis|"
    r"ectasia|ectasias|ectases|ectatic|centesis|megaly|malacia|cele|celes|rrhage|rrhagic|rrhea|genic|genous|lytic|"
    r"lysis|cytic|cytosis|blastic|blastoma|matous|aceous|icular|ational|ization|isation|ized|ised|ication|"
    r"metric|metrically|intense|intensity|intensities|dense|density|densities|echoic|echogenic|echogenicity|lucent|"
    r"lucency|lucencies|opaque|coccus|coccal|bacter|bacterium|virus|viral|phage|phagia|phasia|lithiasis|liths?|"
    r"penia|penic|philia|philic|oidal|ectopic|ptysis|thorax|pericardium|mediastinum|mediastinal|peritoneum|"
    r"peritoneal|vascular|pulmonary|cardial|pleural|vertebral|parenchymal|bronchial|hilar|septal|lobar|nodular|"
    r"mab|nib|cillin|mycin|micin|floxacin|sartan|statin|olol|azole|prazole|tidine|platin|rubicin|taxel|parin|caine|"
    r"zepam|zolam|barbital|cycline|oxacin|gliptin|gliflozin|setron|triptan|dronate|semide|lamide|thiazide|"
    r"sporin|zepine|triptyline)"
)
_ROMAN = re.compile(r"(?:X{0,3}(?:IX|IV|V?I{1,3}|V)|X{1,3}|[IVX]{1,4}[ab]?)")
_ONE_OFF_FROM = 8  # letters; a shorter word is one edit away from too many others


@dataclass(frozen=True)
class Names:
    """Lists of deidentify_names.json, folded to lower case without accents where they are compared."""

    female: frozenset[str]
    male: frozenset[str]
    family: frozenset[str]
    eponyms: frozenset[str]
    also_family: frozenset[str]
    allowed: frozenset[str]
    terms: frozenset[str]
    states: frozenset[str]
    state_codes: frozenset[str]
    acronyms: frozenset[str]
    surrogate_female: tuple[str, ...]
    surrogate_male: tuple[str, ...]
    surrogate_family: tuple[str, ...]
    surrogate_places: tuple[str, ...]

    def is_given(self, word: str) -> bool:
        """Whether a word is a common given name."""
        low = folded(word)
        return low in self.female or low in self.male

    def is_family(self, word: str) -> bool:
        """Whether a word is a common family name, or made of two with a hyphen."""
        low = folded(word).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        return low in self.family or ("-" in low and all(part in self.family for part in low.split("-")))

    def is_name(self, word: str) -> bool:
        """Whether a word is a common name of a person."""
        return self.is_given(word) or self.is_family(word)


@cache
def _lists() -> dict[str, Any]:
    listed: dict[str, Any] = json.loads((_HERE / "deidentify_names.json").read_text(encoding="utf-8"))
    return listed


@cache
def word_list(key: str) -> frozenset[str]:
    """One list of deidentify_names.json, as it is written there."""
    return frozenset(word for line in _lists()[key] for word in line.split())


@cache
def names() -> Names:
    """The lists, read once."""
    listed = _lists()

    def words(*keys: str) -> frozenset[str]:
        return frozenset(folded(word) for key in keys for line in listed[key] for word in line.split())

    def plain(key: str) -> tuple[str, ...]:
        return tuple(word for line in listed[key] for word in line.split())

    return Names(
        words("female"), words("male"), words("family"), words("eponyms"), words("also_family"),
        words("countries", "months", "products", "titles"), words("terms"),
        frozenset(word.replace("+", " ") for word in plain("states")), frozenset(plain("state_codes")),
        frozenset(plain("acronyms")), plain("surrogate_female"), plain("surrogate_male"), plain("surrogate_family"),
        plain("surrogate_places"),
    )  # fmt: skip


@cache
def _english() -> frozenset[str]:
    listed = json.loads((_HERE / "deidentify_words.json").read_text(encoding="utf-8"))
    found: set[str] = set()
    for line in listed["words"]:
        start, *rests = line.split()
        found.update(start + ("" if rest == "-" else rest) for rest in rests)
    return frozenset(found)


@cache
def _clinical() -> frozenset[str]:
    """Words of the lexicon of findings, which no rule may take away."""
    path = _HERE / "lexicon.yaml"
    return frozenset(re.findall(r"[a-z]{3,}", path.read_text(encoding="utf-8").lower()))


@cache
def is_word(word: str) -> bool:
    """Whether a word without hyphens, in any case, is an English or medical word, as listed or by how it is made."""
    low = folded(word).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").removesuffix("'s").strip("'")
    if word.isascii() or low in word_list("borrowed"):
        return _listed(low) or _made(low)
    return False  # no English word has accents: "Máxima" is none, though "maxima" is


def is_plain_english(word: str) -> bool:
    """Whether a word is in the list of English and in none of medicine."""
    low = folded(word)
    english = low in _english() or (low.endswith("s") and low[:-1] in _english())
    return english and low not in names().terms and low not in _clinical() and not low.endswith(("ology", "ics"))


def _listed(low: str) -> bool:
    english = _english()
    if len(low) < 2 or low in english or low in names().terms or low in _clinical() or is_known_word(low):
        return True
    if low.endswith("s") and (low[:-1] in english or (low.endswith("es") and low[:-2] in english)):
        return True
    stems = [low.removesuffix(ending) for ending in ("ing", "ed", "ly") if low.endswith(ending)]
    return any(len(stem) >= 4 and (stem in english or stem + "e" in english or is_known_word(stem)) for stem in stems)


def _made(low: str) -> bool:
    """A compound of medicine: a known prefix before a word, or an ending that only its terms have."""
    ending = _ENDING_AT_END.search(low)
    if ending is not None and ending.start() >= 3 and len(low) >= 7:
        return True
    return _compound(low)


def _compound(low: str, least: int = 4) -> bool:
    prefix = _PREFIXES.match(low)
    while prefix is not None and prefix.end() > 0:
        rest = low[prefix.end() :]
        if len(rest) >= max(least, 4 if prefix.end() > 3 else 5) and _listed(rest):
            return True
        low, prefix = rest, _PREFIXES.match(rest) if len(rest) > 6 else None
    return False


_ENDING_AT_END = re.compile(rf"{_ENDINGS.pattern}$")


@cache
def is_misspelt(word: str) -> bool:
    """Whether a long word is one edit away from a listed one or a compound: "mediastimal", "thorocolumbar"."""
    low = folded(word)
    if not _ONE_OFF_FROM <= len(low) <= 40 or not low.isalpha():
        return False
    return any(_is_medical(edit) or edit in names().allowed or _compound(edit, 6) for edit in _edits(low))


def _is_medical(low: str) -> bool:
    return low in names().terms or low in _clinical() or is_known_word(low)


def _edits(low: str) -> Iterator[str]:
    """Every word one letter away: one left out, two swapped, one other, one more."""
    for i in range(len(low) + 1):
        yield low[:i] + low[i + 1 :]
        if 0 < i < len(low):
            yield low[: i - 1] + low[i] + low[i - 1] + low[i + 1 :]
        for letter in ascii_lowercase:
            if i < len(low):
                yield low[:i] + letter + low[i + 1 :]
            yield low[:i] + letter + low[i:]


def is_abbreviation(word: str) -> bool:
    """Whether capitals are read as an abbreviation: listed, a Roman number, up to three letters, or few vowels."""
    return len(word) <= 3 or word in names().acronyms or word.rstrip("s") in names().acronyms or is_roman(word)


def is_roman(word: str) -> bool:
    """Whether a word is a Roman number, with a letter of a stage perhaps ("IIIb")."""
    return _ROMAN.fullmatch(word) is not None


def is_eponym(word: str) -> bool:
    """Whether a word is a name that medicine has made its own: "Hodgkin", "Swan-Ganz", "Chilaiditi"."""
    low = folded(word).replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").removesuffix("'s")
    listed = names().eponyms
    parts = low.split("-")
    return low in listed or (any(p in listed for p in parts) and all(p in listed or is_word(p) for p in parts))


def is_allowed(word: str) -> bool:
    """Whether a capitalized word may stay anywhere: countries, peoples, months, days, products."""
    return folded(word).removesuffix("'s") in names().allowed
