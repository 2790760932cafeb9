"""One Optuna study as the sweep sees it: ask, report, tell, and take up what a killed driver left."""

from __future__ import annotations

import contextlib
import fcntl
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from feature_store.errors import UserError
from feature_store.redaction import mask
from feature_store.settings import Settings
from orchestrator.pruning import EndedTrials, History, build_pruner
from orchestrator.studies.budget import Spent
from orchestrator.studies.samplers import build_sampler
from orchestrator.studies.storage import open_storage, score_of
from orchestrator.studies.warm_start import earlier_parameters
from search_spaces.schema import SearchSpace
from workers.config import ExperimentConfig
from workers.lease import Holder, Lease, lease
from workers.results import ResultStore
from workers.weights import pin_weights

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Asked:
    """A trial to run."""

    number: int
    family: str
    config: ExperimentConfig


@dataclass(frozen=True)
class TrialSummary:
    """A trial for tables and logs.

    Attributes:
        trial: its number.
        family, objective: names of its config.
        state: Optuna's name of it.
        value: the mean over its fold runs so far, percent; None before the first.
        cost: beside the Score, where the search has one.
        fold_runs: how many it has.
        params: what the sampler chose.
        error: of a failed trial.
    """

    trial: int
    family: str
    objective: str
    state: str
    value: float | None
    cost: float | None
    fold_runs: int
    params: dict[str, Any]
    config_hash: str
    error: str | None

    @classmethod
    def of(cls, trial: FrozenTrial) -> TrialSummary:
        """Read off Optuna's record of a trial."""
        values = list(trial.intermediate_values.values())
        config = trial.user_attrs.get("config", {})
        return cls(
            trial=trial.number,
            family=trial.user_attrs.get("family", ""),
            objective=config.get("objective", {}).get("name", ""),
            state=trial.state.name,
            value=score_of(trial) if trial.values else (values[-1] if values else None),
            cost=trial.values[1] if trial.values and len(trial.values) > 1 else None,
            fold_runs=len(values),
            params=dict(trial.params),
            config_hash=trial.user_attrs.get("config_hash", ""),
            error=trial.user_attrs.get("error"),
        )


