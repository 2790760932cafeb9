"""Named splits of cycles, patient-grouped folds inside a training side, and who is on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from feature_store.errors import UserError

T = TypeVar("T")
SIDES = ("train", "test")
COMPAT = "compat-"  # begins the names of splits that copy a source system's defect: a Score on one is never ranked
SCHEMA = pa.schema([("cycle_id", pa.string()), ("fold", pa.int16()), ("side", pa.string())])
RESTARTS = 8  # starting points of the search for balanced parts; the best is kept
SWAPS_UP_TO = 200  # patients; with more of them single moves balance well enough
SMALLEST_GAIN = 1e-6  # of cost: about 0.05 % of a share


@dataclass(frozen=True, eq=False)
class SplitTable:
    """A named assignment of cycles to sides, one row per cycle and fold.

    Attributes:
        name: the split's name.
        table: columns cycle_id (string), fold (int16), side (``train`` or ``test``).

    Raises:
        UserError: a column is missing or a side has another name.
    """

    name: str
    table: pa.Table

    def __post_init__(self) -> None:
        missing = [name for name in SCHEMA.names if name not in self.table.column_names]
        if missing:
            raise UserError(f"split '{self.name}' has no column {', '.join(missing)}")
        object.__setattr__(self, "table", self.table.select(SCHEMA.names).cast(SCHEMA).combine_chunks())
        unknown = set(self.table["side"].unique().to_pylist()) - set(SIDES)
        if unknown:
            raise UserError(f"split '{self.name}' has a side '{unknown.pop()}'", hint="sides are train and test")

    @classmethod
    def of_sides(cls, name: str, folds: Mapping[int, Mapping[str, Sequence[str]]]) -> SplitTable:
        """Make a split from the cycle ids of each fold's sides: ``{fold: {"train": ids, "test": ids}}``."""
        rows = [(c, fold, side) for fold, sides in folds.items() for side, ids in sides.items() for c in ids]
        columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(SCHEMA)]
        return cls(name, pa.table(columns, schema=SCHEMA))

    def folds(self) -> list[int]:
        """The folds, sorted."""
        return sorted({fold for fold, _ in self._sides})

    def side(self, fold: int, side: str) -> list[str]:
        """Cycle ids of one side of one fold, in the order of the table; empty where there are none."""
        return list(self._sides.get((fold, side), ()))

    @cached_property
    def hash(self) -> str:
        """16 hex digits over the sorted rows: equal for equal assignments, whatever their order and name."""
        columns = (self.table[name].to_pylist() for name in SCHEMA.names)
        rows = sorted(zip(*columns, strict=True))
        return hashlib.sha256("\n".join(f"{c}\t{f}\t{s}" for c, f, s in rows).encode()).hexdigest()[:16]

    def restrict(self, cycle_ids: Collection[str]) -> SplitTable:
        """The same split on these cycles only."""
        kept = set(cycle_ids)
        mask = [cycle_id in kept for cycle_id in self.table["cycle_id"].to_pylist()]
        return SplitTable(self.name, self.table.filter(pa.array(mask, pa.bool_())))

    @cached_property
    def _sides(self) -> dict[tuple[int, str], list[str]]:
        sides: dict[tuple[int, str], list[str]] = {}
        columns = (self.table[name].to_pylist() for name in SCHEMA.names)
        for cycle_id, fold, side in zip(*columns, strict=True):
            sides.setdefault((fold, side), []).append(cycle_id)
        return sides


