"""Published dual encoders as models of ours: read once, written as a checkpoint folder, then used like any other.

Reading needs no network and runs no code of the folder. What is written carries the preprocessing that the model was
published with, and names what was left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import lightning
import yaml

from medvlm import checkpoint as ckpt
from medvlm.checkpoint import CheckpointError
from medvlm.finish import versions
from medvlm.pretrained_biovil import read_biovil
from medvlm.pretrained_clip import SIGMOID, TOWERS
from medvlm.pretrained_files import Source, gather, read_json
from medvlm.pretrained_open_clip import CONFIG, read_open_clip
from medvlm.pretrained_parts import Parts
from medvlm.pretrained_transformers import read_transformers
from reports.grammar import DESCRIPTORS
from volumes.fitted_film import FittedFilmContract
from volumes.transforms import VolumeContract

FAMILIES = ("clip", "siglip", "biovil", "open_clip")
HUB = "hub:"
FIELD_MM = 360.0
"""Side of the square of tissue that a CT slice shows to a model of films."""


def import_model(
    folder: str,
    out: Path,
    family: str | None = None,
    modality: str = "film",
    window: tuple[float, float] = (-1000.0, 400.0),
    slices: int = 32,
) -> Path:
    """Read a published dual encoder and write it as a checkpoint folder of ours.

    Args:
        folder: Local folder, or "hub:organisation/name" to fetch one from the Hugging Face hub.
        out: Checkpoint folder to write; it must not hold one.
        family: One of FAMILIES; found from the files when left out.
        modality: "film", or "ct" to look at each of `slices` axial slices.
        window: Of a CT, the HU that become black and white.
        slices: Of a CT, how many slices, 10 mm apart.

    Returns:
        `out`.

    Raises:
        CheckpointError: A format that is not known, tensors that do not fit, a pickle with code, an `out` in use.
    """
    if (out / ckpt.CONFIG).is_file():
        raise CheckpointError(f"{out}: holds a checkpoint; expected a folder to write. Give another --out")
    parts = read_parts(resolve(folder), family)
    contract = contract_for(parts, modality, window, slices)
    spec = module_spec(parts, modality)
    module = ckpt.build(spec, lightning.LightningModule, folder)
    module.load_state_dict(
        gather(module.state_dict(), parts.tensors, beneath_slices(parts), parts.unused, str(parts.weights))
    )
    module.eval()
    write(module, spec, parts, contract, out)
    return out


def beneath_slices(parts: Parts) -> Callable[[str], Source | None]:
    """The places of tensors, also of a tower that a `SliceTower` holds."""
    return lambda name: parts.source(re.sub(r"^image\.tower\.", "image.", name))


def resolve(folder: str) -> Path:
    """A local folder, or the folder into which a model of the hub was fetched, because "hub:" asked for it.

    Raises:
        CheckpointError: No such folder.
    """
    if folder.startswith(HUB):
        from huggingface_hub import snapshot_download

        name, _, revision = folder.removeprefix(HUB).partition("@")
        kinds = ["*.json", "*.txt", "*.safetensors", "*.bin", "*.pt"]  # no code is fetched
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=kinds))
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder; expected a local folder, or {HUB}organisation/name to fetch one from the hub"
        )
    return path


def read_parts(folder: Path, family: str | None) -> Parts:
    """Read a folder in the format of its family. Raises CheckpointError for one that has no reader."""
    family = family or detect(folder)
    if family == "open_clip":
        return read_open_clip(folder)
    if family == "biovil":
        return read_biovil(folder)
    if family in FAMILIES:
        kinds = SIGMOID if family == "siglip" else tuple(kind for kind in TOWERS if kind not in SIGMOID)
        return read_transformers(folder, kinds)
    raise CheckpointError(f"family {family!r}: expected one of {', '.join(FAMILIES)}")


def detect(folder: Path) -> str:
    """The family of a folder, by its files. Raises CheckpointError that says what was found instead."""
    kind = read_json(folder / "config.json").get("model_type") if (folder / "config.json").is_file() else None
    if kind in TOWERS:
        return "siglip" if kind in SIGMOID else "clip"
    if (folder / CONFIG).is_file():
        return "open_clip"
    if kind == "cxr-bert" or any(folder.glob("biovil*")):
        return "biovil"
    files = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    raise CheckpointError(
        f"{folder}: not a dual encoder that there is a reader for; found {files}"
        f"{f' with model_type {kind!r}' if kind else ''}; expected config.json with model_type {', '.join(TOWERS)} or"
        f" cxr-bert, or {CONFIG}"
    )


def contract_for(
    parts: Parts, modality: str, window: tuple[float, float], slices: int
) -> FittedFilmContract | VolumeContract:
    """The preprocessing contract: the model's own rules for films, a window and a square of tissue for CT."""
    rules = parts.rules
    if modality == "ct":
        millimetres = FIELD_MM / rules.size
        return VolumeContract(
            shape_dhw=(slices, rules.size, rules.size), spacing_mm=(10.0, millimetres, millimetres), window_hu=window
        )
    if modality != "film":
        raise CheckpointError(f"modality {modality!r}: expected film or ct")
    return FittedFilmContract(
        size=rules.size,
        low_percentile=rules.low_percentile,
        high_percentile=rules.high_percentile,
        fit=rules.fit,
        resize=rules.resize,
        interpolation=rules.interpolation,
    )


