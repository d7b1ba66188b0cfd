"""Reading other people's files: what does not fit is named, what would run code or is huge is refused."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from foreign_models import (
    bert_vocabulary,
    biomed_folder,
    biovil_folder,
    clip_folder,
    clip_tokenizer,
    open_clip_folder,
    write_json,
)
from safetensors.torch import load_file, save_file

from medvlm import pretrained_files
from medvlm.checkpoint import CheckpointError, load_preprocess
from medvlm.language import encode, load_tokenizer, rules_of
from medvlm.pretrained import detect, import_model, resolve
from medvlm.pretrained_files import Source, gather, read_foreign_tokenizer, read_weights


def changed(path: Path, **values: object) -> None:
    """Set values of a JSON file; a name with two underscores reaches one level down."""
    held = json.loads(path.read_text())
    for name, value in values.items():
        place = held
        *parents, last = name.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    write_json(path, held)


# ---- tensors


def test_every_tensor_that_does_not_fit_is_named_as_in_the_file(tmp_path: Path) -> None:
    open_clip_folder(tmp_path)
    path = tmp_path / "open_clip_model.safetensors"
    tensors = load_file(path)
    del tensors["visual.transformer.resblocks.1.attn.in_proj_weight"]
    tensors["visual.attnpool.c_proj.weight"] = torch.zeros(2)
    tensors["ln_final.bias"] = torch.zeros(7)
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as caught:
        import_model(str(tmp_path), tmp_path / "out")
    said = str(caught.value)
    assert said.startswith(f"{path}: the tensors are not those of the model that its configuration describes.")
    assert "Missing: ['visual.transformer.resblocks.1.attn.in_proj_weight']" in said
    assert "unexpected: ['visual.attnpool.c_proj.weight']" in said
    assert "other shape: ['ln_final.bias (7,), of which (32,) was expected']" in said
    assert said.endswith("Take configuration and weights from one release")
    assert not (tmp_path / "out").exists()


def test_thirds_and_transposes_by_hand() -> None:
    own = {"k": torch.zeros(1, 2), "turned": torch.zeros(3, 2), "kept": torch.ones(1), "scale": torch.tensor(0.0)}
    file = {"qkv": torch.arange(6.0).view(3, 2), "t": torch.arange(6.0).view(2, 3), "s": torch.tensor([4.0])}
    places = {"k": Source("qkv", 1), "turned": Source("t", turned=True), "scale": Source("s"), "kept": None}
    found = gather(own, file, places.__getitem__, (), "here")
    assert found["k"].tolist() == [[2.0, 3.0]]
    assert found["turned"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert (found["kept"].item(), found["scale"].item()) == (1.0, 4.0)


def test_half_precision_is_widened_and_a_training_state_gives_its_weights(tmp_path: Path) -> None:
    state = {"epoch": 3, "state_dict": {"module.a": torch.ones(2, dtype=torch.bfloat16)}, "optimizer": {"lr": 0.1}}
    torch.save(state, tmp_path / "x.pt")
    found = read_weights(tmp_path / "x.pt")
    assert list(found) == ["a"]
    assert found["a"].dtype == torch.float32


def test_shards_are_read_by_their_index(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "one.safetensors")
    save_file({"b": torch.zeros(1)}, tmp_path / "two.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    write_json(index, {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}})
    assert sorted(read_weights(index)) == ["a", "b"]
    write_json(index, {"weight_map": {"a": "../one.safetensors"}})
    with pytest.raises(CheckpointError, match=r"weight_map names \['\.\./one\.safetensors'\]; expected names of files"):
        read_weights(index)


class Runs:
    """Pickled, it asks whoever reads it to make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    for write in (lambda: torch.save({"a": Runs(mark)}, path), lambda: path.write_bytes(pickle.dumps(Runs(mark)))):
        write()
        with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: cannot be read as tensors only .*never done"):
            read_weights(path)
        assert not mark.exists()


@pytest.mark.parametrize("held", [[1, 2], {"a": "text"}, {}])
def test_what_is_no_table_of_tensors_is_refused(held: object, tmp_path: Path) -> None:
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"x\.pt: .*expected a table of tensors by name"):
        read_weights(tmp_path / "x.pt")


