"""BERTScore: the arithmetic by hand on given vectors, and the encoder that brings vectors of a model on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from evaluation.bertscore import Baseline, Encoded, bert_score

VECTORS = {"[": (1.0, 0.0), "]": (0.0, 1.0), "a": (3.0, 4.0), "b": (4.0, 3.0), "c": (0.0, 2.0)}
# cosines: a b 0.96, a c 0.8, b c 0.6, [ a 0.6, [ b 0.8, ] a 0.8, ] b 0.6, ] c 1


def embed(texts: Sequence[str]) -> list[Encoded]:
    """Letters between two end marks, with vectors that do not depend on their context."""
    found = []
    for text in texts:
        tokens = ["[", *text.split(), "]"]
        special = np.array([token in "[]" for token in tokens])
        found.append(Encoded(tokens, np.array([VECTORS[token] for token in tokens]), special))
    return found


def test_by_hand() -> None:
    found = bert_score(["a"], ["b c"], embed, "two numbers")
    assert found["precision"].value == pytest.approx(0.96)  # a with b
    assert found["recall"].value == pytest.approx((0.96 + 1) / 2)  # b with a, c with the end mark
    assert found["f1"].n == 1


def test_end_marks_can_be_matched_with_but_carry_no_weight() -> None:
    # c is closest to the end mark of "a": 1 instead of 0.8
    found = bert_score(["a"], ["c"], embed, "two numbers")
    assert found["recall"].value == pytest.approx(1)
    assert found["precision"].value == pytest.approx(0.8)
    assert found["f1"].value == pytest.approx(2 * 0.8 / 1.8)


def test_rare_tokens_of_the_references_weigh_more() -> None:
    # df over 2 references: a 2, b 1; weights log(3/3) = 0 and log(3/2)
    found = bert_score(["a b", "c"], ["a b", "a"], embed, "two numbers", idf=True)
    assert found["recall"].items[0] == pytest.approx(1)
    assert found["recall"].items[1] == 0  # all weight of "a" is gone
    assert found["precision"].items[1] == pytest.approx(1)  # an unseen token weighs log 3
    assert "idf of 2 references" in found["f1"].variant


def test_each_number_takes_its_best_reference() -> None:
    found = bert_score(["a"], [["c", "a b"]], embed, "two numbers")
    assert found["precision"].value == pytest.approx(1)
    assert found["recall"].value == pytest.approx(1)
    assert found["f1"].value == pytest.approx(2 * 1 * 0.98 / 1.98)


def test_rescaling_maps_the_baseline_to_nothing() -> None:
    floor = Baseline(0.96, 0.5, 0.5, "a table")
    found = bert_score(["a"], ["b"], embed, "two numbers", baseline=floor)
    assert found["precision"].value == pytest.approx(0)
    assert found["recall"].value == pytest.approx((0.96 - 0.5) / 0.5)
    assert "rescaled by a table" in found["f1"].variant


def test_empty_texts_score_nothing() -> None:
    found = bert_score(["", "a", ""], ["a", "", ""], embed, "two numbers")
    assert all(score.items.tolist() == [0, 0, 0] for score in found.values())


def test_vectors_that_do_not_fit_their_tokens_are_refused() -> None:
    def wrong(texts: Sequence[str]) -> list[Encoded]:
        return [Encoded(["a"], np.ones((2, 3)), np.zeros(1, bool)) for _ in texts]

    with pytest.raises(ValueError, match=r"vectors \(2, 3\) for 1 tokens"):
        bert_score(["a"], ["b"], wrong, "wrong")


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "no", "effusion", "heart", "large"]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    marks = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=8, **marks).save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=16, **size)).save_pretrained(folder)
    return folder


def test_an_encoder_on_disk(encoder_folder: Path) -> None:
    from medvlm.text_embedding import TextEncoder

    encoder = TextEncoder(encoder_folder, layer=1, batch=2)
    long = "no effusion heart large no effusion heart large"
    found = encoder([long, "", "heart"])
    assert [len(one.tokens) for one in found] == [8, 2, 3]  # cut at the longest the model takes
    assert found[2].special.tolist() == [True, False, True]
    alone = encoder(["heart"])[0]
    assert found[2].vectors == pytest.approx(alone.vectors, abs=1e-5)  # padding changes nothing
    score = bert_score(["heart large", "no"], ["heart large", "effusion"], encoder, encoder.name)["f1"]
    assert score.items[0] == pytest.approx(1, abs=1e-6)
    assert score.items[1] < 1
    assert f"{encoder_folder.name} layer 1 sha256:" in score.variant


def test_the_hash_is_of_the_weights(encoder_folder: Path, tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from medvlm.text_embedding import TextEncoder

    other = tmp_path / encoder_folder.name
    shutil.copytree(encoder_folder, other)
    assert TextEncoder(other, 1).name == TextEncoder(encoder_folder, 1).name
    weights = load_file(other / "model.safetensors")
    name = next(name for name in weights if name.endswith("weight"))
    weights[name] = weights[name] + 0.5
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    assert TextEncoder(other, 1).name != TextEncoder(encoder_folder, 1).name


def test_what_is_no_encoder_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    from medvlm.text_embedding import TextEncoder

    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors in"):
        TextEncoder(tmp_path, 1)
    with pytest.raises(ValueError, match="layer is 3, expected 0 to 2"):
        TextEncoder(encoder_folder, 3)
