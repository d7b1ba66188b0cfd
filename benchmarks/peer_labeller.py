"""Reads reports (one JSON string per line) and prints how many per second another labeller reads, as one JSON object.

    PYTHON benchmarks/peer_labeller.py medspacy|negspacy < reports.jsonl

Run by `labelling_speed.py --peer-python PYTHON`, with an interpreter that has the peer installed (`pip install
medspacy` or `pip install negspacy`); nothing of this project is imported. Both get the same plain words for the
findings, a sentence splitter, and their own rules for negation: medspacy its ConText (Eyre et al. 2021,
arXiv:2106.07799), negspacy its NegEx. That is less than our labeller does: no sides, sizes, places or change.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from importlib.metadata import version
from typing import Any

WORDS = (
    *("cardiomegaly", "enlarged heart", "pleural effusion", "effusion", "pneumothorax", "consolidation", "pneumonia"),
    *("atelectasis", "nodule", "mass", "opacity", "infiltrate", "edema", "congestion", "emphysema", "hyperinflation"),
    *("fracture", "catheter", "tube", "pacemaker", "pleural thickening", "hernia", "lymphadenopathy", "granuloma"),
    *("fibrosis", "scarring", "bronchiectasis", "calcification"),
)


def medspacy_pipeline() -> Any:
    """ConText on the targets, with medspacy's own sentence splitter."""
    target_rule = import_module("medspacy.ner").TargetRule
    nlp = import_module("medspacy").load(
        medspacy_enable=["medspacy_pyrush", "medspacy_target_matcher", "medspacy_context"]
    )
    nlp.get_pipe("medspacy_target_matcher").add([target_rule(word, "FINDING") for word in WORDS])
    return nlp


def negspacy_pipeline() -> Any:
    """NegEx on the entities of a blank English pipeline."""
    import_module("negspacy.negation")  # registers the component
    nlp = import_module("spacy").blank("en")
    nlp.add_pipe("sentencizer")
    ruler = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": "FINDING", "pattern": word} for word in WORDS])
    nlp.add_pipe("negex", config={"ent_types": ["FINDING"]})
    return nlp


def main(name: str) -> None:
    """Time one peer on the reports of the standard input; processor seconds after one warm-up."""
    texts = [json.loads(line) for line in sys.stdin]
    nlp = {"medspacy": medspacy_pipeline, "negspacy": negspacy_pipeline}[name]()
    nlp(texts[0])
    start = time.process_time()
    found = sum(len(nlp(text).ents) for text in texts)
    seconds = time.process_time() - start
    print(
        json.dumps(
            {"peer": f"{name} {version(name)}", "reports": len(texts), "per_s": len(texts) / seconds, "found": found}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1])
