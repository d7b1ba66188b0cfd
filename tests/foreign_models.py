"""Tiny folders in the true formats of published dual encoders, with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, ViTConfig, ViTModel

_SENTENCE = """there is no a an of the in left right and with pleural effusion pneumothorax cardiomegaly heart enlarged
lung opacity consolidation edema large small blunted angle acute findings normal are seen indicating ."""
WORDS = _SENTENCE.split()
VISION: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
}
PROCESSOR = {
    "do_center_crop": True,
    "crop_size": {"height": 32, "width": 32},
    "size": {"shortest_edge": 36},
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.48, 0.46, 0.41],
    "image_std": [0.27, 0.26, 0.28],
}


def write_json(path: Path, held: Any) -> None:
    path.write_text(json.dumps(held))


def clip_tokenizer(folder: Path) -> int:
    """tokenizer.json like CLIP's: begin, words, end; the end has the highest number and pads. Returns its size."""
    words = ["<unk>", *WORDS, "<|startoftext|>", "<|endoftext|>"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(word, words.index(word)) for word in words[-2:]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=marks
    )
    tokenizer.add_special_tokens(words[-2:])
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(
        folder / "tokenizer_config.json",
        {
            "pad_token": "<|endoftext|>",
            "unk_token": {"content": "<unk>", "lstrip": False},
            "bos_token": "<|startoftext|>",
            "eos_token": "<|endoftext|>",
        },
    )
    return len(words)


def bert_vocabulary(folder: Path) -> int:
    """vocab.txt of a BERT. Returns its size."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True})
    return len(words)


def shaken(module: nn.Module) -> nn.Module:
    """Random biases and norms too, so that a forgotten one shows; running variances stay positive."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                noise = torch.randn(tensor.shape, generator=generator) * 0.1
                tensor.add_(noise.abs() if "running_var" in name else noise)
    return module.eval()


def clip_folder(folder: Path) -> CLIPModel:
    folder.mkdir(parents=True, exist_ok=True)
    size = clip_tokenizer(folder)
    text = TEXT | {"vocab_size": size, "eos_token_id": size - 1, "bos_token_id": size - 2, "pad_token_id": size - 1}
    model = shaken(CLIPModel(CLIPConfig(vision_config=VISION, text_config=text, projection_dim=16)))
    model.save_pretrained(folder)
    write_json(folder / "preprocessor_config.json", PROCESSOR)
    return model


