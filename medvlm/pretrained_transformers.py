"""Reading a folder in the format of transformers: config.json, preprocessor_config.json, tokenizer and weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvlm.checkpoint import CheckpointError
from medvlm.pretrained_clip import SIGMOID, TOWERS, UNUSED, source, tower_config
from medvlm.pretrained_files import find_weights, read_foreign_tokenizer, read_json, read_weights
from medvlm.pretrained_parts import ImageRules, Parts, image_rules, plain_config

RESAMPLE = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Numbers of Pillow's filters, as image processors state them."""


def read_transformers(folder: Path, families: tuple[str, ...] = tuple(TOWERS)) -> Parts:
    """The parts of a CLIP or SigLIP in the format of transformers.

    Raises:
        CheckpointError: Another type of model, naming it, or a processor that no contract can follow.
    """
    config = plain_config(read_json(folder / "config.json"))
    kind = config.get("model_type")
    if kind not in families:
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {kind!r}; expected {', '.join(families)}")
    tokenizer = read_foreign_tokenizer(folder, tower_config(config, "text").pad_token_id)
    length = int(tower_config(config, "text").max_position_embeddings)
    if kind == "altclip":  # XLM-R counts places from behind its padding number
        length -= int(tokenizer.pad_token_id) + 1
    rules = processor_rules(folder, config)
    image = {"config": config, "mean": rules.mean, "std": rules.std}
    text = {"config": config, "pad": int(tokenizer.pad_token_id), "length": min(length, 256)}
    weights = find_weights(folder)
    notes: tuple[str, ...] = ()
    if kind == "siglip2":
        notes = ("SigLIP 2 of native aspect: films are padded to a square that fills its grid of patches",)
    return Parts(
        "siglip" if kind in SIGMOID else "clip",
        {"class_path": "medvlm.pretrained_clip.ClipImage", "init_args": image},
        {"class_path": "medvlm.pretrained_clip.ClipText", "init_args": text},
        kind in SIGMOID,
        rules,
        read_weights(weights),
        source if kind in SIGMOID else without_bias,
        UNUSED,
        tokenizer,
        weights,
        notes,
    )


def without_bias(name: str) -> Any:
    """Names of a model that was trained with a softmax: it has a scale and no bias."""
    return None if name == "objective.bias" else source(name)


def processor_rules(folder: Path, config: Mapping[str, Any]) -> ImageRules:
    """The image processor's rules, read from preprocessor_config.json or processor_config.json."""
    path = folder / "preprocessor_config.json"
    if not path.is_file() and (folder / "processor_config.json").is_file():
        path = folder / "processor_config.json"
    said = read_json(path)
    said = said.get("image_processor", said)
    mean, std = said.get("image_mean"), said.get("image_std")
    if not said.get("do_normalize", True):
        mean, std = [0.0] * 3, [1.0] * 3
    filter_ = RESAMPLE.get(int(said.get("resample", 3)), f"resample {said.get('resample')}")
    vision = tower_config(config, "vision")
    if config.get("model_type") == "siglip2":
        side = int(vision.num_patches**0.5) * int(vision.patch_size)
        return image_rules(side, "pad", filter_, mean, std, path)
    size, crop = said.get("size", 224), said.get("crop_size")
    edges = size if isinstance(size, Mapping) else {"shortest_edge": int(size)}
    if said.get("do_center_crop", config.get("model_type") not in SIGMOID):
        cut = crop if crop is not None else size
        sides = (
            [cut.get("height", cut.get("shortest_edge")), cut.get("width", cut.get("shortest_edge"))]
            if isinstance(cut, Mapping)
            else [cut, cut]
        )
        fit, resize = "crop", int(edges.get("shortest_edge", edges.get("height", 0)))
    else:
        sides = [edges.get(key, edges.get("shortest_edge")) for key in ("height", "width")]
        fit, resize = "stretch", 0
    if None in sides or int(vision.image_size) != int(sides[0]):
        raise CheckpointError(
            f"{path}: makes images of {sides} pixels, but config.json says that the model takes {vision.image_size};"
            " expected the same. Take both files from one release"
        )
    return image_rules(sides, fit, filter_, mean, std, path, resize)
