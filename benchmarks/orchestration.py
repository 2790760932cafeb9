"""What orchestration costs a fold run: result store, Ray Tune, Optuna and MLflow, with the training itself left out."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from feature_store.settings import Settings
from tests.support.tiny_sweep import tiny_store, tiny_sweep

TRIALS, FOLDS = 40, 5
SPACE = tiny_sweep(
    name="overhead",
    base={"training": {"batch_size": 64}},
    evaluation={"split": f"official-inner{FOLDS}"},
    promotion={"seeds": [0]},
    search={"trials": TRIALS, "sampler": "random", "pruner": {"name": "none"}},
)


def small_store(folder: Path) -> Settings:
    """A home with a tiny feature of a synthetic corpus."""
    from feature_store.datasets.synthetic import synthesize

    settings = Settings.load(folder / "home")
    tiny_store(synthesize(folder / "corpus", patients=12, seed=1), settings)
    return settings


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio. The second sweep finds every fold run in the result store."""
    import ray

    from orchestrator.execution.cluster import connect
    from orchestrator.execution.gpu_sharing import Slot
    from orchestrator.sweep.run import run_sweep
    from search_spaces.schema import SearchSpace
    from workers.results import ResultStore

    runs = TRIALS * FOLDS
    with tempfile.TemporaryDirectory() as folder:
        settings = small_store(Path(folder))
        cluster = connect()
        space = SearchSpace.parse(SPACE)
        slots = min(cluster.slots(Slot.of(space.resources)), TRIALS)
        seconds = []
        for attempt in ("trained", "found"):
            fresh = replace(settings, optuna=f"{folder}/{attempt}.journal", mlflow=f"sqlite:///{folder}/{attempt}.db")
            begun = time.perf_counter()
            outcome = run_sweep(space, fresh)
            seconds.append(time.perf_counter() - begun)
        assert (outcome.fold_runs_trained, outcome.fold_runs_cached) == (0, runs)
        results = ResultStore.open(settings.results)
        inner = [result for result in results.iterate() if result.key.split != "official"]
        training = sum(result.timing["total_seconds"] for result in inner) / slots
        ray.shutdown()
    return [
        {"name": f"sweep of {runs} fold runs, each trained", "value": seconds[0], "unit": "s", "ratio": 1.0},
        {"name": "  of that, training", "value": training, "unit": "s", "ratio": training / seconds[0]},
        {
            "name": f"sweep of {runs} fold runs, each found",
            "value": seconds[1],
            "unit": "s",
            "ratio": seconds[1] / seconds[0],
        },
        {
            "name": "orchestration a fold run (each found)",
            "value": 1000 * seconds[1] / runs,
            "unit": "ms",
            "ratio": None,
        },
    ]