def foreign(kind: str, folder: Path) -> Any:
    """A folder of another model of transformers: siglip, siglip2, chinese_clip, altclip or metaclip_2."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    folder.mkdir(parents=True, exist_ok=True)
    sigmoid = kind.startswith("siglip")
    size = bert_vocabulary(folder) if kind == "chinese_clip" else clip_tokenizer(folder)
    pad = 0 if kind == "chinese_clip" else size - 1
    text = TEXT | {"vocab_size": size, "pad_token_id": pad, "eos_token_id": size - 1, "bos_token_id": size - 2}
    vision = dict(VISION)
    more: dict[str, Any] = {"projection_dim": 16}
    if sigmoid:
        text |= {"projection_size": 64}
        more = {}
    if kind == "siglip2":
        vision |= {"num_patches": 16}
        del vision["image_size"]
    if kind == "altclip":
        text |= {"project_dim": 48, "max_position_embeddings": 60}
        more["projection_dim"] = 16
    config = CONFIG_MAPPING[kind](vision_config=vision, text_config=text, **more)
    model = shaken(MODEL_MAPPING[type(config)](config))
    model.save_pretrained(folder)
    processor = PROCESSOR
    if sigmoid:
        processor = {
            "size": {"height": 32, "width": 32},
            "resample": 2,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        }
        processor["do_center_crop"] = False
    write_json(folder / "preprocessor_config.json", processor)
    return model


def open_clip_names(model: CLIPModel, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a CLIP of transformers, named and laid out by hand as open_clip does."""
    held = model.state_dict()
    found = {
        "logit_scale": held["logit_scale"],
        "visual.class_embedding": held["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": held["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": held["vision_model.embeddings.position_embedding.weight"],
        "visual.ln_pre.weight": held["vision_model.pre_layrnorm.weight"],
        "visual.ln_pre.bias": held["vision_model.pre_layrnorm.bias"],
        "visual.ln_post.weight": held["vision_model.post_layernorm.weight"],
        "visual.ln_post.bias": held["vision_model.post_layernorm.bias"],
        "visual.proj": held["visual_projection.weight"].T,
        f"{prefix}token_embedding.weight": held["text_model.embeddings.token_embedding.weight"],
        f"{prefix}positional_embedding": held["text_model.embeddings.position_embedding.weight"],
        f"{prefix}ln_final.weight": held["text_model.final_layer_norm.weight"],
        f"{prefix}ln_final.bias": held["text_model.final_layer_norm.bias"],
        f"{prefix}text_projection": held["text_projection.weight"].T,
    }
    for ours, theirs in (("vision_model", "visual.transformer"), ("text_model", f"{prefix}transformer")):
        for i in range(2):
            old, new = f"{ours}.encoder.layers.{i}", f"{theirs}.resblocks.{i}"
            for kind in ("weight", "bias"):
                parts = [held[f"{old}.self_attn.{name}_proj.{kind}"] for name in "qkv"]
                found[f"{new}.attn.in_proj_{kind}"] = torch.cat(parts)
                found[f"{new}.attn.out_proj.{kind}"] = held[f"{old}.self_attn.out_proj.{kind}"]
                for a, b in (
                    ("layer_norm1", "ln_1"),
                    ("layer_norm2", "ln_2"),
                    ("mlp.fc1", "mlp.c_fc"),
                    ("mlp.fc2", "mlp.c_proj"),
                ):
                    found[f"{new}.{b}.{kind}"] = held[f"{old}.{a}.{kind}"]
    return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def open_clip_folder(folder: Path, prefix: str = "") -> CLIPModel:
    """A native ViT and text Transformer, as a .safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    size = clip_tokenizer(folder)
    vision = VISION | {"hidden_act": "gelu", "num_attention_heads": 1}
    text = TEXT | {"vocab_size": size, "eos_token_id": 2, "hidden_act": "gelu"}
    model = shaken(CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)))
    save_file(open_clip_names(model, prefix), folder / "open_clip_model.safetensors")
    model_cfg = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "mlp_ratio": 2.0},
        "text_cfg": {
            "context_length": 24,
            "vocab_size": size,
            "width": 32,
            "heads": 2,
            "layers": 2,
            "mlp_ratio": 2.0,
        },
    }
    write_json(
        folder / "open_clip_config.json",
        {"model_cfg": model_cfg, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}},
    )
    return model


def bert(size: int) -> BertModel:
    config = BertConfig(
        vocab_size=size,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=96,
        max_position_embeddings=40,
    )
    return shaken(BertModel(config, add_pooling_layer=False))


def biomed_folder(folder: Path) -> tuple[ViTModel, nn.Linear, BertModel, nn.Sequential]:
    """As BiomedCLIP: timm's ViT, a BERT with an MLP, and a .bin; returns the parts it was made of."""
    folder.mkdir(parents=True, exist_ok=True)
    size = bert_vocabulary(folder)
    config = ViTConfig(
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=1,
        intermediate_size=256,
        image_size=32,
        patch_size=16,
        layer_norm_eps=1e-6,
    )
    vit, head, words = shaken(ViTModel(config, add_pooling_layer=False)), nn.Linear(64, 16, bias=False), bert(size)
    mlp = nn.Sequential(nn.Linear(64, 40, bias=False), nn.GELU(), nn.Linear(40, 16, bias=False))
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in timm_names(vit).items()}
    tensors["visual.head.proj.weight"] = head.weight.detach()
    tensors |= {f"text.transformer.{name}": tensor for name, tensor in words.state_dict().items()}
    tensors["text.transformer.embeddings.position_ids"] = torch.arange(40)[None]
    tensors |= {f"text.proj.{name}": tensor for name, tensor in mlp.state_dict().items()}
    tensors["logit_scale"] = torch.tensor(3.0)
    torch.save({f"module.{name}": tensor for name, tensor in tensors.items()}, folder / "open_clip_pytorch_model.bin")
    model_cfg = {
        "embed_dim": 16,
        "vision_cfg": {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "image_size": 32},
        "text_cfg": {
            "hf_model_name": "org/some-bert",
            "hf_proj_type": "mlp",
            "hf_pooler_type": "cls_last_hidden_state_pooler",
            "context_length": 32,
        },
    }
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg})
    return vit, head, words, mlp


