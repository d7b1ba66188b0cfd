"""Reading a lexicon from YAML: what it may hold, and refusals that say where, what and what instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml

from reports.lexicon_pattern import pattern_fault
from reports.schemes import SCHEMES

SCHEME_KEYS = {"chexpert": "chexpert14", "ctrate": "ctrate18", "nih": "nih14"}
MAX_BYTES = 2 * 2**20

_TOP = ("findings", "not_findings", "joint", "normal", "schemes")
_FINDING = ("words", "say", "hint", "sided", *SCHEME_KEYS, "not_with", "unless", "also", "parents", "implied_by")
_NORMAL = ("subject", "predicate", "rules_out")
_JOINT = ("say", "names")
_ALSO = ("name", "when", "keep")


class LexiconError(ValueError):
    """A lexicon file that breaks a rule."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice and aliases, which can grow without bound."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise LexiconError(f"line {self.peek_event().start_mark.line + 1}: an alias (*); write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in seen:
                raise LexiconError(
                    f'line {line}: "{key.value}" stands twice (first in line {seen[key.value]}); join them'
                )
            seen[str(key.value)] = line
        return super().construct_mapping(node, deep)


def read_yaml(data: bytes, where: str) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises: LexiconError for anything else."""
    if len(data) > MAX_BYTES:
        raise LexiconError(f"{where}: {len(data)} bytes, more than a lexicon may have ({MAX_BYTES})")
    try:
        book = yaml.load(data.decode("utf-8-sig"), Loader=_Loader)
    except LexiconError as error:
        raise LexiconError(f"{where}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise LexiconError(f"{where}: no YAML in UTF-8 ({' '.join(str(error).split())})") from None
    if not isinstance(book, dict):
        raise LexiconError(f"{where}: found {_kind(book)}, expected a mapping with some of {', '.join(_TOP)}")
    return book


def check(own: Mapping[str, Any], where: str, standard: Mapping[str, Any]) -> None:
    """Refuse a lexicon that breaks a rule. `standard` has the findings that it may extend and refer to."""
    _keys(own, _TOP, where)
    findings = _mapping(own.get("findings", {}), f"{where}: findings")
    known = {*standard.get("findings", {}), *findings}
    for name, given in findings.items():
        at = f"{where}: findings > {name}"
        _check_name(name, at)
        _check_finding(_mapping(given, at), at, known, name in standard.get("findings", {}))
    _check_parents(findings, standard.get("findings", {}), where)
    _patterns(own.get("not_findings", []), f"{where}: not_findings")
    for number, joint in enumerate(_list(own.get("joint", []), f"{where}: joint"), 1):
        at = f"{where}: joint > {number}"
        _required(_mapping(joint, at), _JOINT, at)
        _patterns([joint["say"]], f"{at} > say")
        _names(joint["names"], known, f"{at} > names")
    for name, given in _mapping(own.get("normal", {}), f"{where}: normal").items():
        at = f"{where}: normal > {name}"
        _required(_mapping(given, at), _NORMAL, at)
        _patterns([given["subject"], given["predicate"]], at)
        _names(given["rules_out"], known, f"{at} > rules_out")
    _check_schemes(own.get("schemes", {}), known, where)


def _check_name(name: Any, at: str) -> None:
    if not isinstance(name, str) or not name.strip() or name != " ".join(name.lower().split()):
        raise LexiconError(f"{at}: the name of a finding is lower-case words with single blanks")


def _check_finding(given: Mapping[str, Any], at: str, known: set[str], is_known: bool) -> None:
    _keys(given, _FINDING, at)
    if not is_known and not any(key in given for key in ("words", "say", "hint")):
        raise LexiconError(f"{at}: no words; a new finding needs `words` (plain) or `say` (regular expressions)")
    for word in _list(given.get("words", []), f"{at} > words"):
        if not isinstance(word, str) or not word.strip():
            raise LexiconError(f"{at} > words: found {word!r}, expected words")
    for key in ("say", "hint"):
        _patterns(given.get(key, []), f"{at} > {key}")
    for key in ("not_with", "unless"):
        if key in given:
            _patterns([given[key]], f"{at} > {key}")
    if not isinstance(given.get("sided", True), bool):
        raise LexiconError(f"{at} > sided: found {given['sided']!r}, expected true or false")
    for key in ("parents", "implied_by"):
        _names(given.get(key, []), known, f"{at} > {key}")
    if "also" in given:
        also = _mapping(given["also"], f"{at} > also")
        _required(also, _ALSO, f"{at} > also")
        _names([also["name"]], known, f"{at} > also > name")
        _patterns([also["when"], also["keep"]], f"{at} > also")
    for key, scheme in SCHEME_KEYS.items():
        if given.get(key) is not None:  # nothing (null) takes a finding out of a scheme
            _check_target(given[key], SCHEMES[scheme], f"{at} > {key}")


def _check_target(given: Any, labels: Sequence[str], at: str) -> None:
    if isinstance(given, dict):
        _required(given, ("label", "said"), at)
        _patterns([given["said"]], f"{at} > said")
        given = given["label"]
    if given not in labels:
        raise LexiconError(f"{at}: no label {given!r}{_near(given, labels)}; expected one of {', '.join(labels)}")


def _check_parents(findings: Mapping[str, Any], standard: Mapping[str, Any], where: str) -> None:
    parents = {name: given.get("parents", ()) for name, given in {**standard, **findings}.items()}

    def climb(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            raise LexiconError(f"{where}: findings > {name} > parents: a circle, {' > '.join((*path, name))}")
        for parent in parents.get(name, ()):
            climb(parent, (*path, name))

    for name in findings:
        climb(name, ())


def _check_schemes(schemes: Any, known: set[str], where: str) -> None:
    for scheme, labels in _mapping(schemes, f"{where}: schemes").items():
        if scheme in (*SCHEMES, "open"):
            raise LexiconError(
                f'{where}: schemes > {scheme}: the platform has a scheme "{scheme}"; choose another name'
            )
        for label, names in _mapping(labels, f"{where}: schemes > {scheme}").items():
            _names(names, known, f"{where}: schemes > {scheme} > {label}")


def _patterns(given: Any, at: str) -> None:
    for pattern in _list(given, at):
        fault = pattern_fault(pattern) if isinstance(pattern, str) else f"found {_kind(pattern)}, expected text"
        if fault:
            raise LexiconError(f"{at}: {pattern!r}: {fault}")


def _names(given: Any, known: set[str], at: str) -> None:
    for name in _list(given, at):
        if name not in known:
            raise LexiconError(f"{at}: no finding {name!r}{_near(name, known)}; expected names of findings")


def _keys(given: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    for key in given:
        if key not in known:
            raise LexiconError(f"{at}: unknown key {key!r}{_near(key, known)}; expected some of {', '.join(known)}")


def _required(given: Mapping[str, Any], known: Sequence[str], at: str) -> None:
    _keys(given, known, at)
    missing = [key for key in known if key not in given]
    if missing:
        raise LexiconError(f"{at}: {', '.join(missing)} missing; expected {', '.join(known)}")


def _mapping(given: Any, at: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise LexiconError(f"{at}: found {_kind(given)}, expected a mapping (key: value)")
    return given


def _list(given: Any, at: str) -> Sequence[Any]:
    if not isinstance(given, list):
        raise LexiconError(f"{at}: found {_kind(given)}, expected a list ([a, b])")
    return given


def _near(name: Any, known: Sequence[str] | set[str]) -> str:
    near = get_close_matches(str(name), sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _kind(value: Any) -> str:
    kinds: Iterator[str] = (
        kind for of, kind in ((dict, "a mapping"), (list, "a list"), (str, "text")) if isinstance(value, of)
    )
    return next(kinds, "nothing" if value is None else f"{value!r}")
