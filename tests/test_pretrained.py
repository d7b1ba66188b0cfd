"""Published dual encoders, read from tiny folders in their true formats: equal to a second implementation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from foreign_models import biomed_folder, biovil_folder, clip_folder, foreign, open_clip_folder
from torch import Tensor

from medvlm.model import Model, load_model
from medvlm.pretrained import import_model

TEXTS = ["There is a large left pleural effusion.", "No pneumothorax."]
VIEWS = ["PA", "AP"]


def images(size: int = 32) -> Tensor:
    return torch.rand(2, 1, size, size, generator=torch.Generator().manual_seed(1))


def normalised(image: Tensor, mean: list[float], std: list[float]) -> Tensor:
    return (image.expand(-1, 3, -1, -1) - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def encoded(model: Model) -> dict[str, Tensor]:
    return dict(model.words(TEXTS, padding=True, return_tensors="pt", return_token_type_ids=False))


def same_direction(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(F.normalize(found, dim=-1), F.normalize(expected, dim=-1), atol=1e-5, rtol=0)


def test_words_meet_the_image_through_the_projection_of_the_text(tmp_path: Path) -> None:
    """The token that stands for the whole text gives the vector of the text."""
    whole_token = {"clip": -1, "altclip": 0, "siglip": None, "biovil": 0}
    for kind, place in whole_token.items():
        folder = tmp_path / kind
        biovil_folder(folder) if kind == "biovil" else clip_folder(folder) if kind == "clip" else foreign(kind, folder)
        model = load_model(import_model(str(folder), tmp_path / f"{kind} out"))
        tower, batch = model.towers.text, encoded(model)
        ids, mask = batch["input_ids"][:1], batch["attention_mask"][:1]
        whole, words = tower.with_words(ids, mask)
        torch.testing.assert_close(whole, tower(ids, mask))
        assert words.shape == (1, ids.shape[1], whole.shape[1])
        if place is not None:
            torch.testing.assert_close(words[:, place], whole, atol=1e-5, rtol=1e-5)


# ---- equal to the original


@pytest.mark.parametrize("kind", ["clip", "metaclip_2", "altclip", "chinese_clip"])
@torch.no_grad()
def test_clips_give_the_vectors_and_odds_of_transformers(kind: str, tmp_path: Path) -> None:
    original = clip_folder(tmp_path / "in") if kind == "clip" else foreign(kind, tmp_path / "in")
    model = load_model(import_model(str(tmp_path / "in"), tmp_path / "out"))
    tokens = model.look_many(images(), VIEWS)
    pixels = normalised(images(), [0.48, 0.46, 0.41], [0.27, 0.26, 0.28])
    expected = original(pixel_values=pixels, **encoded(model))
    same_direction(tokens.whole, expected.image_embeds)
    same_direction(model.vectors(TEXTS), expected.text_embeds)
    torch.testing.assert_close(model.odds(tokens, TEXTS), expected.logits_per_image, atol=1e-3, rtol=1e-4)
    assert tokens.grid == (4, 4)
    hidden = original.vision_model(pixel_values=pixels).last_hidden_state[:, 1:]
    same_direction(tokens.local, original.visual_projection(original.vision_model.post_layernorm(hidden)))


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
@torch.no_grad()
def test_siglips_give_the_vectors_and_odds_of_transformers(kind: str, tmp_path: Path) -> None:
    original = foreign(kind, tmp_path / "in")
    model = load_model(import_model(str(tmp_path / "in"), tmp_path / "out"))
    tokens = model.look_many(images(), VIEWS)
    pixels = normalised(images(), [0.5] * 3, [0.5] * 3)
    more = {}
    if kind == "siglip2":  # patches row by row, each its pixels row by row, each its channels
        pixels = torch.stack(
            [
                torch.stack(
                    [
                        p[:, r : r + 8, c : c + 8].permute(1, 2, 0).flatten()
                        for r in (0, 8, 16, 24)
                        for c in (0, 8, 16, 24)
                    ]
                )
                for p in pixels
            ]
        )
        more = {
            "spatial_shapes": torch.tensor([[4, 4]] * 2),
            "pixel_attention_mask": torch.ones(2, 16, dtype=torch.long),
        }
    full = model.words(TEXTS, padding="max_length", max_length=24, return_tensors="pt", return_token_type_ids=False)
    expected = original(pixel_values=pixels, input_ids=full["input_ids"], **more)
    same_direction(tokens.whole, expected.image_embeds)
    same_direction(model.vectors(TEXTS), expected.text_embeds)
    torch.testing.assert_close(model.odds(tokens, TEXTS), expected.logits_per_image, atol=1e-3, rtol=1e-4)
    assert tokens.local.shape == (2, 16, 64)


@pytest.mark.parametrize("prefix", ["", "text."])
@torch.no_grad()
def test_open_clip_gives_the_vectors_of_the_same_weights_in_transformers(prefix: str, tmp_path: Path) -> None:
    original = open_clip_folder(tmp_path / "in", prefix)
    model = load_model(import_model(str(tmp_path / "in"), tmp_path / "out"))
    expected = original(pixel_values=normalised(images(), [0.5] * 3, [0.5] * 3), **encoded(model))
    same_direction(model.look_many(images(), VIEWS).whole, expected.image_embeds)
    same_direction(model.vectors(TEXTS), expected.text_embeds)
    odds = model.odds(model.look_many(images(), VIEWS), TEXTS)
    torch.testing.assert_close(odds, expected.logits_per_image, atol=1e-3, rtol=1e-4)


@torch.no_grad()
def test_a_timm_vit_with_a_bert_gives_their_vectors(tmp_path: Path) -> None:
    vit, head, bert, mlp = biomed_folder(tmp_path / "in")
    model = load_model(import_model(str(tmp_path / "in"), tmp_path / "out"))
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    hidden = vit(pixel_values=normalised(images(), mean, std)).last_hidden_state
    tokens = model.look_many(images(), VIEWS)
    torch.testing.assert_close(tokens.whole, head(hidden[:, 0]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens.local, head(hidden[:, 1:]), atol=1e-5, rtol=1e-5)
    same_direction(model.vectors(TEXTS), mlp(bert(**encoded(model)).last_hidden_state[:, 0]))
    assert "read off its tensors: BERT, width 64, 2 layers, 1 heads of 64" in (tmp_path / "out" / "card.md").read_text()


@pytest.mark.parametrize("prior", [False, True])
@torch.no_grad()
def test_biovil_gives_projected_patches_and_their_mean(prior: bool, tmp_path: Path) -> None:
    net, projector, bert, head = biovil_folder(tmp_path / "in", prior)
    model = load_model(import_model(str(tmp_path / "in"), tmp_path / "out"))
    x = net.maxpool(F.relu(net.bn1(net.conv1(images(64).expand(-1, 3, -1, -1)))))
    x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
    if prior:
        held = torch.load(tmp_path / "in" / "biovil_t_image_model_proj_size_128.pt", weights_only=True)
        x = F.conv2d(x, held["encoder.backbone_to_vit.weight"])
        x = torch.cat([x, held["encoder.missing_previous_emb"].expand(2, -1, 2, 2)], 1)
    patches = projector(x)
    tokens = model.look_many(images(64), VIEWS)
    torch.testing.assert_close(tokens.local, patches.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(tokens.whole, patches.mean((2, 3)), atol=1e-5, rtol=1e-5)
    first = bert(**encoded(model)).last_hidden_state[:, 0]
    text = head["dense_to_output"](head["LayerNorm"](F.gelu(head["dense_to_hidden"](first))))
    same_direction(model.vectors(TEXTS), text)
    card = (tmp_path / "out" / "card.md").read_text()
    assert "encoder.encoder.fc.weight" in card
    assert ("prior images are not compared" in card) is prior