def timm_names(vit: ViTModel) -> dict[str, Tensor]:
    """The tensors of a ViT of transformers, named by hand as timm does."""
    parts = dict(vit.named_modules())
    found = {
        "cls_token": vit.embeddings.cls_token,
        "pos_embed": vit.embeddings.position_embeddings,
        "patch_embed.proj.weight": vit.embeddings.patch_embeddings.projection.weight,
        "patch_embed.proj.bias": vit.embeddings.patch_embeddings.projection.bias,
        "norm.weight": vit.layernorm.weight,
        "norm.bias": vit.layernorm.bias,
    }
    layers = vit.layers if "layers" in parts else vit.encoder.layer
    for i, layer in enumerate(layers):
        for kind in ("weight", "bias"):
            attention = layer.attention
            qkv = [getattr(getattr(attention, f"{name}_proj"), kind) for name in "qkv"]
            found[f"blocks.{i}.attn.qkv.{kind}"] = torch.cat(qkv)
            found[f"blocks.{i}.attn.proj.{kind}"] = getattr(attention.o_proj, kind)
            found[f"blocks.{i}.norm1.{kind}"] = getattr(layer.layernorm_before, kind)
            found[f"blocks.{i}.norm2.{kind}"] = getattr(layer.layernorm_after, kind)
            found[f"blocks.{i}.mlp.fc1.{kind}"] = getattr(layer.mlp.fc1, kind)
            found[f"blocks.{i}.mlp.fc2.{kind}"] = getattr(layer.mlp.fc2, kind)
    return {name: tensor.detach().clone() for name, tensor in found.items()}


def biovil_folder(folder: Path, prior: bool = False) -> tuple[Any, nn.Sequential, BertModel, nn.ModuleDict]:
    """As BioViL, or BioViL-T: MONAI's ResNet (torchvision's names) with a projection, and CXR-BERT."""
    from monai.networks.nets import ResNet

    folder.mkdir(parents=True, exist_ok=True)
    size = bert_vocabulary(folder)
    net = ResNet(
        "bottleneck", [1, 2, 1, 1], [4, 8, 16, 32], spatial_dims=2, n_input_channels=3, conv1_t_stride=2, num_classes=5
    )
    net = shaken(net)
    beside = [
        f"layer{i}.0.downsample.0.bias" for i in range(1, 5)
    ]  # MONAI's shortcut has a bias, torchvision's has none
    with torch.no_grad():
        for name in beside:
            net.get_parameter(name).zero_()
    inward = 32 if prior else 128
    projector = shaken(
        nn.Sequential(nn.Conv2d(inward, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 1))
    )
    tensors = {f"encoder.encoder.{name}": tensor for name, tensor in net.state_dict().items() if name not in beside}
    tensors |= {f"projector.model.{name}": tensor for name, tensor in projector.state_dict().items()}
    if prior:
        tensors["encoder.backbone_to_vit.weight"] = torch.randn(16, 128, 1, 1) * 0.1
        tensors["encoder.missing_previous_emb"] = torch.randn(1, 16, 1, 1)
        tensors["encoder.vit_pooler.pos_embed"] = torch.randn(1, 4, 16)
    torch.save(
        tensors,
        folder / ("biovil_t_image_model_proj_size_128.pt" if prior else "biovil_image_resnet50_proj_size_128.pt"),
    )
    words = bert(size)
    head = nn.ModuleDict(
        {
            "dense_to_hidden": nn.Linear(64, 16),
            "LayerNorm": nn.LayerNorm(16, eps=1e-12),
            "dense_to_output": nn.Linear(16, 16),
        }
    )
    said = {f"bert.{name}": tensor for name, tensor in words.state_dict().items()}
    said |= {f"cls_projection_head.{name}": tensor for name, tensor in shaken(head).state_dict().items()}
    said["cls.predictions.bias"] = torch.zeros(size)
    save_file({name: tensor.contiguous() for name, tensor in said.items()}, folder / "model.safetensors")
    config = words.config.to_dict() | {
        "model_type": "cxr-bert",
        "projection_size": 16,
        "architectures": ["CXRBertModel"],
    }
    write_json(folder / "config.json", config | {"auto_map": {"AutoModel": "modeling_cxrbert.CXRBertModel"}})
    return net, projector, words, head