def inner_folds(cycles: pa.Table, outer: SplitTable, task: str, k: int = 5, seed: int = 0) -> SplitTable:
    """Patient-grouped, class-stratified folds inside the training side of a split.

    In fold i the test side is the i-th part of the training patients and the train side is the rest. Cycles of
    the outer test side appear nowhere. An outer split of several folds gives k folds for each of them: the
    inner folds of outer fold f are ``f * k`` to ``f * k + k - 1``.

    Args:
        cycles: the corpus' cycles with columns cycle_id, patient and one of the task's class indices.
        outer: the split whose training side is divided.
        task: the column that the classes are taken from.
        k: number of parts.
        seed: of the search for balanced parts; the same seed gives the same folds.

    Raises:
        UserError: fewer than two parts, fewer patients than parts, or no such task.
    """
    if k < 2:
        raise UserError(f"inner folds need at least 2 parts, not {k}")
    if task not in cycles.column_names:
        raise UserError(f"the cycles have no task '{task}'")
    columns = (cycles[name].to_pylist() for name in ("cycle_id", "patient", task))
    known = {cycle_id: (patient, label) for cycle_id, patient, label in zip(*columns, strict=True)}
    folds: dict[int, dict[str, list[str]]] = {}
    for outer_fold in outer.folds():
        ids = outer.side(outer_fold, "train")
        patients = np.array([known[i][0] for i in ids], dtype=str)
        labels = np.array([-1 if known[i][1] is None else known[i][1] for i in ids], dtype=int)
        names = np.unique(patients)
        if len(names) < k:
            where = f"split '{outer.name}', fold {outer_fold}"
            raise UserError(f"{len(names)} training patients cannot be divided into {k} folds", where=where)
        parts = _balanced_parts(_counts(patients, labels, names), np.full(k, 1 / k), seed)
        part_of = dict(zip(names.tolist(), parts.tolist(), strict=True))
        for part in range(k):
            sides: dict[str, list[str]] = {"train": [], "test": []}
            for cycle_id in ids:
                sides["test" if part_of[known[cycle_id][0]] == part else "train"].append(cycle_id)
            folds[outer_fold * k + part] = sides
    return SplitTable.of_sides(f"{outer.name}-inner{k}", folds)


def hold_out_patients(
    cycle_ids: Iterable[T], patients: ArrayLike, labels: ArrayLike, fraction: float, seed: int
) -> tuple[list[T], list[T]]:
    """Hold whole patients out of a training side, for the protocol `validation`.

    The patients are chosen so that about `fraction` of them is held out and every class keeps about that share of
    its cycles on either side. A class is never taken from the training part altogether if it can be avoided.

    Args:
        cycle_ids: [N] ids or row numbers; they are only passed on.
        patients, labels: [N] each; a negative label is a cycle without one.
        fraction: of the patients to hold out, between 0 and 1.
        seed: of the search; the same seed gives the same patients.

    Returns:
        The cycles that stay, and those held out, each in the order given.

    Raises:
        UserError: fewer than two patients, or a fraction that is not between 0 and 1.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the fraction of patients to hold out must lie between 0 and 1, not {fraction}")
    patient_of = np.asarray(patients, dtype=str)
    names = np.unique(patient_of)
    if len(names) < 2:
        hint = "take a larger part of the corpus, or do without the validation protocol"
        raise UserError(f"{len(names)} training patient(s): none can be held out for validation", hint=hint)
    counts = _counts(patient_of, np.asarray(labels, dtype=int), names)
    parts = _balanced_parts(counts, np.array([1 - fraction, fraction]), seed, guard=0)
    held = set(names[parts == 1].tolist())
    pairs = list(zip(cycle_ids, patient_of.tolist(), strict=True))
    return [c for c, patient in pairs if patient not in held], [c for c, patient in pairs if patient in held]


def patients_on_both_sides(split: SplitTable, cycles: pa.Table) -> dict[int, list[str]]:
    """The patients of each fold who have cycles in its train and in its test side: empty lists where none leaks."""
    patient_of = dict(zip(cycles["cycle_id"].to_pylist(), cycles["patient"].to_pylist(), strict=True))
    sides = {
        fold: [{patient_of[c] for c in split.side(fold, side) if c in patient_of} for side in SIDES]
        for fold in split.folds()
    }
    return {fold: sorted(train & test) for fold, (train, test) in sides.items()}


def select_devices(split: SplitTable, cycles: pa.Table, devices: Collection[str]) -> SplitTable:
    """The split on the cycles of some recording devices.

    Raises:
        UserError: a side of a fold would be empty (no LittC2SE recording is in the official test set, for one).
    """
    device_of = dict(zip(cycles["cycle_id"].to_pylist(), cycles["device"].to_pylist(), strict=True))
    selected = split.restrict({cycle_id for cycle_id, device in device_of.items() if device in set(devices)})
    for fold in split.folds():
        for side in SIDES:
            if not selected.side(fold, side):
                what = f"the {side} side has no cycle recorded with {', '.join(sorted(devices))}"
                there = sorted({device_of[cycle_id] for cycle_id in split.side(fold, side) if cycle_id in device_of})
                hint = f"on that side are: {', '.join(there) or 'none'}"
                raise UserError(what, where=f"split '{split.name}', fold {fold}", hint=hint)
    return selected


def _counts(patients: np.ndarray, labels: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Cycles of each class by patient, classes without a cycle left out: [patients, classes]."""
    classes = np.unique(labels[labels >= 0])
    counts = np.zeros((len(names), len(classes)))
    rows, known = np.searchsorted(names, patients), labels >= 0
    np.add.at(counts, (rows[known], np.searchsorted(classes, labels[known])), 1)
    return counts


