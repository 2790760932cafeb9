"""Event synthesis: new cycles out of annotated crackles and wheezes (docs/specification.md, A10)."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.errors import UserError
from feature_store.features import HybridSpec, resolve_feature
from feature_store.store import EVENTS, FeatureStore
from workers.augment.splice import Spliced, class_targets, gather_frames, lay_out, plan_splices, units_of
from workers.config import ExperimentConfig
from workers.data import data_hash, load_fold
from workers.device import Rows
from workers.events import EventFrames, locate_events
from workers.sampling import Sampling
from workers.training import train_fold

FEATURE: dict[str, Any] = {
    "kind": "hybrid", "seconds": 2.0, "bins": 16, "bins_per_octave": 6, "low_hz": 100.0, "hop": 400
}  # fmt: skip
LABELS = np.array([0] * 10 + [1] * 4 + [2] * 3 + [3] * 2)
FRAMES = 688


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def annotated() -> EventFrames:
    """Crackles of 4 and 20 frames in cycles 10 and 11, wheezes of 30 and 200 frames in 14 and 15."""
    kinds = np.array(["crackle", "crackle", "wheeze", "wheeze"])
    return EventFrames(kinds, np.array([10, 11, 14, 15]), np.array([5, 50, 100, 300]), np.array([4, 20, 30, 200]))


def plan(
    events: EventFrames | None = None, own_frames: np.ndarray | None = None, scale: float = 1.0, seed: int = 0
) -> Spliced:
    own = np.full(len(LABELS), 300) if own_frames is None else own_frames
    found = events or annotated()
    return plan_splices(LABELS, own, found, scale=scale, seconds=8.0, frames=FRAMES, generator=generator(seed))


# --- what a new cycle is made of ---


@pytest.mark.spec("A10")
def test_eight_seconds_are_80_crackles_or_8_wheezes() -> None:
    assert Counter(units_of(1, 8.0, 0)) == {"crackle": 80}
    assert Counter(units_of(2, 8.0, 0)) == {"wheeze": 8}


@pytest.mark.spec("A10")
@pytest.mark.parametrize("wheezes", range(1, 8))
def test_both_are_wheezes_after_crackles_with_one_after_the_first(wheezes: int) -> None:
    units = units_of(3, 8.0, wheezes)
    assert Counter(units) == {"wheeze": wheezes, "crackle": (8 - wheezes) * 10}
    assert units[:2] == ("crackle", "wheeze")
    rest = units[2:]
    assert list(rest) == sorted(rest), "the other crackles, then the other wheezes"


@pytest.mark.spec("A10")
def test_units_share_the_frames_by_their_time() -> None:
    crackles = lay_out(units_of(1, 8.0, 0), FRAMES)
    assert set(np.bincount(crackles.unit)) == {8, 9} and len(crackles.unit) == FRAMES  # 8.6 frames are 0.1 s
    wheezes = lay_out(units_of(2, 8.0, 0), FRAMES)
    assert set(np.bincount(wheezes.unit)) == {86}
    np.testing.assert_array_equal(wheezes.place, np.tile(np.arange(86), 8))


@pytest.mark.spec("A10")
def test_crackle_grows_to_three_times_its_size_and_the_others_to_a_share_of_the_normal_class() -> None:
    assert class_targets(LABELS, 1.0) == {1: 8, 2: 7, 3: 8}
    assert class_targets(LABELS, 0.5) == {1: 8, 2: 2, 3: 3}
    assert class_targets(LABELS, 0.1) == {1: 8, 2: 0, 3: 0}
    assert Counter(plan().labels.tolist()) == {1: 8, 2: 7, 3: 8}


@pytest.mark.spec("A10")
def test_a_unit_is_an_event_cut_or_with_a_normal_excerpt_before_it() -> None:
    made = plan(scale=3.0)
    for cycles, frames, label in zip(made.cycles.numpy(), made.frames.numpy(), made.labels.tolist(), strict=True):
        if label == 3:
            continue
        layout = lay_out(units_of(label, 8.0, 0), FRAMES)
        for unit in range(len(layout.kinds)):
            inside = layout.unit == unit
            source, number, length = cycles[inside], frames[inside], int(inside.sum())
            long_one, first = {1: (11, 50), 2: (15, 300)}[label]
            if source[-1] == long_one:  # longer than the unit: its beginning
                np.testing.assert_array_equal(source, long_one)
                np.testing.assert_array_equal(number, first + np.arange(length))
                continue
            short, first, held = {1: (10, 5, 4), 2: (14, 100, 30)}[label]
            np.testing.assert_array_equal(source[-held:], short)
            np.testing.assert_array_equal(number[-held:], first + np.arange(held))
            before = source[: length - held]
            assert len(set(before)) == 1 and LABELS[before[0]] == 0, "one normal cycle"
            assert (np.diff(number[: length - held]) == 1).all(), "an excerpt of it, in one stretch"
            assert number[: length - held].max() < 300, "of its own sound, not of its padding"


@pytest.mark.spec("A10")
def test_excerpts_are_of_normal_cycles_longer_than_a_second() -> None:
    own = np.full(len(LABELS), 80)  # 86 frames are a second
    own[[3, 7]] = 200
    made = plan(own_frames=own)
    assert set(made.cycles[made.labels < 3].unique().tolist()) <= {3, 7, 10, 11, 14, 15}
    without = plan(own_frames=np.full(len(LABELS), 80))
    assert set(without.cycles.unique().tolist()) <= {10, 11, 14, 15}, "events alone, repeated"


@pytest.mark.spec("A10")
def test_a_class_without_its_events_stays_as_it_is() -> None:
    events = annotated()
    crackles = EventFrames(*(column[:2] for column in (events.kinds, events.cycles, events.first, events.frames)))
    assert set(plan(crackles).labels.tolist()) == {1}


@pytest.mark.spec("A10")
def test_equal_generators_plan_alike() -> None:
    first, again, other = plan(), plan(), plan(seed=1)
    assert torch.equal(first.cycles, again.cycles) and torch.equal(first.frames, again.frames)
    assert not torch.equal(first.cycles, other.cycles)


def test_frames_are_gathered_with_and_without_maps() -> None:
    values = torch.randn(5, 3, 7, 2)
    rows, frames = torch.randint(5, (4, 7)), torch.randint(7, (4, 7))
    found = gather_frames(values, rows, frames)
    assert found.shape == (4, 3, 7, 2)
    for n in range(4):
        for t in range(7):
            assert torch.equal(found[n, :, t], values[rows[n, t], :, frames[n, t]])
    assert torch.equal(gather_frames(values[:, 1], rows, frames), found[:, 1])


# --- where events lie ---


def cycle_table(**columns: list[Any]) -> pa.Table:
    return pa.table({"recording": ["a", "a", "b"], "start": [0.0, 2.0, 0.0], "end": [2.0, 12.0, 4.0]} | columns)


@pytest.mark.spec("A10")
def test_events_are_found_in_the_frames_of_their_cycle() -> None:
    rows = [("a", 0.5, 0.6, "crackle"), ("a", 5.0, 6.0, "wheeze"), ("a", 3.5, 3.7, "crackle"), ("c", 0, 1, "wheeze")]
    events = pa.Table.from_pylist([dict(zip(EVENTS.names, row, strict=True)) for row in rows], EVENTS)
    found = locate_events(events, cycle_table(), np.array([0, 1, 2]), HybridSpec())
    assert list(zip(*(column.tolist() for column in vars(found).values()), strict=True)) == [
        ("crackle", 0, 43, 9),  # 0.5 s of 8 s and 688 frames
        ("wheeze", 1, 86, 86),  # the last eight of its ten seconds begin at 4 s; what is before them is not heard
    ]
    with pytest.raises(UserError, match="no cycle of the training side has an annotated event"):
        locate_events(events, cycle_table(), np.array([2]), HybridSpec())


# --- through the store ---


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, synthetic_corpus: Path) -> Path:
    """The synthetic corpus with an event in the middle of every abnormal cycle, whoever's it is."""
    root = tmp_path_factory.mktemp("events") / "corpus"
    shutil.copytree(synthetic_corpus, root)
    lines: dict[str, list[str]] = {}
    for cycle in open_corpus("icbhi", root).cycles():
        kinds = {1: ["crackle"], 2: ["wheeze"], 3: ["Wheeze", "crackle"]}.get(cycle.labels["lungsound4"] or 0, [])
        middle = (cycle.start + cycle.end) / 2
        lines.setdefault(cycle.recording, []).extend(f"{middle:.3f}\t{middle + 0.2:.3f} {kind}" for kind in kinds)
    (root / "events").mkdir()
    for recording, rows in lines.items():
        (root / "events" / f"{recording}_events.txt").write_text("\n".join(rows))
    return root


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, root: Path) -> FeatureStore:
    store = FeatureStore.open(str(tmp_path_factory.mktemp("store")), create=True)
    build(open_corpus("icbhi", root), resolve_feature(FEATURE), store, workers=0)
    return store


