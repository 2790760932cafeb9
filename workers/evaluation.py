"""Metrics from predictions. Nothing else computes a Score.

In the literature's way class 0 is the normal (or healthy) one, and rates are given in percent.
"""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from feature_store.errors import UserError


class Score(BaseModel):
    """Score = (Sp + Se) / 2, all in percent.

    A rate over no cycle at all is 0, as in the systems that publish this Score.
    """

    model_config = ConfigDict(frozen=True)

    specificity: float = Field(description="share of normal cycles that are called normal")
    sensitivity: float = Field(description="share of abnormal cycles that are hit")
    score: float


class Metrics(BaseModel):
    """What one model did on one set of cycles."""

    model_config = ConfigDict(frozen=True)

    icbhi4: Score = Field(description="an abnormal cycle is hit only by its exact class")
    icbhi2: Score = Field(description="an abnormal cycle is hit by any abnormal class")
    accuracy: float = Field(description="percent")
    uar: float = Field(description="unweighted average recall over the classes that occur, percent")
    auroc: float | None = Field(
        description="one against the rest, mean over classes, 0..1; null where a class is absent"
    )
    recall: list[float | None] = Field(description="percent, per class; null where the class is absent")
    confusion: list[list[int]] = Field(description="cycles: true class in rows, predicted class in columns")
    n: int = Field(description="cycles")

    def score_for(self, name: str) -> Score:
        """The Score that goes with a metric's name: its own, or `icbhi4` with ``accuracy`` and ``uar``."""
        if name == "sprsound_record":
            return self.sprsound_record
        return {"icbhi2": self.icbhi2, "sprsound": self.sprsound}.get(name, self.icbhi4)

    def value(self, name: str) -> float:
        """What is maximised under a metric's name, in percent: a Score, ``accuracy`` or ``uar``."""
        return {"accuracy": self.accuracy, "uar": self.uar}.get(name, self.score_for(name).score)

    def summary(self, name: str) -> dict[str, float]:
        """What a metric's name stands for as ``score``, behind the Sp and Se that go with it; for tables and logs."""
        return {**self.score_for(name).model_dump(), "score": self.value(name)}

    @property
    def sprsound(self) -> Score:
        """SPRSound's Score: the mean of the average and the harmonic mean of Sp and Se, an abnormal hit being exact."""
        sp, se = self.icbhi4.specificity, self.icbhi4.sensitivity
        return Score(specificity=sp, sensitivity=se, score=float(sprsound_score(np.asarray(sp), np.asarray(se))))

    @property
    def sprsound_record(self) -> Score:
        """SPRSound's Score of its record tasks: the last class, Poor Quality, is in neither Sp nor Se.

        Se is the share of adventitious records that get their class, and a record of poor quality is not said to be
        adventitious: so the programs of participants of the challenges of 2022 and 2023 have it (docs/voice.md names
        them). The challenge is that of Zhang et al. 2022, "Grand Challenge on Respiratory Sound Classification"
        (BioCAS). `sprsound` counts poor quality among the abnormal classes.
        """
        counts = np.asarray(self.confusion)
        sp, se = self.icbhi4.specificity, _percent(np.trace(counts[1:-1, 1:-1]), counts[1:-1].sum())
        return Score(specificity=sp, sensitivity=se, score=float(sprsound_score(np.asarray(sp), np.asarray(se))))

    @property
    def precision(self) -> list[float | None]:
        """Percent, per class; null where nothing is called so."""
        called = np.sum(self.confusion, axis=0)
        return [_percent(row[i], called[i]) if called[i] else None for i, row in enumerate(self.confusion)]

    @property
    def f1(self) -> list[float | None]:
        """Percent, per class: 2 TP / (2 TP + FP + FN); null where the class neither occurs nor is called."""
        both = np.sum(self.confusion, axis=0) + np.sum(self.confusion, axis=1)
        return [_percent(2 * row[i], both[i]) if both[i] else None for i, row in enumerate(self.confusion)]

    def flat(self) -> dict[str, float]:
        """The numbers by stable names, for a tracking server; what is not defined is left out."""
        numbers = {
            "score": self.icbhi4.score,
            "specificity": self.icbhi4.specificity,
            "sensitivity": self.icbhi4.sensitivity,
            "icbhi2_score": self.icbhi2.score,
            "icbhi2_sensitivity": self.icbhi2.sensitivity,
            "accuracy": self.accuracy,
            "uar": self.uar,
            "auroc": self.auroc,
            **{f"recall_{index}": recall for index, recall in enumerate(self.recall)},
        }
        return {name: number for name, number in numbers.items() if number is not None}


