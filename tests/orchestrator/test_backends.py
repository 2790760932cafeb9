"""Who runs a fold run: whose fault an error is, what is tried again, and the simulation."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import orchestrator.execution.backends as backends
from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.execution.backends import RayBackend, SimulatedBackend
from orchestrator.execution.fold_tasks import Outcome, fault_of
from orchestrator.execution.gpu_sharing import Slot
from tests.support.tiny_sweep import TINY_CONFIG
from workers.config import ExperimentConfig
from workers.evaluation import evaluate
from workers.fold import FoldRun, Site, fold_keys
from workers.results import ResultStore

GOOD = Outcome(hash="f00d")


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "machine"),
        (OSError(errno.ENOENT, "no such file"), "config"),
        (ConnectionResetError(), "machine"),
        (TimeoutError(), "machine"),
        (MemoryError(), "memory"),
        (OutOfMemoryError("CUDA out of memory"), "memory"),
        (ValueError("shapes differ"), "config"),
    ],
)
def test_whose_fault_an_error_is(error: Exception, fault: str) -> None:
    assert fault_of(error) == fault


@pytest.mark.parametrize(
    ("outcomes", "gpus", "asked", "found"),
    [
        ([GOOD], 0.5, [0.5], GOOD),
        ([Outcome(None, "bad", fault="config"), GOOD], 0.5, [0.5], None),
        ([Outcome(None, "full", fault="machine")] * 2 + [GOOD], 0.5, [0.5] * 3, GOOD),
        ([Outcome(None, "full", fault="machine")] * 9, 0.5, [0.5] * 4, None),
        ([Outcome(None, "small", fault="memory"), GOOD], 0.5, [0.5, 1], GOOD),
        ([Outcome(None, "small", fault="memory")] * 9, 0.5, [0.5, 1], None),
        ([Outcome(None, "small", fault="memory"), GOOD], 1.0, [1.0], None),
    ],
    ids=["at once", "a config's fault", "mended", "never mended", "alone", "too small alone", "was alone"],
)
def test_what_is_tried_again_and_how_often(
    outcomes: list[Outcome], gpus: float, asked: list[float], found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rest, submitted = list(outcomes), []
    monkeypatch.setattr(backends, "WAITS", (0.0, 0.0, 0.0))
    monkeypatch.setattr(backends, "submit", lambda run, site, slot: submitted.append(slot.gpus))
    monkeypatch.setattr(backends, "outcome", lambda reference: rest.pop(0))
    ended = RayBackend().run(None, None, None, Slot(gpus=gpus))  # type: ignore[arg-type]
    assert submitted == asked and (ended.hash is not None) is (found is not None)


def test_a_simulated_run_has_the_recorded_score_and_predictions_that_give_it(settings: Settings) -> None:
    config = ExperimentConfig.parse(TINY_CONFIG)
    runs = [FoldRun(config, "official-inner2", fold, 0) for fold in (0, 1)]
    site, results = Site.of(settings), ResultStore.open(settings.results)
    backend = SimulatedBackend(recorded={config.config_hash: {0: 61.5}})
    for run, key in zip(runs, fold_keys(runs, FeatureStore.open(settings.store)), strict=True):
        ended = backend.run(run, key, site, Slot())
        assert ended.hash == key.hash
        result = results.get(key.hash)
        assert result is not None
        score = result.protocols["last"].test.icbhi4.score
        assert score == pytest.approx(61.5 if run.fold == 0 else backends.drawn_score(key), abs=0.25)
        table = results.predictions(key.hash)
        last = [row for row in table.to_pylist() if row["protocol"] == "last"]
        told = evaluate([row["logits"] for row in last], [row["label"] for row in last])  # type: ignore[arg-type]
        assert told.icbhi4.score == pytest.approx(score)