class Study:
    """A study that one driver owns, of trials with a number of fold runs each. Trial numbers are Optuna's."""

    def __init__(self, space: SearchSpace, settings: Settings, folds: int) -> None:
        self.space, self.settings = space, settings
        self.name = space.study_name
        self.ended_trials = EndedTrials(folds)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        self.storage = open_storage(settings.optuna)
        self.study = optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            sampler=build_sampler(space.search, asked=0),
            directions=["maximize"] if space.search.cost is None else ["maximize", "minimize"],
            pruner=build_pruner(space.search.pruner, self.ended_trials, by_family=space.promotion.each_family),
            load_if_exists=True,
        )
        self.study.set_user_attr("evaluation", space.evaluation.model_dump(mode="json"))
        if space.search.warm_start and not self.study.get_trials(deepcopy=False):
            self._begin_with(min(space.search.warm_start, space.search.trials))
        self.asked = self.ended()
        self.running: dict[int, optuna.Trial] = {}
        self.held: Lease | None = None

    @classmethod
    @contextlib.contextmanager
    def lease(
        cls, space: SearchSpace, settings: Settings, folds: int, wait: Callable[[Holder], None] = lambda holder: None
    ) -> Iterator[Study]:
        """Open the study for this driver alone.

        Args:
            space, settings: of the sweep.
            folds: fold runs of a trial.
            wait: told of a driver elsewhere that may be dead, before half a minute is spent on finding out.

        Raises:
            UserError: another driver has it, here or on a machine that shares the result store.
        """
        settings.home.mkdir(parents=True, exist_ok=True)
        path = settings.home / f".{space.study_name}.lock"
        with path.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(
                    "another driver is running this sweep", where=space.study_name, hint="wait for it, or stop it"
                ) from error
            shared = ResultStore.open(settings.results).storage
            with lease(shared, space.study_name, str(settings.home), own_is_dead=True, wait=wait) as held:
                study = cls(space, settings, folds)
                study.held = held
                yield study

    @property
    def taken_by(self) -> str | None:
        """Another driver that has taken the study over, if one has."""
        return str(self.held.taken_by) if self.held is not None and self.held.taken_by is not None else None

    def _begin_with(self, count: int) -> None:
        """Put the best parameters of earlier studies first into the queue."""
        for parameters in earlier_parameters(self.space, self.storage, self.name, count):
            self.study.enqueue_trial(parameters, user_attrs={"from_the_past": True})

    def take_up(self) -> int:
        """Put trials that a killed driver left unfinished back into the queue, to be asked for first.

        Returns:
            How many there were. Their finished folds are found in the result store.
        """
        stale = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in stale:
            self.study.enqueue_trial(trial.params, skip_if_exists=False)
            self.storage.set_trial_user_attr(self._storage_id(trial.number), "abandoned", True)
            self.study.tell(trial.number, state=TrialState.FAIL)
        return len(stale)

    def _storage_id(self, number: int) -> int:
        """The storage's own number of a trial, which counts over all of its studies."""
        return self.storage.get_trial_id_from_study_id_trial_number(
            self.storage.get_study_id_from_name(self.name), number
        )

    def ended(self) -> int:
        """Trials that count: done, pruned, or failed by their own fault."""
        failed = self.study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        return len(self.study.get_trials(deepcopy=False, states=ENDED)) + sum(
            not trial.user_attrs.get("abandoned") for trial in failed
        )

    def ask(self) -> Asked:
        """The next config to try.

        The sampler is seeded by how many trials were asked before, so a sweep that was killed and taken up draws what
        the undisturbed one draws, as far as the sampler knows the same results then.
        """
        self.study.sampler = build_sampler(self.space.search, self.asked)
        trial = self.study.ask()
        self.asked += 1
        family, content = self.space.suggest(trial)
        config = pin_weights(ExperimentConfig.parse(content, where=f"trial {trial.number}"), self.settings.weights)
        trial.set_user_attr("family", family)
        trial.set_user_attr("config_hash", config.config_hash)
        trial.set_user_attr("config", config.model_dump(mode="json"))
        self.running[trial.number] = trial
        return Asked(trial.number, family, config)

    def report(self, number: int, value: float, step: int) -> bool:
        """Note the running mean after `step` fold runs; True when the trial should stop."""
        if self.space.search.cost is not None:  # Optuna's own report is for one objective
            self.storage.set_trial_intermediate_value(self._storage_id(number), step, value)
            return False
        trial = self.running[number]
        trial.report(value, step)
        return trial.should_prune()

    def tell(
        self,
        number: int,
        value: float | None,
        *,
        pruned: bool = False,
        error: str | None = None,
        results: Sequence[str] = (),
        spent: Spent | None = None,
        cost: float | None = None,
    ) -> None:
        """Close a trial: with its mean (and cost), as pruned, or as failed; with its results and their training."""
        trial = self.running.pop(number)
        if results:
            trial.set_user_attr("results", list(results))
            trial.set_user_attr("spent", asdict(spent or Spent()))
        if error is not None or value is None or not math.isfinite(value):
            trial.set_user_attr("error", mask(error or f"its value is {value}"))
            self.study.tell(trial, state=TrialState.FAIL)
        elif pruned:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value if self.space.search.cost is None else [value, cost or 0.0])

    def spent(self) -> Spent:
        """Training that all trials took, over all starts of the sweep."""
        total = Spent()
        for trial in self.study.get_trials(deepcopy=False):
            total += Spent(**trial.user_attrs.get("spent", {}))
        return total

    def history(self) -> History:
        """Fold values of the trials that have ended."""
        return self.ended_trials.of(self.study)

    def trials(self) -> list[FrozenTrial]:
        """All trials that count, in the order of their numbers."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if not trial.user_attrs.get("abandoned")]

    def trial(self, number: int) -> FrozenTrial:
        """One trial, as it is stored."""
        return self.study.get_trials(deepcopy=False)[number]

    def best(self, family: str | None = None) -> FrozenTrial | None:
        """The completed trial with the highest mean, of one family or of all; of equal ones the first."""
        done = [trial for trial in self.trials() if trial.state == TrialState.COMPLETE and trial.values]
        if family is not None:
            done = [trial for trial in done if trial.user_attrs.get("family") == family]
        return max(done, key=lambda trial: (score_of(trial), -trial.number), default=None)

    def pareto(self) -> list[FrozenTrial]:
        """The complete trials that none beats in both Score and cost, the best Score first; none without a cost."""
        if self.space.search.cost is None:
            return []
        return sorted(self.study.best_trials, key=lambda trial: (-score_of(trial), trial.number))
