"""When a sweep stops asking for more: its limits, what it has spent, and whether anything better is still likely."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from feature_store.counted import counted
from orchestrator.pruning import History
from orchestrator.pruning.racing import Racing, spread_of
from search_spaces.schema import Budget, Resources

ENOUGH = 10  # complete trials before the chance of a better one is believed


@dataclass
class Spent:
    """Training time.

    Attributes:
        seconds: of fold runs.
        gpu_seconds: the same, each weighted by its share of a GPU.
    """

    seconds: float = 0.0
    gpu_seconds: float = 0.0

    def add(self, seconds: float, gpus: float) -> None:
        """A fold run was trained."""
        self.seconds += seconds
        self.gpu_seconds += seconds * gpus

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.seconds + other.seconds, self.gpu_seconds + other.gpu_seconds)


@dataclass
class Ledger:
    """A sweep's spending against its budget.

    Attributes:
        budget, resources: as the search space says.
        spent: by all fold runs that were trained, earlier starts of the sweep included.
    """

    budget: Budget
    resources: Resources
    spent: Spent = field(default_factory=Spent)
    started: float = field(default_factory=time.monotonic)

    def note(self, seconds: float, gpus: float) -> None:
        """A fold run was trained, on a share of a GPU."""
        self.spent.add(seconds, gpus)

    @property
    def gpu_hours(self) -> float:
        return self.spent.gpu_seconds / 3600

    @property
    def cost(self) -> float:
        """What the trained fold runs cost, in the currency of `cost_per_hour`."""
        billed = self.spent.gpu_seconds if self.resources.gpus == "auto" else self.spent.seconds
        return billed / 3600 * (self.budget.cost_per_hour or 0.0)

    def reached(self, history: History | None = None) -> str | None:
        """Why nothing more should be begun; None while something may be.

        Args:
            history: fold values of the study's ended trials, for `budget.chance`.
        """
        budget, hours = self.budget, (time.monotonic() - self.started) / 3600
        if budget.hours is not None and hours >= budget.hours:
            return f"{hours:.2f} of {counted(budget.hours, 'hour is', 'hours are')} over"
        if budget.gpu_hours is not None and self.gpu_hours >= budget.gpu_hours:
            return f"{self.gpu_hours:.2f} of {counted(budget.gpu_hours, 'GPU hour is', 'GPU hours are')} spent"
        if budget.cost is not None and self.cost >= budget.cost:
            return f"{self.cost:.2f} of {budget.cost:g} are spent"
        if budget.chance is not None and history is not None and len(history.whole) >= ENOUGH:
            chance = chance_of_better(history)
            if chance < budget.chance:
                return f"the chance that one more trial is better is {chance:.2g}, below {budget.chance:g}"
        return None


def chance_of_better(history: History) -> float:
    """The chance that a trial drawn like those before ends above the best of them, by the normal model of `Racing`.

    A sampler that has learned does better than that, so the chance is a cautious one only for random search.
    """
    return Racing.chance_to_win(history.values[0][:0], float(history.best().mean()), spread_of(history))
