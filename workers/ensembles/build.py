"""Make an ensemble of finished fold runs: fold by fold, weighted on held-out patients, never on the test side."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from feature_store.errors import UserError
from feature_store.metrics import USUAL, Metric
from workers.ensembles.members import Member, folds_of, load_members, panels
from workers.ensembles.record import (
    EnsembleMember,
    EnsembleResult,
    FoldScores,
    Method,
    Overall,
    Settings,
    ensemble_hash,
)
from workers.ensembles.store import EnsembleStore
from workers.ensembles.weights import combine, greedy_weights, mean_weights, measured, score_weights, softmax_weights
from workers.evaluation import Metrics, evaluate
from workers.predictions import Predictions
from workers.provenance import command_line, lungtune_version, now
from workers.results import ResultStore

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Combined:
    """One side of one fold: its cycles, and the ensemble's logits ``[cycles, classes]`` of them."""

    fold: int
    name: str
    cycles: Predictions
    logits: np.ndarray

    @property
    def metrics(self) -> Metrics:
        return evaluate(self.logits, self.cycles.labels)


def build_ensemble(
    results: ResultStore,
    hashes: Sequence[str],
    *,
    method: Method = "mean",
    settings: Settings | None = None,
    protocol: str = "last",
) -> EnsembleResult:
    """The ensemble of these fold runs: the stored one if there is one, else made and stored.

    Args:
        results: where the members' predictions are, and where the ensemble goes.
        hashes: of finished fold runs, in any order, of one fold or of several.
        method: how members are weighted.
        settings: of the method.
        protocol: whose epochs' predictions are taken, ``validation`` or ``last``.

    Raises:
        UserError: members do not fit together, lack predictions, or cannot be weighted by this method.
    """
    metric = _metric(results, hashes)
    settings = (settings or Settings()).used_by(method, metric)
    store = EnsembleStore(results.storage)
    name = ensemble_hash(hashes, method, settings, protocol, metric)
    found = store.get(name)
    if found is not None:
        return found
    members = load_members(results, hashes, protocol)
    rows: list[EnsembleMember] = []
    sides: list[Combined] = []
    for fold in folds_of(members):
        weighted, combined = _fold([m for m in members if m.result.key.fold == fold], method, settings, metric)
        rows += weighted
        sides += combined
    first = members[0].result
    shared = {"dataset", "task", "classes", "metric", "synthetic", "recordings", "recordings_listed"}
    ensemble = EnsembleResult(
        hash=name,
        method=method,
        settings=settings,
        protocol=cast(Literal["validation", "last"], protocol),
        split=first.key.split,
        split_hash=first.key.split_hash,
        data_hash=_data_hash(members),
        **first.data.model_dump(include=shared),
        patients_on_both_sides=sorted({p for m in members for p in m.result.data.patients_on_both_sides}),
        compat=sorted({switch for member in members for switch in member.result.compat}),
        test_watched=any("test_best" in member.result.protocols for member in members),
        members=rows,
        folds=_scores(sides),
        overall=_overall([side for side in sides if side.name == "test"], metric),
        created=now(),
        lungtune=lungtune_version(),
        command=command_line(),
    )
    return store.publish(ensemble, _parquet(sides, protocol))


def _metric(results: ResultStore, hashes: Sequence[str]) -> Metric:
    """The task's, by the first member that is there; whether they all fit is checked when they are loaded."""
    return next((found.data.metric for name in hashes if (found := results.get(name)) is not None), USUAL)