def config_with(**training: Any) -> ExperimentConfig:
    content = {"feature": FEATURE, "model": {"name": "cycleguardian"}, "objective": {"name": "cycleguardian"}}
    training = {"epochs": 1, "batch_size": 32, "event_scale": 1.0, **training}
    return ExperimentConfig.parse({**content, "augment": {"policy": "none"}, "training": training})


@pytest.mark.slow
@pytest.mark.spec("A10")
def test_only_the_training_sides_sound_is_in_a_new_cycle(store: FeatureStore, tmp_path: Path) -> None:
    config = config_with()
    data = load_fold(store, config, store.split("icbhi", "official", task=config.task), 0, 0, tmp_path)
    marked = np.full_like(data.values, np.nan)  # every frame of the training side is told from all others
    for position, row in enumerate(data.train):
        marked[row] = position
    data = replace(data, values=marked)
    sampling = Sampling(config.training, data, generator())
    counts, grown = np.bincount(data.labels[data.train], minlength=4), sampling.class_counts
    assert grown[0] == counts[0] and grown[1] == 3 * counts[1]
    assert grown[2] == max(counts[0], counts[2]) and grown[3] == max(counts[0], counts[3])
    rows = Rows(data, "train", torch.device("cpu"), sampling.joined)
    values, labels = rows.take(rows.positions)
    assert isinstance(values, torch.Tensor) and len(values) == grown.sum()
    assert bool(values.isfinite().all()), "no frame of another side"
    assert torch.equal(values[: len(data.train), 0, 0, 0], torch.arange(len(data.train)).float())
    own = torch.from_numpy(data.labels[data.train])
    for value, label in zip(values[len(data.train) :], labels[len(data.train) :].tolist(), strict=True):
        heard = set(own[value[0, :, 0].long()].tolist())
        kinds = {1: [1], 2: [2], 3: [1, 2]}[label]
        assert all(heard & {kind, 3} for kind in kinds) and heard <= {0, 3, *kinds}


