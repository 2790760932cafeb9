"""A large sweep whose fold runs are simulated, through the real Ray Tune, Optuna, MLflow and result store.

usage: python -m benchmarks.scale [--trials N] [--workers N]    (not part of `make bench`: minutes)
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.__main__ import quiet, show
from benchmarks.driver_time import DriverTime
from benchmarks.orchestration import FOLDS, SPACE, small_store
from orchestrator.events import Event, FoldDone

TRIALS, WORKERS = 300, 8
PARTS = 4  # of the sweep, to see whether its cost grows


def run(trials: int = TRIALS, workers: int = WORKERS) -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio: wall time to its first part, the driver's CPU time to its sum."""
    import ray

    from orchestrator.execution.backends import SimulatedBackend
    from orchestrator.sweep.run import run_sweep
    from search_spaces.overrides import merge
    from search_spaces.schema import SearchSpace

    changes = {"search": {"trials": trials}, "resources": {"concurrent_trials": workers}}
    folds: list[float] = []
    memory: list[float] = []

    def watch(event: Event) -> None:
        if isinstance(event, FoldDone):
            if not folds:
                driver.start()
            folds.append(time.perf_counter())
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    with tempfile.TemporaryDirectory() as folder, DriverTime() as driver:
        settings = small_store(Path(folder))
        settings = replace(settings, optuna=f"{folder}/scale.journal", mlflow=f"sqlite:///{folder}/scale.db")
        begun = time.perf_counter()
        run_sweep(SearchSpace.parse(merge(SPACE, changes)), settings, watch, SimulatedBackend())
        ended = time.perf_counter()
        ray.shutdown()
    count = trials * FOLDS
    assert len(folds) == count
    part = count // PARTS
    costs = [1000 * (folds[(i + 1) * part - 1] - folds[i * part]) / part for i in range(PARTS)]
    whole = 1000 * (ended - folds[0]) / count
    rows: list[tuple[str, float, str, float | None]] = [("until the first fold", folds[0] - begun, "s", None)]
    for i, cost in enumerate(costs):
        rows.append((f"fold runs {i * part + 1} to {(i + 1) * part}", cost, "ms/fold", cost / costs[0]))
    rows.append(("all, MLflow written to the end", whole, "ms/fold", whole / costs[0]))
    shares = driver.shares()
    in_all = next(iter(shares.values()))
    rows += [(name, 1000 * seconds / count, "ms/fold", seconds / in_all) for name, seconds in shares.items()]
    rows.append(("driver's memory at the end", memory[-1], "MB", memory[-1] / memory[part]))
    print(f"load at the end {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores", file=sys.stderr)
    name = f"{trials} x {FOLDS} folds, {workers} workers"
    return [{"name": f"{name}: {what}", "value": v, "unit": unit, "ratio": ratio} for what, v, unit, ratio in rows]


if __name__ == "__main__":
    quiet()
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--trials", type=int, default=TRIALS)
    arguments.add_argument("--workers", type=int, default=WORKERS)
    show(run(**vars(arguments.parse_args())))
