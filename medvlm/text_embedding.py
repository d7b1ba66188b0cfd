"""Contextual vectors of texts from a language model on this machine, for BERTScore; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from evaluation.bertscore import Encoded

_HASHED = ("model.safetensors", "config.json", "tokenizer.json", "vocab.txt", "merges.txt")
_SPACED = ("roberta", "gpt2", "bart", "longformer")  # bert_score puts a space before the first word for these


class TextEncoder:
    """Hidden states of one layer of an encoder, read from a folder with safetensors.

    `name` holds the folder's name, the layer and a hash of weights, configuration and vocabulary; it goes into the
    variant of a BERTScore. Texts longer than the model takes are cut at its end, as in bert_score.

    Raises:
        FileNotFoundError: No model.safetensors in the folder.
        ValueError: The model has no such layer.
    """

    def __init__(self, folder: Path, layer: int, batch: int = 32) -> None:
        if not (folder / "model.safetensors").is_file():
            raise FileNotFoundError(
                f"no model.safetensors in {folder}: give the folder of an encoder that was saved with safetensors"
            )
        self.model = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).eval()
        layers = int(self.model.config.num_hidden_layers)
        if not 0 <= layer <= layers:
            raise ValueError(f"layer is {layer}, expected 0 to {layers}, the layers of the encoder in {folder.name}")
        options = {"add_prefix_space": True} if self.model.config.model_type in _SPACED else {}
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
        self.layer, self.batch = layer, batch
        self.longest = min(self.tokenizer.model_max_length, int(self.model.config.max_position_embeddings))
        self.name = f"{folder.name} layer {layer} sha256:{_digest(folder)}"

    def __call__(self, texts: Sequence[str]) -> list[Encoded]:
        """Tokens, vectors (L, E) of float32, and end marks of each text, in the order given."""
        order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # little padding
        found: dict[int, Encoded] = {}
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            found.update(zip(rows, self._encode([texts[row].strip() for row in rows]), strict=True))
        return [found[row] for row in range(len(texts))]

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> list[Encoded]:
        given = self.tokenizer(
            texts, truncation=True, max_length=self.longest, padding=True, return_special_tokens_mask=True,
            return_tensors="pt",
        )  # fmt: skip
        special = given.pop("special_tokens_mask").bool().numpy()
        states = self.model(**given, output_hidden_states=True).hidden_states[self.layer].float().numpy()
        kept = given["attention_mask"].bool().numpy()
        ids = given["input_ids"].numpy()
        return [
            Encoded(tuple(ids[row][kept[row]].tolist()), np.array(states[row][kept[row]]), special[row][kept[row]])
            for row in range(len(texts))
        ]


def _digest(folder: Path) -> str:
    """Twelve digits of a hash over the files that decide the numbers."""
    total = hashlib.sha256()
    for name in _HASHED:
        path = folder / name
        if path.is_file():
            total.update(name.encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:12]
