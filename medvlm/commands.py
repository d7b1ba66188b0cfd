"""Turn an imaging archive into a vision-language model, and the model into drafts and diagnoses to be checked.

Every output is a draft for review by a radiologist. Nothing is sent anywhere.
"""

# `medvlm --help` prints the lines above. Each function is one command (see medvlm/options.py), its docstring the help.
# The work is imported when it is done, so that `medvlm --help` needs no torch.

from __future__ import annotations

from pathlib import Path
from typing import Literal

from medvlm.options import Command, ExistingPath


def simulate(
    out: Path,
    *,
    studies: int = 400,
    seed: int = 7,
    modality: Literal["xray", "ct", "both"] = "xray",
    workers: int | None = None,
    trouble: bool = False,
) -> None:
    """Make a phantom hospital: DICOM files, HL7 and FHIR messages, and the truth.

    All of it is simulated and says so. OUT gets the folders dicom, messages and truth.

    Args:
        out: Folder to write; it must not hold another hospital.
        studies: Number of studies.
        seed: Same seed, same hospital, bit for bit.
        modality: What is imaged.
        workers: Processes; as many as there are cores when left out.
        trouble: Plant the faults that archives have, so that one can see ingest name every one of them.
    """
    from medvlm.simulate import simulate as work

    print(work(out, studies=studies, seed=seed, modality=modality, workers=workers, trouble=trouble).text())


def ingest(
    archives: list[ExistingPath],
    *,
    reports: list[ExistingPath] | None = None,
    out: Path,
    workers: int = 2,
    resume: bool = True,
    unit: Literal["raw", "HU", "SUV", "1"] = "raw",
    modality: str = "",
    json: bool = False,
) -> None:
    """Read archives and reports into one catalog, with every repair and refusal in it.

    Args:
        archives: Folders, files or zips of DICOM, NIfTI, NRRD, PNG or JPEG; also CSV tables of films with their text.
        reports: Folders or files of HL7 v2, FHIR, DICOM SR, CSV, JSONL or text.
        out: Catalog to write, one database file.
        workers: Processes that read files.
        resume: Continue a catalog that an earlier call has begun.
        unit: Unit of NIfTI and NRRD files, which do not state it.
        modality: Modality of NIfTI and NRRD files, such as CT.
        json: Print the summary as one JSON object.
    """
    from json import dumps

    from medvlm.ingest import ingest as work

    summary = work(archives, reports or [], out, workers=workers, resume=resume, unit=unit, modality=modality)
    print(dumps(summary.to_dict(), indent=2) if json else summary.text())


def train(*overrides: str, config: str, data__catalog: ExistingPath, out: Path) -> None:
    """Train by a recipe; resumes where an earlier call stopped.

    Any value of the recipe can be changed: --trainer.max_steps 20 --data.batch_size=8

    Args:
        config: Recipe, by name (film_contrastive) or by path (mine.yaml).
        data__catalog: Catalog made by `medvlm ingest`.
        out: Folder of the run; the checkpoint carries its own preprocessing.
    """
    from medvlm.train import train as work

    work(config, data__catalog, out, list(overrides))


def diagnose(
    study: ExistingPath,
    *,
    model: ExistingPath,
    findings: list[str] | None = None,
    unit: Literal["raw", "HU", "SUV", "1"] = "raw",
    modality: str = "",
    study_uid: str = "",
    series_uid: str = "",
    json: bool = False,
) -> None:
    """Say how probable findings are in a study, or abstain.

    Args:
        study: Folder or file of one study.
        model: Run made by `medvlm train`.
        findings: Names with commas between them; all that the model was calibrated for when left out.
        unit: Unit of a NIfTI or NRRD file, which does not state it.
        modality: Modality of a NIfTI or NRRD file, such as CT.
        study_uid: Which study, where the path holds several.
        series_uid: Which series, where the study holds several that fit.
        json: Print one JSON object.
    """
    from medvlm.diagnose import command

    command(study, model, findings, json, unit=unit, modality=modality, study_uid=study_uid, series_uid=series_uid)


def draft(
    study: ExistingPath,
    *,
    model: ExistingPath,
    out: Path,
    prior: ExistingPath | None = None,
    experts: list[str] | None = None,
    knowledge: list[ExistingPath] | None = None,
    unit: Literal["raw", "HU", "SUV", "1"] = "raw",
    modality: str = "",
    study_uid: str = "",
    series_uid: str = "",
) -> None:
    """Draft a report whose every sentence names its evidence.

    Args:
        study: Folder or file of one study.
        model: Run made by `medvlm train`.
        out: Draft to write; the ending chooses the form: .md, .json, .html or .dcm.
        prior: Earlier study of the same patient, for comparison.
        experts: Names from `medvlm experts` with commas between them; every suitable one when left out.
        knowledge: Folders or JSONL files of passages to cite, besides the built-in glossary.
        unit: Unit of a NIfTI or NRRD file, which does not state it.
        modality: Modality of a NIfTI or NRRD file, such as CT.
        study_uid: Which study, where the path holds several.
        series_uid: Which series, where the study holds several that fit.
    """
    from medvlm.draft import command

    command(
        study,
        model,
        out,
        prior,
        experts,
        knowledge or [],
        unit=unit,
        modality=modality,
        study_uid=study_uid,
        series_uid=series_uid,
    )


