"""Places and institutions in a report: streets, towns with their state or code, hospitals and practices."""

from __future__ import annotations

import re
from functools import cache

from reports.deidentify_spans import HIDDEN, Searched, Span
from reports.deidentify_vocabulary import is_abbreviation, is_allowed, is_eponym, is_word, names, word_list
from volumes.deidentify_text import is_known_word

_CAP = r"[A-ZÀ-ÖØ-Þ](?:[\w'’-]|\.(?=\w)){0,30}"
_STREET = (
    r"Street|St|Avenue|Ave|Boulevard|Blvd|Road|Rd|Drive|Dr|Lane|Ln|Way|Place|Pl|Terrace|Ter|Parkway|Pkwy|Highway|Hwy|"
    r"Circle|Cir|Square|Sq|Trail|Crescent|Cres|Close|Row|Alley|Turnpike|Court|Plaza|Mews|Gardens|Grove|Hill|Route|Rte"
)
_UNIT = (
    r"(?:,?\s{1,2}(?:Apt|Apartment|Suite|Ste|Unit|Floor|Fl|Flat|Room|Rm|No)\.?\s?#?\s?"
    r"(?=[\w-]{0,5}\d|[A-Z]\b)[\w-]{1,6}|,?\s?#\s?\w{1,6})?"
)
_ADDRESSES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?<![\w./-])\d{{1,6}}[A-Z]?(?:-\d{{1,5}})?\s{{1,2}}(?:(?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?\s)?"
        rf"(?:{_CAP}\s|\d{{1,3}}(?:st|nd|rd|th)\s){{1,4}}?(?:{_STREET})\b\.?{_UNIT}",
        rf"(?<![\w./-])\d{{1,6}}\s(?:[A-Z][A-Z'’.-]{{1,20}}\s){{1,3}}"
        rf"(?:STREET|ST|AVENUE|AVE|BOULEVARD|BLVD|ROAD|RD|DRIVE|LANE|LN|WAY|PLACE|PARKWAY|COURT)\b\.?{_UNIT}",
        r"\b[A-ZÄÖÜ][\wäöüß.-]{1,30}(?:straße|strasse|str\.|weg|platz|gasse|allee|ring|damm|"
        r"ufer)\s\d{1,4}\s?[a-z]?\b",
        r"\b[A-ZÄÖÜ][\wäöüß-]{1,30}(?:er|\s)(?:\s)?(?:Straße|Strasse|Str\.|Weg|Platz|Gasse|Allee|"
        r"Ring)\s\d{1,4}\s?[a-z]?\b",
        r"(?<![\w./-])\d{1,4}(?:\s?bis)?,?\s(?:[Rr]ue|[Aa]venue|[Bb]oulevard|[Pp]lace|[Cc]hemin|[Ii]mpasse)\s"
        rf"(?:(?:de|du|des|la|le|l['’]|d['’])\s?){{0,3}}(?:{_CAP}\s?){{1,3}}",
        r"\b(?:Calle|Avenida|Av\.|Paseo|Plaza|Via|Viale|Piazza|Corso|Rua|Largo|Carrera)\s"
        rf"(?:(?:de|del|della|dei|da|do|dos|la|las|los)\s){{0,2}}(?:{_CAP}\s?){{1,3}},?\s?(?:n[.ºo]\s?)?\d{{1,5}}\b",
        r"\bP\.?\s?O\.?\s?Box\s\d{1,7}\b",
    )
)
_ANY_STREET = re.compile(
    rf"(?<![\w./-])\d{{1,6}}[ \t](?P<n>(?:{_CAP}[ \t]){{1,3}}?)(?:{'|'.join(sorted(word_list('street_suffixes')))})\b"
    rf"{_UNIT}"
)
_LOWER_ADDRESS = re.compile(
    rf"(?<![\w./-])\d{{1,5}}\s(?:[a-z'’-]{{3,20}}\s){{1,2}}(?:street|avenue|ave|boulevard|blvd|road|parkway|"
    rf"drive)\b\.?"
    rf"(?!\s(?:of|test)){_UNIT}"
)
_ZIP = re.compile(
    rf"(?:\b(?:{_CAP}\s){{0,2}}{_CAP},\s{{0,2}}|{HIDDEN},?\s{{1,2}}|(?:\b(?i:zip|postal)\s?(?i:code)?:?\s))"
    r"(?:(?P<s>[A-Z][A-Za-z.]{1,3})\s)?(?P<z>\d{5}(?:-\d{4})?)(?![\w-])"
)
_ZIP_LABEL = re.compile(
    r"\b(?i:zip(?:\s?code)?|post(?:al)?\s?code|plz)\b\s?[:#]?\s?(?:is\s)?(?P<z>[A-Z0-9]{2,4}[ -]?\d?[A-Z0-9]{2,3})\b"
)
_FOREIGN_CODE = re.compile(  # right after a street or town
    rf",?\s?(?P<c>(?:[A-Z]{{1,2}}-)?\d{{4,5}}|[A-Z]{{1,2}}\d[A-Z\d]?\s?\d[A-Z]{{2}})"
    rf"(?:\s(?P<t>{_CAP}(?:\s(?:am|an|der|im|sur)\s{_CAP}|[\s-]{_CAP})?))?"
)
_BRITISH = re.compile(
    r"(?<![\w-])(?:[A-Z]{1,2}\d[A-Z]|[A-Z]{1,2}\d{1,2})\s\d(?!ST|ND|RD|TH|CM|MM)[ABD-HJLNP-UW-Z]{2}(?!\w)"
)
_CANADIAN = re.compile(r"(?<![\w-])(?!T\dN)[ABCEGHJ-NPRSTVXY]\d[A-Z]\s?\d[A-Z]\d(?!\w)")
_NOUN = (
    r"Hospitals?|Medical\s(?:Center|Centre|Group|College|School|Associates|Clinic|Arts|Plaza|Imaging)|Clinics?|"
    r"Infirmary|"
    r"Institute|Universit(?:y|ies)|Health\s?(?:System|Center|Centre|Care|Network|Partners|Services|Sciences|"
    r"Group|Plan)?|"
    r"Healthcare|Imaging(?:\s(?:Center|Centre|Associates|Group|Network|Services|Partners))?|"
    r"Radiology(?:\s(?:Associates|"
    r"Group|Partners|Consultants|Center|Centre|Services|Specialists|Department))?|Radiologists|"
    r"Nursing\s(?:Home|Facility|"
    r"Center)|Rehabilitation(?:\s(?:Center|Hospital|Institute))?|Rehab|Hospice|Sanatorium|(?:Cancer|Heart|"
    r"Trauma|Surgery|"
    r"Surgical|Care|Urgent\sCare|Children['’]?s|Women['’]?s|Diagnostic|Oncology|Dialysis|Pavilion|"
    r"Outpatient)\s(?:Center|"
    r"Centre|Hospital|Institute|Clinic|Facility)|Urgent\sCare|Pavilion|Foundation|Polyclinic|Laborator(?:y|"
    r"ies)|Pharmacy|"
    r"Orthop(?:a)?edics|Cardiology|Oncology|Family\s(?:Practice|Medicine|Health)|Physicians|Surgery\sCenter|College|"
    r"School|Academy|Church|Prison|Penitentiary|Correctional\s(?:Facility|Institution)|Jail|Airport|Barracks|"
    r"Corporation|Corp|Inc|LLC|Ltd|GmbH|Company|Senior\sLiving|Assisted\sLiving|Manor|Village|Memorial|Regional|"
    r"Klinik|Klinikum|Krankenhaus|Spital|Universitätsklinikum|Ziekenhuis|Sjukhus|Hastanesi|Policlinico"
)
_PART = rf"(?:(?:St|Mt|Ste|Dr)\.\s?)?{_CAP}"
_NAMED = re.compile(
    rf"(?<![\w'’-])(?P<n>(?:{_PART}[ \t]{{1,2}}(?:(?:the|de|la|du|and|&|for|del|di|"
    rf"von)[ \t]{{1,2}}){{0,3}}){{1,6}}?)(?P<i>{_NOUN})\b"
    rf"(?P<o>(?:[ \t](?:of|at|in|for)[ \t](?:the[ \t])?(?:{_CAP}(?:[ \t](?:of[ \t])?{_CAP}){{0,4}})){{0,2}})"
)
_OF = re.compile(
    rf"\b(?P<i>University(?:[ \t](?:Hospitals?|Clinic|Medical[ \t]Center))?|Hospital|Institute|College|Clinic|"
    rf"Diocese|City|Town|"
    rf"County|Hôpital|Hopital|Clinique|Clínica|Clinica|Ospedale|Policlinico|Klinikum|Universitätsklinikum|Klinik|"
    rf"Krankenhaus|Spital|Hospital[ \t]Clínico|Centro[ \t]Médico|Centre[ \t]Hospitalier)[ \t]"
    rf"(?P<n>(?:(?:of|de|du|des|la|le|les|del|della|di|San|Santa|St\.?|Ste\.?|Saint|Sankt|the|für|am|im|"
    rf"zum)[ \t]){{0,3}}{_CAP}"
    rf"(?:[ \t](?:de[ \t]|del[ \t]|di[ \t]|of[ \t])?{_CAP}){{0,4}})"
)
_LOWER_NAMED = re.compile(
    r"\b(?P<n>(?:st\.?|saint|mount|mt\.?)\s[a-z]{3,20}(?:['’]?s)?)\s(?:hospital|medical center|clinic|infirmary)\b"
)
_FAMOUS = re.compile(
    r"\b(?:mayo\sclinic|johns\shopkins|mass(?:achusetts)?\sgeneral|cleveland\sclinic|kaiser(?:\spermanente)?|"
    r"mount\ssinai|mt\.?\ssinai|cedars[\s-]sinai|md\sanderson|m\.d\.\sanderson|(?:memorial\s)?sloan[\s-]kettering|"
    r"brigham(?:\sand\swomen['’]?s)?|beth\sisrael|geisinger|intermountain|ascension|dignity\shealth|charité|"
    r"karolinska)\b"
    r"(?!\s(?:score|criteria|classification))",
    re.IGNORECASE,
)
_FAMOUS_SHORT = re.compile(
    r"\b(?:MGH|BWH|UCSF|UCLA|UCSD|NYU|UPMC|MSKCC|MDACC|BIDMC|WRAMC|WRNMMC|NNMC|VAMC|OHSU|UAB|MUSC|UNMC|IUPUI|"
    r"NHS\sTrust)\b"
)
_LIVES = re.compile(
    r"\b(?i:lives|living|lived|resides|residing|resident|reside|born|raised|native|from|traveled|travelled|"
    r"travel|moved|"
    r"flown|transported|airlifted|visiting|vacation|works|working|incarcerated|stationed|homeless|immigrated)"
    rf"\s(?:(?:here|in|at|to|from|near|of|outside|back|by\s(?:air|ambulance)|"
    rf"recently)\s){{0,3}}(?P<p>{_CAP}(?:[\s-]{_CAP}){{0,2}})"
)
_TOWN_STATE = re.compile(
    rf"(?<![\w'’-])(?P<t>{_CAP}(?:[\s-]{_CAP}){{0,2}}),\s{{0,2}}(?P<s>[A-Z]{{2}}|"
    rf"[A-Z][a-z]+(?:\s[A-Z][a-z]+)?)(?![\w'’-])"
)
_GENERIC = word_list("generic_before_institution")

