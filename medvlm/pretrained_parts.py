"""What a reader of a foreign dual encoder hands over: both towers, how images are prepared, and the tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor
from transformers import PreTrainedTokenizerFast

from medvlm.checkpoint import CheckpointError
from medvlm.pretrained_files import Source
from volumes.fitted_film import INTERPOLATIONS

OPENAI_MEAN = [0.48145466, 0.4578275, 0.40821073]
OPENAI_STD = [0.26862954, 0.26130258, 0.27577711]
"""Mean and standard deviation of OpenAI's CLIP, which open_clip takes where a model states none."""


class ImageRules(NamedTuple):
    """How the model wants its images: side, fit to the square, shorter side before a crop, and colour normalisation."""

    size: int
    fit: str
    resize: int
    interpolation: str
    mean: list[float]
    std: list[float]
    low_percentile: float = 0.5
    high_percentile: float = 99.5


@dataclass(frozen=True)
class Parts:
    """A foreign dual encoder that has been read.

    `image` and `text` describe the towers by class_path and init_args; `sigmoid` says whether scale and bias are those
    of a sigmoid loss; `source` gives for each tensor of ours its place in `tensors`, None where we keep our own value;
    `unused` are patterns of tensors that no embedding passes through.
    """

    family: str
    image: dict[str, Any]
    text: dict[str, Any]
    sigmoid: bool
    rules: ImageRules
    tensors: Mapping[str, Tensor]
    source: Callable[[str], Source | None]
    unused: Sequence[str]
    tokenizer: PreTrainedTokenizerFast
    weights: Path
    notes: tuple[str, ...] = ()


def image_rules(
    size: Any,
    fit: str | None,
    interpolation: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    where: Path,
    resize: int = 0,
) -> ImageRules:
    """Checked rules. Raises CheckpointError for what no contract can do, such as an image that is not square."""
    sides = {int(side) for side in size} if isinstance(size, (list, tuple)) else {int(size)}
    if len(sides) != 1 or fit is None or interpolation not in INTERPOLATIONS:
        raise CheckpointError(
            f"{where}: images of {size} pixels, fit {fit!r}, interpolation {interpolation!r}; expected a square, one of"
            f" the known rules of fitting, and one of {', '.join(INTERPOLATIONS)}"
        )
    side = sides.pop()
    return ImageRules(side, fit, max(resize, side), interpolation, list(mean or OPENAI_MEAN), list(std or OPENAI_STD))


def plain_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of transformers without what names files, classes or code of its origin."""
    gone = ("architectures", "auto_map", "dtype", "torch_dtype", "transformers_version")
    return {
        key: plain_config(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key not in gone and not key.startswith("_")
    }
