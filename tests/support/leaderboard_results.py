"""A result store of made-up trainings: predictions are drawn, everything else follows from them by the real code."""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.metrics import Metric
from workers.evaluation import Metrics, evaluate
from workers.results import PREDICTIONS, DataSummary, FoldKey, FoldResult, ProtocolResult, Provenance, ResultStore

CLASSES = ("normal", "crackle", "wheeze", "both")
DEVICES = ["Meditron", "Litt3200", "AKGC417L"]
SHARES = (0.58, 0.24, 0.13, 0.05, 0.1)
BASE: dict[str, Any] = {
    "dataset": "icbhi",
    "task": "lungsound4",
    "feature": {"kind": "fbank", "sample_rate": 16000, "seconds": 8.0, "bins": 128},
    "augment": {"policy": "icbhi_ast_sup", "fill": "mean"},
    "optim": {"name": "adamw", "lr": 0.001, "weight_decay": 1e-6, "schedule": "cosine"},
    "training": {"epochs": 12, "batch_size": 8, "watch_test": False},
}


@dataclass(frozen=True)
class Recipe:
    """One config, how good its made-up predictions are, and how far they lean to the first class."""

    model: dict[str, Any]
    objective: dict[str, Any] = field(default_factory=lambda: {"name": "ce", "class_weights": "sqrt_inverse"})
    skill: float = 1.5
    parameters: int = 1_000_000
    lean: float = 0.5
    lr: float = 0.001
    watch_test: bool = False
    minutes: float = 3.0

    @property
    def config(self) -> dict[str, Any]:
        config = copy.deepcopy(BASE)
        config |= {"model": {"pretrained": None, **self.model}, "objective": dict(self.objective)}
        config["optim"]["lr"] = self.lr
        config["training"]["watch_test"] = self.watch_test
        return config

    @property
    def config_hash(self) -> str:
        return digest(self.config)[:16]


@dataclass(frozen=True)
class Side:
    """The data that trainings share."""

    split: str = "official"
    recordings: int = 199
    recordings_listed: int = 920
    synthetic: bool = False
    patients: int = 30
    cycles: int = 920
    both_sides: tuple[str, ...] = ("156", "218")
    dataset: str = "icbhi"
    task: str = "lungsound4"
    classes: tuple[str, ...] = CLASSES
    metric: Metric = "icbhi4"


CL = {
    "name": "patchmix_cl",
    "alpha": 1.0,
    "tau": 0.06,
    "mix_beta": 1.0,
    "domain": "patch",
    "negative_pair": "all",
    "target_type": "grad_block",
    "proj_dim": 768,
    "class_weights": "none",
}
AST = {"name": "ast", "size": "base", "depth": 12, "patch": 16, "stride": 10}
MN = {"name": "mn", "width": 0.4, "pretrained": {"file": "mn04_as_mAP_432.pt", "sha256": "c0ffee"}}
CRNN = {"name": "crnn", "hidden": 64, "layers": 2, "bidirectional": True}
RECIPES = (
    Recipe({**AST, "pretrained": {"file": "deit_base.pt"}}, CL, 0.85, 87_800_000, watch_test=True, minutes=52),
    Recipe({**AST, "size": "tiny"}, {"name": "ce", "class_weights": "none"}, 0.45, 5_700_000, minutes=21),
    Recipe(MN, skill=0.8, parameters=993_485, minutes=6.3),
    Recipe(MN, skill=0.7, parameters=993_485, lr=0.0001, minutes=6.1),
    Recipe(CRNN, skill=0.25, parameters=311_000, minutes=4.4),
)
PHASE = Side("grouped", 300, 300, patients=14, cycles=240, both_sides=("103",), dataset="breathing-phase",
             task="phase2", classes=("inhale", "exhale"), metric="accuracy")  # fmt: skip
VOICES = ("normal", "phonotrauma", "incomplete_closure", "vocal_palsy", "neoplasm")
VOICE = Side("four-fold", 300, 300, patients=14, cycles=160, both_sides=(), dataset="aicup-voice", task="voice5",
             classes=VOICES, metric="uar")  # fmt: skip
SPR = Side("inter", 300, 300, patients=14, cycles=240, both_sides=("103",), dataset="sprsound", task="event2",
           classes=("normal", "adventitious"), metric="sprsound")  # fmt: skip
