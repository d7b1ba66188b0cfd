"""A report as if there had been no earlier study: comparisons rewritten, or left out with a reason.

A model that sees one study can only invent "unchanged": Ramesh et al. 2022, CXR-PRO, arXiv:2210.06340. The rules are
data (`prior_free.yaml`); none of them is trusted, since the facts of each sentence are read before and after.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

import yaml

from reports.rewriting import Dropped, Refused, Rewritten, keep_facts, rewrite_sentences, tidy
from reports.stated import stated_in, without_change

_LONG = 1500  # characters; no sentence of a reader is that long, and rules take time
_NOUN_FIRST = "\\1 {is}"
_BROKEN = re.compile(r"\b(?:is|was|are|were)\W*$|\b(?:is|are) and\b|\bpresent\b.* (?:is|are) present\b|^\W*$")
_VERB = re.compile(r"\b(is|has|was|remains|appears|are|have|were|remain|appear|persists?|continues)\b")
_SINGULAR_VERBS = ("is", "has", "was", "remains", "appears", "persists", "continues")


class _Book(NamedTuple):
    asks: dict[str, re.Pattern[str]]
    rules: tuple[tuple[re.Pattern[str], str], ...]


@cache
def _book() -> _Book:
    text = resources.files("reports").joinpath("prior_free.yaml").read_text(encoding="utf-8")
    given: dict[str, Any] = yaml.safe_load(text)
    parts: dict[str, str] = {}

    def filled(pattern: str) -> str:
        return re.sub(r"%(\w+)%", lambda found: parts[found[1]], pattern)

    for name, pattern in given["parts"].items():
        parts[name] = filled(pattern)
    asks = {name: re.compile(filled(pattern), re.IGNORECASE) for name, pattern in given["asks"].items()}
    return _Book(asks, tuple((re.compile(filled(find), re.IGNORECASE), put) for find, put in given["rules"]))


def prior_free(text: str) -> Rewritten | Refused:
    """The report without its comparisons: "Unchanged 6 mm nodule." becomes "6 mm nodule."

    Left out, each with a reason: the comparison section, sentences that state only a change, sentences that deny only
    what is new ("no new nodule" does not say that there is no old one), removed devices, and what no rule can rewrite
    without a change of facts. Facts are kept but for `change`; a finding that has resolved is denied.
    """
    return rewrite_sentences(text, _rule, without_change)


def prior_free_sentence(sentence: str) -> Rewritten | Refused:
    """As `prior_free`, for one sentence; refused where the report would leave the sentence out."""
    made = _rule("findings", sentence)
    if isinstance(made, Dropped):
        return Refused(made.kind, made.reason)
    return keep_facts(sentence, made, without_change)


def mentions_prior(sentence: str) -> bool:
    """Whether a sentence speaks of an earlier study, or of a change."""
    asks = _book().asks
    bare = asks["only_describes"].sub(" ", sentence)
    return asks["cue"].search(bare) is not None or any(fact.change for fact in stated_in(bare))


def _rule(section: str, sentence: str) -> str | Dropped:
    if section == "comparison":
        return Dropped(sentence, "comparison", "the section names earlier studies")
    if len(sentence) > _LONG:
        return Dropped(sentence[:_LONG], "long", f"it has {len(sentence)} characters, expected {_LONG} or fewer")
    if section in ("indication", "technique") or not mentions_prior(sentence):
        return sentence
    refusal = _refusal(sentence)
    if refusal is not None:
        return refusal
    made = _apply(sentence)
    if mentions_prior(made) or _BROKEN.search(made):
        return Dropped(sentence, "no-rule", "it compares in words that no rule rewrites")
    if not stated_in(sentence) and (" present" in made or len(made.split()) < 2):
        return Dropped(sentence, "only-change", "it states a change and no finding of this study")
    checked = keep_facts(sentence, made, without_change)
    return Dropped(sentence, checked.kind, checked.reason) if isinstance(checked, Refused) else checked.text


def _refusal(sentence: str) -> Dropped | None:
    """Why a comparison has nothing to say without the earlier study."""
    asks = _book().asks
    if asks["dropped_device"].search(sentence):
        return Dropped(sentence, "removed", "what was removed cannot be seen on this study alone")
    if asks["nothing_new"].search(sentence):
        return Dropped(sentence, "only-new", "it denies only what is new or left over, not what was there before")
    if asks["partly_gone"].search(sentence):
        return Dropped(sentence, "partly-gone", "what has partly resolved is still there to a degree not stated")
    if asks["only_change"].search(sentence) and not stated_in(sentence):
        return Dropped(sentence, "only-change", "it states a change and no finding of this study")
    return None


def _apply(sentence: str) -> str:
    """Every rule in turn; the verb of what a rule writes agrees with its subject."""
    for pattern, put in _book().rules:
        found = pattern.search(sentence)
        if found is None:
            continue
        subject = found[1] if put.startswith(_NOUN_FIRST) else sentence[: found.start()]
        joined = put.startswith(_NOUN_FIRST) and re.search(r"\band\b", subject) is not None
        verb = "are" if joined or _is_plural(subject, found.group()) else "is"
        sentence = tidy(pattern.sub(put, sentence, count=0 if not put else 1).replace("{is}", verb))
    return re.sub(r"(?<=^No )[A-Z](?=[a-z])|(?<=^There is )[A-Z](?=[a-z])", lambda m: m[0].lower(), tidy(sentence))


def _is_plural(subject: str, matched: str) -> bool:
    """Whether the verb that is replaced, or else the head noun of the subject, is plural."""
    said = _VERB.search(matched[len(subject) :] or matched)
    if said:
        return said[1] not in _SINGULAR_VERBS
    head = re.split(r" (?:in|of|at|on|with|within|from|involving) ", subject.strip())[0].lower()
    return head.endswith(("s", "ae")) and not head.endswith(("ss", "is", "us"))
