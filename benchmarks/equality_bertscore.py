"""BERTScore beside the package bert_score, under an encoder of random weights: arithmetic is compared, not a model.

Both get the same folder: a small BERT whose vocabulary is that of simulated reports, written for the run.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from equality_text import Pairs, simulated_report

from evaluation.bertscore import Baseline, bert_score
from evaluation.tokenization import cut_lower_13a
from medvlm.text_embedding import TextEncoder

ROWS = 60
LAYER = 2
FLOOR = Baseline(0.4, 0.45, 0.42, "constants of this test")


class Row(NamedTuple):
    """One comparison; means over texts, and the largest difference of single texts."""

    name: str
    n: int
    ours: float
    original: float | None
    difference: float | None


def main() -> Iterator[Row]:
    """Precision, recall and F1, with and without weights by document frequency, and rescaled."""
    hypotheses = [simulated_report(row, row) for row in range(ROWS)]
    references = [[simulated_report(row, row + add) for add in (1, 2)] for row in range(ROWS)]
    pairs = Pairs("two references", hypotheses, references)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_encoder(folder, [*hypotheses, *(text for texts in references for text in texts)])
        encoder = TextEncoder(folder, LAYER)
        for idf in (False, True):
            ours = bert_score(pairs.hypotheses, pairs.references, encoder, "random", idf)
            yield from _rows(pairs, ours, _original(pairs, folder, idf), "idf" if idf else "no idf")
        ours = bert_score(pairs.hypotheses, pairs.references, encoder, "random", baseline=FLOOR)
        yield from _rows(pairs, ours, _original(pairs, folder, False, FLOOR), "rescaled")


def write_encoder(folder: Path, texts: list[str]) -> None:
    """A BERT of three layers with random weights of a fixed seed, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = sorted({word for text in texts for word in cut_lower_13a(text)})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=256, **marks).save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BertModel(
            BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                num_hidden_layers=3,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=256,
            )
        )
    model.save_pretrained(folder)


def _original(pairs: Pairs, folder: Path, idf: bool, floor: Baseline | None = None) -> Any:
    """(3, N): precision, recall and F1 of each text; None where bert_score is not installed."""
    try:
        import bert_score as original
    except ImportError:
        return None
    options: dict[str, Any] = {}
    if floor is not None:
        table = folder / "baseline.tsv"
        line = f"{floor.precision},{floor.recall},{floor.f1}"
        table.write_text("LAYER,P,R,F\n" + "".join(f"{layer},{line}\n" for layer in range(4)))
        options = {"rescale_with_baseline": True, "baseline_path": str(table), "lang": "en"}
    found = original.score(
        pairs.hypotheses, pairs.references, model_type=str(folder), num_layers=LAYER, idf=idf, nthreads=0, **options
    )
    return np.stack([part.double().numpy() for part in found])


def _rows(pairs: Pairs, ours: dict[str, Any], theirs: Any, setting: str) -> Iterator[Row]:
    try:
        version = f"bert-score {importlib.metadata.version('bert-score')}"
    except importlib.metadata.PackageNotFoundError:
        version = "bert-score"
    for at, (kind, score) in enumerate(ours.items()):
        name = f"bertscore.{kind} (greedy cosine, layer {LAYER}, {setting}), {pairs.source} | {version}"
        if theirs is None:
            yield Row(name, score.n, score.value, None, None)
        else:
            apart = float(np.abs(theirs[at] - score.items).max())
            yield Row(name, score.n, score.value, float(theirs[at].mean()), apart)


if __name__ == "__main__":
    for row in main():
        print(row.name, row.n, f"{row.ours:.6f}", row.original, row.difference)
