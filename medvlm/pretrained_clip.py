"""Dual encoders in the format of transformers: CLIP, SigLIP, SigLIP 2, Chinese CLIP, AltCLIP and MetaCLIP 2.

Patches meet the text in its plainest form: each goes through the same last norm and projection as the pooled token, or
through the same attention pooling by itself. Nothing is re-wired inside the tower (no "CLIP surgery").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn
from transformers import CONFIG_MAPPING

from medvlm.encoders import ImageTokens
from medvlm.pretrained_files import Source

TOWERS = {
    "clip": ("CLIPVisionModel", "CLIPTextModel"),
    "metaclip_2": ("MetaClip2VisionModel", "MetaClip2TextModel"),
    "chinese_clip": ("ChineseCLIPVisionModel", "ChineseCLIPTextModel"),
    "altclip": ("AltCLIPVisionModel", "AltCLIPTextModel"),
    "siglip": ("SiglipVisionModel", "SiglipTextModel"),
    "siglip2": ("Siglip2VisionModel", "Siglip2TextModel"),
}
"""`model_type` of config.json to the classes of the two towers."""
SIGMOID = ("siglip", "siglip2")


def colour(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Grey to three equal channels, each normalised. Shapes: (B, 1, H, W) in [0, 1] -> (B, 3, H, W)."""
    middle, spread = (torch.tensor(values, device=image.device).view(1, -1, 1, 1) for values in (mean, std))
    return (image - middle) / spread


