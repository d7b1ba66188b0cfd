"""Names of people in a report: by what stands before and after them, by lists, and by being no word that is known.

In this order: labels ("Dictated by:"), titles ("Dr."), letters after a name ("MD"), what people do to one another
("discussed with"), given names before family names, and at last every capitalized word that no list knows. Eponyms
("Hodgkin", "Baker cyst"), products, countries and abbreviations stay. What was found once is found in the whole text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from reports.deidentify_cues import (
    AFTER,
    CAMEL,
    DOES,
    INITIAL,
    INITIALS_BY,
    INITIALS_LABEL,
    LABEL,
    OTHER_SCRIPT,
    PERSONAL,
    SIGNATURE,
    STRONG_AFTER,
    SUBJECT,
    TITLE,
)
from reports.deidentify_spans import HIDDEN, Searched, Span
from reports.deidentify_tokens import (
    NEVER,
    PARTICLES,
    Token,
    is_eponymous,
    is_ordinary,
    is_unknown,
    still_standing,
    tokens_of,
)
from reports.deidentify_vocabulary import (
    is_abbreviation,
    is_allowed,
    is_eponym,
    is_misspelt,
    is_roman,
    is_word,
    names,
    word_list,
)
from volumes.deidentify_text import Identifiers, folded, is_known_word

ROLES = word_list("roles")
_WHOLE = re.compile(rf"[ \t]?(?:\.\s|\.$|\n|$|{HIDDEN}|[ \t]{{2}})")
_FRAMED = re.compile(rf"[ \t]{{0,3}}(?:[|;\n]|$|{HIDDEN})")


def take_people(searched: Searched, known: Identifiers | None = None) -> None:
    """Find names; `known` are words by which the header or message of this report names people."""
    searched.take_matches(OTHER_SCRIPT, "name")
    if known is not None and known.names:
        searched.take_all(_of_header(searched.left, known))
    tokens = tokens_of(searched.left)
    for rule in (_labelled, _titled, _lettered, _acting, _paired, _standing):
        if searched.take_all(rule(searched.left, tokens)):
            tokens = still_standing(tokens, searched.left)
    searched.take_matches(INITIALS_BY, "name", "v")
    searched.take_matches(INITIALS_LABEL, "name", "v")
    searched.take_matches(SIGNATURE, "name", "v")
    searched.take_all(_again(searched, tokens))


def _of_header(text: str, known: Identifiers) -> Iterator[Span]:
    """Words that the header of this very report has: in any case; words of the language only when capitalized."""
    for match in re.finditer(r"[^\W_]+", text):
        word = match[0]
        if len(word) < 2 or not known.knows(word):
            continue
        exact = folded(word) in known.names
        if word.isdigit():
            if exact and len(word) >= 4:
                yield Span(*match.span(), "number")
        elif not is_word(word) or (exact and word[0].isupper()):
            yield Span(*match.span(), "name")


def _at(tokens: Sequence[Token], start: int) -> int:
    """Index of the first token at or after a place."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if tokens[middle].start < start:
            low = middle + 1
        else:
            high = middle
    return low


def _phrase(
    text: str, tokens: Sequence[Token], first: int, *, trust: bool, most: int = 5, in_line: bool = False
) -> int:
    """How many tokens from `first` on are one name.

    With `trust` its first word may be a word of the language; with `in_line` capitals of a heading count as such.
    """
    count = 0
    for at in range(first, min(first + most, len(tokens))):
        token = tokens[at]
        if at > first and not re.fullmatch(
            r"[ \t]{1,2}|\.?[ \t]{0,2}|,[ \t]{1,2}", text[tokens[at - 1].stop : token.start]
        ):
            break
        comma = at > first and "," in text[tokens[at - 1].stop : token.start]
        stop = at > first and "." in text[tokens[at - 1].stop : token.start] and len(tokens[at - 1].text) > 1
        if stop or (comma and (count > 1 or AFTER.match(text, tokens[at - 1].stop) is not None)):
            break
        likely = at > first and _is_given(tokens[at - 1])
        if at == first + 1 and not likely:
            before = tokens[first]
            said = PERSONAL.match(text, token.stop) or AFTER.match(text, token.stop)
            medical = not in_line and is_known_word(token.text) and not said  # "Sessile Polyp" is nobody
            likely = is_unknown(text, before) and not medical
            likely = likely or (trust and not names().is_family(before.text) and is_ordinary(token))
        opening = trust and all(t.text.lower() in PARTICLES and not t.capital for t in tokens[first:at])
        if not _fits(text, token, opening, likely, comma, in_line=trust or in_line):
            break
        count = at - first + 1
    while count and tokens[first + count - 1].text.lower() in PARTICLES and not tokens[first + count - 1].capital:
        count -= 1
    return count


