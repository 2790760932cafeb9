"""What the published results of a task are ranked by: names only, `workers.evaluation` makes the numbers."""

from __future__ import annotations

from typing import Literal

Metric = Literal["icbhi4", "icbhi2", "accuracy", "uar", "sprsound", "sprsound_record"]

USUAL: Metric = "icbhi4"  # where a corpus names no other
SPRSOUND: frozenset[str] = frozenset({"sprsound", "sprsound_record"})  # mean of average and harmonic mean of Sp and Se
POOR_QUALITY = "poor_quality"  # the last class of a task that `sprsound_record` is for

LABELS: dict[str, str] = {
    "icbhi4": "Score",
    "icbhi2": "Score",
    "accuracy": "accuracy",
    "uar": "UAR",
    "sprsound": "SPRSound Score",
    "sprsound_record": "SPRSound record Score",
}
"""As it stands in a sentence or a column."""

MEANINGS: dict[str, str] = {
    "icbhi4": "(Sp + Se) / 2; an abnormal cycle counts only with its exact class",
    "icbhi2": "(Sp + Se) / 2; any abnormal class counts",
    "accuracy": "share of cycles called by their class",
    "uar": "unweighted average recall: the mean of the classes' recalls",
    "sprsound": "mean of the average and the harmonic mean of Sp and Se; an abnormal cycle counts only with its class",
    "sprsound_record": "as sprsound, but Se is over adventitious records: those of poor quality are in neither rate",
}
"""For people, in a line."""


def has_rates(metric: Metric) -> bool:
    """Whether a metric is made of Sp and Se, which say nothing where class 0 is not the normal one."""
    return metric not in ("accuracy", "uar")
