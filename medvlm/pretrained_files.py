"""Reading other people's weights: bounded, without running what is pickled, and every tensor accounted for by name."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from medvlm.checkpoint import CheckpointError
from medvlm.language import TextRules, wrap_tokenizer

LARGEST = 16 * 2**30
"""Bytes of weights that are read at most, so that a file cannot fill the memory."""
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "open_clip_model.safetensors",
    "pytorch_model.bin",
    "open_clip_pytorch_model.bin",
)
"""Names under which both formats keep weights; the first that is there is read, safetensors before pickles."""


class Source(NamedTuple):
    """Where one tensor comes from: its name in the file, which third of its rows, and whether it lies transposed."""

    name: str
    third: int | None = None
    turned: bool = False


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises CheckpointError when it is absent, torn or something else."""
    if not path.is_file():
        raise CheckpointError(f"{path}: not there; expected a JSON file that describes the model")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}). Copy the folder again") from error
    if not isinstance(held, dict):
        raise CheckpointError(f"{path}: holds a JSON {type(held).__name__}; expected an object. Copy the folder again")
    return held


def find_weights(folder: Path) -> Path:
    """The file with the weights of a folder.

    Raises:
        CheckpointError: None, or only a lone .pt of several; names what lies there.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    others = sorted(p for p in folder.iterdir() if p.suffix in (".pt", ".pth", ".safetensors", ".bin"))
    if len(others) == 1:
        return others[0]
    raise CheckpointError(
        f"{folder}: found {', '.join(p.name for p in others) or 'no file of weights'}; expected {', '.join(WEIGHTS)},"
        " or exactly one .pt"
    )


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, half precision widened to float32, without the prefix "module." of distributed training.

    A .pt or .bin is read with `weights_only`: a pickle that would call anything else than the making of tensors is
    refused. Of a training state ("state_dict" beside an optimizer) only the weights are taken.

    Raises:
        CheckpointError: Too large, unreadable, not a table of tensors, or a pickle with code.
    """
    if path.name.endswith(".index.json"):
        parts = sorted(set(read_json(path).get("weight_map", {}).values()))
        if not parts or any(Path(str(part)).name != part for part in parts):
            raise CheckpointError(f"{path}: weight_map names {parts or 'no file'}; expected names of files beside it")
        return {name: tensor for part in parts for name, tensor in read_weights(path.with_name(part)).items()}
    if not path.is_file():
        raise CheckpointError(f"{path}: not there. Copy the folder again")
    refuse_large(path)
    held = load_file(str(path)) if path.suffix == ".safetensors" else read_pickle(path)
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held.get(key), Mapping):
            held = dict(held[key])
    strange = sorted(str(name) for name, value in held.items() if not isinstance(value, Tensor))
    if strange or not held:
        raise CheckpointError(
            f"{path}: {', '.join(strange[:5]) or 'nothing'} in it is no tensor; expected a table of tensors by name"
        )
    if all(name.startswith("module.") for name in held):
        held = {name.removeprefix("module."): tensor for name, tensor in held.items()}
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in held.items()}


def refuse_large(path: Path) -> None:
    """Raise CheckpointError for a file that is, or unpacks to, more than LARGEST bytes."""
    size = path.stat().st_size
    if path.suffix != ".safetensors" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            size = max(size, sum(entry.file_size for entry in packed.infolist()))
    if size > LARGEST:
        raise CheckpointError(f"{path}: holds {size} bytes; expected at most {LARGEST}. Is it a file of weights?")


