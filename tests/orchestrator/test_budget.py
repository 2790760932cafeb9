"""What a sweep may spend, and when nothing better is likely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray.tune.search import Searcher

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.pruning import History
from orchestrator.studies.budget import Ledger, Spent, chance_of_better
from orchestrator.studies.study import Study
from orchestrator.sweep.trial import FoldReport
from orchestrator.sweep.tune_adapter import StudySearcher
from search_spaces.schema import Budget, Resources, SearchSpace


def history(trials: int, config: float, noise: float, seed: int = 0) -> History:
    rng = np.random.default_rng(seed)
    past = History(5)
    for row in 50 + rng.normal(0, config, (trials, 1)) + rng.normal(0, noise, (trials, 5)):
        past.add(row.tolist(), True)
    return past


@pytest.mark.parametrize(
    ("budget", "spent", "reached"),
    [
        ({"gpu_hours": 2.0}, 3 * 3600, False),  # half a GPU each
        ({"gpu_hours": 2.0}, 4 * 3600, True),
        ({"cost": 10.0, "cost_per_hour": 2.0}, 4.9 * 3600, False),
        ({"cost": 10.0, "cost_per_hour": 2.0}, 5.1 * 3600, True),
        ({"hours": 1.0}, 100 * 3600, False),
        ({}, 1e9, False),
    ],
)
def test_limits_are_of_what_was_trained(budget: dict[str, Any], spent: float, reached: bool) -> None:
    ledger = Ledger(Budget(**budget), Resources(gpus=0.5), Spent(1800, 900))
    ledger.note(spent - 1800, 0.5)
    assert (ledger.reached() is not None) is reached


def test_the_clock_counts_from_the_start() -> None:
    ledger = Ledger(Budget(hours=1.0), Resources())
    assert ledger.reached() is None
    ledger.started -= 3601
    assert "1.00 of 1 hour" in str(ledger.reached())


def test_the_chance_of_a_better_trial_is_what_the_next_trials_show() -> None:
    """Of many sweeps, the share in which the next trial beats the best so far is about the mean chance told."""
    chances, beaten = [], []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        values = 50 + rng.normal(0, 4, (21, 1)) + rng.normal(0, 2, (21, 5))
        past = History(5)
        for row in values[:20]:
            past.add(row.tolist(), True)
        chances.append(chance_of_better(past))
        beaten.append(values[20].mean() > values[:20].mean(axis=1).max())
    assert np.mean(chances) == pytest.approx(np.mean(beaten), abs=0.03)


def test_a_sweep_stops_when_nothing_better_is_likely_and_not_before_enough_is_known() -> None:
    ledger = Ledger(Budget(chance=0.05), Resources())
    assert ledger.reached(history(9, 4, 1)) is None
    outstanding = history(60, 1, 0.5)
    outstanding.add([60.0] * 5, True)
    assert "one more trial is better" in str(ledger.reached(outstanding))
    assert Ledger(Budget(), Resources()).reached(outstanding) is None


def test_a_searcher_whose_budget_is_spent_asks_for_nothing_and_a_resume_knows_it(tmp_path: Path) -> None:
    content = {
        "name": "budget",
        "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
        "space": {"optim.lr": {"log_float": [1e-4, 1e-2]}},
        "budget": {"cost": 1.0, "cost_per_hour": 1.0},
    }
    space, settings = SearchSpace.parse(content), Settings.load(tmp_path)
    study = Study(space, settings, 5)
    searcher = StudySearcher(study, Ledger(space.budget, space.resources, study.spent()))
    assert searcher.suggest("a")["number"] == 0
    report = FoldReport(
        value=50.0, fold_runs=1, fold_runs_in_all=5, fold=0, seed=0, fold_value=50.0, cost=0.0, cached=False,
        seconds=4000.0, gpus=1.0, peak_bytes=0, device_bytes=0, results=["f00d"],
    )  # fmt: skip
    searcher.fold_done("a", report)
    searcher.on_trial_complete("a", {})
    assert searcher.suggest("b") == Searcher.FINISHED and searcher.limit is not None
    again = Study(space, settings, 5)
    assert again.spent() == Spent(4000.0, 4000.0)
    assert StudySearcher(again, Ledger(space.budget, space.resources, again.spent())).suggest("c") == "FINISHED"


def test_cost_needs_a_price() -> None:
    with pytest.raises(UserError, match="cost_per_hour"):
        SearchSpace.parse(
            {
                "name": "x",
                "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
                "budget": {"cost": 1.0},
            }
        )
