"""Report generation: image tokens, a connector, and a causal language model of transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from medvlm.connector import StatementConnector
from medvlm.contrastive import decayed, warm_cosine
from medvlm.data import Augment, Example, Images, Schedule
from medvlm.encoders import VIEWS, ImageTokens
from medvlm.minimal import minimal_report
from reports.sections import split_sections

IGNORED = -100  # the label that cross-entropy skips


class Drafts(NamedTuple):
    """One batch. Shapes: image (B, 1, *shape); view (B,); prompt, seen (B, P); report, labels (B, T); step ()."""

    image: Tensor
    view: Tensor
    prompt: Tensor
    seen: Tensor  # 1 where the prompt has a token, 0 where it is padding
    report: Tensor
    labels: Tensor
    step: int


def prompt_text(view: str, prior: bool) -> str:
    """What the writer is told beside the image. Whether there is a prior decides if it may compare."""
    image = {"LATERAL": "lateral film", "PA": "PA film", "AP": "AP film"}.get(view, "image")
    return f"Current {image}, {'with' if prior else 'no'} prior. Report:"


def target_text(report: str) -> str:
    """Findings and impression on one line each, the form in which the writer learns to write."""
    sections = split_sections(report)
    parts = [
        f"{name.upper()}: {' '.join(sections[name].split())}"
        for name in ("findings", "impression")
        if sections.get(name)
    ]
    return " ".join(parts)


def compares(example: Example) -> bool:
    """Whether the report speaks of a prior."""
    return any(fact.change for fact in example.facts)


class DraftBatches(Dataset[Drafts]):
    """Images with the report to be written; the batch is a function of (seed, step).

    With `names` the writer learns minimal reports about these findings, without it the reports as they were written.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        images: Images,
        tokenizer: PreTrainedTokenizerBase,
        length: int,
        batch_size: int,
        seed: int,
        augment: Augment | None = None,
        names: Sequence[str] | None = None,
        rows: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self.examples, self.images, self.tokenizer = list(examples), images, tokenizer
        self.targets = [target_text(e.text) if names is None else minimal_report(e.facts, names) for e in self.examples]
        self.length, self.augment = length, augment
        self.schedule = Schedule(seed, len(self.examples), batch_size, rows)

    def __getitem__(self, step: int) -> Drafts:
        picked = self.schedule(step)
        image = torch.from_numpy(np.stack([self.images[i] for i in picked]))
        if self.augment is not None:
            image = self.augment(image, self.schedule.rng("augment", step))
        view = torch.tensor(
            [VIEWS.index(v) if (v := self.examples[i].view) in VIEWS else len(VIEWS) - 1 for i in picked]
        )
        prompts = [prompt_text(self.examples[i].view, compares(self.examples[i])) for i in picked]
        prompt, seen = padded_prompts([self._ids(text) for text in prompts], self._pad())
        end = self.tokenizer.eos_token_id
        bodies = [[*self._ids(self.targets[i])[: self.length - 1], end] for i in picked]
        return Drafts(image, view, prompt, seen, pad(bodies, self._pad()), pad(bodies, IGNORED), step)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _pad(self) -> int:
        return int(self.tokenizer.pad_token_id)


def pad(rows: Sequence[Sequence[int]], value: int, left: bool = False) -> Tensor:
    """Rows of ids as one tensor (B, T), filled with `value` on the right, or on the left."""
    width = max(len(row) for row in rows)
    filled = [[value] * (width - len(r)) + list(r) if left else list(r) + [value] * (width - len(r)) for r in rows]
    return torch.tensor(filled)


def padded_prompts(rows: Sequence[Sequence[int]], value: int) -> tuple[Tensor, Tensor]:
    """Prompts padded on the left, and their mask; both (B, P)."""
    return pad(rows, value, left=True), pad([[1] * len(row) for row in rows], 0, left=True)


def small_decoder(
    vocabulary: int, width: int = 192, depth: int = 3, heads: int = 6, positions: int = 512
) -> LlamaForCausalLM:
    """A causal language model from scratch: the embedded default, about two million parameters."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            intermediate_size=3 * width,
            max_position_embeddings=positions,
            tie_word_embeddings=True,
            bos_token_id=2,
            eos_token_id=3,
            pad_token_id=0,
        )
    )


def load_decoder(name: str, lora_rank: int) -> nn.Module:
    """A checkpoint of transformers by local folder, or by hub name if the user gives one; LoRA if the rank is > 0.

    Only safetensors weights are read, and no code of the checkpoint is run.
    """
    model = AutoModelForCausalLM.from_pretrained(
        name, use_safetensors=True, trust_remote_code=False, local_files_only=Path(name).exists()
    )
    if lora_rank <= 0:
        return model
    from peft import LoraConfig, get_peft_model

    return get_peft_model(
        model, LoraConfig(r=lora_rank, lora_alpha=2 * lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )


def decoder_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a local or named checkpoint; a missing pad token becomes its end token."""
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=Path(name).exists())
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


