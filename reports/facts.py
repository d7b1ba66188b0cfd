"""Facts as a graph: what a sentence names (observations and anatomy) and how the names belong together.

In the spirit of RadGraph (Jain et al. 2021, arXiv:2106.14463): entities are observations, definitely present,
definitely absent or uncertain, and anatomy; relations are `located_at` (observation to anatomy), `modify` (a word to
what it describes) and `suggestive_of` (an observation to the observation that it may mean). The graph is derived from
the reading that `reports.findings.find` uses, so both always agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from reports.attributes import change_in, location_in, severity_in, side_in
from reports.coordination import EXPLAINS, Window, is_alternative, windows_of
from reports.lexicon import Lexicon, Mention, lexicon
from reports.measurements import measurements
from reports.scope import read_scope, status_of
from reports.sections import section_sentences
from reports.templates import as_prose, with_subject

EntityKind = Literal["observation present", "observation absent", "observation uncertain", "anatomy", "modifier"]
RelationKind = Literal["located_at", "modify", "suggestive_of"]
_SILENT = frozenset({"indication", "technique", "comparison", "provenance", "signature"})
_ANATOMY = re.compile(
    r"\b(?:(?:left|right|both|bilateral) )?(?:(?:upper|middle|lower) lobes?|(?:upper|mid|lower) (?:lung )?zones?"
    r"|lungs?(?: bases?"
    r"| apex| apices)?|lingula|apex|apices|bases?|hil(?:um|a|ar region)|hemithorax|pleural spaces?"
    r"|costophrenic angles?"
    r"|mediastinum|(?:hemi)?diaphragms?|heart|aorta|trachea|carina|(?:\w+ )?ribs?|spine|sternum|clavicle"
    r"|chest wall|esophagus)\b"
    r"|\b(?:left|right|bilateral(?:ly)?|bibasilar|bibasal|biapical|apical|basilar|basal|perihilar|retrocardiac"
    r"|rul|rml|rll|lul|lll)\b"
)
_DESCRIBES = re.compile(
    r"\b(?:tiny|trace|minimal|small|mild|mildly|moderate|moderately|large|severe|severely|marked|massive"
    r"|extensive|subtle|faint"
    r"|slight|new|stable|unchanged|increas(?:ed|ing)|decreas(?:ed|ing)|worsening|improv(?:ed|ing)|resolv(?:ed"
    r"|ing)|persistent"
    r"|acute|chronic|old|focal|diffuse|patchy|linear|nodular|calcified|loculated|layering|displaced|nondisplaced"
    r"|spiculated"
    r"|solid|cavitary|multiple|several|single|solitary)\b"
)


class Entity(NamedTuple):
    """One thing that a sentence names: its words, kind, and place in `Graph.sentence`; `name` is canonical or ""."""

    words: str
    kind: EntityKind
    start: int
    stop: int
    name: str = ""


class Relation(NamedTuple):
    """A relation between two entities, by their index in `Graph.entities`."""

    kind: RelationKind
    source: int
    target: int


class Graph(NamedTuple):
    """Entities and relations of one sentence (lower case, as it was read)."""

    sentence: str
    entities: tuple[Entity, ...]
    relations: tuple[Relation, ...]

    def triples(self) -> tuple[tuple[str, str, str], ...]:
        """The relations in words: ("opacity", "located_at", "left lower lobe")."""
        words = [entity.words for entity in self.entities]
        return tuple((words[one.source], one.kind, words[one.target]) for one in self.relations)


def graphs(text: str, book: Lexicon | None = None) -> tuple[Graph, ...]:
    """The graph of each sentence of a report that states something; sentences that name no finding are left out."""
    chosen = lexicon() if book is None else book
    made = [sentence_graph(sentence, chosen) for section, sentence in section_sentences(text) if section not in _SILENT]
    return tuple(graph for graph in made if graph.entities)


def sentence_graph(sentence: str, book: Lexicon | None = None) -> Graph:
    """The graph of one sentence."""
    low = as_prose(sentence.lower())
    chosen = lexicon() if book is None else book
    low = with_subject(low, chosen.mentions(low))
    mentions = chosen.mentions(low)
    if not mentions:
        return Graph(low, (), ())
    scope = read_scope(low, mentions)
    statuses = [status_of(mention, scope)[0] for mention in mentions]
    for at, mention in enumerate(mentions):
        if statuses[at] == "present" and (mention.hint or is_alternative(low, mentions, at, scope)):
            statuses[at] = "uncertain"
    entities: list[Entity] = []
    relations: list[Relation] = []
    heads: list[int | None] = []
    windows = windows_of(low, mentions, scope)
    for mention, status, window in zip(mentions, statuses, windows, strict=True):
        if status == "skip":
            heads.append(None)
            continue
        head = len(entities)
        heads.append(head)
        name = mention.names[0]
        kind: EntityKind = f"observation {status}"  # type: ignore[assignment]
        entities.append(Entity(low[mention.start : mention.stop], kind, mention.start, mention.stop, name))
        for entity, relation in _around(mention, window):
            relations.append(Relation(relation, head, len(entities)) if relation == "located_at"
                             else Relation(relation, len(entities), head))  # fmt: skip
            entities.append(entity)
    relations += _suggestions(low, mentions, heads)
    return Graph(low, tuple(entities), tuple(relations))


def _around(mention: Mention, window: Window) -> Iterator[tuple[Entity, RelationKind]]:
    """Anatomy and modifiers in the words of one mention's phrase, in the order of the text."""
    found: list[tuple[Entity, RelationKind]] = []
    places = (mention.start - len(window.before), mention.start, mention.stop)
    for text, offset in zip((window.before, window.inside, window.after), places, strict=True):
        taken: list[tuple[int, int]] = []
        for match in _ANATOMY.finditer(text):
            place = location_in(match.group()) or side_in(match.group()) or ""
            entity = Entity(match.group(), "anatomy", offset + match.start(), offset + match.end(), place)
            found.append((entity, "located_at"))
            taken.append(match.span())
        for match in _DESCRIBES.finditer(text):
            value = severity_in(match.group()) or change_in(match.group()) or ""
            if not any(a <= match.start() < b for a, b in taken):
                entity = Entity(match.group(), "modifier", offset + match.start(), offset + match.end(), value)
                found.append((entity, "modify"))
        for one in measurements(text):
            if one.kind in ("size", "range") and not one.prior:
                words = text[one.start : one.stop]
                entity = Entity(words, "modifier", offset + one.start, offset + one.stop, f"{one.largest:g} {one.unit}")
                found.append((entity, "modify"))
    yield from sorted(found, key=lambda pair: pair[0].start)


def _suggestions(low: str, mentions: Sequence[Mention], heads: Sequence[int | None]) -> Iterator[Relation]:
    """ "An opacity that may represent pneumonia": the first is suggestive of the second."""
    for at in range(1, len(mentions)):
        source, target = heads[at - 1], heads[at]
        gap = low[mentions[at - 1].stop : mentions[at].start]
        if source is not None and target is not None and len(gap) < 60 and EXPLAINS.search(gap):
            yield Relation("suggestive_of", source, target)
