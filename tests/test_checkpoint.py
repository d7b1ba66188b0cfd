"""A checkpoint folder: what is saved is what is loaded, and what does not fit is refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import nn

from medvlm import checkpoint as ckpt
from medvlm.checkpoint import CheckpointError
from medvlm.contrastive import Contrastive
from medvlm.language import train_tokenizer
from medvlm.model import load_model
from volumes.transforms import FilmContract, VolumeContract

TEXTS = ["There is a small left pleural effusion.", "No pneumothorax.", "The heart is enlarged."]
MODULE: dict[str, Any] = {
    "class_path": "medvlm.contrastive.Contrastive",
    "init_args": {
        "image": {
            "class_path": "medvlm.encoders.HybridTower",
            "init_args": {"shape": [32, 32], "stem": 8, "widths": [8, 8, 8], "depth": 1, "heads": 2, "embed": 8},
        },
        "text": {
            "class_path": "medvlm.language.SentenceTower",
            "init_args": {"vocabulary": 320, "width": 8, "depth": 1, "heads": 2, "embed": 8, "length": 16},
        },
        "objective": {"class_path": "medvlm.objectives.SentencePairs"},
    },
}


def build(spec: dict[str, Any] | None = None) -> Contrastive:
    return ckpt.build(spec or MODULE, lightning.LightningModule, "test")


def changed(*keys: str, **values: Any) -> dict[str, Any]:
    """MODULE with values set in the dictionary that the keys lead to."""
    spec = json.loads(json.dumps(MODULE))
    place = spec
    for key in keys:
        place = place[key]
    place.update(values)
    return spec


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A whole checkpoint of an untrained model."""
    torch.manual_seed(3)
    module, tokenizer = build(), train_tokenizer(TEXTS, 320)
    config = {"module": MODULE, "concepts": {"pleural effusion": [None, "left"]}, "simulated": True}
    ckpt.write_text(tmp_path / ckpt.CONFIG, yaml.safe_dump(config))
    ckpt.save_tokenizer(tokenizer, tmp_path)
    ckpt.write_text(tmp_path / ckpt.PREPROCESS, ckpt.preprocess_text(FilmContract(size=32), tokenizer, 16))
    ckpt.save_weights(module, tmp_path / ckpt.WEIGHTS)
    return tmp_path


# ---- round trip


def test_what_is_saved_is_what_is_loaded(saved: Path) -> None:
    torch.manual_seed(3)
    module, model = build().eval(), load_model(saved)
    own, loaded = module.image.state_dict(), model.towers.image.state_dict()
    assert own.keys() == loaded.keys()
    assert all(torch.equal(own[name], loaded[name]) for name in own)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(
            model.look_many(image, ["PA", "AP"]).local, module.image(image, torch.tensor([0, 1])).local
        )
    assert model.contract == FilmContract(size=32)
    assert model.concepts == {"pleural effusion": (None, "left")}
    assert model.simulated
    assert model.writer is None
    assert not any(p.requires_grad for p in model.towers.image.parameters())
    assert len(model.digest) == 64


def test_saving_twice_gives_the_same_bytes_and_leaves_nothing_beside(saved: Path) -> None:
    first = (saved / ckpt.WEIGHTS).read_bytes()
    torch.manual_seed(3)
    ckpt.save_weights(build(), saved / ckpt.WEIGHTS)
    assert (saved / ckpt.WEIGHTS).read_bytes() == first
    assert not [path.name for path in saved.rglob("*") if path.name.endswith(".tmp")]


def test_there_is_no_pickle_in_the_folder(saved: Path) -> None:
    names = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert names == {"model.safetensors", "config.yaml", "preprocess.json", "tokenizer/tokenizer.json"}
    for name in names:
        held = (saved / name).read_bytes()
        assert not held.startswith((b"PK", b"\x80")), name  # a zip of torch.save, a pickle
        assert b"pickle" not in held


def test_tied_tensors_are_saved_under_each_name(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.other.weight = self.one.weight

    ckpt.save_weights(Tied(), tmp_path / "tied.safetensors")
    assert set(load_file(tmp_path / "tied.safetensors")) == {"one.weight", "other.weight"}
    fresh = Tied()
    ckpt.load_weights(fresh, tmp_path / "tied.safetensors")
    assert fresh.one.weight is fresh.other.weight


# ---- tensors that do not fit


def test_every_tensor_that_does_not_fit_is_named(saved: Path) -> None:
    path = saved / ckpt.WEIGHTS
    tensors = load_file(path)
    gone = ["image.position", "objective.bias"]
    for name in gone:
        del tensors[name]
    tensors |= {"image.tail.weight": torch.zeros(2), "decoder.extra": torch.zeros(3)}
    tensors["objective.log_scale"] = torch.zeros(4, 2)
    tensors["image.local.1.bias"] = torch.zeros(5)
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(saved)
    said = str(caught.value)
    assert said.startswith(f"{path}: the weights do not fit the model in config.yaml.")
    assert "Missing: ['image.position', 'objective.bias']" in said
    assert "unexpected: ['decoder.extra', 'image.tail.weight']" in said
    assert (
        "other shape: ['image.local.1.bias (5,) instead of (8,)', 'objective.log_scale (4, 2) instead of ()']" in said
    )
    assert said.endswith("Use the config.yaml that was saved with them.")


@pytest.mark.parametrize("name", [f"{part}" for part in ("image.stem", "text.bert", "objective.log_scale")])
def test_one_missing_tensor_is_enough_to_refuse(saved: Path, name: str) -> None:
    tensors = load_file(saved / ckpt.WEIGHTS)
    victim = next(key for key in sorted(tensors) if key.startswith(name))
    save_file({key: value for key, value in tensors.items() if key != victim}, saved / ckpt.WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"Missing: \['{victim}'\]; unexpected: none; other shape: none"):
        load_model(saved)


def test_a_torn_file_of_weights_is_refused(saved: Path) -> None:
    path = saved / ckpt.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: not a readable safetensors file .*Copy it again"):
        load_model(saved)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", r"model\.safetensors: not there\. .*has training finished\?"),
        ("config.yaml", r"config\.yaml: not there\. .* is not a checkpoint folder; give the --out of `medvlm train`"),
        ("preprocess.json", r"preprocess\.json: not there\. Without its preprocessing a checkpoint cannot be used"),
    ],
)
def test_a_missing_file_is_named(saved: Path, name: str, said: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=said):
        load_model(saved)


