"""Splits, patient-grouped folds and held-out patients: disjoint, complete, stratified, deterministic."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.errors import UserError
from feature_store.splits import SplitTable, hold_out_patients, inner_folds, patients_on_both_sides, select_devices


@pytest.fixture(scope="module")
def corpus(shared_data: Path) -> IcbhiCorpus:
    return IcbhiCorpus(shared_data / "icbhi" / "all_920_annotations")


@pytest.fixture(scope="module")
def cycles(corpus: IcbhiCorpus) -> pa.Table:
    return corpus.cycle_table()


def column(cycles: pa.Table, name: str) -> dict[str, object]:
    return dict(zip(cycles["cycle_id"].to_pylist(), cycles[name].to_pylist(), strict=True))


def imbalance(parts: list[list[str]], label: dict, patient: dict) -> float:
    """Mean squared relative distance of every part's patients and class counts from an equal share."""
    everything = [c for part in parts for c in part]
    classes = sorted({label[c] for c in everything})
    wanted = [len({patient[c] for c in everything}), *(sum(label[c] == k for c in everything) for k in classes)]
    found = [[len({patient[c] for c in p}), *(sum(label[c] == k for c in p) for k in classes)] for p in parts]
    return float(np.mean((np.array(found) / np.array(wanted) * len(parts) - 1) ** 2))


def test_table_of_sides():
    split = SplitTable.of_sides("s", {1: {"train": ["a"], "test": ["b"]}, 0: {"train": ["b", "c"], "test": []}})
    assert split.folds() == [0, 1]
    assert split.side(0, "train") == ["b", "c"]
    assert split.side(0, "test") == [] and split.side(7, "train") == []
    assert split.table.schema.types == [pa.string(), pa.int16(), pa.string()]
    assert split.restrict(["b"]).table.to_pylist() == [
        {"cycle_id": "b", "fold": 1, "side": "test"},
        {"cycle_id": "b", "fold": 0, "side": "train"},
    ]
    assert SplitTable.of_sides("s", {}).folds() == []


def test_hash_is_of_the_rows_not_of_their_order_or_name():
    split = SplitTable.of_sides("s", {0: {"train": ["a", "b"], "test": ["c"]}})
    other = SplitTable.of_sides("t", {0: {"test": ["c"], "train": ["b", "a"]}})
    swapped = SplitTable.of_sides("s", {0: {"train": ["a", "c"], "test": ["b"]}})
    assert len(split.hash) == 16 and int(split.hash, 16) >= 0
    assert split.hash == other.hash != swapped.hash
    assert split.hash != SplitTable.of_sides("s", {1: {"train": ["a", "b"], "test": ["c"]}}).hash


def test_a_table_that_is_no_split_is_refused():
    with pytest.raises(UserError, match="no column side"):
        SplitTable("s", pa.table({"cycle_id": ["a"], "fold": [0]}))
    with pytest.raises(UserError, match="side 'valid'"):
        SplitTable("s", pa.table({"cycle_id": ["a"], "fold": [0], "side": ["valid"]}))


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lungsound4", "diagnosis3"])
def test_inner_folds_partition_the_training_side_by_patients(corpus, cycles, task):
    outer = corpus.splits()["official"]
    inner = inner_folds(cycles, outer, task)
    assert inner.name == "official-inner5"
    assert inner.folds() == [0, 1, 2, 3, 4]
    patient, label = column(cycles, "patient"), column(cycles, task)
    training = sorted(outer.side(0, "train"))
    assert sorted(c for fold in inner.folds() for c in inner.side(fold, "test")) == training
    for fold in inner.folds():
        train, test = inner.side(fold, "train"), inner.side(fold, "test")
        assert sorted(train + test) == training
        assert {patient[c] for c in train}.isdisjoint({patient[c] for c in test})
        assert {label[c] for c in test} == {label[c] for c in training}
    assert patients_on_both_sides(inner, cycles) == {fold: [] for fold in range(5)}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lungsound4", "lungsound2", "diagnosis3", "diagnosis2"])
def test_inner_folds_are_at_least_as_balanced_as_those_of_scikit_learn(corpus, cycles, task):
    outer = corpus.splits()["official"]
    patient, label = column(cycles, "patient"), column(cycles, task)
    ids = outer.side(0, "train")
    labels, groups = [label[c] for c in ids], [patient[c] for c in ids]
    reference = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(ids, labels, groups)
    theirs = imbalance([[ids[i] for i in test] for _, test in reference], label, patient)
    inner = inner_folds(cycles, outer, task)
    ours = imbalance([inner.side(fold, "test") for fold in inner.folds()], label, patient)
    assert ours <= theirs


