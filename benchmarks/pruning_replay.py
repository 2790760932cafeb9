"""Recorded fold values played back under a pruning rule: thousands of sweeps in seconds, and nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from orchestrator.pruning import History, Rule
from search_spaces.schema import Evaluation
from workers.results import FoldResult


@dataclass(frozen=True)
class Replayed:
    """How one sweep went under a rule.

    Attributes:
        fold_runs: that were run.
        of: that would have been run without pruning.
        best_kept: whether the trial with the highest mean over all folds ran all of its own.
        regret: by how much the mean of the best complete trial is below that one, Score points.
    """

    fold_runs: int
    of: int
    best_kept: bool
    regret: float


@dataclass
class _Trial:
    number: int
    done: int = 0


@dataclass
class _State:
    past: History
    running: list[_Trial] = field(default_factory=list)
    fold_runs: int = 0
    complete: list[int] = field(default_factory=list)


def replay(values: np.ndarray, rule: Rule | None, *, at_once: int = 1) -> Replayed:
    """One sweep over recorded trials, in the order of the rows.

    Args:
        values: ``[trials, folds]`` fold values; the columns in the order in which every trial runs its folds.
        rule: that stops trials; None stops none.
        at_once: trials running side by side; a rule knows only those that have ended.
    """
    trials, folds = values.shape
    state, begun = _State(History(folds)), 0
    while begun < trials or state.running:
        while begun < trials and len(state.running) < at_once:
            state.running.append(_Trial(begun))
            begun += 1
        still = []
        for trial in state.running:
            trial.done += 1
            state.fold_runs += 1
            so_far = values[trial.number, : trial.done].tolist()
            if trial.done == folds:
                state.past.add(so_far, True)
                state.complete.append(trial.number)
            elif rule is not None and rule.stops(so_far, state.past):
                state.past.add(so_far, False)
            else:
                still.append(trial)
        state.running = still
    means = values.mean(axis=1)
    best = int(means.argmax())
    kept = max((float(means[number]) for number in state.complete), default=float(means.min()))
    return Replayed(state.fold_runs, trials * folds, best in state.complete, float(means[best]) - kept)


@dataclass(frozen=True)
class Summary:
    """A rule over many sweeps: share of fold runs, share of sweeps that kept the best, mean regret."""

    sweeps: int
    fold_runs: float
    best_kept: float
    regret: float


def compare(
    recorded: np.ndarray, rule: Rule | None, *, sweeps: int, trials: int, at_once: int = 1, seed: int = 0
) -> Summary:
    """A rule over many sweeps drawn from recorded trials.

    Args:
        recorded: ``[configs, folds]``.
        rule: see `replay`.
        sweeps: how many.
        trials: of a sweep, drawn without repeats from the recorded ones, in a new order; at most as many as there are.
        at_once: see `replay`.
        seed: of the draws; equal seeds give every rule the same sweeps.
    """
    rng = np.random.default_rng(seed)
    return summarize(
        [replay(recorded[rng.permutation(len(recorded))[:trials]], rule, at_once=at_once) for _ in range(sweeps)]
    )


def summarize(ended: Sequence[Replayed]) -> Summary:
    """Many sweeps under one rule."""
    return Summary(
        len(ended),
        sum(one.fold_runs for one in ended) / sum(one.of for one in ended),
        float(np.mean([one.best_kept for one in ended])),
        float(np.mean([one.regret for one in ended])),
    )


def recorded_values(results: Iterable[FoldResult], evaluation: Evaluation, folds: Sequence[int]) -> np.ndarray:
    """Fold values ``[configs, folds x seeds]`` of every config that has all of its fold runs, in the common order."""
    from orchestrator.sweep.trial import value_of

    by_config: dict[str, dict[tuple[int, int], float]] = {}
    for result in results:
        if result.key.split == evaluation.split:
            place = (result.key.seed, result.key.fold)
            by_config.setdefault(result.key.config_hash, {})[place] = value_of(result, evaluation)
    order = [(seed, fold) for seed in evaluation.seeds for fold in folds]
    rows = [[own[place] for place in order] for own in by_config.values() if all(place in own for place in order)]
    return np.array(rows, dtype=float).reshape(len(rows), len(order))
