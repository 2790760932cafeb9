"""Fold-aware pruning: Optuna asks, a rule over fold values answers."""

from __future__ import annotations

import itertools

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.pruning.rule import History, Rule
from search_spaces.pruners import PRUNERS, NoPruning, PrunerPart

__all__ = ["EndedTrials", "FoldPruner", "History", "Rule", "build_pruner", "build_rule"]


class EndedTrials:
    """The fold values of a study's ended trials, read once each.

    Args:
        folds: fold runs of a whole trial.
    """

    def __init__(self, folds: int) -> None:
        self.folds = folds
        self.histories: dict[str | None, History] = {}
        self.known = set[int]()

    def of(self, study: optuna.Study, family: str | None = None) -> History:
        """What the study knows now: of all trials, or of one family's."""
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)):
            if trial.number not in self.known and trial.intermediate_values:  # what has ended stays as it is
                self.known.add(trial.number)
                for whose in {None, trial.user_attrs.get("family")}:
                    self._history(whose).add(fold_values(trial), trial.state == TrialState.COMPLETE)
        return self._history(family)

    def _history(self, family: str | None) -> History:
        return self.histories.setdefault(family, History(self.folds))


class FoldPruner(optuna.pruners.BasePruner):
    """Gives a rule what it needs of an Optuna study whose trials report running means, step by step over folds.

    Args:
        rule: that answers, lungtune's own or another package's.
        ended: the study's ended trials.
        by_family: whether a trial is compared with those of its own family alone, whose best is wanted too.
    """

    def __init__(self, rule: Rule, ended: EndedTrials, *, by_family: bool = False) -> None:
        self.rule, self.ended, self.by_family = rule, ended, by_family

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        """Whether the trial should stop.

        Raises:
            UserError: a rule of another package fails.
        """
        if trial.last_step is None:
            return False
        family = trial.user_attrs.get("family") if self.by_family else None
        values, past = fold_values(trial), self.ended.of(study, family)
        with PRUNERS.blaming(self.rule.settings.name, f"it judged trial {trial.number} after fold {len(values)}"):
            return bool(self.rule.stops(values, past))


def fold_values(trial: FrozenTrial) -> list[float]:
    """A trial's fold values from its running means: v_k = k m_k - (k - 1) m_(k - 1)."""
    sums = [0.0] + [step * mean for step, mean in sorted(trial.intermediate_values.items())]
    return [after - before for before, after in itertools.pairwise(sums)]


def build_rule(settings: PrunerPart) -> Rule | None:
    """The rule that a search space asks for; None for no pruning.

    Raises:
        UserError: another package brings the rule, and it cannot be used.
    """
    return None if isinstance(settings, NoPruning) else PRUNERS.build(settings, kind=Rule)  # type: ignore[type-abstract]


def build_pruner(settings: PrunerPart, ended: EndedTrials, *, by_family: bool) -> optuna.pruners.BasePruner:
    """The pruner that a search space asks for.

    Args:
        settings: which, and what it needs.
        ended, by_family: as `FoldPruner` takes them.

    Raises:
        UserError: as `build_rule`.
    """
    rule = build_rule(settings)
    return optuna.pruners.NopPruner() if rule is None else FoldPruner(rule, ended, by_family=by_family)
