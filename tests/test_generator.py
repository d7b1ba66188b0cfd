"""The report writer: what it is taught, that it repeats itself, and that a foreign model learns by LoRA only."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from medvlm.data import Example, said_in
from medvlm.encoders import HybridTower, ImageTokens
from medvlm.generator import (
    IGNORED,
    DraftBatches,
    Drafts,
    ReportWriter,
    compares,
    decoder_tokenizer,
    pad,
    padded_prompts,
    prompt_text,
    target_text,
)
from medvlm.language import SentenceTower, embed_texts, train_tokenizer
from medvlm.objectives import SentencePairs

REPORTS = (
    "FINDINGS: There is a small left pleural effusion. No pneumothorax.\nIMPRESSION: Left pleural effusion.",
    "INDICATION: Cough.\nFINDINGS: The heart is enlarged.\nIMPRESSION: Cardiomegaly, unchanged from the prior.",
    "FINDINGS: Clear.\nIMPRESSION: Normal chest.",
)
STATEMENTS = ["Pleural effusion.", "Left pleural effusion.", "Cardiomegaly."]


@pytest.fixture(scope="module")
def words() -> PreTrainedTokenizerFast:
    return train_tokenizer(REPORTS, 400)


def towers() -> tuple[HybridTower, SentenceTower, SentencePairs]:
    image = HybridTower(shape=(32, 32), stem=8, widths=(8, 8, 8), depth=1, heads=2, embed=8)
    return image, SentenceTower(vocabulary=400, width=8, depth=1, heads=2, embed=8, length=16), SentencePairs()


def writer(words: PreTrainedTokenizerFast, **more: object) -> ReportWriter:
    torch.manual_seed(0)
    made = ReportWriter(*towers(), STATEMENTS, **{"vocabulary": 400, "width": 24, "depth": 1, **more})  # type: ignore[arg-type]
    with torch.no_grad():
        made.bank.copy_(embed_texts(made.train(False).text, words, STATEMENTS))
    return made.eval()


def drafts(words: PreTrainedTokenizerFast, length: int = 60, batch: int = 3) -> DraftBatches:
    examples = [Example(f"1.{n}", f"p{n}", "1", (), "PA", text, said_in(text)) for n, text in enumerate(REPORTS)]
    images = np.random.default_rng(0).random((len(REPORTS), 1, 32, 32)).astype(np.float32)
    return DraftBatches(examples, images, words, length, batch, seed=0)


def look(module: ReportWriter, batch: Drafts) -> ImageTokens:
    with torch.no_grad():
        return module.image(batch.image, batch.view)


def row_of(tokens: ImageTokens, row: int) -> ImageTokens:
    return ImageTokens(tokens.local[row : row + 1], tokens.whole[row : row + 1], tokens.grid)


# ---- what is taught


def test_a_target_is_findings_and_impression_on_one_line() -> None:
    assert (
        target_text(REPORTS[1])
        == "FINDINGS: The heart is enlarged. IMPRESSION: Cardiomegaly, unchanged from the prior."
    )
    assert target_text("Clear lungs.\nNo effusion.") == "FINDINGS: Clear lungs. No effusion."


def test_the_prompt_says_the_view_and_whether_there_is_a_prior() -> None:
    assert prompt_text("PA", False) == "Current PA film, no prior. Report:"
    assert prompt_text("LATERAL", True) == "Current lateral film, with prior. Report:"
    assert prompt_text("unknown", False) == "Current image, no prior. Report:"
    compared, plain = (Example("1", "p", "1", (), "PA", text, said_in(text)) for text in (REPORTS[1], REPORTS[0]))
    assert compares(compared)
    assert not compares(plain)


def test_labels_are_the_report_and_its_end_and_nothing_of_the_padding(words) -> None:
    batch = drafts(words)[0]
    texts = {target_text(text) for text in REPORTS}
    assert batch.report.shape == batch.labels.shape
    for ids, labels in zip(batch.report, batch.labels, strict=True):
        kept = labels != IGNORED
        assert torch.equal(ids[kept], labels[kept])
        assert int(labels[kept][-1]) == words.eos_token_id
        assert bool((ids[~kept] == words.pad_token_id).all())
        assert words.decode(labels[kept], skip_special_tokens=True).strip() in texts
    assert int((batch.labels == IGNORED).sum()) > 0


def test_a_long_report_is_cut_and_still_ends(words) -> None:
    batch = drafts(words, length=5)[0]
    assert batch.labels.shape[1] == 5
    assert batch.labels[:, -1].tolist() == [words.eos_token_id] * 3


def test_prompts_are_padded_on_the_left() -> None:
    prompt, seen = padded_prompts([[5], [6, 7, 8]], 0)
    assert prompt.tolist() == [[0, 0, 5], [6, 7, 8]]
    assert seen.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert pad([[1], [2, 3]], IGNORED).tolist() == [[1, IGNORED], [2, 3]]


def test_a_batch_is_a_function_of_its_step(words) -> None:
    one, other = drafts(words), drafts(words)
    _ = other[4]
    for a, b in zip(one[2], other[2], strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


# ---- the loss


def test_the_loss_ignores_padding(words) -> None:
    module, batch = writer(words), drafts(words)[0]
    tokens = look(module, batch)
    with torch.no_grad():
        plain = module.loss(tokens, batch).item()
        more = batch._replace(
            report=F.pad(batch.report, (0, 7), value=words.pad_token_id),
            labels=F.pad(batch.labels, (0, 7), value=IGNORED),
        )
        assert module.loss(tokens, more).item() == pytest.approx(plain, abs=1e-5)
        shifted = batch._replace(
            prompt=F.pad(batch.prompt, (5, 0), value=words.pad_token_id), seen=F.pad(batch.seen, (5, 0), value=0)
        )
        assert module.loss(tokens, shifted).item() == pytest.approx(plain, abs=1e-4)
        other = batch.report.clone()
        other[batch.labels == IGNORED] = 77  # what stands under the padding does not matter
        assert module.loss(tokens, batch._replace(report=other)).item() == pytest.approx(plain, abs=1e-5)


def test_the_loss_of_a_batch_is_that_of_its_reports_by_hand(words) -> None:
    """Each report alone, through the decoder, without padding or masks: nats summed, divided by all tokens."""
    module, batch = writer(words), drafts(words)[0]
    tokens = look(module, batch)
    nats, count = 0.0, 0
    with torch.no_grad():
        embed = module.decoder.get_input_embeddings()
        for row in range(3):
            prompt = batch.prompt[row][batch.seen[row] == 1]
            labels = batch.labels[row][batch.labels[row] != IGNORED]
            soft = module.soft_tokens(row_of(tokens, row))
            held = torch.cat([soft, embed(torch.cat([prompt, labels]))[None]], 1)
            log_p = module.decoder(inputs_embeds=held).logits[0].log_softmax(-1)
            first = soft.shape[1] + len(prompt) - 1
            nats -= sum(float(log_p[first + k, token]) for k, token in enumerate(labels.tolist()))
            count += len(labels)
        assert module.loss(tokens, batch).item() == pytest.approx(nats / count, abs=1e-4)


def test_likelihood_is_the_loss_of_the_same_words(words) -> None:
    module, batch = writer(words), drafts(words, batch=1)[0]
    tokens = look(module, batch)
    text = words.decode(batch.labels[0], skip_special_tokens=True).strip()
    bare = batch._replace(report=batch.report[:, :-1], labels=batch.labels[:, :-1])  # without the end
    prior = "with prior" in words.decode(batch.prompt[0])
    with torch.no_grad():
        expected = -module.loss(tokens, bare).item()
    assert module.likelihood(tokens, "PA", prior, "", text, words) == pytest.approx(expected, abs=1e-4)


def test_sentences_of_a_report_add_up_to_the_report(words) -> None:
    module, batch = writer(words), drafts(words)[0]
    tokens = row_of(look(module, batch), 0)
    first, second = "FINDINGS: There is a 12 mm nodule.", "No pneumothorax."
    lengths = [len(words(text, add_special_tokens=False)["input_ids"]) for text in (first, f"{first} {second}")]
    parts = [
        module.likelihood(tokens, "PA", False, before, sentence, words)
        for before, sentence in (("", first), (f"{first} ", second), ("", f"{first} {second}"))
    ]
    total = parts[0] * lengths[0] + parts[1] * (lengths[1] - lengths[0])
    assert total == pytest.approx(parts[2] * lengths[1], abs=1e-3)
    assert module.likelihood(tokens, "PA", False, first, second, words) == pytest.approx(parts[1], abs=1e-6)


def test_the_image_and_the_bank_change_what_is_likely(words) -> None:
    module = writer(words)
    batch = drafts(words)[0]
    tokens = look(module, batch)
    likely = [module.likelihood(row_of(tokens, row), "PA", False, "", "Clear.", words) for row in (0, 1)]
    assert likely[0] != likely[1]
    assert all(value < 0 for value in likely)


# ---- writing


def test_writing_twice_gives_the_same_text_alone_or_in_a_batch(words) -> None:
    module, batch = writer(words), drafts(words)[0]
    tokens = look(module, batch)
    prompts = [prompt_text("PA", False), prompt_text("unknown", True), prompt_text("LATERAL", False)]
    torch.manual_seed(1)
    first = module.write(tokens, prompts, words, length=12)
    torch.manual_seed(2)
    assert module.write(tokens, prompts, words, length=12) == first
    assert [module.write(row_of(tokens, row), prompts[row : row + 1], words, length=12)[0] for row in range(3)] == first
    beams = module.write(tokens, prompts, words, length=12, beams=2)
    assert module.write(tokens, prompts, words, length=12, beams=2) == beams
    assert len(beams) == 3


@pytest.mark.slow
def test_a_writer_learns_to_write_its_reports_word_by_word(words) -> None:
    module, batches = writer(words, width=48).train(), drafts(words)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=3e-3)
    batch = batches[0]
    tokens = look(module, batch)
    for _ in range(150):
        optimizer.zero_grad()
        loss = module.loss(tokens, batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    prompts = [words.decode(row[seen == 1]).strip() for row, seen in zip(batch.prompt, batch.seen, strict=True)]
    expected = [words.decode(row[row != IGNORED], skip_special_tokens=True).strip() for row in batch.labels]
    assert module.eval().write(tokens, prompts, words, length=60) == expected


def test_towers_stay_as_they_are_while_the_writer_learns(words) -> None:
    module = writer(words).train()
    before = {name: tensor.clone() for name, tensor in module.image.state_dict().items()}
    batch = drafts(words)[0]
    module.log = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    module.training_step(batch).backward()
    learning = {name.split(".")[0] for name, p in module.named_parameters() if p.grad is not None}
    assert learning == {"connector", "decoder"}
    assert not module.image.training
    assert module.connector.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.image.state_dict().items())


# ---- a language model of somebody else


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of transformers: a tiny Llama in safetensors with its own tokenizer, which has no padding."""
    folder = tmp_path_factory.mktemp("llama")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        max_position_embeddings=512,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder, safe_serialization=True)
    assert (folder / "model.safetensors").is_file()
    return folder


