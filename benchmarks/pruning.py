"""Pruning rules compared on thousands of sweeps that are played back: fold runs spent, and how often the best is kept.

usage: python -m benchmarks.pruning [--sweeps N] [--trials N] [--recorded DIR --split NAME]

Sweeps are made up of config, fold and noise effects, or drawn from the fold runs recorded in a result store. The table
is printed as Markdown (docs/pruning.md).
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from benchmarks.pruning_replay import Summary, compare, recorded_values, replay, summarize
from orchestrator.pruning import History, Rule, build_rule
from orchestrator.pruning.racing import spread_of
from search_spaces.schema import Evaluation, Search
from workers.results import ResultStore

FOLDS = 5
RULES: dict[str, dict[str, Any]] = {
    "none": {"name": "none"},
    "median, after 1 fold": {"name": "median", "after_folds": 1},
    "median, after 2 folds": {"name": "median", "after_folds": 2},
    "percentile 35": {"name": "percentile", "percentile": 35, "after_folds": 1},
    "percentile 25": {"name": "percentile", "percentile": 25, "after_folds": 1},
    "halving by 2": {"name": "halving", "after_folds": 1},
    "halving by 3": {"name": "halving", "reduction": 3, "after_folds": 1},
    "wilcoxon p 0.1": {"name": "wilcoxon", "after_folds": 1},
    "racing, share 0.5": {"name": "racing", "share": 0.5, "after_folds": 1},
    "racing, share 0.2": {"name": "racing", "after_folds": 1},
    "racing, share 0.05": {"name": "racing", "share": 0.05, "after_folds": 1},
}
"""Rules as a search space names them."""
NOISES = (1.0, 2.0, 4.0)  # Score points, beside config effects of 4 and fold effects of 6


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--sweeps", type=int, default=1000)
    arguments.add_argument("--trials", type=int, default=60)
    arguments.add_argument("--recorded", help="a result store")
    arguments.add_argument("--split", default="official-inner5")
    given = arguments.parse_args()
    if given.recorded:
        evaluation = Evaluation(split=given.split)
        values = recorded_values(ResultStore.open(given.recorded).iterate(), evaluation, range(FOLDS))
        columns = {f"recorded, {len(values)} configs": values}
        print(_spread(values))
    else:
        columns = {}
    begun = time.perf_counter()
    print("| rule |", " | ".join([*(f"noise {noise:g}" for noise in NOISES), *columns]), "|")
    print("| --- |", " --- |" * (len(NOISES) + len(columns)))
    for name, pruner in RULES.items():
        rule = build_rule(Search.model_validate({"pruner": pruner}).pruner)
        cells = [made_up(rule, noise, given.sweeps, given.trials) for noise in NOISES]
        cells += [
            compare(values, rule, sweeps=given.sweeps, trials=min(given.trials, len(values) * 2 // 3))
            for values in columns.values()
        ]
        told = (f"{100 * c.fold_runs:.0f} %, kept {100 * c.best_kept:.1f} %, regret {c.regret:.2f}" for c in cells)
        print(f"| {name} | {' | '.join(told)} |", flush=True)
    replayed = len(RULES) * given.sweeps * (len(NOISES) + len(columns))
    print(f"\n{replayed} sweeps played back in {time.perf_counter() - begun:.0f} s")


def made_up(rule: Rule | None, noise: float, sweeps: int, trials: int) -> Summary:
    """A rule over sweeps of configs with an effect of 4 points, on folds with one of 6."""
    ended = []
    for seed in range(sweeps):
        rng = np.random.default_rng([seed, int(10 * noise)])
        effects = 50 + rng.normal(0, 6, FOLDS) + rng.normal(0, 4, (trials, 1))
        ended.append(replay(effects + rng.normal(0, noise, (trials, FOLDS)), rule))
    return summarize(ended)


def _spread(values: np.ndarray) -> str:
    past = History(FOLDS)
    for row in values:
        past.add(row.tolist(), True)
    found = spread_of(past)
    return (
        f"recorded: {len(values)} configs, deviation of config effects {found.variance**0.5:.1f}, "
        f"of fold effects {float(np.std(found.folds)):.1f}, noise {found.noise**0.5:.1f} Score points\n"
    )


if __name__ == "__main__":
    main()
