"""The tensors of open_clip by name: where each of ours lies in its files.

Source: github.com/mlfoundations/open_clip (model.py, transformer.py, timm_model.py, hf_model.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from medvlm.pretrained_files import Source

Names = list[tuple[str, Callable[[re.Match[str]], Source]]]
"""Patterns of our names, and what each becomes in the file."""

_LAYER = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
_QKV = {"q_proj": 0, "k_proj": 1, "v_proj": 2}


def _layers(ours: str, theirs: str) -> Names:
    """The layers of a CLIP Transformer of transformers as those of open_clip, which keeps q, k and v in one matrix."""
    layer = rf"{re.escape(ours)}\.encoder\.layers\.(\d+)\."
    return [
        (
            layer + r"self_attn\.([qkv]_proj)\.(weight|bias)",
            lambda m: Source(f"{theirs}resblocks.{m[1]}.attn.in_proj_{m[3]}", _QKV[m[2]]),
        ),
        (
            layer + r"self_attn\.out_proj\.(weight|bias)",
            lambda m: Source(f"{theirs}resblocks.{m[1]}.attn.out_proj.{m[2]}"),
        ),
        (
            layer + r"(layer_norm[12]|mlp\.fc[12])\.(weight|bias)",
            lambda m: Source(f"{theirs}resblocks.{m[1]}.{_LAYER[m[2]]}.{m[3]}"),
        ),
    ]


def one(ours: str, theirs: str, turned: bool = False) -> Names:
    """A single tensor."""
    return [(re.escape(ours), lambda m: Source(theirs, turned=turned))]


def _norm(ours: str, theirs: str) -> Names:
    """Weight and bias."""
    return [(rf"{re.escape(ours)}\.(weight|bias)", lambda m: Source(f"{theirs}.{m[1]}"))]


def native_image_names() -> Names:
    """transformers' CLIP vision tower from open_clip's VisionTransformer."""
    ours = "image.vision_model"
    return [
        *_layers(ours, "visual.transformer."),
        *one(f"{ours}.embeddings.class_embedding", "visual.class_embedding"),
        *one(f"{ours}.embeddings.patch_embedding.weight", "visual.conv1.weight"),
        *one(f"{ours}.embeddings.position_embedding.weight", "visual.positional_embedding"),
        *_norm(f"{ours}.pre_layrnorm", "visual.ln_pre"),
        *_norm(f"{ours}.post_layernorm", "visual.ln_post"),
        *one("image.visual_projection.weight", "visual.proj", turned=True),
    ]


def native_text_names(prefix: str) -> Names:
    """transformers' CLIP text tower from open_clip's, whose tensors begin with `prefix` ("text." in some files)."""
    ours = "text.text_model"
    return [
        *_layers(ours, f"{prefix}transformer."),
        *one(f"{ours}.embeddings.token_embedding.weight", f"{prefix}token_embedding.weight"),
        *one(f"{ours}.embeddings.position_embedding.weight", f"{prefix}positional_embedding"),
        *_norm(f"{ours}.final_layer_norm", f"{prefix}ln_final"),
        *one("text.text_projection.weight", f"{prefix}text_projection", turned=True),
    ]


def same_names(ours: str, theirs: str) -> Names:
    """Everything below `ours` lies under the same names below `theirs`."""
    return [(rf"{re.escape(ours)}\.(.+)", lambda m: Source(f"{theirs}.{m[1]}"))]