class ColourTower(nn.Module):
    """An image tower that takes colour: it makes three channels of the contract's grey image.

    Args:
        mean: Subtracted from each channel.
        std: What each channel is divided by.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(float(v) for v in mean), tuple(float(v) for v in std)
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError(
                f"mean {self.mean} and std {self.std}: expected three numbers each, those of std above 0; correct the"
                " preprocessing of the model"
            )

    @property
    def channels(self) -> dict[str, Any]:
        """How the grey image becomes colour, for preprocess.json."""
        return {"made": "the grey image, repeated", "count": 3, "mean": list(self.mean), "std": list(self.std)}

    def colour(self, image: Tensor) -> Tensor:
        """Shapes: (B, 1, H, W) in [0, 1] -> (B, 3, H, W)."""
        return colour(image, self.mean, self.std)


def tower_config(config: Mapping[str, Any], side: str) -> Any:
    """The configuration of one tower, "vision" or "text". Raises ValueError for a type that is not in TOWERS."""
    kind = config.get("model_type")
    if kind not in TOWERS:
        raise ValueError(f"model_type {kind!r}: expected one of {', '.join(TOWERS)}")
    return getattr(CONFIG_MAPPING[kind].from_dict(dict(config)), f"{side}_config")


def projection_size(config: Mapping[str, Any]) -> int:
    """Width of the space where image and text meet."""
    if config.get("model_type") in SIGMOID:
        return int(tower_config(config, "vision").hidden_size)
    return int(CONFIG_MAPPING[config["model_type"]].from_dict(dict(config)).projection_dim)


class ClipImage(ColourTower):
    """The vision tower of a transformers dual encoder.

    Shapes: image (B, 1, S, S) in [0, 1] -> local (B, g * g, E), whole (B, E), not normalised; g patches a side.

    Args:
        config: config.json of the checkpoint.
        mean: Subtracted from each colour channel.
        std: What each channel is divided by.
    """

    def __init__(self, config: dict[str, Any], mean: list[float], std: list[float]) -> None:
        super().__init__(mean, std)
        self.kind = str(config.get("model_type"))
        own = tower_config(config, "vision")
        self.vision_model = getattr(transformers, TOWERS[self.kind][0])._from_config(own)
        self.embed = projection_size(config)
        self.patch = int(own.patch_size)
        if self.kind not in SIGMOID:
            self.visual_projection = nn.Linear(own.hidden_size, self.embed, bias=False)

    def forward(self, image: Tensor, view: Tensor | None = None) -> ImageTokens:
        """Tokens of a batch; `view` is not used."""
        grid = (image.shape[2] // self.patch, image.shape[3] // self.patch)
        colours = self.colour(image)
        if self.kind == "siglip2":
            return self._pool_by_attention(self._naflex(colours, grid), grid)
        if self.kind == "siglip":
            return self._pool_by_attention(self.vision_model(pixel_values=colours), grid)
        found = self.vision_model(pixel_values=colours)
        patches = self.vision_model.post_layernorm(found.last_hidden_state[:, 1:])
        return ImageTokens(self.visual_projection(patches), self.visual_projection(found.pooler_output), grid)

    def _pool_by_attention(self, found: Any, grid: tuple[int, int]) -> ImageTokens:
        """Each patch through the pooling head as if it were alone: over one token the attention is 1."""
        hidden = found.last_hidden_state
        alone = self.vision_model.head(hidden.flatten(0, 1)[:, None])
        return ImageTokens(alone.reshape(hidden.shape[0], hidden.shape[1], -1), found.pooler_output, grid)

    def _naflex(self, colours: Tensor, grid: tuple[int, int]) -> Any:
        """SigLIP 2 of native aspect takes patches, pixels before channels; a square contract fills its grid."""
        batch, p = len(colours), self.patch
        cut = colours[:, :, : grid[0] * p, : grid[1] * p]
        cells = cut.reshape(batch, 3, grid[0], p, grid[1], p).permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, p * p * 3)
        mask = torch.ones(cells.shape[:2], dtype=torch.long, device=cells.device)
        shapes = torch.tensor([grid] * batch, device=cells.device)
        return self.vision_model(pixel_values=cells, pixel_attention_mask=mask, spatial_shapes=shapes)


class ClipText(nn.Module):
    """The text tower of a transformers dual encoder.

    Shapes: ids, mask (M, T) -> (M, E), not normalised.

    Args:
        config: config.json of the checkpoint.
        pad: Token that fills a text; SigLIP always reads a full one.
        length: Longest text, in tokens.
    """

    def __init__(self, config: dict[str, Any], pad: int, length: int) -> None:
        super().__init__()
        self.kind, self.pad, self.length = str(config.get("model_type")), pad, length
        own = tower_config(config, "text")
        more = {"add_pooling_layer": False} if self.kind == "chinese_clip" else {}
        self.text_model = getattr(transformers, TOWERS[self.kind][1])._from_config(own, **more)
        self.embed = projection_size(config)
        if self.kind not in SIGMOID:
            # AltCLIP's text model ends with a transformation to the width of its original teacher.
            width = own.project_dim if self.kind == "altclip" else own.hidden_size
            self.text_projection = nn.Linear(width, self.embed, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The pooled token of each text, projected."""
        return self._whole(self._read(ids, mask))

    def with_words(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The vectors (M, E) that `forward` gives, and one for each token (M, T, E), through the same projection."""
        found = self._read(ids, mask)
        hidden = found.last_hidden_state[:, : ids.shape[1]]
        if self.kind in SIGMOID:
            return self._whole(found), self.text_model.head(hidden)
        return self._whole(found), self.text_projection(hidden)

    def _read(self, ids: Tensor, mask: Tensor) -> Any:
        if self.kind in SIGMOID:  # trained on full texts and without a mask
            return self.text_model(input_ids=F.pad(ids, (0, self.length - ids.shape[1]), value=self.pad))
        return self.text_model(input_ids=ids, attention_mask=mask)

    def _whole(self, found: Any) -> Tensor:
        if self.kind in SIGMOID:
            return found.pooler_output
        first = self.kind == "chinese_clip"
        return self.text_projection(found.last_hidden_state[:, 0] if first else found.pooler_output)


UNUSED = (r".*\.position_ids", r"text_model\.pooler\..*", r"text_model\.roberta\.pooler\..*")
"""Tensors of a transformers checkpoint that no embedding passes through."""


def source(name: str) -> Source | None:
    """Where a tensor of ours lies in a transformers checkpoint; None for what it does not have."""
    part, _, inside = name.partition(".")
    if part != "objective":
        return Source(inside)
    return {"log_scale": Source("logit_scale"), "bias": Source("logit_bias")}.get(inside)