_ORDINARY_NAMES = word_list("ordinary_names_of_institutions")


def take_places(searched: Searched) -> None:
    """Addresses, codes, towns and institutions. Runs before names, since these hold names of people."""
    for pattern in _ADDRESSES:
        searched.take_all(
            [Span(m.start(), _end(m), "address") for m in pattern.finditer(searched.left) if _is_street(m[0])]
        )
    streets = [m for m in _ANY_STREET.finditer(searched.left) if _is_any_street(m)]
    searched.take_all([Span(m.start(), _end(m), "address") for m in streets])
    searched.take_all([Span(*m.span(), "address") for m in _LOWER_ADDRESS.finditer(searched.left) if _is_lower(m[0])])
    _take_towns(searched)
    _take_codes(searched)
    searched.take_matches(_FAMOUS, "institution")
    searched.take_matches(_FAMOUS_SHORT, "institution")
    _take_institutions(searched)
    searched.take_all(_residences(searched.left))


def _take_codes(searched: Searched) -> None:
    for place in [span for span in searched.spans if span.kind in ("address", "place")]:
        found = _FOREIGN_CODE.match(searched.left, place.stop)
        if found is not None:
            searched.take(*found.span("c"), "address")
            if found["t"]:
                searched.take(*found.span("t"), "place")
    for pattern, group in ((_ZIP_LABEL, "z"), (_ZIP, "z"), (_BRITISH, 0), (_CANADIAN, 0)):
        codes = [
            m for m in pattern.finditer(searched.left) if _has_digit(m[group]) and _is_state(m.groupdict().get("s"))
        ]
        searched.take_all([Span(*m.span(group), "address") for m in codes])


