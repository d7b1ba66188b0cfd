"""Checkpoints in the format of open_clip, read without open_clip and timm.

A native ViT and a native text Transformer become those of transformers' CLIP, which compute the same; a ViT of timm
becomes `TimmImage`; a text tower of transformers (BiomedCLIP, UniMed-CLIP) becomes `BertText`.
The names of the tensors are in `medvlm.open_clip_names`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from medvlm.checkpoint import CheckpointError
from medvlm.open_clip_names import Names, native_image_names, native_text_names, one, same_names
from medvlm.pretrained_bert import BERTS
from medvlm.pretrained_files import Source, find_weights, read_foreign_tokenizer, read_json, read_weights
from medvlm.pretrained_parts import ImageRules, Parts, image_rules, plain_config

CONFIG = "open_clip_config.json"
POOLERS = {
    "mean_pooler": "mean",
    "max_pooler": "max",
    "cls_pooler": "pooler",
    "cls_last_hidden_state_pooler": "first",
}
UNUSED = (r".*\.position_ids", r".*attn_mask", r"text\.transformer\.pooler\..*")


def read_open_clip(folder: Path) -> Parts:
    """The parts of an open_clip checkpoint.

    Raises:
        CheckpointError: An architecture that there is no reader for, by the key that asks for it.
    """
    path = folder / CONFIG
    held = read_json(path)
    model = held.get("model_cfg", held)
    vision, text = model.get("vision_cfg"), model.get("text_cfg")
    if not isinstance(vision, dict) or not isinstance(text, dict) or "embed_dim" not in model:
        raise CheckpointError(f"{path}: has no embed_dim, vision_cfg and text_cfg; expected open_clip's configuration")
    weights = open_clip_weights(folder)
    tensors = read_weights(weights)
    embed, quick = int(model["embed_dim"]), bool(model.get("quick_gelu", False))
    said = held.get("preprocess_cfg", {})
    rules = image_rules(
        size=said.get("size", vision.get("image_size", 224)),
        fit={"shortest": "crop", "longest": "pad", "squash": "stretch"}.get(str(said.get("resize_mode", "shortest"))),
        interpolation=str(said.get("interpolation", "bicubic")),
        mean=said.get("mean"),
        std=said.get("std"),
        where=path,
    )
    notes: list[str] = []
    image, names = image_part(vision, embed, quick, rules, tensors, path)
    if "hf_model_name" in text:
        tokenizer = read_foreign_tokenizer(folder)
        spec, theirs = bert_part(folder, text, embed, tensors, notes, path)
    else:
        tokenizer = read_foreign_tokenizer(folder, pad_id=0)
        prefix = "text." if "text.token_embedding.weight" in tensors else ""
        spec, theirs = native_text_part(text, embed, quick, prefix, path)
    sigmoid = "logit_bias" in tensors
    names = [*names, *theirs, *one("objective.log_scale", "logit_scale"), *one("objective.bias", "logit_bias")]

    def source(name: str) -> Source | None:
        if name == "objective.bias" and not sigmoid:
            return None
        for pattern, place in names:
            if found := re.fullmatch(pattern, name):
                return place(found)
        return None

    return Parts("open_clip", image, spec, sigmoid, rules, tensors, source, UNUSED, tokenizer, weights, tuple(notes))


def open_clip_weights(folder: Path) -> Path:
    """The weights of an open_clip folder: under its own names first, since such a folder may hold both formats."""
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    return find_weights(folder)


def image_part(
    vision: Mapping[str, Any], embed: int, quick: bool, rules: ImageRules, tensors: Mapping[str, Tensor], path: Path
) -> tuple[dict[str, Any], Names]:
    """The image tower as class and arguments, and the names of its tensors."""
    if vision.get("timm_model_name"):
        return timm_part(vision, embed, rules, tensors, path)
    refuse(vision, path, {"attentional_pool", "attn_pooler_heads", "no_ln_pre", "patch_dropout", "pos_embed_type"})
    if isinstance(vision.get("layers"), list):
        raise CheckpointError(
            f"{path}: vision_cfg.layers is a list, a ResNet; there is a reader for ViT and timm's ViT"
        )
    width, size = int(vision["width"]), int(vision.get("image_size", 224))
    config = {
        "model_type": "clip",
        "projection_dim": embed,
        "vision_config": {
            "hidden_size": width,
            "num_hidden_layers": int(vision["layers"]),
            "num_attention_heads": width // int(vision.get("head_width", 64)),
            "intermediate_size": int(width * float(vision.get("mlp_ratio", 4.0))),
            "patch_size": int(vision["patch_size"]),
            "image_size": size,
            "hidden_act": "quick_gelu" if quick else "gelu",
            "projection_dim": embed,
        },
    }
    arguments = {"config": config, "mean": rules.mean, "std": rules.std}
    return {"class_path": "medvlm.pretrained_clip.ClipImage", "init_args": arguments}, native_image_names()


def timm_part(
    vision: Mapping[str, Any], embed: int, rules: ImageRules, tensors: Mapping[str, Tensor], path: Path
) -> tuple[dict[str, Any], Names]:
    """A ViT of timm, whose heads are 64 wide. Raises CheckpointError for its other models, poolings and heads."""
    name = str(vision["timm_model_name"])
    found = re.fullmatch(r"vit_(tiny|small|base|large)_patch(\d+)_(\d+)(\.\w+)?", name)
    if found is None:
        raise CheckpointError(
            f"{path}: vision_cfg.timm_model_name is {name!r}; expected vit_tiny, vit_small, vit_base or vit_large with"
            " its patch and size, such as vit_base_patch16_224. If the model is published in the format of"
            " transformers as well, take that"
        )
    for key, accepted in (("timm_pool", ("", "token")), ("timm_proj", ("linear",))):
        value = vision.get(key, "avg" if key == "timm_pool" else "linear")
        if value not in accepted:
            raise CheckpointError(f"{path}: vision_cfg.{key} is {value!r}; expected {' or '.join(map(repr, accepted))}")
    refuse(vision, path, {"timm_proj_bias"})
    places = tensors.get("visual.trunk.pos_embed")
    if places is None:
        raise CheckpointError(f"{path}: the weights have no visual.trunk.pos_embed; expected those of {name}")
    width = int(places.shape[-1])
    arguments = {
        "width": width,
        "depth": count_layers(tensors, "visual.trunk.blocks."),
        "heads": max(1, width // 64),
        "patch": int(found[2]),
        "size": int(vision.get("image_size", found[3])),
        "embed": embed,
        "mean": rules.mean,
        "std": rules.std,
    }
    names = [*same_names("image.trunk", "visual.trunk"), *same_names("image.head", "visual.head")]
    return {"class_path": "medvlm.pretrained_vit.TimmImage", "init_args": arguments}, names


def count_layers(tensors: Mapping[str, Tensor], start: str) -> int:
    """How many different numbers follow `start` in the names."""
    return len({found[1] for name in tensors if (found := re.match(rf"{re.escape(start)}(\d+)\.", name))})


def native_text_part(
    text: Mapping[str, Any], embed: int, quick: bool, prefix: str, path: Path
) -> tuple[dict[str, Any], Names]:
    """open_clip's own text Transformer, which is that of CLIP."""
    refuse(text, path, {"embed_cls", "no_causal_mask", "proj_bias", "proj_type", "ls_init_value"})
    if text.get("pool_type", "argmax") != "argmax":
        raise CheckpointError(
            f"{path}: text_cfg.pool_type is {text['pool_type']!r}; expected 'argmax', the end of text"
        )
    words, width, length = (
        int(text.get(k, d)) for k, d in (("vocab_size", 49408), ("width", 512), ("context_length", 77))
    )
    config = {
        "model_type": "clip",
        "projection_dim": embed,
        "text_config": {
            "vocab_size": words,
            "hidden_size": width,
            "num_hidden_layers": int(text.get("layers", 12)),
            "num_attention_heads": int(text.get("heads", 8)),
            "intermediate_size": int(width * float(text.get("mlp_ratio", 4.0))),
            "max_position_embeddings": length,
            "hidden_act": "quick_gelu" if quick else "gelu",
            "projection_dim": embed,
            "eos_token_id": 2,  # to transformers: pool at the highest token number, as open_clip does
        },
    }
    arguments = {"config": config, "pad": 0, "length": length}
    return {"class_path": "medvlm.pretrained_clip.ClipText", "init_args": arguments}, native_text_names(prefix)