def evaluate(logits: np.ndarray, labels: np.ndarray) -> Metrics:
    """All metrics of a set of predictions. The predicted class is the largest logit; of equal ones the first.

    Args:
        logits: ``[cycles, classes]``; any values whose softmax are the probabilities.
        labels: ``[cycles]`` true classes.

    Raises:
        UserError: there is no cycle, a label is not a class, a logit is not a number, or the shapes differ.
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    _check(logits, labels)
    confusion = confusion_matrix(logits.argmax(axis=1), labels, logits.shape[1])
    return metrics_of(confusion, auroc(softmax(logits), labels))


def evaluate_by(group: np.ndarray, logits: np.ndarray, labels: np.ndarray) -> dict[str, Metrics]:
    """The metrics of each group's cycles, by its name, sorted; `group` is ``[cycles]``, the rest as in `evaluate`."""
    return {str(name): evaluate(logits[group == name], labels[group == name]) for name in sorted(set(group.tolist()))}


def metrics_of(confusion: np.ndarray, area: float | None = None) -> Metrics:
    """All metrics that follow from a confusion matrix ``[classes, classes]`` of at least one cycle, and its `auroc`."""
    recall = [_percent(row[index], row.sum()) if row.sum() else None for index, row in enumerate(confusion)]
    occurring = [value for value in recall if value is not None]
    return Metrics(
        icbhi4=icbhi_score(confusion, exact=True),
        icbhi2=icbhi_score(confusion, exact=False),
        accuracy=_percent(np.trace(confusion), confusion.sum()),
        uar=sum(occurring) / len(occurring),
        auroc=area,
        recall=recall,
        confusion=confusion.tolist(),
        n=int(confusion.sum()),
    )


def icbhi_score(confusion: np.ndarray, *, exact: bool) -> Score:
    """Sp, Se and Score from a confusion matrix ``[classes, classes]``.

    Args:
        confusion: cycles, true class in rows.
        exact: whether an abnormal cycle is hit only by its own class (`icbhi4`), or by any abnormal one (`icbhi2`).
    """
    abnormal = confusion[1:, 1:]
    hits = np.trace(abnormal) if exact else abnormal.sum()
    specificity = _percent(confusion[0, 0], confusion[0].sum())
    sensitivity = _percent(hits, confusion[1:].sum())
    return Score(specificity=specificity, sensitivity=sensitivity, score=(specificity + sensitivity) / 2)


def sprsound_score(specificity: np.ndarray, sensitivity: np.ndarray) -> np.ndarray:
    """SPRSound's Score: the mean of the average and of the harmonic mean of Sp and Se, in their unit; of any shape."""
    both = specificity + sensitivity
    harmonic = 2.0 * specificity * sensitivity / np.where(both == 0.0, 1.0, both)
    return (both / 2.0 + harmonic) / 2.0


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``[classes, classes]``: true class in rows, predicted class in columns."""
    cells = np.asarray(labels, dtype=np.int64) * classes + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def auroc(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve, one class against the rest, mean over classes; None where a class is absent.

    Computed by ranks (Mann-Whitney U, ties at their mean rank) and not by scikit-learn, whose import would cost every
    worker more than a second.

    Args:
        probabilities: ``[cycles, classes]``.
        labels: ``[cycles]`` true classes.
    """
    areas = []
    for index, column in enumerate(probabilities.T):
        positive = labels == index
        count = int(positive.sum())
        if not 0 < count < len(labels):
            return None
        _, group, sizes = np.unique(column, return_inverse=True, return_counts=True)
        ranks = (sizes.cumsum() - (sizes - 1) / 2)[group]
        areas.append((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))
    return float(np.mean(areas))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities over the last axis, float64, without overflow."""
    logits = np.asarray(logits, dtype=np.float64)
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _percent(part: int | np.integer, whole: int | np.integer) -> float:
    return 100.0 * int(part) / int(whole) if whole else 0.0


def _check(logits: np.ndarray, labels: np.ndarray) -> None:
    where = "predictions"
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or logits.shape[1] < 2:
        raise UserError(
            f"logits {list(logits.shape)} and labels {list(labels.shape)} do not belong together",
            where=where,
            hint="they must be [cycles, classes] with two classes or more, and [cycles]",
        )
    if not len(labels):
        raise UserError("there is no cycle to evaluate", where=where)
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"labels must be whole numbers, not {labels.dtype}", where=where)
    bad = (labels < 0) | (labels >= logits.shape[1])
    if bad.any():
        row = int(bad.argmax())
        raise UserError(f"label {labels[row]} of row {row} is not one of {logits.shape[1]} classes", where=where)
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise UserError(
            f"logits of {int((~finite).sum())} of {len(labels)} cycles are NaN or infinite, first in row "
            f"{int(finite.argmin())}",
            where=where,
            hint="the training diverged: lower optim.lr, or raise objective.tau",
        )