OTHERS = {PHASE: 1, VOICE: 4, SPR: 1}
"""Data that is ranked by another metric than ICBHI's, and how many folds it has."""
LEANING = tuple(
    Recipe(MN, skill=skill, parameters=993_485, lr=0.001 * (index + 1), lean=lean)
    for index, (skill, lean) in enumerate([(0.8, 0.0), (0.85, 1.6), (0.9, -1.2), (0.75, 0.6), (1.0, 2.4), (0.6, 0.2)])
)
"""Configs whose order by one metric is another than by the next."""


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seed_of(*parts: Any) -> int:
    return int(digest(parts)[:12], 16)


@functools.lru_cache(maxsize=64)
def test_side(side: Side, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels and patients of a fold's test cycles: equal for every config and seed."""
    generator = np.random.default_rng(seed_of(side.split, side.cycles, fold))
    patients = np.sort(generator.integers(0, side.patients, side.cycles))
    classes = len(side.classes)
    tilt = generator.dirichlet(np.array(SHARES[:classes]) * 6, side.patients)
    labels = np.array([generator.choice(classes, p=tilt[patient]) for patient in patients])
    return labels, np.array([f"{100 + fold * 40 + patient}" for patient in patients])


def logits_of(
    labels: np.ndarray, patients: np.ndarray, skill: float, seed: int, classes: int = 4, lean: float = 0.5
) -> np.ndarray:
    """Right by `skill`, leaning to the first class, with one ease for all cycles of a patient."""
    generator = np.random.default_rng(seed)
    ease = {patient: generator.normal(0, 0.7) for patient in sorted(set(patients))}
    logits = generator.normal(0, 1, (len(labels), classes)) + np.array([lean, 0.0, -0.2, -0.5, 0.0])[:classes]
    logits[np.arange(len(labels)), labels] += skill + np.array([ease[p] for p in patients])
    return logits.astype(np.float32)


def fold_result(recipe: Recipe, side: Side, fold: int, seed: int, **changes: Any) -> tuple[FoldResult, bytes]:
    """One result as a worker would publish it."""
    labels, patients = test_side(side, fold)
    names = ["last", "validation", *(["test_best"] if recipe.watch_test else [])]
    epochs = recipe.config["training"]["epochs"]
    tables, protocols = [], {}
    for name, bonus in zip(names, (0.0, -0.08, 0.2), strict=False):
        drawn = seed_of(recipe.config_hash, side.split, fold, seed, name)
        logits = logits_of(labels, patients, recipe.skill + bonus, drawn, len(side.classes), recipe.lean)
        held_out = evaluate(logits[::3], labels[::3])
        epoch = {"last": epochs, "validation": 5 + seed % 4, "test_best": 7}[name]
        protocols[name] = ProtocolResult(epoch=epoch, test=evaluate(logits, labels), validation=held_out)
        tables += [prediction_table(name, "test", logits, labels, patients)]
        tables += [prediction_table(name, "validation", logits[::3] * 0, labels[::3], patients[::3])]
    key = FoldKey(
        semantics=1,
        config_hash=recipe.config_hash,
        data_hash=digest([side.recordings, side.synthetic])[:16],
        feature_id="fbank-" + digest(BASE["feature"])[:12],
        split=side.split,
        split_hash=digest([side.split, side.recordings])[:16],
        fold=fold,
        seed=seed,
    )
    result = FoldResult(
        hash=key.hash,
        key=key,
        config=recipe.config,
        protocols=protocols,
        epochs=history(recipe, epochs, protocols["last"].test, seed_of(recipe.config_hash, fold, seed)),
        data=summary(side, labels, patients),
        model={"parameters": recipe.parameters},
        provenance=Provenance(
            lungtune="0.1.0",
            git_commit="1f2e3d4c5b6a",
            python="3.11.7",
            torch="2.11.0+cu130",
            device="cpu",
            hostname="node-1",
            started="2026-03-01T10:00:00+00:00",
            finished=f"2026-03-01T1{seed % 10}:30:00+00:00",
            command="lungtune sweep search_spaces/icbhi_cpu.yaml",
        ),
        timing={"train_seconds": recipe.minutes * 60, "total_seconds": recipe.minutes * 61, "first_step_seconds": 0.8},
        memory={"peak_bytes": 1 << 28},
        test_reads=1 + (epochs if recipe.watch_test else 0),
    ).model_copy(update=changes)
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink)
    return result, sink.getvalue()


