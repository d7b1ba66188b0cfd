"""The whole road on a phantom hospital, from an archive to a score card and a draft, in one command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

TRAIN_SEED, UNSEEN_SEED = 7, 1007


@dataclass(frozen=True)
class Size:
    """How large the demo is: studies of the training and of the unseen hospital, and steps of the two trainings."""

    studies: int
    unseen: int
    contrastive_steps: int
    report_steps: int


FULL = Size(studies=1300, unseen=240, contrastive_steps=1550, report_steps=300)
QUICK = Size(studies=80, unseen=24, contrastive_steps=12, report_steps=8)


def demo(out: Path, quick: bool = False) -> Path:
    """Simulate, ingest, train, measure on unseen patients, diagnose, ground and draft. Returns the score card page.

    Every stage that is complete is skipped, so an interrupted demo goes on where it was.

    Args:
        out: Folder for everything.
        quick: A tiny version that shows the road, not the numbers.
    """
    size = QUICK if quick else FULL
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    for name, studies, seed in (("hospital", size.studies, TRAIN_SEED), ("unseen", size.unseen, UNSEEN_SEED)):
        with stage(f"simulate {studies} film studies: {name}"):
            simulate_once(out / name, studies, seed)
        with stage(f"ingest {name}"):
            ingest_once(out, name)
    with stage("train: images against report sentences"):
        towers = [f"trainer.max_steps={size.contrastive_steps}", f"trainer.precision={precision()}"]
        train_once("film_contrastive", out / "hospital.db", out / "film", towers)
    with stage("train: report writer"):
        start = [f"start.run={out / 'film'}", f"trainer.max_steps={size.report_steps}"]
        train_once("film_report", out / "hospital.db", out / "report", start)
    with stage("measure on patients that training never saw"):
        card = measure_once(out)
    with stage("diagnose, ground, search and draft one study"):
        made = use(out)
    print(f"\nDone in {(time.monotonic() - begun) / 60:.1f} minutes. Everything here is simulated. Open:")
    for what, path in {"score card": card, **made}.items():
        print(f"  {what:12s} {path}")
    return card


@contextmanager
def stage(title: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    print(f"\n== {title}", flush=True)
    begun = time.monotonic()
    yield
    print(f"   {time.monotonic() - begun:.0f} s", flush=True)


def simulate_once(folder: Path, studies: int, seed: int) -> None:
    """A phantom hospital; the training archive also holds the usual trouble, so that ingest has something to refuse."""
    from medvlm.simulate import simulate

    simulate(folder, studies=studies, seed=seed, modality="xray", trouble=seed == TRAIN_SEED)


def ingest_once(out: Path, name: str) -> None:
    """Archive and messages into OUT/NAME.db."""
    from medvlm.ingest import ingest

    # The unseen hospital is the test set, so the other one needs none of its own.
    summary = ingest(
        [out / name / "dicom"], [out / name / "messages"], out / f"{name}.db", split_fractions=(0.9, 0.1, 0.0)
    )
    print(summary.text())


def train_once(recipe: str, catalog: Path, out: Path, overrides: list[str]) -> None:
    """Train unless the run is complete."""
    from medvlm.train import train

    train(recipe, catalog, out, overrides)


def precision() -> str:
    """bf16 where the machine multiplies it itself (a third less time for the towers), else 32 bits."""
    import torch

    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    own: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # of torch 2.13; older ones do not tell
    return "bf16-mixed" if own.get("avx512_bf16") or own.get("amx_bf16") else "32-true"


def measure_once(out: Path) -> Path:
    """The score card of the writer's checkpoint on the unseen hospital."""
    from medvlm.evaluate import command as measure

    page = out / "card" / "card.html"
    measure(out / "report", out / "unseen.db", "all", out / "unseen" / "truth", out / "card")
    return page


def use(out: Path) -> dict[str, Path]:
    """Diagnose, ground, search and draft the unseen study with the most findings to show."""
    from medvlm.diagnose import command as diagnose
    from medvlm.draft import command as draft
    from medvlm.ground import command as ground
    from medvlm.retrieve import command as search

    study, phrase = showcase(out)
    folder, run = out / "unseen" / "dicom" / study, out / "report"
    made = {"draft": out / "draft.html", "overlay": out / "overlay.png"}
    steps: list[tuple[str, Callable[[], None]]] = [
        (f"medvlm diagnose {folder} --model {run}", lambda: diagnose(folder, run, None)),
        (
            f'medvlm ground {folder} "{phrase}" --model {run} --out {made["overlay"]}',
            lambda: ground(folder, phrase, run, made["overlay"]),
        ),
        (
            f'medvlm search "{phrase}" --model {run} --catalog {out / "unseen.db"}',
            lambda: search(phrase, run, out / "unseen.db", 3),
        ),
        (
            f"medvlm draft {folder} --model {run} --out {made['draft']}",
            lambda: draft(folder, run, made["draft"]),
        ),
    ]
    for said, step in steps:
        print(f"$ {said}")
        step()
    return made


def showcase(out: Path) -> tuple[str, str]:
    """Of the unseen studies with a clear finding, the one in which the model is surest of it, and the phrase for it.

    A showcase, chosen with the truth in hand: how often the model is wrong, and its worst cases, are on the score card.
    """
    from medvlm.ground import ground
    from medvlm.model import load_model
    from volumes.study import read_study

    model = load_model(out / "report")
    found = candidates(out / "unseen" / "truth" / "studies.jsonl")
    looked = [ground(read_study(out / "unseen" / "dicom" / study), phrase, model) for study, phrase in found]
    placed = [i for i, grounding in enumerate(looked) if grounding.region is not None]
    best = max(placed or range(len(looked)), key=lambda i: looked[i].odds)
    print(f"a showcase: of {len(found)} studies with a clear finding the one of which the model is surest")
    return found[best]


def candidates(truth: Path) -> list[tuple[str, str]]:
    """Studies with two to four findings, one of them clear and one-sided, with the phrase for that one."""
    lines = [json.loads(line) for line in truth.read_text().splitlines()]
    wanted = ("lung mass", "consolidation", "pneumothorax")
    found = []
    for line in lines:
        clear = [
            f
            for f in line["findings"]
            if f["name"] in wanted and f["side"] in ("left", "right") and f["severity"] in ("moderate", "severe")
        ]
        if clear and 2 <= len(line["findings"]) <= 4:
            found.append((line["study_uid"], f"{clear[0]['side']} {clear[0]['name']}"))
    return found or [(lines[0]["study_uid"], "consolidation")]
