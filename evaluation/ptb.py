"""Penn Treebank tokens in lower case without punctuation: what pycocoevalcap cuts captions into, without its Java.

The original runs the lexer of Stanford CoreNLP 3.4.1; these are its rules for running English text. They differ from it
in what reports hardly hold: web addresses, tags that hold spaces, a mixed number such as "2 1/2" (one token there), the
full lists of names before which an abbreviation does not end a sentence, and letters outside the Latin script.
Brackets stay, as -lrb- and -rrb-: the original means to drop them, but looks for them in upper case.
"""

from __future__ import annotations

import re
from functools import lru_cache

from evaluation.tokenization import Tokenizer

_DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u00b4": "'", "\u2018": "`", "\u201b": "`"})
_CONTRACTIONS = {"cannot": 3, "gonna": 3, "gotta": 3, "lemme": 3, "gimme": 3, "wanna": 3, "'tis": 2, "'twas": 2}
_NORMAL = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", "½": "1/2", "¼": "1/4",
    "¾": "3/4", "£": "#", "€": "$", "¢": "cents", "–": "--", "—": "--", "…": "...", '"': "''", "“": "``", "”": "''",
}  # fmt: skip

_LETTER, _ALNUM = r"[^\W\d_]", r"[^\W_]"
_NUM = r"(?:\d*(?:[.:,]\d+)+|\d+)"
_PART = rf"(?:{_NUM}(?!{_ALNUM})|{_ALNUM}+|{_NUM})"
_TITLES = (
    "mr|mrs|ms|drs?|profs?|sens?|reps?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|hon|brig"
    "|co?mdr|pfc|spc|supts?|det|mt|ft|dept|blvd|rd|ph|cf"
)
_STATES = (  # some are words too, and count only with a capital
    "ala|ariz|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo"
    "|(?-i:A)z|(?-i:A)rk|(?-i:D)el|(?-i:I)ll|(?-i:L)a|(?-i:M)ass|(?-i:M)iss|(?-i:O)re|(?-i:P)a|(?-i:T)ex|(?-i:W)ash"
)
_OTHERS = (
    "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri|inc|cos?|corp|ltd|plc|assn|univ|sys|jr|sr"
    r"|bros|(?:ed|ph)\.d|esq|etc|al|seq|ext|est|tel|sq|vs"
)
_ELIDED = rf"[dDoOlL]'{_ALNUM}"  # d'Azyr
_RULES = [
    re.compile(rule)
    for rule in (
        rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*",  # words, also across a stop without a space
        rf"(?:{_ELIDED})?(?:[-+]?{_NUM}(?!{_ALNUM})|{_ALNUM}+|[-+]?{_NUM})(?:-(?:{_ELIDED})?{_PART})*",  # hyphens
        rf"{_ALNUM}+(?:-{_LETTER}+){{0,2}}(?:\\?/{_ALNUM}+(?:-{_LETTER}+){{0,2}}){{1,2}}",  # slashes
        r"[A-Z]+(?:[+&][A-Z]+)+",
        rf"{_ALNUM}(?:{_ALNUM}|[.,])*(?:[-_](?:{_ALNUM}+|(?:[A-Za-z]\.)+[A-Za-z]\.))+",
        r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}",
        r"(?:\d{1,4}-)?\d{1,4}\\?/\d{1,4}",
        rf"(?i:{_TITLES}|{_STATES}|{_OTHERS}|[a-z](?:\.[a-z])*)\.",
        rf"[-+]?{_NUM}",
        rf"(?:{_LETTER}{_ALNUM}*|{_NUM})\.(?=[,;:])",
        r"[?!]+",
        r"_+",
        r"www\.(?:[^\s`<>|.!?(){},]+\.)+[a-zA-Z]{2,4}(?:/[^\s`<>|()]*[^\s`<>|.!?,;:&()\[\]{}\"'-])?",
        r"\.\.+",
        r"--+",
        r"'(?i:s|m|d|re|ve|ll|em)(?![^\W_])",
        r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]](?![A-Za-z])",
        r"<[!/]?[A-Za-z][^\s>]*>",
        r"@[A-Za-z_]\w*",
        r"[a-zA-Z0-9._%+-]+@[A-Za-z0-9][A-Za-z0-9.-]*[A-Za-z0-9]",
        r"(?:https?|ftp)://[^<>|`(){}\[\]]+[^<>|.!?,;:&`\"'*(){}\[\]-]",
        r"'(?i:tis|twas|em|till?|n'?|[2-9]0s)(?!\w)",
        r"''|``",
    )
]
_BEFORE_NUMBERS = re.compile(r"(?i:ca|figs?|prop|nos?|art|bldg|pp|op)\.$")
_LONGEST_CHUNK = 500  # of what stands between spaces; a longer one is cut, so that no text takes quadratic time
_SIMPLE = re.compile(r"[a-z]+")
_NOT = re.compile(r"(?i)n't(?![^\W_])")
_OPENING = """
A About According Additionally After All Also Although An And As At Based Before Both But By Currently Despite
During Each Even Every First For From Given He Her Here His However I If In Instead It Its Last Many More
Moreover Most Mr Mrs Ms Nevertheless No Nor Not Now On Once One Only Or Other Our She Since So Some Such That
The Their Then There These They This Those Though Through To Two Under Until What When Where While Who Why
With Yet You
"""
_SENTENCE_WORDS = frozenset(_OPENING.split())