def _is_state(told: str | None) -> bool:
    return told is None or told.replace(".", "").upper() in names().state_codes or told.endswith(".")


def _end(found: re.Match[str]) -> int:
    return found.start() + len(found[0].rstrip(" ,."))


def _has_digit(text: str) -> bool:
    return any(c.isdigit() for c in text)


def _is_street(text: str) -> bool:
    """Whether the words between number and "Street" are a name, not a finding: "2 Right Upper Lobe ..."."""
    return not re.search(r"\b(?:[Vv]iews?|VIEWS?|CT|MR|MRI|XR|cm|mm)\b", text)


def _is_any_street(found: re.Match[str]) -> bool:
    """Whether "12 Collins Mountain" is an address: its name is of a person or no word."""
    words = found["n"].split()
    named = any(names().is_name(word) or not is_known(word) for word in words)
    return named and not any(word.isupper() and is_abbreviation(word) for word in words)


def _is_lower(text: str) -> bool:
    return not re.search(r"\b(?:mm|cm|views?|x|and|the|on|in|of|to|year|old|with)\b", text)


def _take_towns(searched: Searched) -> None:
    """Towns before their state: "Springfield, IL", "Concord, Massachusetts"; states alone stay."""
    lists = names()
    spans = []
    for found in _TOWN_STATE.finditer(searched.left):
        state = found["s"]
        known = state in lists.state_codes or state in lists.states
        town = found["t"]
        ambiguous = state in ("MD", "PA", "DO") and not _zip_follows(searched.left, found.end())
        words = [word for word in re.split(r"[\s-]", town) if "XX" not in word]
        if known and words and not (ambiguous and len(words) < 2):
            while len(words) > 1 and is_known(words[0]) and not _may_begin(words):
                words = words[1:]
            if (
                len(words) == 1
                and is_known(words[0])
                and (is_known_word(words[0]) or words[0].isupper() or not _is_inside(searched.left, found))
            ):
                words = []
            if words:
                spans.append(Span(found.end("t") - len(_tail(town, len(words))), found.end("t"), "place"))
    searched.take_all(spans)