@pytest.mark.slow
@pytest.mark.spec("A10")
def test_a_training_on_them_runs_and_leaves_the_test_side_alone(store: FeatureStore, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    config = config_with()
    data = load_fold(store, config, store.split("icbhi", "official", task=config.task), 0, 0, tmp_path)
    trained = train_fold(config, data, seed=0, on_test_read=lambda **_: None)
    assert len(trained.protocols["last"].test) == len(data.test)


@pytest.mark.slow
def test_results_of_other_events_have_another_name(store: FeatureStore) -> None:
    cycles, events = store.cycles("icbhi"), store.events("icbhi")
    assert len(events) > 10 and set(events["kind"].to_pylist()) == {"crackle", "wheeze"}
    hashes = [
        data_hash("x", cycles, "lungsound4", some) for some in (None, events, events.slice(1), events.take([1, 0]))
    ]
    assert len(set(hashes)) == 4
    backwards = events.take(list(range(len(events)))[::-1])
    assert data_hash("x", cycles, "lungsound4", backwards) == hashes[1], "their order says nothing"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"task": "lungsound2"}, "needs task lungsound4"),
        ({"feature": {**FEATURE, "seconds": 1.0}}, "at least two seconds"),
        ({"training": {"event_scale": 1.0, "concat_scale": 1.0}}, "event_scale"),
    ],
)
def test_what_cannot_be_made_of_events_is_refused(changes: dict[str, Any], said: str) -> None:
    content = config_with().model_dump(mode="json")
    with pytest.raises(UserError, match=said):
        ExperimentConfig.parse(content | changes)


@pytest.mark.slow
def test_a_training_side_without_events_is_told_where_they_go(tmp_path: Path, synthetic_corpus: Path) -> None:
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(open_corpus("icbhi", synthetic_corpus), resolve_feature(FEATURE), store, workers=0)
    config = config_with()
    with pytest.raises(UserError, match="annotated event") as caught:
        load_fold(store, config, store.split("icbhi", "official", task=config.task), 0, 0, tmp_path / "cache")
    assert "_events.txt" in str(caught.value)


def test_a_wrong_row_of_an_event_file_is_named_and_left_out(tmp_path: Path, root: Path) -> None:
    copy = tmp_path / "corpus"
    shutil.copytree(root, copy)
    path = next(path for path in sorted((copy / "events").iterdir()) if path.read_text())
    good = path.read_text().splitlines()
    path.write_text("\n".join([*good, "1.0 0.5 crackle", "1.0 x wheeze", "1.0 2.0", "1.0 2.0 speech", ""]))
    corpus = open_corpus("icbhi", copy)
    wrong = [problem for problem in corpus.problems if "events.txt" in problem.where]
    assert [problem.where.rsplit("row ")[1] for problem in wrong] == [str(len(good) + n) for n in (1, 2, 3)]
    assert all(problem.severity == "warning" for problem in wrong)
    assert len(corpus.events()) == len(open_corpus("icbhi", root).events())