def read_pickle(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote, tensors and plain values only. Raises CheckpointError for anything else."""
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several, and quotes advice to switch the protection off
        raise CheckpointError(
            f"{path}: cannot be read as tensors only ({type(error).__name__}); it may be torn, or ask to run code while"
            " it is read, which is never done. Get the safetensors of this model"
        ) from error
    if not isinstance(held, Mapping):
        raise CheckpointError(f"{path}: holds a {type(held).__name__}; expected a table of tensors by name")
    return dict(held)


def gather(
    own: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    source: Callable[[str], Source | None],
    unused: Sequence[str],
    where: str,
) -> dict[str, Tensor]:
    """For each tensor of ours the one of the file, cut and turned as needed; where there is no source, our own.

    Args:
        own: Our tensors by name.
        tensors: Tensors of the file by name.
        source: Our name to the place in the file.
        unused: Patterns of names that no embedding passes through.
        where: What the message of an error begins with.

    Raises:
        CheckpointError: A missing, unexpected or differently shaped tensor, each by its name in the file.
    """
    found, missing, shaped, used = {}, set(), set(), set()
    for name, value in own.items():
        place = source(name)
        if place is None:
            found[name] = value
            continue
        theirs = place.name if place.name in tensors else other_spelling(place.name)
        if theirs not in tensors:
            missing.add(place.name)
            continue
        used.add(theirs)
        tensor = tensors[theirs]
        part = tensor if place.third is None else tensor.chunk(3)[place.third]
        part = part.T if place.turned else part
        if part.numel() == value.numel() == 1:  # a scale is written as one number or as a list of one
            part = part.reshape(value.shape)
        if part.shape != value.shape:
            shaped.add(f"{place.name} {tuple(tensor.shape)}, of which {tuple(value.shape)} was expected")
        found[name] = part.to(value.dtype).contiguous()
    extra = [n for n in tensors if n not in used and not any(re.fullmatch(pattern, n) for pattern in unused)]
    if missing or extra or shaped:
        raise CheckpointError(
            f"{where}: the tensors are not those of the model that its configuration describes. Missing:"
            f" {sorted(missing) or 'none'}; unexpected: {sorted(extra) or 'none'}; other shape:"
            f" {sorted(shaped) or 'none'}. Take configuration and weights from one release"
        )
    return found


def other_spelling(name: str) -> str:
    """The same tensor of a Transformer with its layers under "layer" instead of "layers", or the other way round.

    Which of the two a file has depends on the release of transformers that wrote it.
    """
    if ".encoder.layers." in name:
        return name.replace(".encoder.layers.", ".encoder.layer.")
    return name.replace(".encoder.layer.", ".encoder.layers.")


def read_foreign_tokenizer(folder: Path, pad_id: int | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a folder, from tokenizer.json, from vocab.json with merges.txt (CLIP), or from vocab.txt (BERT).

    No code of the folder is run. Text is lower-cased before it only where tokenizer_config.json says so.

    Args:
        folder: Folder of the model.
        pad_id: Token that pads, where the folder does not name it.

    Raises:
        CheckpointError: No tokenizer, or one without a token that pads.
    """
    said: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            said |= read_json(folder / name)
    if (folder / "tokenizer.json").is_file():
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    elif (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer
    elif (folder / "vocab.txt").is_file():
        tokenizer = word_pieces(folder / "vocab.txt", bool(said.get("do_lower_case", True)))
    else:
        raise CheckpointError(
            f"{folder}: no tokenizer; expected tokenizer.json, or vocab.json with merges.txt, or vocab.txt. Put the"
            " tokenizer that the model was trained with there"
        )
    marks = {key: special(said.get(f"{key}_token")) for key in ("pad", "unk", "bos", "cls", "eos", "sep")}
    pad = marks["pad"] or (tokenizer.id_to_token(pad_id) if pad_id is not None else None)
    pad = pad or ("[PAD]" if tokenizer.token_to_id("[PAD]") is not None else None)
    if pad is None or tokenizer.token_to_id(pad) is None:
        raise CheckpointError(
            f"{folder}: its tokenizer has no token that pads (found {pad!r}); expected pad_token in"
            " tokenizer_config.json, as a token of the vocabulary"
        )
    lower = bool(said.get("do_lower_case", False))
    rules = TextRules(pad, marks["unk"], marks["bos"] or marks["cls"], marks["eos"] or marks["sep"], lower)
    return wrap_tokenizer(tokenizer, rules)


def special(value: Any) -> str | None:
    """A special token, written as text or as an object with its content."""
    return str(value["content"]) if isinstance(value, Mapping) and "content" in value else value or None


def word_pieces(path: Path, lower: bool) -> Tokenizer:
    """BERT's tokenizer of a vocab.txt."""
    words = {word: row for row, word in enumerate(path.read_text(encoding="utf-8").splitlines())}
    absent = [mark for mark in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if mark not in words]
    if absent:
        raise CheckpointError(f"{path}: lacks {', '.join(absent)}; expected the vocabulary of a BERT")
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    return tokenizer
