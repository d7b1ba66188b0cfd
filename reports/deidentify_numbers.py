"""Numbers, addresses of machines and ages by which a report names somebody; measurements are none of them.

A number goes when a label says what it is ("MRN 48213", "pager 4471", "Room 12"), or by its form: six digits and more
in one piece, letters with four digits and more, groups as telephones and social security have them. What a unit follows
stays.
"""

from __future__ import annotations

import re

from reports.deidentify_spans import Searched, Span

UID = re.compile(r"(?<![\d.])(?:2\.25\.\d{6,39}|[0-2](?:\.\d{1,40}){4,40})(?![\d.]*\d)")
_MAIL = re.compile(
    r"(?<![\w.+-])[\w.+'-]{1,64}\s?(?:@|\[at\]|\(at\))\s?[\w-]{1,63}(?:\.[\w-]{1,63}){1,5}", re.IGNORECASE
)
_URL = re.compile(
    r"\b(?:https?|ftp|sftp)://[^\s<>\"]{1,2000}|\bwww\.[^\s<>\"]{2,2000}"
    r"|(?<![\w@.-])(?:[\w-]{1,63}\.){1,4}(?:com|org|net|edu|gov|mil|info|health|hospital|local|de|uk|fr|ch|at|"
    r"nl|ca|io)"
    r"\b(?:/[^\s<>\"]{0,2000})?",
    re.IGNORECASE,
)
_ADDRESS_OF_MACHINE = re.compile(
    r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?::\d{2,5})?(?![\d.]*\d)"
    r"|\b(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}\b"
)
_SOCIAL = re.compile(r"(?<![\d-])\d{3}([- ])\d{2}\1\d{4}(?![\d-])|(?<![\d-])\d{3}-\d{2}-\d{4}(?![\d-])")
_UNITS = (
    r"(?:mm|cm|m|km|ml|mL|dl|dL|l|L|cc|mg|mcg|g|kg|HU|mGy|Gy|kV|kVp|mAs|mA|ms|msec|sec|s|min|minutes?|hours?|"
    r"hrs?|days?|"
    r"weeks?|months?|years?|yrs?|Hz|mmHg|bpm|units?|IU|U|cells?|copies|platelets?|x|%|degrees?|mSv|mCi|MBq|kBq|mmol|"
    r"million|thousand|french|fr|gauge|ga|times|percent|images?|slices?)"
)
_NO_UNIT = rf"(?!\d)(?!\.\d)(?!\s?(?:{_UNITS}\b|%|/\s?(?:mm|cm|ml|mL|dL|uL|µL|L|HPF|hpf)))"
_PHONES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"(?<![\w.+])\+\d{{1,3}}(?:[ ./-]?\(?\d{{1,5}}\)?){{2,6}}(?:\s?(?:x|ext\.?|"
        rf"extension)\s?\d{{1,6}})?{_NO_UNIT}",
        rf"(?<![\w.])(?:(?:\+|00)?1[-. ])?\(\d{{3}}\)\s?\d{{3}}[-. ]?\d{{4}}(?:\s?(?:x|ext\.?|"
        rf"extension)\s?\d{{1,6}})?{_NO_UNIT}",
        rf"(?<![\w.-])(?:(?:\+|00)?1[-. ])?\d{{3}}([-. /])\d{{3}}[-. ]\d{{4}}(?:,?\s?(?:x|ext\.?|"
        rf"extension)\s?\d{{1,6}})?{_NO_UNIT}",
        rf"(?<![\w.-])\d{{3}}-\d{{4}}(?:,?\s?(?:x|ext\.?|extension)\s?\d{{1,6}})?(?!-){_NO_UNIT}",
        rf"(?<![\w.-])0\d{{1,5}}[ /-]\d{{2,8}}(?:[ -]\d{{1,8}}){{0,4}}{_NO_UNIT}",
        rf"(?<![\w.-])\(0\d{{1,5}}\)\s?\d{{2,8}}(?:[ -]\d{{1,8}}){{0,4}}{_NO_UNIT}",
        rf"(?<![\w.-])\d{{2}}([ .])\d{{2}}\1\d{{2}}\1\d{{2}}\1\d{{2}}{_NO_UNIT}",
    )
)
_SAID = (
    r"\s{0,2}(?:(?:number|numbers|num|nbr|no|nr|id|code|is|was|at|as|of|the|on)\b\.?\s{0,2}){0,3}"
    r"[:#=]{0,2}\s{0,2}#?\s{0,2}\(?"
)
_PHONE_LABEL = re.compile(
    rf"\b(?:tele?phone|phone|ph|tel|cell|mobile|fax|facsimile|pager|beeper|pgr|paged?|call ?back|extension|ext|"
    rf"x|hotline|"
    rf"voicemail|reached at|reach at|contact(?:ed)? at|call(?:ed)? (?:at|back)|dial|handy|telefon)\b\.?{_SAID}"
    rf"(?P<v>\+?\(?\d(?:(?:[()/.-]|[ \t]|\)[ \t]|[ \t]\()?\d){{2,16}}){_NO_UNIT}(?!\sof\b)",
    re.IGNORECASE,
)
_VALUE = r"(?P<v>(?=[A-Za-z./_-]{0,12}\d)[A-Za-z0-9](?:[\w./-]{0,38}[A-Za-z0-9])?)"
_SPACED = r"(?P<v>\d{1,4}(?:[ -]\d{2,4}){1,4})(?!\d)"
_STRONG = (
    r"m\.?r\.?n\.?|mr\s?#|med(?:ical)?\.?\s?rec(?:ord)?s?|patient\s?(?:id\w*|numbers?|no|nr|#|mrn|account)|"
    r"pt\.?\s?(?:id|no|#)|pat(?:ient)?-?nr|"
    r"hospital\s?(?:id|number|no|#)|unit\s?(?:number|record|no)|record\s?(?:number|no|#|id)|chart\s?(?:number|"
    r"no|#|id)|"
    r"case\s?(?:number|no|#|id)|account\s?(?:number|no|#|id)?|acct|encounter\s?(?:number|no|#|id)?|"
    r"visit\s?(?:number|no|#|id)|fin|csn|har|accession|acc(?:\s?(?:no|number|#))?|order\s?(?:number|no|#|id)|placer|"
    r"filler|requisition|req|exam\s?(?:number|no|#|id)|study\s?(?:number|no|#|id)|specimen|"
    r"ssn|s\.s\.n\.|social\s?security|nhs|medicare|medicaid|"
    r"insurance|policy|member|subscriber|group\s?(?:number|no|#|id)|health\s?(?:plan|card)|hcn|beneficiary|claim|"
    r"authorization|auth|license|licence|lic|dea|npi|certificate|passport|driver'?s|registration|plates?|vin|vehicle|"
    r"serial|s/?n|sn|lot|batch|udi|imei|device\s?(?:id\w*|number|no|#|serial)|implant\s?(?:id|number|no|#)|"
    r"asset|badge|"
    r"employee|provider\s?(?:id|number|no|#)|user\s?(?:id|name)?|username|login|job\s?(?:number|no|#|id)?|"
    r"document\s?(?:number|no|#|id)?|confirmation|dictation|transcription|fallnummer|patientennummer|id|identifier|"
    r"research\s?id|subject\s?(?:id|number|no|#)?|study\s?subject|trial\s?(?:id|number)|station|workstation"
)
_LABELLED = re.compile(rf"(?<![\w-])(?:{_STRONG})(?:\b|(?<=#))\.?{_SAID}{_VALUE}", re.IGNORECASE)
_LABELLED_SPACED = re.compile(rf"(?<![\w-])(?:{_STRONG})(?:\b|(?<=#))\.?{_SAID}{_SPACED}", re.IGNORECASE)
_ROOM = re.compile(
    r"(?<![\w-])(?:rooms?|rm|bed|ward|bay|cubicle|zimmer|suite|apt|apartment|bldg|building|floor|theatre|"
    r"theater|operating room|"
    rf"locker|gate|desk|(?:ER|ED|ICU|MICU|SICU|NICU|PICU|CCU|OR)(?=\s(?:room|bed|bay)?\s?#?\d)){_SAID}"
    r"(?P<v>[A-Za-z]?-?\d{1,4}[A-Za-z]?(?:-\d{0,3}[A-Za-z]?)?|\d{1,2}[ -](?:North|South|East|West))(?![\w.]*\d)"
    rf"(?!\s?(?:{_UNITS})\b)",
    re.IGNORECASE,
)
_HASH = re.compile(r"(?<![\w&])#\s?(?P<v>[A-Za-z]{0,4}-?\d{4,}(?:-\d+)*)\b")
_HANDLE = re.compile(r"(?<![\w@.])@[A-Za-z]\w{2,30}\b")
_LONG = re.compile(rf"(?<![\w.,/-])\d{{6,30}}(?![\w]|[.,/-]\d){_NO_UNIT}")
_MIXED = re.compile(
    r"(?<![\w./-])(?=[\w./-]{0,40}[A-Za-z])(?=(?:[^\W\d_]|[./_-]){0,20}\d)"
    r"(?P<v>[A-Za-z0-9]{1,20}(?:[._/-][A-Za-z0-9]{1,20}){0,6})(?![\w-])"
)
_GROUPS = re.compile(
    rf"(?<![\w.,/-])(?:\d{{2,5}}(?:-\d{{2,5}}){{2,5}}|\d{{1,3}}-\d{{6,10}}|\d{{4}}-\d{{4}}|"
    rf"\d{{6,10}}-\d{{1,4}})(?![\w-]|\.\d){_NO_UNIT}"
)
_AGES = re.compile(
    r"(?<![\w.])(?P<v>9\d|1[01]\d)(?=[\s-]{0,2}(?:year|yr|y)s?[\s-]{0,2}(?:old|o\b|/o)|\s?y\.?o\b|\s?y/o\b"
    r"|\s?(?:jährige|jahre alt|ans\b|años))|(?<=\baged\s)(?P<w>9\d|1[01]\d)\b|\bage[:\s]{1,3}(?P<x>9\d|1[01]\d)\b"
    r"|(?<![\w./-])(?P<z>9\d|1[01]\d)(?=\s?(?-i:[MF])\b(?![.-]))",
    re.IGNORECASE,
)
_TEMPERATURE = re.compile(r"\b(?:fevers?|febrile|temp\w*|tmax|t|of)\W{0,4}(?:of|to|was|is|at)?\W{0,3}$", re.IGNORECASE)
_SPELT_AGES = re.compile(
    r"\bninety[\s-](?:one|two|three|four|five|six|seven|eight|nine)(?=[\s-]years?[\s-]old)"
    r"|\b(?:a|one)[\s-]hundred(?:[\s-](?:and[\s-])?\w{3,8})?(?=[\s-]years?[\s-]old)",
    re.IGNORECASE,
)
_OF_SCIENCE = re.compile(
    r"(?:covid|sars|cov|icd|cpt|hcpcs|snomed|rsna|radlex|rid|pmid|doi|nct|sct|tnm|h\dn\d|hla|iso)[-_ ]?"
    r"|g\dp\d|p?t\dn\dm|(?:19|20)\d\ds|(?:19|20)\d\d[-/][a-z]+$",
    re.IGNORECASE,
)
_CODE_BEFORE = re.compile(
    r"(?:\b(?:icd|cpt|hcpcs|snomed|loinc|pmid|doi|rid|version|ver|v)\b[\w.\s-]{0,6}[:#]?\s?)$", re.I
)
_YEARS = re.compile(r"(?:19|20)\d\d-(?:19|20)\d\d")