def _balanced_parts(counts: np.ndarray, shares: np.ndarray, seed: int, guard: int | None = None) -> np.ndarray:
    """Divide patients into parts of given shares so that each class is shared out alike.

    A local search: from `RESTARTS` random assignments, move one patient or swap two as long as that brings the
    parts closer to their shares (or gives a part a class that it lacked), and keep the best. Every part gets at
    least one patient.

    Args:
        counts: [patients, classes] cycles.
        shares: [parts], summing to 1.
        guard: a part from which no class may vanish if that can be avoided, whatever it costs the others.

    Returns:
        [patients] the part of each.
    """
    n, parts = len(counts), len(shares)
    weight = np.concatenate([np.ones((n, 1)), counts], axis=1)  # being one patient counts like a class
    share_of = weight / weight.sum(axis=0)
    rng = np.random.default_rng(seed)
    best, best_cost = None, np.inf
    for _ in range(RESTARTS):
        order = rng.permutation(n)
        assigned = np.empty(n, dtype=int)
        assigned[order[:parts]] = np.arange(parts)
        assigned[order[parts:]] = rng.choice(parts, n - parts, p=shares)
        assigned, cost = _descend(assigned, share_of, shares, guard)
        if cost < best_cost:
            best, best_cost = assigned, cost
    assert best is not None
    return best


def _descend(
    assigned: np.ndarray, share_of: np.ndarray, shares: np.ndarray, guard: int | None
) -> tuple[np.ndarray, float]:
    """Take the best move or swap until none helps; returns the assignment and its cost.

    The cost is a sum over parts, so that a step changes the terms of two parts only.
    """
    assigned, everyone = assigned.copy(), np.arange(len(assigned))
    while True:
        sums = np.eye(len(shares))[assigned].T @ share_of  # share of the patients and of each class in every part
        now = _part_cost(sums, shares, guard)
        lost = sums[assigned] - share_of  # the own part without oneself
        leave = _part_cost(lost, shares, guard, assigned) - now[assigned]
        enter = _part_cost(sums + share_of[:, None], shares, guard) - now
        move = leave[:, None] + enter  # [patients, parts]
        move[everyone, assigned] = 0
        best_move, best_swap, swap = move.min(), 0.0, None
        if len(assigned) <= SWAPS_UP_TO:  # swaps: [patients, patients], each taking the other's place
            take = _part_cost(lost[:, None] + share_of, shares, guard, assigned[:, None]) - now[assigned][:, None]
            swap = np.where(assigned[:, None] == assigned, 0, take + take.T)
            best_swap = swap.min()
        if min(best_move, best_swap) > -SMALLEST_GAIN:
            return assigned, float(now.sum())
        if swap is None or best_move <= best_swap:
            patient, part = np.unravel_index(move.argmin(), move.shape)
            assigned[patient] = part
        else:
            pair = list(np.unravel_index(swap.argmin(), swap.shape))
            assigned[pair] = assigned[pair[::-1]]


def _part_cost(
    sums: np.ndarray, shares: np.ndarray, guard: int | None, part: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Cost of one part with these sums: [..., 1 + classes] -> [...].

    Squared distance from the wanted share of patients and of every class, and far more for each class that the
    part has nothing of, or for having no patient.
    """
    wanted = shares[part]
    absent = sums < 1e-9
    class_penalty = np.full(len(shares), 1e3)
    if guard is not None:
        class_penalty[guard] = 1e6
    distance = ((sums - wanted[..., None]) ** 2).sum(axis=-1) / wanted
    return distance + class_penalty[part] * absent[..., 1:].sum(axis=-1) + 1e9 * absent[..., 0]