def bert_part(
    folder: Path, text: Mapping[str, Any], embed: int, tensors: Mapping[str, Tensor], notes: list[str], path: Path
) -> tuple[dict[str, Any], Names]:
    """A text tower of transformers inside open_clip. Raises CheckpointError for a pooling without a reader."""
    pooler = str(text.get("hf_pooler_type") or text.get("pooler_type") or "mean_pooler")
    if pooler not in POOLERS:
        raise CheckpointError(f"{path}: text_cfg.hf_pooler_type is {pooler!r}; expected one of {', '.join(POOLERS)}")
    config = bert_config(folder, text, tensors, notes, path)
    head = str(text.get("hf_proj_type") or text.get("proj") or "")
    if not head and int(config["hidden_size"]) != embed:
        raise CheckpointError(
            f"{path}: text_cfg.hf_proj_type is not stated, and the width {config['hidden_size']} of the text encoder is"
            f" not embed_dim {embed}; expected 'linear' or 'mlp'"
        )
    arguments = {
        "config": config,
        "pool": POOLERS[pooler],
        "head": head or "none",
        "embed": embed,
        "length": min(int(text.get("context_length", 77)), int(config["max_position_embeddings"])),
    }
    names = [*same_names("text.transformer", "text.transformer"), *same_names("text.proj", "text.proj")]
    return {"class_path": "medvlm.pretrained_bert.BertText", "init_args": arguments}, names


