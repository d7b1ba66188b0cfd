"""The tokenizer and the sentence tower: nothing is unknown, nothing is random, capitals do not matter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medvlm.language import (
    BEGIN,
    END,
    PAD,
    UNKNOWN,
    SentenceTower,
    embed_texts,
    encode,
    load_tokenizer,
    train_tokenizer,
)

TEXTS = (
    "FINDINGS: There is a small left pleural effusion. No pneumothorax.",
    "IMPRESSION: Left pleural effusion, 12 mm deep. The heart is enlarged.",
    "There is a 17 mm nodule in the right upper lobe.",
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, vocabulary=400)


def small_tower() -> SentenceTower:
    return SentenceTower(vocabulary=400, width=16, depth=1, heads=2, embed=8, length=12).eval()


@pytest.mark.parametrize(
    "text",
    [*TEXTS, "A word that was never read: zygomatic.", "Größe 3 µm, naïve; 25 °C", "胸水なし", "two  spaces", "a\nb"],
)
def test_text_comes_back_as_it_was(tokenizer, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).removeprefix(" ") == text


def test_digits_stand_alone(tokenizer) -> None:
    """A number that was never seen must not be one token: its digits are what the writer copies."""
    pieces = [tokenizer.decode([i]).strip() for i in tokenizer("12.5 mm", add_special_tokens=False)["input_ids"]]
    assert [piece for piece in pieces if piece][:4] == ["1", "2", ".", "5"]


def test_the_four_special_tokens_come_first(tokenizer) -> None:
    assert [tokenizer.convert_tokens_to_ids(token) for token in (PAD, UNKNOWN, BEGIN, END)] == [0, 1, 2, 3]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (
        0,
        1,
        2,
        3,
    )


def test_the_vocabulary_is_bounded_and_frequent_words_are_short(tokenizer) -> None:
    assert 256 < len(tokenizer) <= 400
    known, strange = (len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in ("effusion", "xqzwvkjp"))
    assert known < strange


def test_the_same_texts_give_the_same_tokenizer() -> None:
    first, second = (train_tokenizer(TEXTS, 400).backend_tokenizer.to_str() for _ in range(2))
    assert first == second


def test_a_tokenizer_from_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no report text to train a tokenizer on: 0 texts found, expected at least 1"):
        train_tokenizer(["", "  \n"])


def test_a_saved_tokenizer_reads_the_same_and_a_missing_one_is_named(tokenizer, tmp_path: Path) -> None:
    tokenizer.backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = load_tokenizer(tmp_path)
    assert read(TEXTS[1])["input_ids"] == tokenizer(TEXTS[1])["input_ids"]
    assert (read.pad_token_id, read.eos_token_id) == (0, 3)
    with pytest.raises(FileNotFoundError, match=r"nowhere/tokenizer\.json: not there\. A checkpoint keeps"):
        load_tokenizer(tmp_path / "nowhere")


# ---- encoding


def test_sentences_are_lowered_padded_and_cut(tokenizer) -> None:
    ids, mask = encode(tokenizer, ["No EFFUSION.", "no effusion.", TEXTS[1]], length=10)
    assert ids.shape == mask.shape == (3, 10)
    assert ids.dtype == torch.long
    assert ids[0].tolist() == ids[1].tolist()
    assert int(mask[2].sum()) == 10
    assert bool((ids[mask == 0] == tokenizer.pad_token_id).all())
    assert int(mask[0].sum()) < 10


def test_encoding_does_not_depend_on_what_was_encoded_before(tokenizer) -> None:
    alone = encode(tokenizer, ["No effusion."], length=12)[0]
    encode(tokenizer, [TEXTS[0]], length=4)
    assert encode(tokenizer, ["No effusion."], length=12)[0].tolist() == alone.tolist()


def test_empty_sentences_are_encoded_like_others(tokenizer) -> None:
    for sentences in ([""], ["", "No effusion."]):
        ids, mask = encode(tokenizer, sentences, length=12)
        assert ids.dtype == torch.long
        assert int(mask[0].sum()) == 0
        vectors = small_tower()(ids, mask)
        assert vectors.shape == (len(sentences), 8)
        assert bool(torch.isfinite(vectors).all())


# ---- the tower


def test_vectors_are_units_and_ignore_capitals_and_company(tokenizer) -> None:
    tower = small_tower()
    with torch.no_grad():
        together = embed_texts(tower, tokenizer, ["No effusion.", TEXTS[1], "NO EFFUSION."])
        alone = embed_texts(tower, tokenizer, ["No effusion."])
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(together[0], together[2])
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)  # padding changes nothing
    assert not torch.allclose(together[0], together[1])


def test_no_text_is_refused(tokenizer) -> None:
    with pytest.raises(ValueError, match="no text to embed: 0 given, expected at least 1"):
        embed_texts(small_tower(), tokenizer, [])


def test_a_long_sentence_is_cut_at_the_length_of_the_tower(tokenizer) -> None:
    tower = small_tower()
    with torch.no_grad():
        long, longer = embed_texts(tower, tokenizer, [" ".join(TEXTS), " ".join(TEXTS) * 2])
    torch.testing.assert_close(long, longer)