def test_a_missing_tokenizer_is_named(saved: Path) -> None:
    (saved / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer/tokenizer\.json: not there"):
        load_model(saved)


# ---- files that were changed


def test_a_changed_preprocessing_is_refused(saved: Path) -> None:
    path = saved / ckpt.PREPROCESS
    held = json.loads(path.read_text())
    held["image"]["high_percentile"] = 98.0
    path.write_text(json.dumps(held))
    with pytest.raises(CheckpointError, match=r"preprocess\.json: digest \w{12} differs .*changed after training"):
        load_model(saved)


@pytest.mark.parametrize("text", ["{torn", "[]", '{"digest": "0"}'])
def test_a_preprocessing_that_is_none_is_refused(saved: Path, text: str) -> None:
    (saved / ckpt.PREPROCESS).write_text(text)
    with pytest.raises(CheckpointError, match=r"preprocess\.json: "):
        load_model(saved)


def test_a_changed_tokenizer_is_refused(saved: Path) -> None:
    ckpt.save_tokenizer(train_tokenizer([*TEXTS, "Another hospital writes in another way."], 320), saved)
    with pytest.raises(CheckpointError, match=r"tokenizer: sha256 \w{12} differs .*saved with the weights"):
        load_model(saved)


def test_the_digest_does_not_depend_on_what_the_tokenizer_read_last() -> None:
    tokenizer = train_tokenizer(TEXTS, 320)
    before = ckpt.preprocess_text(FilmContract(), tokenizer, 16)
    tokenizer(TEXTS, padding=True, truncation=True, max_length=4)
    assert ckpt.preprocess_text(FilmContract(), tokenizer, 16) == before
    assert ckpt.preprocess_text(VolumeContract(), tokenizer, 16) != before
    assert ckpt.preprocess_text(FilmContract(), tokenizer, 17) != before


@pytest.mark.parametrize("text", ["just words", "- a\n- b\n", "other: 1\n"])
def test_a_configuration_without_a_module_is_refused(saved: Path, text: str) -> None:
    (saved / ckpt.CONFIG).write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.yaml: has no `module`; expected the configuration that"):
        load_model(saved)


# ---- a configuration is data


@pytest.mark.parametrize(
    "path", ["subprocess.Popen", "os.system", "builtins.eval", "medvlm_evil.Tower", "torch.nn.Linear"]
)
@pytest.mark.parametrize("keys", [(), ("init_args", "image"), ("init_args", "objective")])
def test_a_foreign_class_is_refused_wherever_it_stands(saved: Path, path: str, keys: tuple[str, ...]) -> None:
    config = yaml.safe_load((saved / ckpt.CONFIG).read_text()) | {"module": changed(*keys, class_path=path)}
    (saved / ckpt.CONFIG).write_text(yaml.safe_dump(config))
    with pytest.raises(
        CheckpointError, match=rf"class_path '{path}' is not of this platform.*must not run foreign code"
    ):
        load_model(saved)


def test_a_foreign_class_inside_a_list_is_refused() -> None:
    spec = changed("init_args", more=[{"deep": {"class_path": "os.system"}}])
    with pytest.raises(CheckpointError, match=r"test: class_path 'os\.system' is not of this platform"):
        build(spec)


def test_a_function_of_the_platform_is_no_module() -> None:
    with pytest.raises(ValueError, match=r"test: "):
        build({"class_path": "medvlm.checkpoint.write_text", "init_args": {"path": "/nowhere", "text": "x"}})
    with pytest.raises(ValueError, match=r"test: "):
        build({"class_path": "medvlm.objectives.SentencePairs"})


def test_an_object_of_another_library_is_not_built_through_ours() -> None:
    """A module of ours imports others; what it imported is not ours to run."""
    for path in ("medvlm.encoders.math.factorial", "medvlm.encoders.nn.Linear", "medvlm.encoders.Convolution"):
        with pytest.raises(CheckpointError, match=f"class_path '{path}' is not of this platform"):
            ckpt.build({"class_path": path}, nn.Module, "test")


def test_an_option_that_the_class_does_not_take_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"test: Problem with given class_path 'medvlm\.contrastive\.Contrastive': Option 'learning_rate'",
    ):
        build(changed("init_args", learning_rate=1.0))
    with pytest.raises(ValueError, match=r"test: .*lr"):
        build(changed("init_args", lr="fast"))


def test_written_text_replaces_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "card.md"
    ckpt.write_text(path, "old, and longer than the new")
    ckpt.write_text(path, "new")
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["card.md"]
