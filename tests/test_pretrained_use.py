"""An imported dual encoder diagnoses, grounds, searches, is calibrated and learns on, like a model of ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from conftest import Hospital
from foreign_models import biomed_folder, biovil_folder, clip_folder, foreign
from safetensors.torch import load_file
from tiny_runs import steps
from torch import nn

from medvlm.checkpoint import CheckpointError
from medvlm.cli import main
from medvlm.data import load_examples
from medvlm.fine_tune import Adapted, adaptable
from medvlm.finish import embed_split
from medvlm.image_cache import ImageCache, cache_folder
from medvlm.model import load_model
from medvlm.pretrained import import_model
from medvlm.pretrained_calibration import calibrate
from medvlm.pretrained_slices import SliceTower
from medvlm.retrieve import search
from medvlm.train import TrainingError, train
from reports.grammar import prompts
from volumes.catalog import Catalog
from volumes.study import read_study
from volumes.volume import Source, Volume

TUNE = ("data.batch_size=6", "data.workers=1", "data.least=2", "trainer.accelerator=cpu", "module.warmup=1")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    torch.manual_seed(0)
    clip_folder(folder / "clip")
    return import_model(str(folder / "clip"), folder / "run")


def test_the_command_says_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    foreign("siglip", tmp_path / "in")
    assert main(["import-model", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--family", "siglip"]) == 0
    said = capsys.readouterr().out
    assert "imported dual encoder (siglip)" in said
    assert "rule 'stretch' (bilinear) to 32 x 32 pixels" in said
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "model.safetensors",
        "config.yaml",
        "preprocess.json",
        "tokenizer",
        "card.md",
    }
    assert main(["import-model", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 1
    assert "no such folder; expected a local folder" in capsys.readouterr().err


def test_it_diagnoses_grounds_and_searches_a_phantom_film(
    imported: Path, tiny_hospital: Hospital, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = str(sorted(path for path in tiny_hospital.archive.iterdir() if path.is_dir())[0])
    model = ["--model", str(imported)]
    assert main(["diagnose", study, *model, "--findings", "pleural effusion,cardiomegaly", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in found["findings"]] == ["pleural effusion", "cardiomegaly"]
    assert all(0 <= row["probability"] <= 1 and not row["calibrated"] for row in found["findings"])
    assert found["made_by"]["trained_on"] == "what its publishers gave it (imported, clip)"
    assert main(["ground", study, "blunted angle", *model, "--out", str(tmp_path / "map.png"), "--json"]) == 0
    place = json.loads(capsys.readouterr().out)
    assert place["phrase"] == "blunted angle"
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert main(["search", "left pleural effusion", *model, "--catalog", str(tiny_hospital.catalog), "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)["hits"]
    assert len(hits) == 5
    like = search(read_study(study), load_model(imported), tiny_hospital.catalog, k=3)
    assert len({hit.study_uid for hit in like}) == 3


def test_it_is_calibrated_on_a_catalog(tiny_hospital: Hospital, tmp_path: Path) -> None:
    clip_folder(tmp_path / "in")
    out = import_model(str(tmp_path / "in"), tmp_path / "out")
    assert load_model(out).calibration is None
    metrics = calibrate(out, tiny_hospital.catalog, workers=0)
    assert metrics["n"] > 0
    model = load_model(out)
    assert model.calibration is not None
    assert model.familiar["mean"].shape == (16,)
    with Catalog.open(tiny_hospital.catalog) as opened:
        learn = load_examples(opened, model.contract, "train")
    cache = ImageCache(cache_folder(tiny_hospital.catalog), model.contract)
    _, seen = embed_split(model, cache, learn, 0)
    assert seen is not None
    texts = list(dict.fromkeys(text for name in model.concepts for text in prompts(name, None).positive))
    assert abs(float(model.odds(seen, texts).mean())) < 1e-3  # an average statement is neither true nor false


def test_adapters_learn_and_the_model_beneath_stays(imported: Path, tiny_hospital: Hospital, tmp_path: Path) -> None:
    out = train(
        "film_finetune", tiny_hospital.catalog, tmp_path / "run", [*TUNE, *steps(2, 2), f"start.run={imported}"]
    )
    before, after = load_file(imported / "model.safetensors"), load_file(out / "model.safetensors")
    beneath = {n.replace(".tower.", ".").replace(".base_layer.", "."): n for n in after if "lora_" not in n}
    towers = {name for name in before if name.startswith(("image.", "text."))}
    assert towers == {name for name in beneath if name.startswith(("image.", "text."))}
    assert all(torch.equal(before[name], after[beneath[name]]) for name in towers)
    learned = [name for name in after if "lora_B" in name]
    assert sum(bool(after[name].any()) for name in learned) > len(learned) // 2
    model = load_model(out)
    assert model.words.pad_token == "<|endoftext|>"
    assert (
        json.loads((out / "preprocess.json").read_text())["image"]
        == json.loads((imported / "preprocess.json").read_text())["image"]
    )
    assert "channels" in json.loads((out / "preprocess.json").read_text())


def test_all_of_it_learns_by_another_objective(imported: Path, tiny_hospital: Hospital, tmp_path: Path) -> None:
    overrides = [*TUNE, *steps(1, 1), f"start.run={imported}", "start.rank=0", "module.lr=0.001"]
    overrides.append("module.objective={class_path: medvlm.objectives.SentencePairs}")
    out = train("film_finetune", tiny_hospital.catalog, tmp_path / "run", overrides)
    before, after = load_file(imported / "model.safetensors"), load_file(out / "model.safetensors")
    assert {name for name in before if "tower" in name or "lora" in name} == set()
    moved = [n for n in before if n.startswith(("image.", "text.")) and not torch.equal(before[n], after[n])]
    assert len(moved) > 20
    assert "pleural effusion" in load_model(out).concepts


def test_learning_on_needs_a_start(tiny_hospital: Hospital, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"film_finetune learns on from an earlier run .* give --start\.run FOLDER"):
        train("film_finetune", tiny_hospital.catalog, tmp_path / "run")
    with pytest.raises(CheckpointError, match="is not a checkpoint folder"):
        train("film_finetune", tiny_hospital.catalog, tmp_path / "run", [f"start.run={tmp_path}"])


def test_adapters_begin_at_zero_and_pass_by_what_reads_past_them() -> None:
    class Tower(nn.Module):
        length = 7

        def __init__(self) -> None:
            super().__init__()
            self.attention, self.line = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(self.attention(x, x, x)[0])

    tower, x = Tower(), torch.rand(2, 5, 4)
    assert adaptable(tower) == ["line"]
    expected = tower(x)
    adapted = Adapted(tower, rank=2)
    torch.testing.assert_close(adapted(x), expected)
    assert adapted.length == 7
    assert {name for name, p in adapted.named_parameters() if p.requires_grad} == {
        "tower.line.lora_A.default.weight",
        "tower.line.lora_B.default.weight",
    }
    with pytest.raises(ValueError, match="rank is 0; expected 1 or more"):
        Adapted(Tower(), rank=0)
    with pytest.raises(ValueError, match="Dropout: has no linear layer and no convolution to adapt"):
        adaptable(nn.Dropout())


@pytest.mark.parametrize("kind", ["siglip", "biovil", "biomed"])
def test_adapters_reach_every_kind_of_tower(kind: str, tmp_path: Path) -> None:
    if kind == "siglip":
        foreign(kind, tmp_path / "in")
    else:
        {"biovil": biovil_folder, "biomed": biomed_folder}[kind](tmp_path / "in")
    towers = load_model(import_model(str(tmp_path / "in"), tmp_path / "out")).towers
    image, ids = (
        torch.rand(2, 1, 64 if kind == "biovil" else 32, 64 if kind == "biovil" else 32),
        torch.ones(2, 5).long(),
    )
    for tower, inputs in ((towers.image, (image, None)), (towers.text, (ids, torch.ones_like(ids)))):
        before = tower(*inputs)
        adapted = Adapted(tower, rank=2).train()
        after = adapted(*inputs)
        found, expected = (x if isinstance(x, torch.Tensor) else x.whole for x in (after, before))
        torch.testing.assert_close(found, expected)
        found.square().sum().backward()
        reached = [bool(p.grad.any()) for n, p in adapted.named_parameters() if "lora_B" in n and p.grad is not None]
        assert reached
        assert all(reached)


# ---- slices of a CT


@torch.no_grad()
def test_each_slice_is_looked_at_by_itself(imported: Path) -> None:
    tower = load_model(imported).towers.image
    volume = torch.rand(2, 1, 3, 32, 32)
    found = SliceTower(tower, chunk=4)(volume)
    assert found.grid == (3, 4, 4)
    parts = [tower(volume[:, :, k]) for k in range(3)]
    torch.testing.assert_close(found.local, torch.cat([part.local for part in parts], 1))
    mean = torch.stack([F.normalize(part.whole, dim=-1) for part in parts]).mean(0)
    torch.testing.assert_close(found.whole, mean)


def test_a_ct_is_looked_at_in_the_stated_window(tmp_path: Path) -> None:
    clip_folder(tmp_path / "in")
    out = tmp_path / "out"
    words = ["import-model", str(tmp_path / "in"), "--out", str(out), "--modality", "ct"]
    assert main([*words, "--window", "-160", "240", "--slices", "4"]) == 0
    model = load_model(out)
    held = json.loads((out / "preprocess.json").read_text())
    assert held["image"]["window_hu"] == [-160.0, 240.0]
    assert held["image"]["shape_dhw"] == [4, 32, 32]
    assert "window -160 to 240 HU" in (out / "card.md").read_text()
    affine = torch.tensor([[0, 0, 10.0, 0], [0, 10.0, 0, 0], [10.0, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    voxels = torch.full((4, 36, 36), 40.0)
    look = model.look(Volume(voxels, affine, "HU", Source("1.2", "1.2.3", ("1.2.3.4",), "CT")))
    assert look.grid == (4, 4, 4)
    torch.testing.assert_close(look.image[0, 1:3, 8:24, 8:24], torch.full((2, 16, 16), 0.5))
    assert model.maps(look.tokens(), ["effusion"]).shape == (1, 1, 4, 4, 4)