class ReportWriter(lightning.LightningModule):
    """Writes a report for an image. The contrastive towers are frozen; connector and language model learn.

    Args:
        image: Trained image tower.
        text: Trained text tower.
        objective: Trained objective: its scale and bias turn cosines into log-odds.
        statements: Texts of the statement bank; their vectors are computed once by the text tower.
        language_model: Folder or hub name of a causal LM; None trains a small one from scratch.
        lora_rank: Rank of LoRA adapters on a given language model; 0 trains all of it.
        vocabulary: Size of our own tokenizer, for the decoder from scratch.
        width: Width of the decoder from scratch.
        depth: Its layers.
        lr: Highest learning rate.
        weight_decay: AdamW decay of matrices.
        warmup: Steps of linear warm-up.
        seed: Keys any randomness inside the step.
    """

    def __init__(
        self,
        image: nn.Module,
        text: nn.Module,
        objective: nn.Module,
        statements: list[str] | None = None,
        language_model: str | None = None,
        lora_rank: int = 8,
        vocabulary: int = 1024,
        width: int = 192,
        depth: int = 3,
        lr: float = 1.5e-3,
        weight_decay: float = 0.05,
        warmup: int = 40,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.image, self.text, self.objective = image, text, objective
        self.statements = list(statements or ["No finding."])
        self.language_model = language_model
        self.lr, self.weight_decay, self.warmup, self.seed = lr, weight_decay, warmup, seed
        self.decoder = (
            load_decoder(language_model, lora_rank) if language_model else small_decoder(vocabulary, width, depth)
        )
        embed = int(image.embed)  # type: ignore[arg-type]
        inner = self.decoder.get_input_embeddings().embedding_dim  # type: ignore[operator]
        self.connector = StatementConnector(self.statements, embed, inner)
        self.register_buffer("bank", torch.zeros(len(self.statements), embed))
        for part in (self.image, self.text, self.objective):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> ReportWriter:
        """Frozen towers stay in evaluation mode: their batch statistics belong to the contrastive run."""
        super().train(mode)
        for part in (self.image, self.text, self.objective):
            part.eval()
        return self

    def soft_tokens(self, image: ImageTokens) -> Tensor:
        """What the language model sees of the image: (B, K + queries, width)."""
        return self.connector(image, self.bank, self.objective)

    def prefix(self, soft: Tensor, prompt: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings (B, S, width) of image and prompt, and their mask (B, S)."""
        words = self.decoder.get_input_embeddings()(prompt)  # type: ignore[operator]
        image = torch.ones(soft.shape[:2], dtype=torch.long, device=soft.device)
        return torch.cat([soft.to(words.dtype), words], 1), torch.cat([image, seen.to(soft.device)], 1)

    def training_step(self, batch: Drafts) -> Tensor:
        """Cross-entropy of the report's tokens, in nats per token."""
        torch.manual_seed(hash((self.seed, batch.step)) % 2**63)
        with torch.no_grad():
            tokens = self.image(batch.image, batch.view)
        loss = self.loss(tokens, batch)
        self.log("train/loss", loss, batch_size=len(batch.image), prog_bar=True)
        return loss

    def loss(self, tokens: ImageTokens, batch: Drafts) -> Tensor:
        """Nats per report token, given the image tokens."""
        start, mask = self.prefix(self.soft_tokens(tokens), batch.prompt, batch.seen)
        words = self.decoder.get_input_embeddings()(batch.report)  # type: ignore[operator]
        mask = torch.cat([mask, (batch.labels != IGNORED).long()], 1)
        place = (mask.cumsum(1) - 1).clamp(min=0)  # as `generate` counts positions: padding takes none
        logits = self.decoder(
            inputs_embeds=torch.cat([start, words], 1), attention_mask=mask, position_ids=place
        ).logits
        written = logits[:, start.shape[1] - 1 : -1]  # each position predicts the next token
        return nn.functional.cross_entropy(written.flatten(0, 1).float(), batch.labels.flatten(), ignore_index=IGNORED)

    @torch.no_grad()
    def write(
        self,
        tokens: ImageTokens,
        prompts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        length: int = 220,
        beams: int = 1,
    ) -> list[str]:
        """Reports for a batch of images, greedy or by beam search; the same input always gives the same text."""
        rows = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in prompts]
        padding = int(tokenizer.pad_token_id)
        prompt, seen = padded_prompts(rows, padding)
        start, mask = self.prefix(self.soft_tokens(tokens), prompt.to(tokens.local.device), seen)
        ids = self.decoder.generate(  # type: ignore[operator]
            inputs_embeds=start,
            attention_mask=mask,
            max_new_tokens=length,
            num_beams=beams,
            do_sample=False,
            pad_token_id=padding,
            eos_token_id=tokenizer.eos_token_id,
        )
        return [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]

    @torch.no_grad()
    def likelihood(
        self,
        tokens: ImageTokens,
        view: str,
        prior: bool,
        before: str,
        sentence: str,
        tokenizer: PreTrainedTokenizerBase,
    ) -> float:
        """Mean log-likelihood of a sentence after `before`, in nats per token, for one image."""
        before = before.strip()
        # Both as one text, as they were learned: the words of a sentence are other tokens when they stand alone.
        prompt, lead, body = (
            list(tokenizer(text, add_special_tokens=False)["input_ids"])
            for text in (prompt_text(view, prior), before, f"{before} {sentence}".strip())
        )
        said = next((i for i, (a, b) in enumerate(zip(lead, body, strict=False)) if a != b), len(lead))
        start, _ = self.prefix(
            self.soft_tokens(tokens), torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.long)
        )
        words = self.decoder.get_input_embeddings()(torch.tensor([body]))  # type: ignore[operator]
        logits = self.decoder(inputs_embeds=torch.cat([start, words], 1)).logits[0].float()
        first = start.shape[1] - 1  # the position that predicts the first word of the report
        log_p = logits[first : first + len(body)].log_softmax(-1)[range(len(body)), body]
        return float(log_p[said:].mean())

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine, stepped by batch."""
        optimizer = torch.optim.AdamW(decayed(self, self.weight_decay), lr=self.lr, betas=(0.9, 0.98))
        schedule = warm_cosine(optimizer, self.warmup, int(self.trainer.max_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