def test_of_a_foreign_language_model_only_lora_and_connector_learn(words, foreign: Path) -> None:
    theirs = decoder_tokenizer(str(foreign))
    assert theirs.pad_token_id == theirs.eos_token_id
    module = writer(words, language_model=str(foreign), lora_rank=2).train()
    batch = drafts(theirs, length=200)[0]  # type: ignore[arg-type]
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-2)
    loss = module.loss(look(module, batch), batch)
    loss.backward()
    graded = {name for name, p in module.named_parameters() if p.grad is not None}
    assert graded == {n for n in before if n.startswith("connector.") or "lora_" in n}
    assert any("lora_" in name for name in graded)
    optimizer.step()
    moved = {name for name, p in module.named_parameters() if not torch.equal(p, before[name])}
    assert any("lora_B" in name for name in moved)
    assert moved <= graded
    assert math.isfinite(loss.item())
    with torch.no_grad():
        assert module.eval().write(look(module, batch), [prompt_text("PA", False)] * 3, theirs, length=4)


def test_rank_zero_trains_the_whole_language_model(words, foreign: Path) -> None:
    module = writer(words, language_model=str(foreign), lora_rank=0).train()
    batch = drafts(decoder_tokenizer(str(foreign)), length=40)[0]  # type: ignore[arg-type]
    module.loss(look(module, batch), batch).backward()
    names = {name for name, p in module.named_parameters() if p.grad is not None}
    assert not any("lora_" in name for name in names)
    assert any(name.startswith("decoder.model.layers.0.self_attn.q_proj") for name in names)
    assert not any(name.startswith(("image.", "text.", "objective.")) for name in names)


def test_a_foreign_likelihood_is_the_loss_of_the_same_words(words, foreign: Path) -> None:
    """Their tokenizer puts no space before a text, so sentences must be read where they stand."""
    theirs = decoder_tokenizer(str(foreign))
    module = writer(words, language_model=str(foreign), lora_rank=2)
    tokens = row_of(look(module, drafts(words)[0]), 0)
    first, second = "FINDINGS: Clear.", "No pneumothorax."
    whole, lead, rest = (
        module.likelihood(tokens, "PA", False, before, sentence, theirs)
        for before, sentence in (("", f"{first} {second}"), ("", first), (first, second))
    )
    lengths = len(first), len(second) + 1  # one token a letter, and the space between
    assert lead * lengths[0] + rest * lengths[1] == pytest.approx(whole * sum(lengths), abs=1e-3)


def test_weights_that_are_not_safetensors_are_refused(words, foreign: Path, tmp_path: Path) -> None:
    for path in foreign.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        writer(words, language_model=str(tmp_path))
