"""Training by a recipe: resume where it stopped, and leave a checkpoint that carries its own preprocessing."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from transformers import PreTrainedTokenizerBase

from medvlm import checkpoint as ckpt
from medvlm.contrastive import Contrastive
from medvlm.data import Augment, Example, Images, PairBatches, StepData, load_examples
from medvlm.fine_tune import adopt, copy_start, starts_contrastive
from medvlm.finish import finish
from medvlm.generator import DraftBatches, ReportWriter, decoder_tokenizer
from medvlm.health_codes import common_codes, read_codes
from medvlm.language import embed_texts, load_tokenizer, train_tokenizer
from medvlm.model import load_towers
from medvlm.shard_images import ShardImages, image_source, take_reading
from medvlm.statements import LEAST, concepts
from volumes.catalog import Catalog
from volumes.transforms import FilmContract, VolumeContract

Config = dict[str, Any]
RUN = "run.json"
"""Which run a folder holds: recipe, studies, and where the catalog lay."""


class TrainingError(ValueError):
    """Training that cannot begin or go on, with what was found and what to do."""


def train(config: str, catalog: Path, out: Path, overrides: Sequence[str] = ()) -> Path:
    """Train by a recipe and return the checkpoint folder `out`.

    Called again after a kill, it resumes from the last saved step and ends with bit-identical weights.

    Args:
        config: Recipe by name (see medvlm/recipes) or by path.
        catalog: Catalog made by `medvlm ingest`.
        out: Folder of the run.
        overrides: Values of the recipe to change, as "dotted.key=value". `data.shards=FOLDER` reads the images of the
            training split from shards and not from the archive, with the same weights; `data.shuffle=shards` draws
            batches from a few shards at a time; `data.readers=4` reads ahead in four processes.

    Raises:
        TrainingError: Too few studies, another run in `out`, an unknown option.
    """
    recipe = load_recipe(config, overrides)
    shards, readers = take_reading(recipe)
    started = time.monotonic()
    contract = contract_of(recipe, config)
    with Catalog.open(catalog) as opened:
        learn, images = load_split(opened, catalog, contract, "train", recipe, shards)
        record = claim(out, recipe, learn, catalog)
        if (out / ckpt.WEIGHTS).is_file() and (out / ckpt.METRICS).is_file():
            print(f"{out}: already trained; nothing to do")
            return out
        refuse_other_start(recipe, contract)
        recipe, tokenizer = complete(recipe, learn, out)
        lightning.seed_everything(int(recipe["seed"]), verbose=False)
        module = ckpt.build(recipe["module"], lightning.LightningModule, f"{config}: module")
        prepare(module, recipe)
        # Only now: a recipe that cannot be built does not claim the folder, so the corrected call may use it.
        out.mkdir(parents=True, exist_ok=True)
        ckpt.save_tokenizer(tokenizer, out)
        ckpt.write_text(out / RUN, record)
        batches = batches_for(module, learn, images, tokenizer, recipe)
        if not fit(module, StepData(batches, readers), recipe, out):
            return out  # one process of several writes the checkpoint
        finish(module, recipe, contract, tokenizer, opened, catalog, out, time.monotonic() - started, shards)
    return out


def load_recipe(config: str, overrides: Sequence[str] = ()) -> Config:
    """A recipe with overrides applied. Raises TrainingError for an unknown recipe or key, naming those that exist."""
    path = Path(config)
    shipped = files("medvlm") / "recipes"
    if not path.is_file():
        names = sorted(entry.name.removesuffix(".yaml") for entry in shipped.iterdir() if entry.name.endswith(".yaml"))
        if config not in names:
            raise TrainingError(f"recipe {config!r}: no such file, and not one of {', '.join(names)}")
        text = (shipped / f"{config}.yaml").read_text()
    else:
        text = path.read_text()
    recipe = yaml.safe_load(text)
    for part in ("module", "contract", "data", "trainer", "seed"):
        if not isinstance(recipe, dict) or part not in recipe:
            raise TrainingError(f"recipe {config}: has no `{part}`; expected module, contract, data, trainer and seed")
    if isinstance(recipe["data"], dict):
        recipe["data"] = {"shards": None, "shuffle": "all", "readers": 0} | recipe["data"]
    for override in overrides:
        key, _, value = override.partition("=")
        set_value(recipe, key.strip().lstrip("-"), yaml.safe_load(value))
    return dict(recipe)


OPTIONAL = frozenset({"data.rewrite", "data.codes"})
"""Keys that may be set where a recipe does not have them: they change nothing until then."""


def set_value(recipe: Config, key: str, value: Any) -> None:
    """Set a dotted key. `module.lr` reaches into `init_args`; a key that the recipe does not have is refused."""
    *parents, last = key.split(".")
    place: Any = recipe
    for parent in parents:
        place = place.get(parent, place.get("init_args", {}).get(parent)) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise TrainingError(f"option {key!r}: the recipe has no {parent!r}")
    if "class_path" in place and last not in ("class_path", "init_args"):
        place.setdefault("init_args", {})[last] = value  # the class itself refuses names that it does not take
    elif last in place or key in OPTIONAL:
        place[last] = value
    else:
        raise TrainingError(f"option {key!r}: not in the recipe; it has {', '.join(sorted(place))}")


def load_split(
    opened: Catalog, path: Path, contract: FilmContract | VolumeContract, split: str, recipe: Config, shards: str = ""
) -> tuple[list[Example], Images]:
    """Studies of a split and their preprocessed images. Raises TrainingError when there are too few."""
    examples = load_examples(opened, contract, split, rewrite=recipe["data"].get("rewrite"))
    need = 2 if split == "train" else 0
    if len(examples) < need:
        raise TrainingError(
            f"{path.name}: {len(examples)} studies of the {split} split have a report and an image of"
            f" {contract.modality}; expected at least {need}. Ingest more, or choose a recipe for another modality."
        )
    source = image_source(opened, path, contract, split, shards)
    images, kept, refused = source.load(examples, int(recipe["data"]["workers"]))
    for message in refused[:5]:
        print(f"left out of {split}: {message}")
    if len(refused) > 5:
        print(f"left out of {split}: {len(refused) - 5} more; `medvlm ingest` lists every refusal")
    if len(kept) < need:
        raise TrainingError(
            f"{path.name}: of {len(examples)} studies of the {split} split the images of {len(kept)} can be read,"
            f" expected at least {need}; the first refusal: {refused[0]}"
        )
    return [examples[i] for i in kept], images


def claim(out: Path, recipe: Config, learn: Sequence[Example], catalog: Path) -> str:
    """What says which run a folder holds, as JSON; a folder that holds another run is refused."""
    studies = hashlib.sha256("\n".join(sorted(f"{e.study_uid} {e.text}" for e in learn)).encode()).hexdigest()
    wanted = {"recipe": recipe, "studies_sha256": studies, "n": len(learn)}
    if (out / RUN).is_file():
        held = json.loads((out / RUN).read_text())
        differs = [key for key, value in wanted.items() if held.get(key) != json.loads(json.dumps(value))]
        if differs:
            raise TrainingError(
                f"{out}: holds another run; {' and '.join(differs)} differ (then {held.get('n')} studies, now"
                f" {len(learn)}). Give another --out, or delete the folder."
            )
    # Where the catalog lies is kept for baselines; a run folder may be moved, so it does not decide what run it is.
    return json.dumps(wanted | {"catalog": str(catalog.resolve())}, indent=1)


def contract_of(recipe: Config, config: str) -> FilmContract | VolumeContract:
    """The preprocessing that a recipe states; "start" is that of the run which it starts from."""
    if recipe["contract"] != "start":
        return ckpt.build(recipe["contract"], FilmContract | VolumeContract, f"{config}: contract")  # type: ignore[arg-type]
    start = (recipe.get("start") or {}).get("run")
    if start is None:
        raise TrainingError(
            f"recipe {config} learns on from an earlier run or an imported model: give --start.run FOLDER"
        )
    ckpt.read_config(Path(start))
    return ckpt.load_preprocess(Path(start))[0]


def refuse_other_start(recipe: Config, contract: FilmContract | VolumeContract) -> None:
    """A run that starts from another one needs it, and sees images as that one does."""
    if "start" not in recipe:
        return
    start = (recipe["start"] or {}).get("run")
    if start is None:
        raise TrainingError("a report writer starts from a contrastive run: give --start.run FOLDER")
    ckpt.read_config(Path(start))
    theirs = ckpt.load_preprocess(Path(start))[0]
    if theirs != contract:
        raise TrainingError(
            f"{start}: its images are {theirs.to_json()}, those of the recipe {contract.to_json()}; its towers can see"
            " only the former. Change the recipe, such as --contract.size for films."
        )


def complete(recipe: Config, learn: Sequence[Example], out: Path) -> tuple[Config, PreTrainedTokenizerBase]:
    """Fill in what the recipe leaves to the data: tokenizer, statement bank, and the towers of an earlier run."""
    recipe = json.loads(json.dumps(recipe))
    start = (recipe.get("start") or {}).get("run")
    arguments = recipe["module"].setdefault("init_args", {})
    least = int(recipe["data"].get("least", LEAST))
    recipe["concepts"] = concepts([example.facts for example in learn], least)
    if recipe["data"].get("codes") is not None:
        recipe["codes"] = common_codes(Path(recipe["data"]["codes"]), learn, least)
    count_codes(arguments.get("objective"), recipe)
    if start is not None:
        earlier = ckpt.read_config(Path(start))
        if starts_contrastive(recipe):
            adopt(arguments, earlier["module"]["init_args"], int(recipe["start"].get("rank", 0)))
            return recipe, ckpt.load_preprocess(Path(start))[1]
        for part in ("image", "text", "objective"):
            arguments[part] = earlier["module"]["init_args"][part]
        recipe["concepts"] = earlier["concepts"]
        arguments["statements"] = statement_bank(recipe["concepts"])
    if arguments.get("language_model"):
        return recipe, decoder_tokenizer(str(arguments["language_model"]))
    if start is not None:
        return recipe, ckpt.load_preprocess(Path(start))[1]
    if (out / RUN).is_file():
        return recipe, load_tokenizer(out / ckpt.TOKENIZER)
    return recipe, train_tokenizer([example.text for example in learn], int(recipe["data"]["vocabulary"]))


def count_codes(objective: Any, recipe: Config) -> None:
    """Tell an objective that predicts codes how many the catalog has, unless the recipe says so."""
    if isinstance(objective, dict):
        arguments = objective.setdefault("init_args", {})
        if str(objective.get("class_path", "")).endswith(".ConceptCodes"):
            asked = sum(len(sides) for sides in recipe["concepts"].values())
            arguments.setdefault("codes", len(recipe["codes"]) if "codes" in recipe else asked)
        for part in arguments.get("objectives", ()):
            count_codes(part, recipe)


def statement_bank(names: dict[str, Sequence[str | None]]) -> list[str]:
    """Minimal sentences, one for each finding and each side it has."""
    phrases = [f"{side} {name}" if side else name for name, sides in names.items() for side in sides]
    return [f"{phrase[0].upper()}{phrase[1:]}." for phrase in phrases]


def prepare(module: lightning.LightningModule, recipe: Config) -> None:
    """Give a module the towers of its starting run, and a writer the vectors of its statement bank as well."""
    if starts_contrastive(recipe):
        copy_start(module, Path(recipe["start"]["run"]))
    if not isinstance(module, ReportWriter):
        return
    towers, words = load_towers(Path(recipe["start"]["run"]))
    for part in ("image", "text", "objective"):
        getattr(module, part).load_state_dict(getattr(towers, part).state_dict())
    module.train(False)
    with torch.no_grad():
        module.bank.copy_(embed_texts(module.text, words, module.statements))
    module.train(True)


def batches_for(
    module: Any, learn: Sequence[Example], images: Images, tokenizer: Any, recipe: Config
) -> PairBatches | DraftBatches:
    """The batches that the module learns from."""
    data, seed = recipe["data"], int(recipe["seed"])
    augment = Augment(**data["augment"]) if data.get("augment") is not None else None
    batch = min(int(data["batch_size"]), len(learn))
    rows = images.schedule(seed, batch) if isinstance(images, ShardImages) and "shuffle" in data else None
    if isinstance(module, ReportWriter):
        names = list(recipe["concepts"]) if data["target"] == "minimal" else None
        return DraftBatches(learn, images, tokenizer, int(data["length"]), batch, seed, augment, names, rows)
    if isinstance(module, Contrastive):
        unit = str(module.objective.needs)
        return PairBatches(
            learn,
            images,
            tokenizer,
            int(cast(Any, module.text).length),
            batch,
            seed,
            int(data["per_study"]),
            unit,
            augment,
            int(data.get("least", LEAST)),
            rows,
            module.wants,
            None if data.get("codes") is None else read_codes(Path(data["codes"]), learn, recipe["codes"]),
        )
    raise TrainingError(f"module {type(module).__name__}: expected Contrastive or ReportWriter")


def fit(module: lightning.LightningModule, data: StepData, recipe: Config, out: Path) -> bool:
    """Run Lightning to `max_steps`, saving every `checkpoint_every` steps and resuming from the newest save.

    Returns whether this process is the first of those that trained together.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it advertises other products at INFO
    options = dict(recipe["trainer"])
    every = int(options.pop("checkpoint_every"))
    saver = ModelCheckpoint(
        dirpath=out / "checkpoints",
        filename="{step:06d}",
        every_n_train_steps=every,
        save_top_k=1,
        monitor="step",
        mode="max",
        auto_insert_metric_name=False,
    )
    newest = newest_save(out / "checkpoints")
    since = "from_000000" if newest is None else f"from_{newest.stem}"  # a resumed run must not write over its past
    loggers = [CSVLogger(out, name="logs", version=since), TensorBoardLogger(out, name="logs", version="tensorboard")]
    trainer = lightning.Trainer(
        **options,
        callbacks=[saver, TQDMProgressBar(refresh_rate=5)],
        logger=loggers,
        enable_model_summary=False,
        use_distributed_sampler=False,  # batches divide themselves among ranks (see medvlm/data.py)
        default_root_dir=out,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        max_epochs=-1,
        log_every_n_steps=10,
    )
    if newest is not None:
        print(f"resuming from {newest.name}")
    trainer.fit(module, datamodule=data, ckpt_path=newest, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.global_step < trainer.max_steps:
        raise TrainingError(f"training stopped at step {trainer.global_step} of {trainer.max_steps}")
    return bool(trainer.is_global_zero)


def newest_save(folder: Path) -> Path | None:
    """The save with the highest step, or None."""
    saves = sorted(path for path in folder.glob("*.ckpt") if path.stem.isdigit()) if folder.is_dir() else []
    return saves[-1] if saves else None
