"""A large sweep whose fold runs are simulated, through the real Ray Tune, Optuna, MLflow and result store.

usage: python -m tests.benchmarks scale    (not part of `make bench`: minutes, and 64 trial processes)
"""

from __future__ import annotations

import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.events import Progress
from tests.benchmarks.orchestration import FOLDS, SPACE, small_store

TRIALS, WORKERS = 1000, 64
PARTS = 4  # of the sweep, to see whether its cost grows


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio to the first part."""
    import ray

    from orchestrator.backends import SimulatedBackend
    from orchestrator.sweep import run_sweep
    from search_spaces.schema import SearchSpace, merge

    changes = {"search": {"trials": TRIALS}, "resources": {"concurrent_trials": WORKERS}}
    folds: list[float] = []
    memory: list[float] = []

    def watch(progress: Progress) -> None:
        if progress.kind == "fold":
            folds.append(time.perf_counter())
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    with tempfile.TemporaryDirectory() as folder:
        settings = small_store(Path(folder))
        settings = replace(settings, optuna=f"{folder}/scale.journal", mlflow=f"sqlite:///{folder}/scale.db")
        begun = time.perf_counter()
        run_sweep(SearchSpace.parse(merge(SPACE, changes)), settings, watch, SimulatedBackend())
        ended = time.perf_counter()
        ray.shutdown()
    count = TRIALS * FOLDS
    assert len(folds) == count
    part = count // PARTS
    costs = [1000 * (folds[(i + 1) * part - 1] - folds[i * part]) / part for i in range(PARTS)]
    name = f"{TRIALS} trials x {FOLDS} folds, {WORKERS} simulated workers"
    whole = 1000 * (ended - folds[0]) / count
    rows: list[tuple[str, float, str, float | None]] = [("until the first fold", folds[0] - begun, "s", None)]
    for i, cost in enumerate(costs):
        rows.append((f"fold runs {i * part + 1} to {(i + 1) * part}", cost, "ms/fold", cost / costs[0]))
    rows.append(("all, MLflow written to the end", whole, "ms/fold", whole / costs[0]))
    rows.append(("driver's memory at the end", memory[-1], "MB", memory[-1] / memory[part]))
    return [{"name": f"{name}: {what}", "value": v, "unit": unit, "ratio": ratio} for what, v, unit, ratio in rows]