def _may_begin(words: list[str]) -> bool:
    """Whether the first word belongs to the name of a town: a name of people, or "North" before a proper noun."""
    if words[0].strip(".") in word_list("town_beginnings"):
        return not is_known(words[1]) or names().is_name(words[1])
    return names().is_name(words[0])


def _is_inside(text: str, found: re.Match[str]) -> bool:
    """Whether a match stands inside of a sentence, where a capital letter says something."""
    return re.search(r"[\w,\ue000]\s{0,2}$", text[max(0, found.start() - 3) : found.start()]) is not None


def _zip_follows(text: str, at: int) -> bool:
    return re.match(r"\s{1,2}\d{5}\b", text[at : at + 8]) is not None


def _tail(town: str, words: int) -> str:
    found = re.search(rf"(?:[^\s-]+[\s-]){{{words - 1}}}[^\s-]+$", town)
    return found[0] if found else town


@cache
def is_known(word: str) -> bool:
    """Whether a capitalized word is no proper noun of a place: a word, an eponym, a country, an abbreviation."""
    bare = word.strip(".,'’")
    return is_word(bare) or is_eponym(bare) or is_allowed(bare) or (bare.isupper() and is_abbreviation(bare))


def _take_institutions(searched: Searched) -> None:
    for pattern in (_NAMED, _OF, _LOWER_NAMED):
        spans = []
        for found in pattern.finditer(searched.left):
            start = found.start("n")
            words = list(re.finditer(r"[\w'’.&-]+", found["n"]))
            while words and words[0][0].lower().strip(".'’s") in _GENERIC | {""}:
                words = words[1:]
            while words and words[-1][0].lower() in ("of", "the", "and", "&", "de", "la", "for", "in"):
                words = words[:-1]
            proper = [w for w in words if w[0].lower().strip(".") not in _GENERIC]
            if pattern is _NAMED and not any(_is_proper(w[0], found["i"]) for w in proper):
                proper = []
            if proper:
                spans.append(Span(start + words[0].start(), start + words[-1].end(), "institution"))
            if pattern is _NAMED and found["o"]:
                spans += _tails(found)
        searched.take_all(spans)


def _is_proper(word: str, noun: str) -> bool:
    """Whether a word before "Hospital" names it. Before a strong noun even plain words do: "Mercy", "General"."""
    bare = word.strip(".")
    if not bare[:1].isupper():
        return False
    if bare.lower().removesuffix("'s") in _ORDINARY_NAMES or not is_known(bare) or names().is_name(bare):
        return True
    strong = noun.startswith(("Hospital", "Medical", "Clinic", "Infirmary", "Universit", "Nursing", "Sanatorium"))
    return strong and not is_known_word(bare) and not (bare.isupper() and is_abbreviation(bare))


def _tails(found: re.Match[str]) -> list[Span]:
    """The proper nouns after "University of": each is part of the institution."""
    base = found.start("o")
    return [
        Span(base + m.start(), base + m.end(), "institution")
        for m in re.finditer(rf"(?<!\w){_CAP}(?:\s{_CAP})*", found["o"])
        if not all(part.lower() in _GENERIC for part in m[0].split())
    ]


def _residences(text: str) -> list[Span]:
    """Towns after "lives in": capitalized, no word, no country."""
    spans = []
    for found in _LIVES.finditer(text):
        words = found["p"].split()
        moved = not found[0].lower().startswith("from")
        kept = [w for w in words if not is_known(w) or (moved and not is_known_word(w) and is_word(w))]
        if kept and words[0] == kept[0] and not _has_digit(words[0]) and words[0].strip(".") not in names().states:
            length = len(found["p"]) if len(kept) == len(words) else len(kept[0])
            span = Span(found.start("p"), found.start("p") + len(found["p"][:length].rstrip(".")), "place")
            spans.append(span)
    return spans