def test_a_file_larger_than_the_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained_files, "LARGEST", 4096)
    save_file({"a": torch.zeros(2000)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"holds \d+ bytes; expected at most 4096\. Is it a file of weights"):
        read_weights(tmp_path / "model.safetensors")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(100_000))
    (tmp_path / "bomb.pt").write_bytes(packed.getvalue())
    assert (tmp_path / "bomb.pt").stat().st_size < 4096
    with pytest.raises(CheckpointError, match="holds 100000 bytes"):
        read_weights(tmp_path / "bomb.pt")


# ---- which format


def test_a_folder_of_no_known_format_says_what_lies_there(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "llama"})
    with pytest.raises(
        CheckpointError, match=r"found config\.json with model_type 'llama'; expected .*siglip.*open_clip"
    ):
        detect(tmp_path)
    with pytest.raises(CheckpointError, match=r"nowhere: no such folder; expected a local folder, or hub:organisation"):
        resolve("nowhere")


def test_the_hub_is_asked_only_when_the_user_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    asked = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *a, **k: asked.append((a, k)) or str(tmp_path))
    with pytest.raises(CheckpointError):
        resolve("organisation/name")
    assert not asked
    assert resolve("hub:organisation/name@v1") == tmp_path
    ((names, options),) = asked
    assert (names, options["revision"]) == (("organisation/name",), "v1")
    assert not [pattern for pattern in options["allow_patterns"] if pattern.endswith("py")]


def test_a_family_that_the_folder_is_not_of_is_refused(tmp_path: Path) -> None:
    clip_folder(tmp_path)
    with pytest.raises(CheckpointError, match=r"config\.json: model_type is 'clip'; expected siglip, siglip2"):
        import_model(str(tmp_path), tmp_path / "out", family="siglip")
    with pytest.raises(CheckpointError, match=r"open_clip_config\.json: not there"):
        import_model(str(tmp_path), tmp_path / "out", family="open_clip")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model_cfg__vision_cfg__layers", [3, 4, 6, 3], r"vision_cfg\.layers is a list, a ResNet"),
        ("model_cfg__vision_cfg__attentional_pool", True, "attentional_pool = True changes what the tower computes"),
        (
            "model_cfg__vision_cfg__timm_model_name",
            "convnext_base",
            r"timm_model_name is 'convnext_base'; expected vit_t",
        ),
        ("model_cfg__text_cfg__pool_type", "last", r"text_cfg\.pool_type is 'last'; expected 'argmax'"),
        ("model_cfg__text_cfg__no_causal_mask", True, "no_causal_mask = True changes"),
        ("preprocess_cfg__interpolation", "lanczos", "interpolation 'lanczos'; expected .*bicubic"),
        ("preprocess_cfg__size", [32, 48], r"images of \[32, 48\] pixels.*expected a square"),
    ],
)
def test_an_open_clip_architecture_without_a_reader_is_named(
    key: str, value: object, said: str, tmp_path: Path
) -> None:
    open_clip_folder(tmp_path)
    changed(tmp_path / "open_clip_config.json", **{key: value})
    with pytest.raises(CheckpointError, match=said):
        import_model(str(tmp_path), tmp_path / "out")