def _fold(
    members: Sequence[Member], method: Method, settings: Settings, metric: Metric
) -> tuple[list[EnsembleMember], list[Combined]]:
    """Weights and predictions of one fold's members.

    Each panel is weighted by itself and counts by its number of members: where all are equally good, that is the mean.
    """
    groups = panels(members)
    fold = members[0].result.key.fold
    if method != "mean" and len(groups) == len(members):
        raise UserError(
            f"no two members of fold {fold} held out the same patients, so what they reach there cannot be compared: "
            f"{members[0].name} and {members[1].name}",
            where=f"method {method}",
            hint="use method mean, or several configs of one seed: the seed draws the held-out patients",
        )
    ordered = [member for group in groups for member in group]
    panel_of = [number for number, group in enumerate(groups) for _ in group]
    weights = np.concatenate([_weights(group, method, settings, metric) * len(group) for group in groups])
    weights /= len(members)
    test = combine(np.stack([member.test.probabilities for member in ordered]), weights)
    sides = [Combined(fold, "test", ordered[0].test, test)]
    if len(groups) == 1:  # else one panel's held-out patients are among those that another was trained on
        held_out = combine(np.stack([member.held_out.probabilities for member in ordered]), weights)
        sides.append(Combined(fold, "validation", ordered[0].held_out, held_out))
    return [_row(*item, metric) for item in zip(ordered, weights, panel_of, strict=True)], sides


def _weights(panel: Sequence[Member], method: Method, settings: Settings, metric: Metric) -> np.ndarray:
    """Weights ``[members]`` of members that were judged on the same held-out patients."""
    if method == "mean":
        return mean_weights(len(panel))
    labels, by = panel[0].held_out.labels, settings.measure(metric)
    probabilities = np.stack([member.held_out.probabilities for member in panel])
    if method == "greedy":
        return greedy_weights(probabilities, labels, by, settings.rounds)
    values = np.array([measured(own, labels, by) for own in probabilities])
    return score_weights(values) if method == "score" else softmax_weights(values)


def _row(member: Member, weight: float, panel: int, metric: Metric) -> EnsembleMember:
    key = member.result.key
    own = {
        side: 100.0 * measured(said.probabilities, said.labels, metric)
        for side, said in (("validation_score", member.held_out), ("test_score", member.test))
    }
    return EnsembleMember(
        hash=member.result.hash,
        config_hash=key.config_hash,
        seed=key.seed,
        fold=key.fold,
        weight=float(weight),
        panel=panel,
        **own,
    )


def _data_hash(members: Sequence[Member]) -> str:
    hashes = sorted({member.result.key.data_hash for member in members})
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:16]


def _scores(sides: Sequence[Combined]) -> list[FoldScores]:
    held_out = {side.fold: side.metrics for side in sides if side.name == "validation"}
    return [
        FoldScores(
            fold=side.fold,
            test=side.metrics,
            validation=held_out.get(side.fold),
            patients=len(np.unique(side.cycles.patients)),
        )
        for side in sides
        if side.name == "test"
    ]


def _overall(tested: Sequence[Combined], metric: Metric) -> Overall:
    folds = [side.metrics for side in tested]
    scores = [fold.value(metric) for fold in folds]
    labels = np.concatenate([side.cycles.labels for side in tested])
    return Overall(
        score=float(np.mean(scores)),
        cycle_weighted_score=float(np.average(scores, weights=[fold.n for fold in folds])),
        pooled=evaluate(np.concatenate([side.logits for side in tested]), labels),
    )


def _parquet(sides: Sequence[Combined], protocol: str) -> bytes:
    """The ensemble's logits in the columns of a fold run's predictions, and the fold."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.concat_tables([_table(side, protocol) for side in sides]), sink, compression="zstd")
    return sink.getvalue()


def _table(side: Combined, protocol: str) -> pa.Table:
    import pyarrow as pa

    rows, cycles = len(side.logits), side.cycles
    return pa.table(
        {
            "cycle_id": cycles.cycle_ids.tolist(),
            "patient": cycles.patients.tolist(),
            "device": cycles.devices.tolist(),
            "label": cycles.labels.astype(np.int8),
            "side": [side.name] * rows,
            "protocol": [protocol] * rows,
            "fold": np.full(rows, side.fold, dtype=np.int16),
            "logits": pa.array(side.logits.tolist(), pa.list_(pa.float32())),
        }
    )
