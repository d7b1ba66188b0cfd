"""Prints how many simulated studies (PA and lateral film) and CT series one core renders per second.

Run with one thread: OMP_NUM_THREADS=1 python benchmarks/phantom_speed.py
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from volumes.phantom import render_ct, render_films, sample_patient  # noqa: E402 (threads are set first)


def main(studies: int = 40) -> None:
    """Times `studies` patients after one warm-up; processor seconds, so that a busy machine does not matter."""
    states = [sample_patient(11, index)[0] for index in range(studies)]
    render_films(states[0])
    render_ct(states[0])
    for name, render in (("films (PA and lateral)", render_films), ("CT", render_ct)):
        times = []
        for state in states:
            start = time.process_time()
            render(state)
            times.append(time.process_time() - start)
        times.sort()
        mean = sum(times) / studies
        print(
            f"{name}: {1 / mean:.1f} studies/s on one core; mean {mean:.3f} s, median {times[studies // 2]:.3f} s, "
            f"slowest {times[-1]:.3f} s (n={studies})"
        )


if __name__ == "__main__":
    main()