def test_other_refusals_name_what_was_found(tmp_path: Path) -> None:
    biomed_folder(tmp_path / "biomed")
    changed(tmp_path / "biomed" / "open_clip_config.json", model_cfg__vision_cfg__timm_pool="avg")
    with pytest.raises(CheckpointError, match=r"vision_cfg\.timm_pool is 'avg'; expected '' or 'token'"):
        import_model(str(tmp_path / "biomed"), tmp_path / "out")
    biovil_folder(tmp_path / "biovil")
    (tmp_path / "biovil" / "biovil_image_resnet50_proj_size_128.pt").unlink()
    with pytest.raises(CheckpointError, match=r"found no image encoder; expected one file biovil\*\.pt"):
        import_model(str(tmp_path / "biovil"), tmp_path / "out")
    clip_folder(tmp_path / "clip")
    changed(tmp_path / "clip" / "preprocessor_config.json", crop_size={"height": 64, "width": 64}, size=64)
    with pytest.raises(CheckpointError, match=r"images of \[64, 64\] pixels, but config\.json says .* takes 32"):
        import_model(str(tmp_path / "clip"), tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.yaml").write_text("module: {}\n")
    with pytest.raises(CheckpointError, match="holds a checkpoint; expected a folder to write"):
        import_model(str(tmp_path / "clip"), tmp_path / "out")


# ---- tokenizers


def test_a_vocabulary_becomes_the_tokenizer_of_a_bert(tmp_path: Path) -> None:
    bert_vocabulary(tmp_path)
    tokenizer = read_foreign_tokenizer(tmp_path)
    ids, mask = encode(tokenizer, ["No Effusion.", "lung"], 8)
    assert [tokenizer.convert_ids_to_tokens(row) for row in ids.tolist()] == [
        ["[CLS]", "no", "effusion", ".", "[SEP]"],
        ["[CLS]", "lung", "[SEP]", "[PAD]", "[PAD]"],
    ]
    assert mask.tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert encode(tokenizer, ["no no no no no no"], 4)[0].tolist()[0][-1] == tokenizer.convert_tokens_to_ids("[SEP]")


def test_a_clip_vocabulary_becomes_its_tokenizer(tmp_path: Path) -> None:
    marks = ["<|startoftext|>", "<|endoftext|>"]
    letters = [*"lung", *(f"{letter}</w>" for letter in "lung"), "lu", "ng</w>", "lung</w>"]
    write_json(tmp_path / "vocab.json", {word: i for i, word in enumerate([*letters, *marks])})
    (tmp_path / "merges.txt").write_text("#version: 0.2\nl u\nn g</w>\nlu ng</w>\n")
    tokenizer = read_foreign_tokenizer(tmp_path, pad_id=12)
    ids, _ = encode(tokenizer, ["Lung lung", "lung"], 8)
    assert ids.tolist() == [[11, 10, 10, 12], [11, 10, 12, 12]]
    assert encode(tokenizer, ["lung " * 9], 4)[0].tolist() == [[11, 10, 10, 12]]  # cut, and the end stays


def test_a_text_is_framed_as_the_tokenizer_file_says(tmp_path: Path) -> None:
    size = clip_tokenizer(tmp_path)
    ids, mask = encode(read_foreign_tokenizer(tmp_path), ["No effusion", "no"], 8)
    assert (ids[:, 0].tolist(), ids[0, -1].item(), mask.sum(1).tolist()) == ([size - 2] * 2, size - 1, [4, 3])


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"no tokenizer; expected tokenizer\.json, or vocab\.json with merges\.txt"
    ):
        read_foreign_tokenizer(tmp_path)
    (tmp_path / "vocab.txt").write_text("only\nwords\n")
    with pytest.raises(CheckpointError, match=r"vocab\.txt: lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"):
        read_foreign_tokenizer(tmp_path)


def test_the_tokenizer_s_rules_are_kept_and_guarded(tmp_path: Path) -> None:
    clip_folder(tmp_path / "in")
    out = import_model(str(tmp_path / "in"), tmp_path / "out")
    tokenizer = load_tokenizer(out / "tokenizer")
    assert rules_of(tokenizer)._asdict() == {
        "pad": "<|endoftext|>",
        "unknown": "<unk>",
        "begin": "<|startoftext|>",
        "end": "<|endoftext|>",
        "lower": False,
    }
    held = json.loads((out / "preprocess.json").read_text())
    assert held["text"] == {"length": 24, "lower": False}
    assert held["channels"]["mean"] == [0.48, 0.46, 0.41]
    assert held["image"]["fit"] == "crop"
    changed(out / "tokenizer" / "rules.json", lower=True)
    with pytest.raises(CheckpointError, match=r"tokenizer: sha256 \w{12} differs"):
        load_preprocess(out)
    changed(out / "tokenizer" / "rules.json", more=1)
    with pytest.raises(ValueError, match=r"rules\.json: expected the keys pad, unknown, begin, end, lower"):
        load_preprocess(out)
