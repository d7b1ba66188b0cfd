"""Labels per report: 1 present, 0 absent, -1 uncertain, None not mentioned, in the schemes that others use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from reports.findings import Finding, find
from reports.lexicon import Lexicon
from reports.lexicon import lexicon as standard_lexicon
from reports.schemes import CHEXPERT14, CTRATE18, FIRM, NIH14, PARENTS, SCHEMES
from reports.sections import split_sections

__all__ = [
    "CHEXPERT14",
    "CTRATE18",
    "NIH14",
    "Label",
    "join_columns",
    "label",
    "label_findings",
    "scheme_names",
    "with_parents",
]

Label = int | None

_VALUE: dict[str, int] = {"present": 1, "absent": 0, "uncertain": -1}
_STRENGTH = {None: 0, 0: 1, -1: 2, 1: 3}  # one positive statement outweighs a hedge, a hedge outweighs a denial
_IMPLIED_IN_CHEXPERT = frozenset({"cardiomegaly", "enlarged cardiomediastinum"})
_HEART_FAILURE = re.compile(r"\b(?:chf|heart failure)\b")
_NORMAL = re.compile(
    r"\b(?:normal (?:chest|study|exam\w*|radiograph|cxr)|no (?:\w+ ){0,2}(?:acute"
    r"|active) (?:\w+ ){0,3}(?:abnormalit\w+|disease"
    r"|process\w*|findings?)|(?:lungs?|heart|study|exam\w*|chest)(?: \w+){0,4} (?:normal|clear|unremarkable)"
    r"|clear lungs|unremarkable"
    r"|within normal limits)\b",
    re.IGNORECASE,
)


def scheme_names(scheme: str, lexicon: Lexicon | None = None) -> tuple[str, ...]:
    """The label names of a scheme in its own order. Raises: ValueError for an unknown scheme."""
    book = standard_lexicon() if lexicon is None else lexicon
    known = {"open": tuple(book.entries), **SCHEMES, **{name: tuple(labels) for name, labels in book.schemes.items()}}
    if scheme not in known:
        raise ValueError(f'unknown labelling scheme "{scheme}"; expected one of {", ".join(known)}')
    return known[scheme]


def label(text: str, scheme: str = "open", lexicon: Lexicon | None = None) -> dict[str, Label]:
    """Label one report: 1 present, 0 absent, -1 uncertain, None not mentioned.

    Schemes: "open" has every name of the lexicon, `reports.schemes` says what the others cover, a hospital's lexicon
    may bring its own. In chexpert14, "lungs are clear" leaves the lung findings empty as the reference labeler does,
    and "No Finding" is 1 when something was read and nothing but devices is present or uncertain; otherwise it stays
    empty.
    """
    return label_findings(find(text, lexicon), scheme, text, lexicon)


def label_findings(
    findings: Iterable[Finding], scheme: str = "open", text: str = "", lexicon: Lexicon | None = None
) -> dict[str, Label]:
    """As `label`, from findings that are already read; `text` only serves "No Finding" of a report without any."""
    book = standard_lexicon() if lexicon is None else lexicon
    labels: dict[str, Label] = dict.fromkeys(scheme_names(scheme, book))
    findings = list(findings)
    firm = FIRM.get(scheme, frozenset())
    for finding in findings:
        value = 1 if finding.status == "uncertain" and finding.hedge in firm else _VALUE[finding.status]
        for target in _targets(finding, scheme, book):
            _raise(labels, target, value)
    if scheme == "chexpert14":
        labels["No Finding"] = _no_finding(findings, text, book)
        _suspect_the_heart(findings, labels)
    return labels


def with_parents(labels: Mapping[str, Label], scheme: str) -> dict[str, Label]:
    """Labels spread along the tree of a scheme: a parent is at least as positive as its children, and where a parent is
    absent (0) its children that nobody mentions are absent too. A scheme without a tree comes back as it is."""
    parents = PARENTS.get(scheme, {})
    spread = dict(labels)
    for name, value in labels.items():
        if value in (1, -1):
            above = parents.get(name)
            while above is not None:
                _raise(spread, above, value)
                above = parents.get(above)
    for name in parents:
        above = parents.get(name)
        while above is not None:
            if spread[name] is None and spread[above] == 0:
                spread[name] = 0
            above = parents.get(above)
    return spread


def _raise(labels: dict[str, Label], name: str, value: Label) -> None:
    if _STRENGTH[value] > _STRENGTH[labels[name]]:
        labels[name] = value


def _targets(finding: Finding, scheme: str, book: Lexicon) -> Iterable[str]:
    """The labels of a scheme that a finding counts for."""
    entry = book.entries.get(finding.name)
    if entry is None:
        return ()
    if scheme in SCHEMES:
        if scheme == "chexpert14" and finding.by == "implied" and finding.name not in _IMPLIED_IN_CHEXPERT:
            return ()
        target = entry.targets.get(scheme)
        return (target.label,) if target is not None and target.takes(finding.words) else ()
    stated = _stated_with(finding, book)
    if scheme == "open":
        return stated
    return [label for label, names in book.schemes[scheme].items() if not stated.isdisjoint(names)]


def _stated_with(finding: Finding, book: Lexicon) -> set[str]:
    """The finding and what goes with it: parents and what it implies when it may be there, children when it is not."""
    reached: set[str] = set()
    waiting = [finding.name]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        waiting += book.below[name] if finding.status == "absent" else book.above[name]
    return reached


def _no_finding(findings: Sequence[Finding], text: str, book: Lexicon) -> Label:
    ill = [f for f in findings if f.status != "absent" and _chexpert_label(f, book) != "Support Devices"]
    return None if ill or not (findings or _NORMAL.search(text)) else 1


def _chexpert_label(finding: Finding, book: Lexicon) -> str | None:
    entry = book.entries.get(finding.name)
    return None if entry is None else entry.label("chexpert14")


def _suspect_the_heart(findings: Sequence[Finding], labels: dict[str, Label]) -> None:
    """Heart failure makes Cardiomegaly uncertain where nothing firmer is said of it, as the reference labeler does."""
    for finding in findings:
        if finding.status != "absent" and any(_HEART_FAILURE.search(words) for words in finding.words):
            _raise(labels, "Cardiomegaly", -1)


def join_columns(row: Mapping[str, str], columns: Sequence[str]) -> str:
    """One report text from several columns; one named like a section keeps its role ("indication" states nothing)."""
    parts = []
    for column in columns:
        text = (row.get(column) or "").strip()
        if text:
            heading = column.replace("_", " ")
            is_section = len(columns) > 1 and split_sections(f"{heading}:\nx") != {"findings": f"{heading}:\nx"}
            parts.append(f"{heading.upper()}:\n{text}" if is_section else text)
    return "\n\n".join(parts)
