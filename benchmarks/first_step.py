"""Seconds from "config in hand" to the end of the first training step: in a fresh process, and in one that lives on."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.orchestration import small_store
from feature_store.settings import Settings
from tests.support.tiny_sweep import TINY_FEATURE

CONFIG: dict[str, Any] = {
    "feature": TINY_FEATURE,
    "model": {"name": "mn", "width": 0.4},
    "objective": {"name": "ce"},
    "augment": {"policy": "icbhi_sup"},
    "training": {"epochs": 1, "batch_size": 16},
}


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio to the cold start."""
    with tempfile.TemporaryDirectory() as folder:
        settings = small_store(Path(folder))
        command = [sys.executable, "-m", "benchmarks.first_step", str(settings.home)]
        answers = []
        for _ in range(3):
            begun = time.time()
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            cold, warm = json.loads(answer.splitlines()[-1])
            answers.append((cold - begun, warm))
    cold = min(answer[0] for answer in answers)
    warm = min(answer[1] for answer in answers)
    return [
        {
            "name": "first step, cold worker (process, imports, features, model)",
            "value": cold,
            "unit": "s",
            "ratio": 1.0,
        },
        {"name": "first step, warm worker (features, model)", "value": warm, "unit": "s", "ratio": warm / cold},
    ]


def in_worker(home: Path) -> None:
    """Two fold runs in this process; prints when the first's first step was done, and how long the second's took."""
    from workers.config import ExperimentConfig
    from workers.fold import FoldRun, Site, run_fold

    settings = Settings.load(home)
    config = ExperimentConfig.parse(CONFIG)
    stamp = int(time.time() * 1000)
    begun = time.time()
    first = run_fold(FoldRun(config, "official", 0, stamp), Site.of(settings))
    cold = begun + first.timing["first_step_seconds"]
    second = run_fold(FoldRun(config, "official", 0, stamp + 1), Site.of(settings))
    print(json.dumps([cold, second.timing["first_step_seconds"]]))


if __name__ == "__main__":
    in_worker(Path(sys.argv[1]))
