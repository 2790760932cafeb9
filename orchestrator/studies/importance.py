"""Importance of a study's parameters: which of them decided what its trials reached."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, TrialState

from feature_store.counted import counted
from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.studies.storage import load_study, score_of

FEWEST = 8  # complete trials of a family from which importances are reported


def importances(name: str, settings: Settings) -> dict[str, dict[str, float]]:
    """For each family of a study, the share that each parameter has in the spread of the Scores (PED-ANOVA).

    A family with fewer than `FEWEST` complete trials is left out.

    Raises:
        UserError: there is no such study, or no family has enough trials.
    """
    study = load_study(name, settings)
    by_family: dict[str, list[FrozenTrial]] = {}
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        by_family.setdefault(trial.user_attrs.get("family", "all"), []).append(trial)
    told: dict[str, dict[str, float]] = {}
    for family, trials in sorted(by_family.items()):
        shared = set.intersection(*(set(trial.params) for trial in trials)) - {"family"}
        if len(trials) < FEWEST or not shared:
            continue
        alone = optuna.create_study(direction="maximize")
        alone.add_trials(
            optuna.trial.create_trial(
                params={key: trial.params[key] for key in shared},
                distributions={key: trial.distributions[key] for key in shared},
                value=score_of(trial),
            )
            for trial in trials
        )
        found = optuna.importance.get_param_importances(
            alone, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
        told[family] = {key.removeprefix(f"{family}:"): float(share) for key, share in found.items()}
    if not told:
        raise UserError(
            f"no family has {counted(FEWEST, 'complete trial')} with a parameter in common", where=study.study_name,
            hint="run more trials",
        )  # fmt: skip
    return told