def bert_config(
    folder: Path, text: Mapping[str, Any], tensors: Mapping[str, Tensor], notes: list[str], path: Path
) -> dict[str, Any]:
    """The configuration of the text encoder: from config.json, or read off its tensors (BERT, heads of 64)."""
    if (folder / "config.json").is_file():
        stated = read_json(folder / "config.json")
        stated = stated.get("text_config", stated) if "text_config" in stated else stated
        if stated.get("model_type") in BERTS:
            return plain_config(stated)
    start = "text.transformer."
    words = tensors.get(f"{start}embeddings.word_embeddings.weight")
    if words is None:
        raise CheckpointError(
            f"{path}: text_cfg.hf_model_name is {text['hf_model_name']!r}, whose tensors are not those of a BERT, and"
            f" {folder} has no config.json of it; expected one with model_type {', '.join(BERTS)}"
        )
    layers = count_layers(tensors, f"{start}encoder.layer.")
    first = tensors.get(f"{start}encoder.layer.0.intermediate.dense.weight")
    positions, types = (
        tensors.get(f"{start}embeddings.{kind}_embeddings.weight") for kind in ("position", "token_type")
    )
    if first is None or positions is None or types is None:
        raise CheckpointError(f"{path}: the text encoder's tensors are not those of a BERT; put its config.json beside")
    width = words.shape[1]
    notes.append(
        f"the configuration of the text encoder was read off its tensors: BERT, width {width}, {layers} layers,"
        f" {max(1, width // 64)} heads of 64"
    )
    return {
        "model_type": "bert",
        "vocab_size": words.shape[0],
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": max(1, width // 64),
        "intermediate_size": first.shape[0],
        "max_position_embeddings": positions.shape[0],
        "type_vocab_size": types.shape[0],
    }


def refuse(stated: Mapping[str, Any], path: Path, keys: set[str]) -> None:
    """Raise CheckpointError when a key asks for what no reader computes."""
    asked = sorted(key for key in keys if stated.get(key) not in (None, False, 0, 0.0, "", "learnable", "none"))
    if asked:
        raise CheckpointError(
            f"{path}: {', '.join(f'{key} = {stated[key]!r}' for key in asked)} changes what the tower computes, and"
            " there is no reader for it. If the model is published in the format of transformers as well, take that"
        )