def take_written_addresses(searched: Searched) -> None:
    """UIDs, e-mail, URLs, addresses of machines: first, since they hold dots, digits and names."""
    searched.take_matches(UID, "uid")
    searched.take_matches(_MAIL, "mail")
    searched.take_matches(_URL, "url")
    searched.take_matches(_ADDRESS_OF_MACHINE, "number")
    searched.take_matches(_HANDLE, "mail")


def take_ages(searched: Searched) -> None:
    """Ages above 89, which become 90: few people share them (45 CFR 164.514(b)(2)(i)(C))."""
    for found in list(_AGES.finditer(searched.left)):
        name = next(name for name in "vwxz" if found[name])
        before = searched.left[max(0, found.start() - 20) : found.start()]
        if int(found[name]) > 90 and not (name == "z" and _TEMPERATURE.search(before)):
            searched.take(*found.span(name), "age", "90")
    for found in list(_SPELT_AGES.finditer(searched.left)):
        searched.take(*found.span(), "age", "NINETY" if found[0].isupper() else "ninety")


def take_numbers(searched: Searched) -> None:
    """Telephones, social security and record numbers, rooms: labelled first, then what a number looks like."""
    searched.take_matches(_SOCIAL, "number")
    for pattern in _PHONES[:3]:
        searched.take_all([Span(*m.span(), "phone") for m in pattern.finditer(searched.left) if _is_phone(m[0])])
    searched.take_matches(_LABELLED_SPACED, "number", "v")
    searched.take_all(
        [Span(*m.span("v"), "number") for m in _LABELLED.finditer(searched.left) if _is_labelled(searched.left, m)]
    )
    searched.take_all(
        [Span(*m.span("v"), "phone") for m in _PHONE_LABEL.finditer(searched.left) if _digits(m["v"]) >= 3]
    )
    for pattern in _PHONES[3:]:
        searched.take_all([Span(*m.span(), "phone") for m in pattern.finditer(searched.left) if _is_phone(m[0])])
    searched.take_matches(_ROOM, "room", "v")
    searched.take_matches(_HASH, "number", "v")
    searched.take_all([Span(*m.span(), "number") for m in _GROUPS.finditer(searched.left) if _is_grouped(m[0])])
    searched.take_all(
        [
            Span(*m.span(), "number")
            for m in _LONG.finditer(searched.left)
            if not _CODE_BEFORE.search(searched.left[max(0, m.start() - 24) : m.start()])
        ]
    )
    searched.take_all([Span(*m.span("v"), "number") for m in _MIXED.finditer(searched.left) if _is_mixed(m["v"])])