def prediction_table(
    protocol: str, side: str, logits: np.ndarray, labels: np.ndarray, patients: np.ndarray
) -> pa.Table:
    return pa.table(
        {
            "cycle_id": [f"{patient}_1b1_Al_sc_Meditron#{i:03d}" for i, patient in enumerate(patients)],
            "patient": patients.tolist(),
            "device": [DEVICES[int(patient) % len(DEVICES)] for patient in patients],
            "label": labels.astype(np.int8),
            "side": [side] * len(labels),
            "protocol": [protocol] * len(labels),
            "logits": pa.array(logits.tolist(), pa.list_(pa.float32())),
        }
    )


def history(recipe: Recipe, epochs: int, last: Metrics, seed: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(seed)
    records = []
    for epoch in range(1, epochs + 1):
        score = 50 + (last.icbhi4.score - 50) * (1 - np.exp(-epoch / 3)) + generator.normal(0, 1.2)
        records.append(
            {
                "epoch": epoch,
                "train_loss": float(1.4 * np.exp(-epoch / 6)),
                "lr": recipe.lr,
                "seconds": 4.0,
                "validation": {
                    "score": float(score),
                    "specificity": 70.0,
                    "sensitivity": 40.0,
                    "accuracy": float(score) + 10,
                    "uar": float(score) - 10,
                },
            }
        )
    return records


def summary(side: Side, labels: np.ndarray, patients: np.ndarray) -> DataSummary:
    return DataSummary(
        dataset=side.dataset,
        task=side.task,
        classes=list(side.classes),
        metric=side.metric,
        synthetic=side.synthetic,
        recordings=side.recordings,
        recordings_listed=side.recordings_listed,
        train=1000,
        validation=132,
        test=len(labels),
        train_patients=40,
        validation_patients=6,
        test_patients=len(set(patients)),
        train_class_counts=[660, 160, 130, 50],
        patients_on_both_sides=list(side.both_sides),
    )


def publish(
    store: ResultStore, recipe: Recipe, side: Side, folds: Iterable[int] = (0,), seeds: Iterable[int] = (0, 1, 2)
) -> list[str]:
    """Publish a config's fold runs; returns the results' names."""
    names = []
    for seed in seeds:
        for fold in folds:
            result, predictions = fold_result(recipe, side, fold, seed)
            assert store.publish(result, {PREDICTIONS: predictions})
            names.append(result.hash)
    return names


def realistic(folder: Path) -> ResultStore:
    """Three families under all protocols, three seeds, one unfinished config, and the search's inner folds."""
    store = ResultStore.open(str(folder))
    side, inner = Side(), Side("official-inner5", patients=12, cycles=220, both_sides=())
    for recipe in RECIPES:
        publish(store, recipe, side)
        publish(store, recipe, inner, range(5), [0])
    for index in range(8):
        recipe = RECIPES[index % len(RECIPES)]
        trial = replace(recipe, skill=recipe.skill - 0.05 * index, lr=0.0003 * (index + 1), watch_test=False)
        publish(store, trial, inner, range(5 if index % 3 else 2), [0])
    return store


def other_metrics(folder: Path) -> ResultStore:
    """Data of three other corpora, two seeds each."""
    store = ResultStore.open(str(folder))
    for side, folds in OTHERS.items():
        for recipe in LEANING:
            publish(store, recipe, side, range(folds), [0, 1])
    return store


def five_fold(folder: Path) -> ResultStore:
    """Two configs over the published folds; the second lacks a fold of one seed and all but two of another's."""
    store = ResultStore.open(str(folder))
    side = Side("five-fold", patients=20, cycles=260, both_sides=())
    publish(store, RECIPES[2], side, range(5), [0, 1])
    publish(store, RECIPES[4], side, range(4), [0])
    return store


def with_folds(folder: Path) -> ResultStore:
    """`realistic` and `five_fold` in one store."""
    five_fold(folder)
    return realistic(folder)