def _is_given(token: Token) -> bool:
    return names().is_given(token.text) or INITIAL.fullmatch(token.text) is not None


def _fits(text: str, token: Token, trusted: bool, after_given: bool, comma: bool, *, in_line: bool = False) -> bool:
    """Whether a word can be a part of a name at its place."""
    low = token.text.lower()
    if low in PARTICLES and not token.capital:
        return not comma
    if not token.capital:
        return trusted and (not token.known or token.named) and len(token.text) > 2
    if INITIAL.fullmatch(token.text):
        return True
    if re.match(r"\s?:", text[token.stop : token.stop + 2]):
        return False
    if trusted:
        return low not in NEVER and not (token.shouted and token.text in names().acronyms)
    if token.shouted and is_abbreviation(token.text) and not token.named and len(token.text) <= 3:
        return comma and in_line and token.text not in names().acronyms and low not in NEVER
    if not token.known or token.named:
        return "XX" not in token.text and not is_eponymous(text, token)
    if low in NEVER or is_allowed(token.text) or is_eponym(token.text):
        return False
    return after_given and not comma and (in_line or not token.title_line)


def _labelled(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """After "Name:" and its kind."""
    for label in LABEL.finditer(text):
        first = _at(tokens, label.end())
        if first >= len(tokens) or text[label.end() : tokens[first].start].strip(" \t\"'(["):
            continue
        said = label["l"].lower()
        weak = label["c"] != ":" or said in ("to", "from", "re", "patient", "contact", "mr", "read", "attention", "cc")
        trust = not weak and not re.search(r"\b(?:technologist|nurse|surgeon|signed)$", said)
        yield from _run(text, tokens, first, trust=trust or tokens[first].named)


def _run(text: str, tokens: Sequence[Token], first: int, *, trust: bool) -> Iterator[Span]:
    """One name and those that commas and "and" join to it."""
    several = re.search(
        r"\b(?:Drs|Doctors|Mr\.? and Mrs)\.?\s{0,2}$", text[max(0, tokens[first].start - 14) : tokens[first].start]
    )
    for _ in range(6):
        title = TITLE.match(text, tokens[first].start)
        if title is not None:
            first = _at(tokens, title.end())
            if first >= len(tokens) or tokens[first].start != title.end():
                return
        count = _phrase(text, tokens, first, trust=trust or title is not None, in_line=True)
        if not count or not _is_whole(tokens[first : first + count]):
            return
        yield from _as_spans(tokens[first : first + count])
        end = tokens[first + count - 1].stop
        letters = AFTER.match(text, end)
        join = re.compile(r"(?:\s?[,;/&]\s?(?:and\s)?|\s(?:and|und|et|y)\s)").match(
            text, letters.end() if letters else end
        )
        first = first + count if join is None else _at(tokens, join.end())
        if join is None or first >= len(tokens) or tokens[first].start != join.end():
            return
        trust = several is not None and tokens[first].capital and not tokens[first].opens


def _is_whole(phrase: Sequence[Token]) -> bool:
    """Whether a phrase has more than initials that could be something else."""
    return any(len(token.text) > 1 for token in phrase)


def _as_spans(phrase: Sequence[Token]) -> Iterator[Span]:
    for token in phrase:
        if token.text.lower() not in PARTICLES or token.capital:
            yield Span(token.start, token.stop, "name")


def _titled(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    for title in TITLE.finditer(text):
        first = _at(tokens, title.end())
        if first >= len(tokens) or tokens[first].start != title.end():
            continue
        weak = title["t"].rstrip(".") in ROLES
        token = tokens[first]
        if weak and ((token.known and not token.named) or not token.capital):
            continue
        if not weak and not token.capital and (token.text in NEVER or len(token.text) < 2):
            continue
        if not weak and not token.capital and token.text not in PARTICLES:
            yield from _small(text, tokens, first, sure=title["t"].startswith(("Mr", "Ms", "Miss")))
            continue
        yield from _run(text, tokens, first, trust=not weak)


def _small(text: str, tokens: Sequence[Token], first: int, *, sure: bool) -> Iterator[Span]:
    """A name in small letters after a title: the word itself, and the next where it can be nothing else."""
    token = tokens[first]
    if token.known and not (token.named or sure) and not SUBJECT.match(text, token.stop):
        return
    yield Span(token.start, token.stop, "name")
    if first + 1 < len(tokens) and text[token.stop : tokens[first + 1].start] == " ":
        after = tokens[first + 1]
        if (names().is_family(after.text) and not is_word(after.text)) or not after.known:
            yield Span(after.start, after.stop, "name")


def _lettered(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """Before "MD", "RN" and other letters."""
    for index, token in enumerate(tokens):
        letters = AFTER.match(text, token.stop)
        if letters is None or token.text in ("MD", "RN", "DO", "RT"):
            continue
        comma = "," in letters[0]
        strong = comma and STRONG_AFTER.match(letters["c"]) is not None
        nursing = comma and letters["c"].startswith(("RN", "R.N", "NP", "N.P", "PA", "P.A", "LPN")) and not token.opens
        plain = token.known and not token.named
        if (not token.capital and (plain or not strong)) or (plain and (token.title_line or not (strong or nursing))):
            continue
        if token.text.lower() in NEVER or (token.shouted and token.text in names().acronyms):
            continue
        if letters["c"].startswith("I") and is_eponymous(text, token):
            continue
        yield from _as_spans(_backwards(text, tokens, index))


def _backwards(text: str, tokens: Sequence[Token], index: int) -> Sequence[Token]:
    """The phrase that ends with a token, as far back as words can be names."""
    first = index
    while first > 0 and index - first < 4:
        before = tokens[first - 1]
        gap = text[before.stop : tokens[first].start]
        if not re.fullmatch(r"[ \t]{1,2}|\.[ \t]?|,[ \t]", gap):
            break
        if "," in gap and (before.known and not before.named):
            break
        particle = before.text.lower() in PARTICLES and not before.capital
        initial = INITIAL.fullmatch(before.text) is not None
        if not (particle or initial or (before.capital and (not before.known or before.named))):
            break
        first -= 1
    return tokens[first : index + 1]


def _acting(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """After "discussed with", "his wife": a capitalized word that is a name or no word."""
    for first, token in enumerate(tokens):
        if not token.capital or token.opens:
            continue
        plain = token.known and not token.named and not INITIAL.fullmatch(token.text)
        if plain and not is_ordinary(token):
            continue
        if token.title_line and token.known and not names().is_given(token.text):
            continue
        if _led(text, token) and not is_eponymous(text, token):
            yield from _run(text, tokens, first, trust=plain)


def _paired(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """Given name and family name beside each other, in both orders, with initials and particles."""
    for first, token in enumerate(tokens):
        if first + 1 >= len(tokens):
            return
        after = tokens[first + 1]
        gap = text[token.stop : after.start]
        if token.capital and gap in (", ", ",") and (names().is_given(after.text) or is_unknown(text, after)):
            led = not token.opens and _led(text, token)
            sure = names().is_given(after.text) or led
            family = is_unknown(text, token) or (sure and (names().is_family(token.text) or not token.known))
            framed = _FRAMED.match(text, after.stop) is not None
            family = family or ((led or framed) and token.text.lower() not in NEVER)
            if family and not is_eponymous(text, token):
                yield from _as_spans(tokens[first : first + _phrase(text, tokens, first, trust=True, most=4)])
            continue
        if gap not in (" ", "  ", ". ", "."):
            continue
        if not token.capital:
            both = names().is_given(token.text) and names().is_family(after.text) and not after.capital and gap == " "
            words = is_word(token.text) or is_word(after.text)
            if both and (not words or _led(text, token)):
                yield from _as_spans(tokens[first : first + 2])
            continue
        if "." in gap and len(token.text) > 1:
            continue
        initial = INITIAL.fullmatch(token.text) is not None
        if initial and not (
            after.capital and len(after.text) > 1 and (not after.known or after.named) and _alone(text, token)
        ):
            continue
        likely = names().is_given(token.text) or (
            is_unknown(text, token) and not token.shouted and not is_misspelt(token.text)
        )
        if not initial and not likely:
            continue
        if (
            not names().is_given(token.text)
            and not initial
            and (after.shouted or after.opens or is_eponymous(text, after))
        ):
            continue
        if token.title_line and token.known and after.known and not names().is_family(after.text):
            continue
        count = _phrase(text, tokens, first, trust=True, most=4)
        if (
            token.text in ("L", "R")
            and first
            and not tokens[first - 1].capital
            and not token.opens
            and not _led(text, token)
        ):
            continue
        plain = token.known and is_word(token.text) and after.known and not after.named
        if count > 1 and (not plain or is_ordinary(after) or PERSONAL.match(text, after.stop)):
            yield from _as_spans(tokens[first : first + count])


def _led(text: str, token: Token) -> bool:
    """Whether words before a token speak of a person: "discussed with", "read by", "his wife"."""
    return DOES.search(text[max(0, token.start - 70) : token.start]) is not None


def _alone(text: str, token: Token) -> bool:
    """Whether one letter is an initial, not the point of a list ("A. Lungs") or a vertebra."""
    after = text[token.stop : token.stop + 1]
    return after == "." or not token.opens


def _standing(text: str, tokens: Sequence[Token]) -> Iterator[Span]:
    """Capitalized words that no list knows, and common names of people where a sentence would have small letters."""
    seen_small = {token.text.lower() for token in tokens if not token.capital}
    for at, token in enumerate(tokens):
        if not token.capital or len(token.text) < 2 or "xx" in token.text.lower() or token.text.lower() in NEVER:
            continue
        if is_eponymous(text, token) or re.search(r"[^\W\d_][\d]|\d$", text[max(0, token.start - 1) : token.start + 1]):
            continue
        if "/" in text[token.start - 1 : token.start] + text[token.stop : token.stop + 1]:
            continue
        if text[token.stop : token.stop + 1].isdigit() or text[token.start - 1 : token.start].isdigit():
            continue
        if _is_standing(text, tokens, at, seen_small):
            yield Span(token.start, token.stop, "name")


def _is_standing(text: str, tokens: Sequence[Token], at: int, seen_small: set[str]) -> bool:
    token = tokens[at]
    beside_hidden = text[token.start - 2 : token.start - 1] == HIDDEN or text[token.stop + 1 : token.stop + 2] == HIDDEN
    if token.shouted:
        if is_abbreviation(token.text) and not (beside_hidden and token.named and len(token.text) > 3):
            return False
        if token.known:
            return token.named and not is_word(token.text) and not is_eponym(token.text)
        return len(token.text) >= 5 or token.named or beside_hidden
    if sum(c.isupper() for c in token.text[1:]) and not CAMEL.fullmatch(token.text) and not token.named:
        return False  # "EtOH", "mIBG": a name is written otherwise
    if not token.known:
        if token.text.lower() in seen_small or (token.opens and not token.named and _is_heading(text, token)):
            return False
        return token.named or not all(is_word(part) or is_misspelt(part) for part in token.parts)
    if not token.named or (is_eponym(token.text) and folded(token.text) not in names().also_family):
        return False
    if is_allowed(token.text):
        return False
    if not is_word(token.text) and not is_eponym(token.text):
        return True
    if token.opens or token.title_line:
        if not is_known_word(token.text) and _WHOLE.match(text, token.stop) is not None:
            return True
        return not token.title_line and PERSONAL.match(text, token.stop) is not None
    return not is_roman(token.text)


def _is_heading(text: str, token: Token) -> bool:
    """Whether a word that no list knows opens a line like "Pul: clear" or "Reg rhythm"."""
    after = text[token.stop : token.stop + 3]
    return after.startswith(":") or (len(token.text) <= 3 and after[:1] == " " and after[1:2].islower())


def _again(searched: Searched, tokens: Sequence[Token]) -> Iterator[Span]:
    """What was found as a name once and is no word goes wherever it stands, in any case."""
    found = {folded(searched.text[s.start : s.stop]) for s in searched.spans if s.kind == "name"}
    found = {
        word for word in found if len(word) >= 4 and not is_word(word) and not is_eponym(word) and not is_allowed(word)
    }
    if not found:
        return
    for token in tokens:
        if folded(token.text) in found and not is_eponymous(searched.left, token):
            yield Span(token.start, token.stop, "name")
