"""BioViL and BioViL-T: a ResNet image encoder with a projection of local patches, beside CXR-BERT.

After Boecking et al. 2022, arXiv:2204.09817, and Bannur et al. 2023, arXiv:2301.04558 (level L1). Source of the names:
github.com/microsoft/hi-ml, hi-ml-multimodal. Of BioViL-T the encoder of a single image is read; the comparison with a
prior image is not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medvlm.checkpoint import CheckpointError
from medvlm.encoders import ImageTokens
from medvlm.pretrained_clip import ColourTower
from medvlm.pretrained_files import Source, find_weights, read_foreign_tokenizer, read_json, read_weights
from medvlm.pretrained_parts import ImageRules, Parts, plain_config

RESIZE, SIZE = 512, 448
"""Shorter side before the crop and side of the crop, as in the inference of hi-ml-multimodal."""
UNUSED = (
    r"encoder\.encoder\.fc\..*",  # the ImageNet classifier that the class brings along
    r"encoder\.vit_pooler\..*",  # comparison with a prior image
    r"classifier\..*",
    r"cls\.predictions\..*",  # masked language modelling
    r"bert\.pooler\..*",
    r".*\.position_ids",
)
NOTES = (
    "no temperature is published with BioViL: log-odds are cosines times 1 / 0.07, to be calibrated",
    "of BioViL-T the encoder of a single image only; prior images are not compared",
)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 with a shortcut. Source: He et al. 2016, arXiv:1512.03385, stride in the 3 x 3."""

    def __init__(self, inward: int, width: int, stride: int) -> None:
        super().__init__()
        outward = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inward, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, outward, 1, bias=False), nn.BatchNorm2d(outward)
        self.downsample: nn.Module | None = None
        if stride > 1 or inward != outward:
            self.downsample = nn.Sequential(
                nn.Conv2d(inward, outward, 1, stride=stride, bias=False), nn.BatchNorm2d(outward)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, inward, h, w) -> (B, 4 width, h / stride, w / stride)."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A bottleneck ResNet without classifier, with torchvision's names. Shapes: (B, 3, S, S) -> (B, C, S/32, S/32)."""

    def __init__(self, blocks: list[int], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inward = width
        for i, count in enumerate(blocks):
            inner = width * 2**i
            layers = [
                Bottleneck(inward if k == 0 else 4 * inner, inner, 2 if i and k == 0 else 1) for k in range(count)
            ]
            self.add_module(f"layer{i + 1}", nn.Sequential(*layers))
            inward = 4 * inner
        self.blocks, self.outward = len(blocks), inward

    def forward(self, x: Tensor) -> Tensor:
        """Shapes: (B, 3, S, S) -> (B, C, S/32, S/32)."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        for i in range(self.blocks):
            x = getattr(self, f"layer{i + 1}")(x)
        return x


class BioVilImage(ColourTower):
    """Each patch of a ResNet is projected; the whole image is their mean.

    Shapes: image (B, 1, S, S) in [0, 1] -> local (B, g * g, embed), whole (B, embed), not normalised; g = S / 32.

    Args:
        blocks: Bottlenecks of each stage.
        width: Channels of the first convolution.
        embed: Width of the vectors that meet the text.
        joined: Channels of a patch before the embedding of the missing prior image is put beside; 0 for BioViL.
    """

    def __init__(self, blocks: list[int], width: int, embed: int, joined: int = 0) -> None:
        super().__init__([0.0] * 3, [1.0] * 3)  # trained on pixels in [0, 1], not normalised
        self.embed = embed
        self.encoder: Any = nn.Module()
        self.encoder.encoder = ResNet(blocks, width)
        inward = self.encoder.encoder.outward
        if joined:
            self.encoder.backbone_to_vit = nn.Conv2d(inward, joined, 1, bias=False)
            self.encoder.missing_previous_emb = nn.Parameter(torch.zeros(1, joined, 1, 1))
            inward = 2 * joined
        self.joined = joined
        self.projector: Any = nn.Module()
        self.projector.model = nn.Sequential(
            nn.Conv2d(inward, embed, 1, bias=False), nn.BatchNorm2d(embed), nn.ReLU(), nn.Conv2d(embed, embed, 1)
        )

    def forward(self, image: Tensor, view: Tensor | None = None) -> ImageTokens:
        """Tokens of a batch; `view` is not used."""
        patches = self.encoder.encoder(self.colour(image))
        if self.joined:
            seen = self.encoder.backbone_to_vit(patches)
            missing = self.encoder.missing_previous_emb.expand(len(seen), -1, *seen.shape[2:])
            patches = torch.cat([seen, missing], 1)
        local = self.projector.model(patches)
        return ImageTokens(local.flatten(2).transpose(1, 2), local.mean((2, 3)), tuple(local.shape[2:]))


def read_biovil(folder: Path) -> Parts:
    """The parts of a folder that holds CXR-BERT and a BioViL image encoder.

    Raises:
        CheckpointError: No image weights, or those of a ResNet without bottlenecks.
    """
    config = read_json(folder / "config.json")
    pictures = [p for p in sorted(folder.iterdir()) if re.match(r"biovil.*\.(pt|pth|safetensors)$", p.name)]
    if len(pictures) != 1:
        raise CheckpointError(
            f"{folder}: found {', '.join(p.name for p in pictures) or 'no image encoder'}; expected one file"
            " biovil*.pt or biovil*.safetensors beside CXR-BERT"
        )
    words = find_text_weights(folder, pictures[0])
    seen, said = read_weights(pictures[0]), read_weights(words)
    both = sorted(set(seen) & set(said))
    if both:
        raise CheckpointError(f"{pictures[0]}: holds {', '.join(both[:3])}, which {words.name} holds as well")
    tensors = seen | said
    stated = plain_config(config)
    embed = int(stated.pop("projection_size", 128))
    text = {
        "config": stated | {"model_type": "bert"},
        "pool": "first",
        "head": "cxr-bert",
        "embed": embed,
        "length": min(256, int(stated.get("max_position_embeddings", 512))),
    }
    rules = ImageRules(SIZE, "crop", RESIZE, "bilinear", [0.0] * 3, [1.0] * 3, 0.0, 100.0)
    return Parts(
        "biovil",
        {"class_path": "medvlm.pretrained_biovil.BioVilImage", "init_args": image_arguments(seen, pictures[0])},
        {"class_path": "medvlm.pretrained_bert.BertText", "init_args": text},
        False,
        rules,
        tensors,
        source,
        UNUSED,
        read_foreign_tokenizer(folder),
        pictures[0],
        NOTES if "encoder.missing_previous_emb" in seen else NOTES[:1],
    )


def find_text_weights(folder: Path, picture: Path) -> Path:
    """The weights of CXR-BERT. Raises CheckpointError when there are none."""
    found = find_weights(folder)
    if found == picture:
        raise CheckpointError(
            f"{folder}: found {picture.name} and no text encoder; expected CXR-BERT's model.safetensors"
        )
    return found


def image_arguments(seen: Mapping[str, Tensor], path: Path) -> dict[str, object]:
    """Sizes of the image encoder, read off its tensors. Raises CheckpointError for a ResNet without bottlenecks."""
    stem, last = seen.get("encoder.encoder.conv1.weight"), seen.get("projector.model.3.weight")
    if stem is None or last is None or "encoder.encoder.layer1.0.conv3.weight" not in seen:
        raise CheckpointError(
            f"{path}: has no encoder.encoder.layer1.0.conv3.weight and projector.model.3.weight; expected a ResNet-50"
            " with BioViL's projection. The ResNet-18 has no reader"
        )
    blocks = []
    for i in range(1, 5):
        found = {m[1] for name in seen if (m := re.match(rf"encoder\.encoder\.layer{i}\.(\d+)\.", name))}
        blocks.append(len(found))
    joined = seen.get("encoder.missing_previous_emb")
    return {
        "blocks": blocks,
        "width": stem.shape[0],
        "embed": last.shape[0],
        "joined": 0 if joined is None else joined.shape[1],
    }


def source(name: str) -> Source | None:
    """Where a tensor of ours lies in the two files; None for scale and bias, which BioViL does not publish."""
    if name.startswith("image."):
        return Source(name.removeprefix("image."))
    if name.startswith("text.transformer."):
        return Source(f"bert.{name.removeprefix('text.transformer.')}")
    if name.startswith("text.proj."):
        return Source(f"cls_projection_head.{name.removeprefix('text.proj.')}")
    return None
