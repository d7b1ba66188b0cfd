"""Facts of our own labeller as a graph in RadGraph's form, so that entity and relation F1 also measure without a model.

A finding is an observation, labelled with its certainty as in RadGraph (Jain et al. 2021, arXiv:2106.14463): OBS-DP
present, OBS-DA absent, OBS-U uncertain. Side and place are anatomy (ANAT-DP) that it is located at; severity, size and
change modify it. The numbers are of our facts, not of RadGraph's, and are named so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from evaluation.radgraph import Entity, Graph

if TYPE_CHECKING:
    from reports.findings import Finding

_CERTAINTY = {"present": "OBS-DP", "absent": "OBS-DA", "uncertain": "OBS-U"}
_PLACED = ("side", "location")
_ATTRIBUTES = (*_PLACED, "severity", "size_mm", "change")


def fact_graph(facts: Iterable[Finding], implied: bool = False) -> Graph:
    """The graph of one report. implied: whether findings that only a normal statement rules out are among them.

    Sizes are compared as written in whole millimetres. Equal facts count once.
    """
    entities: dict[str, Entity] = {}
    seen: set[tuple[object, ...]] = set()
    for fact in facts:
        said = (fact.name, fact.status, *(getattr(fact, name) for name in _ATTRIBUTES))
        if said in seen or (fact.by == "implied" and not implied):
            continue
        seen.add(said)
        key = len(entities) + 1
        told = [(name, value) for name, value in zip(_ATTRIBUTES, said[2:], strict=True) if value is not None]
        # RadGraph draws "located_at" from the observation and "modify" from the modifier to what it modifies.
        places = tuple(("located_at", str(key + 1 + at)) for at, (name, _) in enumerate(told) if name in _PLACED)
        entities[str(key)] = Entity(fact.name, _CERTAINTY[fact.status], places)
        for at, (name, value) in enumerate(told):
            words = f"{value:.0f} mm" if name == "size_mm" else str(value)
            entities[str(key + 1 + at)] = (
                Entity(words, "ANAT-DP") if name in _PLACED else Entity(words, "OBS-DP", (("modify", str(key)),))
            )
    return Graph(entities)
