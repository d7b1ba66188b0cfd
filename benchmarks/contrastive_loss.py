"""Memory and time of one step of the contrastive losses, dense and in tiles: python benchmarks/contrastive_loss.py

Each row is a process of its own: it makes the vectors, takes one loss and its gradient, and reports by how much its
largest resident memory grew and how many processor seconds the step took, so that a busy machine matters little. Where
the dense loss would need more than `--memory` GB it is not run; what it needs there is the growth of its memory at the
largest size that was run, which goes with the square.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

WIDTH = 512
MATRICES = {"info_nce": 6, "sigmoid": 5}
"""Square matrices that a dense step may hold at once, for the decision whether to run it."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 8192, 16384, 32768])
    parser.add_argument("--losses", nargs="+", default=list(MATRICES), choices=list(MATRICES))
    parser.add_argument("--memory", type=float, default=12.0, help="GB that a dense step may take")
    parser.add_argument("--repeat", type=int, default=1, help="steps to time; the fastest counts")
    parser.add_argument("--one", nargs=3, metavar=("LOSS", "FORM", "SIZE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], given.one[1], int(given.one[2]), given.repeat)))
        return
    print(f"One step, loss and gradient, {WIDTH} numbers in 32 bits for each vector, fastest of {given.repeat}.\n")
    print("| loss | pairs | dense GB | tiled GB | dense / tiled | dense s | tiled s | tiled / dense |")
    print("|---|---|---|---|---|---|---|---|")
    for loss in given.losses:
        per_square = 0.0
        for size in sorted(given.sizes):
            tiled = in_process(loss, "tiled", size, given.repeat)
            fits = MATRICES[loss] * size**2 * 4 < given.memory * 1e9
            dense = in_process(loss, "dense", size, given.repeat) if fits else None
            if dense is not None:
                per_square = dense["grown_bytes"] / size**2
            print(row(loss, size, tiled, dense, per_square * size**2), flush=True)
    print("\n~ not run: the memory of the largest dense step that was, times the square of the ratio of sizes.")


def row(loss: str, size: int, tiled: dict[str, float], dense: dict[str, float] | None, expected: float) -> str:
    """One line of the table."""
    mark, needed = ("", dense["grown_bytes"]) if dense else ("~", expected)
    times = (f"{dense['seconds']:.2f}", f"{tiled['seconds'] / dense['seconds']:.2f}") if dense else ("", "")
    return (
        f"| {loss} | {size:,} | {mark}{needed / 1e9:.2f} | {tiled['grown_bytes'] / 1e9:.3f} |"
        f" {mark}{needed / tiled['grown_bytes']:.1f} | {times[0]} | {tiled['seconds']:.2f} | {times[1]} |"
    )


def in_process(loss: str, form: str, size: int, repeat: int) -> dict[str, float]:
    """What a fresh process measures."""
    words = [sys.executable, __file__, "--repeat", str(repeat), "--one", loss, form, str(size)]
    # Settings of the allocator would decide what stays resident, so the ordinary ones are measured.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    finished = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def measure(loss: str, form: str, size: int, repeat: int) -> dict[str, float]:
    """Growth of the largest resident memory over one step, in bytes, and the fastest step in processor seconds."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import torch
    import torch.nn.functional as F

    from medvlm.tiled_losses import tiled_info_nce, tiled_sigmoid

    def step(rows: int) -> float:
        g = torch.Generator().manual_seed(0)
        image, text = (F.normalize(torch.randn(rows, WIDTH, generator=g), dim=1).requires_grad_() for _ in range(2))
        scale, bias = (torch.tensor(v, requires_grad=True) for v in (14.0, -10.0))
        started = time.process_time()
        if form == "tiled" and loss == "info_nce":
            value = tiled_info_nce(image, text, scale)
        elif form == "tiled":
            value = tiled_sigmoid(image, text, scale, bias)
        elif loss == "info_nce":
            logits, own = image @ text.T * scale, torch.arange(rows)
            value = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
            del logits
        else:
            sign = 2 * torch.eye(rows) - 1
            value = -F.logsigmoid(sign * (image @ text.T * scale + bias)).sum() / rows
        value.backward()
        return time.process_time() - started

    step(64)  # what torch allocates once is not the step's
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = [step(size) for _ in range(repeat)]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {"grown_bytes": float(grown), "seconds": min(seconds)}


if __name__ == "__main__":
    main()