def _digits(text: str) -> int:
    return sum(c.isdigit() for c in text)


def _is_phone(text: str) -> bool:
    """Whether digits are as many as telephones have; "100-1200" in round numbers is a range."""
    if re.fullmatch(r"\d{3}-\d{4}", text):
        low, high = map(int, text.split("-"))
        return not (low % 50 == 0 and high % 50 == 0)
    return 7 <= _digits(text) <= 20


def _is_labelled(text: str, found: re.Match[str]) -> bool:
    """Whether the value after a label is a number of a record: not a measurement, not "lot 3 of 4"."""
    value = found["v"]
    if re.match(rf"\s?(?:{_UNITS})\b", text[found.end("v") :]) and value.isdigit() and len(value) < 5:
        return False
    said = text[found.start() : found.start("v")]
    told = re.search(r"[:#=]|\b(?:number|no|nr|id|is)\b", said, re.IGNORECASE) is not None
    return _digits(value) >= (2 if told else 4)


def _is_grouped(text: str) -> bool:
    if _YEARS.fullmatch(text):
        return False
    parts = text.split("-")
    if len(parts) == 2 and len(parts[0]) == len(parts[1]) == 4:
        return not all(int(part) % 10 == 0 for part in parts)
    return _digits(text) >= 6


def _is_mixed(text: str) -> bool:
    """Letters with four digits and more in a piece, or with five in all; no codes of science, no sizes "10x20"."""
    if "XX" in text or _OF_SCIENCE.match(text) or re.fullmatch(r"[\d.]+(?:[x×][\d.]+)+\w{0,2}", text, re.IGNORECASE):
        return False
    if not re.search(r"[A-Za-z]", text) or re.fullmatch(rf"[\d.,/-]+{_UNITS}", text, re.IGNORECASE):
        return False
    longest = max((len(run) for run in re.findall(r"\d+", text)), default=0)
    return longest >= 4 or (_digits(text) >= 5 and longest >= 2 and "." not in text)