def cut_ptb(text: str) -> list[str]:
    """The tokens that pycocoevalcap's metrics count, for one line of text; line ends count as spaces."""
    chunks = text.split()
    if len(text) > _LONGEST_CHUNK:
        chunks = [
            chunk[start : start + _LONGEST_CHUNK] for chunk in chunks for start in range(0, len(chunk), _LONGEST_CHUNK)
        ]
    found: list[str] = []
    for at, chunk in enumerate(chunks):
        following = chunks[at + 1] if at + 1 < len(chunks) else ""
        if chunk[-1] == "." and len(chunk) < 7:
            found += _cut(chunk, following[:1].isdigit(), not following or following in _SENTENCE_WORDS)
        else:
            found += _cut(chunk, False, False)
    return found


@lru_cache(1 << 17)
def _cut(chunk: str, before_number: bool, ends: bool) -> tuple[str, ...]:
    """Tokens of what stands between two spaces. A short abbreviation may depend on what follows."""
    if _SIMPLE.fullmatch(chunk) and chunk not in _CONTRACTIONS:
        return (chunk,)
    chunk = chunk.translate(_APOSTROPHES).replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    if before_number and _BEFORE_NUMBERS.match(chunk):
        return (chunk.lower(),)
    if ends and len(chunk) == 2:  # a single letter at the end of a sentence is no initial
        chunk = chunk[0]
    tokens: list[str] = []
    at = 0
    while at < len(chunk):
        length = _longest(chunk, at)
        tokens += _split_contraction(chunk[at : at + length])
        at += length
    return tuple(token for token in tokens if token not in _DROPPED)


def _longest(chunk: str, at: int) -> int:
    """Length of the token at a place: the longest that any rule allows, as in a lexer; else one character."""
    found = 1
    for rule in _RULES:
        match = rule.match(chunk, at)
        if match is not None and match.end() - at > found:
            found = match.end() - at
    negated = _NOT.match(chunk, at + found - 1)  # don't: do n't
    if negated is not None and found > 1 and chunk[at : at + found].isalpha():
        return found - 1
    return found if not _NOT.match(chunk, at) else 3


def _split_contraction(token: str) -> list[str]:
    lower = token.lower()
    if lower in _CONTRACTIONS:
        cut = _CONTRACTIONS[lower]
        return [lower[:cut], lower[cut:]]
    if token[-1] in "()[]{}" and token not in _NORMAL:  # a smiley: what looks like one in ":)" is a list in a report
        return [lower[:-1] + _NORMAL[token[-1]]]
    if lower[-1] in "½¼¾":
        return [part for part in (lower[:-1], _NORMAL[lower[-1]]) if part]
    return [_NORMAL.get(token, "..." if token.startswith("..") else "--" if token.startswith("--") else lower)]


PTB = Tokenizer("PTB without punctuation, lower case", cut_ptb)
