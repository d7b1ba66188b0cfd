"""Report text towers: a tokenizer trained on the catalog's reports and a sentence encoder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[BOS]", "[EOS]"


def train_tokenizer(texts: Iterable[str], vocabulary: int = 1024) -> PreTrainedTokenizerFast:
    """Byte-level BPE on report text, so that no character is ever unknown.

    Cased text is kept for the writer; the text tower lowers its input itself.

    Raises:
        ValueError: No text at all.
    """
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise ValueError(
            "no report text to train a tokenizer on: 0 texts found, expected at least 1. Ingest reports first."
        )
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    # One space before the text, so that a word is the same token at its beginning. ByteLevel itself would put one
    # before each digit as well, and a 12 mm nodule would be written as 1 2 mm.
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Prepend(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, UNKNOWN, BEGIN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *(text.lower() for text in texts)], trainer)
    return wrap_tokenizer(tokenizer)


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as a transformers object with our four special tokens."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        unk_token=UNKNOWN,
        bos_token=BEGIN,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Read `tokenizer.json` of a checkpoint. Raises FileNotFoundError with the path."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: not there. A checkpoint keeps its tokenizer in tokenizer/tokenizer.json.")
    return wrap_tokenizer(Tokenizer.from_file(str(path)))


def encode(tokenizer: PreTrainedTokenizerFast, sentences: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
    """Token ids (M, T) and mask (M, T), lower-cased, cut at `length` tokens."""
    batch = tokenizer(
        [sentence.lower() for sentence in sentences],
        padding=True,
        truncation=True,
        max_length=length,
        return_tensors="pt",
        return_token_type_ids=False,
    )
    ids, mask = batch["input_ids"].long(), batch["attention_mask"].long()
    if ids.shape[1] == 0:  # no sentence has a token: one place of padding, which nothing looks at
        ids, mask = ids.new_full((len(ids), 1), int(tokenizer.pad_token_id)), mask.new_zeros((len(ids), 1))
    return ids, mask


class SentenceTower(nn.Module):
    """A small BERT trained from scratch; one vector for each sentence.

    Shapes: ids, mask (M, T) -> (M, embed), not normalised.

    Args:
        vocabulary: Rows of the embedding; at least the size of the tokenizer.
        width: Hidden size.
        depth: Layers.
        heads: Attention heads.
        embed: Width of the vector that meets the image tokens.
        length: Longest sentence, in tokens.
    """

    def __init__(
        self,
        vocabulary: int = 1024,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        embed: int = 128,
        length: int = 48,
    ) -> None:
        super().__init__()
        self.length, self.embed = length, embed
        self.bert = BertModel(
            BertConfig(
                vocab_size=vocabulary,
                hidden_size=width,
                num_hidden_layers=depth,
                num_attention_heads=heads,
                intermediate_size=2 * width,
                max_position_embeddings=length,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            add_pooling_layer=False,
        )
        # A fresh Transformer maps all sentences to nearly one direction; centering them lets learning begin at once.
        self.project = nn.Sequential(nn.Linear(width, embed), nn.BatchNorm1d(embed, affine=False))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Mean over the real tokens, projected. A sentence without tokens gives the bias."""
        hidden = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        return self.project((hidden * weight).sum(1) / weight.sum(1).clamp(min=1))


def embed_texts(tower: nn.Module, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Unit vectors (M, E) of the given texts. Raises ValueError when there is none."""
    if not texts:
        raise ValueError("no text to embed: 0 given, expected at least 1")
    ids, mask = encode(tokenizer, texts, int(tower.length))  # type: ignore[arg-type]
    device = next(tower.parameters()).device
    return nn.functional.normalize(tower(ids.to(device), mask.to(device)), dim=-1)