@pytest.mark.slow
def test_inner_folds_of_several_outer_folds(corpus, cycles):
    outer = corpus.splits()["five-fold"]
    inner = inner_folds(cycles, outer, "lungsound4", k=3)
    assert inner.folds() == list(range(15))
    for fold in inner.folds():
        both = {*inner.side(fold, "train"), *inner.side(fold, "test")}
        assert both == set(outer.side(fold // 3, "train"))


@pytest.mark.slow
def test_inner_folds_depend_on_the_seed_alone(corpus, cycles):
    outer = corpus.splits()["official"]
    first = inner_folds(cycles, outer, "lungsound4", seed=1)
    shuffled = cycles.take(np.random.default_rng(0).permutation(len(cycles)))
    assert inner_folds(shuffled, outer, "lungsound4", seed=1).hash == first.hash
    assert inner_folds(cycles, outer, "lungsound4", seed=2).hash != first.hash


@pytest.mark.slow
def test_inner_folds_that_cannot_be(corpus, cycles):
    outer = corpus.splits()["official"]
    few = outer.restrict([c for c in outer.side(0, "train") if c[:3] in {"103", "107", "110"}])
    with pytest.raises(UserError, match="3 training patients cannot be divided into 5"):
        inner_folds(cycles, few, "lungsound4")
    with pytest.raises(UserError, match="at least 2"):
        inner_folds(cycles, outer, "lungsound4", k=1)
    with pytest.raises(UserError, match="no task 'voice5'"):
        inner_folds(cycles, outer, "voice5")


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.33])
def test_held_out_patients_are_a_fair_sample(corpus, cycles, fraction):
    patient, label = column(cycles, "patient"), column(cycles, "lungsound4")
    ids = corpus.splits()["official"].side(0, "train")
    patients, labels = [patient[c] for c in ids], [label[c] for c in ids]
    train, held = hold_out_patients(ids, patients, labels, fraction, seed=3)
    assert sorted(train + held) == sorted(ids)
    assert {patient[c] for c in train}.isdisjoint({patient[c] for c in held})
    assert len({patient[c] for c in held}) == pytest.approx(fraction * len(set(patients)), abs=2)
    before, after = Counter(labels), Counter(label[c] for c in held)
    for k in before:
        assert after[k] / before[k] == pytest.approx(fraction, abs=0.05)
    assert hold_out_patients(ids, patients, labels, fraction, seed=3) == (train, held)


def test_row_numbers_can_be_held_out_too():
    rows = np.array([4, 7, 9, 11])
    train, held = hold_out_patients(rows, np.array(["a", "a", "b", "b"]), np.array([0, 1, 0, 1]), 0.5, seed=0)
    assert sorted([*train, *held]) == [4, 7, 9, 11]
    assert sorted(train) in ([4, 7], [9, 11])


def test_a_class_of_one_patient_stays_in_training():
    patients = np.repeat([f"p{i}" for i in range(10)], 10)
    labels = np.zeros(100, int)
    labels[30:40] = 1  # only p3 has it
    ids = [f"c{i}" for i in range(100)]
    for seed in range(20):
        train, held = hold_out_patients(ids, patients, labels, 0.5, seed)
        assert "c30" in train and held


def test_both_parts_get_a_class_that_two_patients_have():
    patients = np.repeat([f"p{i}" for i in range(20)], 5)
    labels = np.where(np.isin(patients, ["p3", "p11"]), 1, 0)
    ids = [f"c{i}" for i in range(100)]
    for seed in range(20):
        for part in hold_out_patients(ids, patients, labels, 0.1, seed):
            assert {labels[int(c[1:])] for c in part} == {0, 1}


def test_few_patients():
    ids = ["a1", "a2", "b1"]
    for fraction in (0.01, 0.2, 0.9):
        train, held = hold_out_patients(ids, ["a", "a", "b"], [0, 1, 0], fraction, seed=0)
        assert (train, held) == (["a1", "a2"], ["b1"])  # a has both classes
    with pytest.raises(UserError, match="1 training patient"):
        hold_out_patients(ids, ["a", "a", "a"], [0, 1, 0], 0.2, seed=0)
    for fraction in (0, 1, -0.5):
        with pytest.raises(UserError, match="between 0 and 1"):
            hold_out_patients(ids, ["a", "a", "b"], [0, 1, 0], fraction, seed=0)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-1, 3)), min_size=2, max_size=60),
    st.floats(0.05, 0.95),
    st.integers(0, 5),
)
def test_holding_out_any_patients(rows, fraction, seed):
    patients = [f"p{patient}" for patient, _ in rows]
    if len(set(patients)) < 2:
        return
    ids = [f"c{i}" for i in range(len(rows))]
    train, held = hold_out_patients(ids, patients, [label for _, label in rows], fraction, seed)
    assert train and held and sorted(train + held) == sorted(ids)
    owner, label = dict(zip(ids, patients, strict=True)), {c: row[1] for c, row in zip(ids, rows, strict=True)}
    assert {owner[c] for c in train}.isdisjoint({owner[c] for c in held})
    for k in {label[c] for c in ids} - {-1}:
        if len({owner[c] for c in ids if label[c] == k}) > 1:
            assert any(label[c] == k for c in train)


@pytest.mark.spec("D11")
def test_patients_on_both_sides_of_the_official_split(corpus, cycles):
    splits = corpus.splits()
    assert patients_on_both_sides(splits["official"], cycles) == {0: ["156", "218"]}
    assert patients_on_both_sides(splits["official-no-overlap"], cycles) == {0: []}
    assert patients_on_both_sides(splits["official-patient-test"], cycles) == {0: []}
    assert patients_on_both_sides(splits["five-fold"], cycles) == {fold: [] for fold in range(5)}


@pytest.mark.spec("D13")
def test_split_of_one_device(corpus, cycles):
    official = corpus.splits()["official"]
    selected = select_devices(official, cycles, ["Meditron"])
    assert [len(selected.side(0, side)) for side in ("train", "test")] == [997, 459]
    with pytest.raises(UserError, match=r"test side has no cycle recorded with LittC2SE .*AKGC417L, Litt3200, Med"):
        select_devices(official, cycles, ["LittC2SE"])