def module_spec(parts: Parts, modality: str) -> dict[str, Any]:
    """Towers and objective as a recipe describes them."""
    image = parts.image
    if modality == "ct":
        image = {"class_path": "medvlm.pretrained_slices.SliceTower", "init_args": {"tower": image}}
    objective = "PairSigmoid" if parts.sigmoid else "PairInfoNCE"
    return {
        "class_path": "medvlm.contrastive.Contrastive",
        "init_args": {
            "image": image,
            "text": parts.text,
            "objective": {"class_path": f"medvlm.objectives.{objective}"},
        },
    }


def write(
    module: Any, spec: dict[str, Any], parts: Parts, contract: FittedFilmContract | VolumeContract, out: Path
) -> None:
    """Write the checkpoint folder; the configuration last, since its presence says that the folder is whole."""
    out.mkdir(parents=True, exist_ok=True)
    ckpt.save_tokenizer(parts.tokenizer, out)
    length, channels = int(module.text.length), module.image.channels
    ckpt.write_text(out / ckpt.PREPROCESS, ckpt.preprocess_text(contract, parts.tokenizer, length, channels))
    ckpt.save_weights(module, out / ckpt.WEIGHTS)
    left_out = sorted(name for name in parts.tensors if any(re.fullmatch(pattern, name) for pattern in parts.unused))
    config = {
        "module": spec,
        "concepts": {name: [None] for name in DESCRIPTORS},
        "simulated": False,
        "imported": {"family": parts.family, "weights_sha256": ckpt.digest_of(parts.weights)},
        "learned_from": f"what its publishers gave it (imported, {parts.family})",
        "versions": versions(),
    }
    ckpt.write_text(out / ckpt.CARD, card(out.name, parts, contract, config, left_out))
    ckpt.write_text(out / ckpt.CONFIG, yaml.safe_dump(config, sort_keys=False))


def card(
    name: str,
    parts: Parts,
    contract: FittedFilmContract | VolumeContract,
    config: dict[str, Any],
    left_out: Sequence[str],
) -> str:
    """card.md: where the model comes from, how it sees, what was left out, what it is not for."""
    rules = parts.rules
    if isinstance(contract, VolumeContract):
        seen = (
            f"each of {contract.shape_dhw[0]} axial slices of a CT, {contract.spacing_mm[0]:g} mm apart, window"
            f" {contract.window_hu[0]:g} to {contract.window_hu[1]:g} HU, {FIELD_MM:g} mm a side"
        )
    else:
        seen = f"films, resized by the rule {rules.fit!r} ({rules.interpolation}) to {rules.size} x {rules.size} pixels"
    notes = "\n".join(f"- Note: {note}" for note in parts.notes)
    return f"""# {name}: imported dual encoder ({parts.family})

Written {date.today().isoformat()} by `medvlm import-model`. Trained by its publishers; nothing was learned here.

- Accepts: {", ".join(contract.modality)}: {seen}
- Colour: the grey image in three channels, mean {", ".join(f"{v:g}" for v in rules.mean)}, standard deviation \
{", ".join(f"{v:g}" for v in rules.std)}
- Weights: {parts.weights.name}, sha256 {config["imported"]["weights_sha256"][:16]}
- Left out, since no embedding passes through them: {", ".join(left_out) or "nothing"}
- Not calibrated: probabilities are the plain sigmoid of log-odds until `medvlm import-model --catalog` or training \
fits them on validation studies.
- Places of a phrase come from patches through the projection of the whole image, in its plainest form.
{notes}
- The licence of the weights is its publishers'; read it before use.
- Not for: clinical use. Every output is a draft for review by a radiologist.
"""


def command(
    folder: str,
    out: Path,
    family: str | None,
    modality: str,
    window: tuple[float, float],
    slices: int,
    catalog: Path | None,
    workers: int,
) -> None:
    """`medvlm import-model`: write the checkpoint and say what it is."""
    import_model(folder, out, family, modality, window, slices)
    print((out / ckpt.CARD).read_text())
    if catalog is not None:
        from medvlm.pretrained_calibration import calibrate

        metrics = calibrate(out, catalog, workers)
        print(f"calibrated on {metrics['n']} validation studies; macro AUROC {metrics.get('macro_auroc')}")