def ground(
    study: ExistingPath,
    phrase: str,
    *,
    model: ExistingPath,
    out: Path | None = None,
    unit: Literal["raw", "HU", "SUV", "1"] = "raw",
    modality: str = "",
    study_uid: str = "",
    series_uid: str = "",
    json: bool = False,
) -> None:
    """Find the place in the image that a phrase speaks of.

    Args:
        study: Folder or file of one study.
        phrase: What to look for, such as "left pleural effusion".
        model: Run made by `medvlm train`.
        out: Picture to write, .png, with the place marked.
        unit: Unit of a NIfTI or NRRD file, which does not state it.
        modality: Modality of a NIfTI or NRRD file, such as CT.
        study_uid: Which study, where the path holds several.
        series_uid: Which series, where the study holds several that fit.
        json: Print one JSON object.
    """
    from medvlm.ground import command

    command(study, phrase, model, out, json, unit=unit, modality=modality, study_uid=study_uid, series_uid=series_uid)


def search(query: str, *, model: ExistingPath, catalog: ExistingPath, k: int = 5, json: bool = False) -> None:
    """Find studies like a text or like another study.

    Args:
        query: Words, or the path of a study.
        model: Run made by `medvlm train`.
        catalog: Catalog to search.
        k: How many studies to show.
        json: Print one JSON object.
    """
    from medvlm.retrieve import command

    command(query, model, catalog, k=k, json=json)


def label(
    reports: ExistingPath,
    *,
    column: tuple[str, ...],
    scheme: Literal["open", "chexpert14", "ctrate18"] = "open",
    out: Path,
) -> None:
    """Read findings from a table of reports: 1 present, -1 uncertain, 0 absent, empty when not mentioned.

    Args:
        reports: CSV file with one report per row.
        column: Columns that hold the text, in reading order.
        scheme: Which list of findings.
        out: CSV file to write.
    """
    from reports.labels import label_reports

    summary = label_reports(reports, column, scheme, out)
    print(f"{out}: {summary.rows} reports, {summary.empty} of them without text")
    for name, present in sorted(summary.present.items(), key=lambda item: -item[1]):
        print(f"  {present:6d} present  {name}")


def experts_list(*, json: bool = False) -> None:
    """List the experts: what each takes, gives, and is not for.

    Args:
        json: Print one JSON object.
    """
    from medvlm.experts_cli import list_experts

    list_experts(json)


def experts_run(
    name: str,
    study: ExistingPath,
    *,
    unit: Literal["raw", "HU", "SUV", "1"] = "raw",
    modality: str = "",
    study_uid: str = "",
    series_uid: str = "",
    json: bool = False,
) -> None:
    """Run one expert on a study.

    Args:
        name: Name from `medvlm experts`.
        study: Folder or file of one study.
        unit: Unit of a NIfTI or NRRD file, which does not state it.
        modality: Modality of a NIfTI or NRRD file, such as CT.
        study_uid: Which study, where the path holds several.
        series_uid: Which series, where the study holds several that fit.
        json: Print one JSON object.
    """
    from medvlm.experts_cli import run_expert

    run_expert(name, study, json, unit=unit, modality=modality, study_uid=study_uid, series_uid=series_uid)


def evaluate(
    *,
    model: ExistingPath,
    catalog: ExistingPath,
    split: Literal["train", "validation", "test", "all"] = "test",
    truth: ExistingPath | None = None,
    out: Path,
    json: bool = False,
) -> None:
    """Measure a model, every number with an interval, and write a score card.

    Args:
        model: Run made by `medvlm train`.
        catalog: Catalog of the studies.
        split: Which studies; `all` only for a catalog that the model has never seen.
        truth: Folder with the truth of a phantom hospital.
        out: Folder for card.json and card.html.
        json: Print the score card as one JSON object.
    """
    from medvlm.evaluate import command

    command(model, catalog, split, truth, out, json)


def doctor(*, json: bool = False) -> None:
    """Say what is installed, what would work and what would not.

    Args:
        json: Print one JSON object.
    """
    from medvlm.doctor import doctor as work

    work(json)


def demo(out: Path = Path("runs/demo"), *, quick: bool = False) -> None:
    """Go the whole road on a phantom hospital: simulate, ingest, train, evaluate, diagnose, draft.

    Args:
        out: Folder to write.
        quick: A smaller hospital and a shorter training, to see that it runs; the numbers mean little.
    """
    from medvlm.demo import demo as work

    work(out, quick=quick)


COMMANDS: dict[str, Command] = {
    "simulate": simulate,
    "ingest": ingest,
    "train": train,
    "diagnose": diagnose,
    "draft": draft,
    "ground": ground,
    "search": search,
    "label": label,
    "experts list": experts_list,
    "experts run": experts_run,
    "evaluate": evaluate,
    "doctor": doctor,
    "demo": demo,
}

NEEDS: dict[str, tuple[str, ...]] = {
    "simulate": ("medvlm.simulate", "torch", "pydicom"),
    "ingest": ("medvlm.ingest", "pydicom", "highdicom", "nibabel", "hl7apy", "fhir"),
    "train": ("medvlm.train", "torch", "lightning", "transformers", "tokenizers", "safetensors", "jsonargparse"),
    "diagnose": ("medvlm.diagnose", "torch", "transformers", "safetensors"),
    "draft": ("medvlm.draft", "torch", "transformers", "safetensors", "bm25s", "highdicom", "PIL"),
    "ground": ("medvlm.ground", "torch", "transformers", "safetensors", "PIL"),
    "search": ("medvlm.retrieve", "torch", "transformers", "safetensors"),
    "label": ("reports.labels",),
    "experts list": ("medvlm.experts_cli", "experts.catalog"),
    "experts run": ("medvlm.experts_cli", "experts.consult", "torch"),
    "evaluate": ("medvlm.evaluate", "evaluation.scorecard", "torch", "sklearn", "matplotlib"),
    "doctor": ("packaging",),
    "demo": ("medvlm.demo",),
}
"""What each command imports when it runs, for `medvlm doctor`."""
