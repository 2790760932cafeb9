"""What Patch-Mix's defects do to the Score: fold runs with and without each, over several seeds, on real recordings.

usage: LUNGTUNE_HOME=DIR python -m benchmarks.defects [--seeds N] [--only STUDY] [--table]

The home's store needs `fbank-small` and `mel` of the recordings, its weights folder the two files that CONFIGS names.
Finished runs come from the result store; `--table` only reads. The table is printed as Markdown (docs/defects.md).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.analysis.bootstrap import RESAMPLES, PatientHits, interval, patient_hits, scores
from search_spaces.overrides import merge
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, fold_keys, run_fold
from workers.results import ResultStore
from workers.weights import pin_weights

AST: dict[str, Any] = {
    "feature": "fbank-small",
    "model": {
        "name": "ast",
        "size": "small",
        "depth": 4,
        "patch": 14,
        "stride": 10,
        "pretrained": "vit_small_patch14_dinov2_fp16.pt",
    },
    "objective": {"name": "ce", "class_weights": "sqrt_inverse"},
    "augment": {"policy": "icbhi_ast_sup"},
    "optim": {"name": "adamw", "lr": 1e-4, "weight_decay": 1e-2, "warmup_epochs": 1},
    "training": {"epochs": 6, "batch_size": 16, "precision": "bf16", "watch_test": True},
}
MN: dict[str, Any] = {
    "feature": "mel",
    "model": {"name": "mn", "width": 0.4, "pretrained": "mn04_as_mAP_432.pt"},
    "objective": {"name": "ce", "class_weights": "sqrt_inverse"},
    "augment": {"policy": "icbhi_ast_sup"},
    "optim": {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-4, "schedule": "one_cycle"},
    "training": {"epochs": 8, "batch_size": 32, "watch_test": True},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "ast": AST,
    "ast-positions": merge(AST, {"model": {"pos_embed_layout": "seed_compat"}}),
    "mn": MN,
    "mn-gate": merge(MN, {"augment": {"gate": "seed_compat"}}),
}


class Side(NamedTuple):
    """A config's runs under one protocol."""

    config: str
    protocol: str


class Comparison(NamedTuple):
    question: str
    without: Side
    defect: Side


COMPARISONS = [
    Comparison("position table, AST", Side("ast", "last"), Side("ast-positions", "last")),
    Comparison("position table, AST", Side("ast", "validation"), Side("ast-positions", "validation")),
    Comparison("normal gate, mn04", Side("mn", "last"), Side("mn-gate", "last")),
    Comparison("normal gate, mn04", Side("mn", "validation"), Side("mn-gate", "validation")),
    Comparison("selection on test, AST", Side("ast", "validation"), Side("ast", "test_best")),
    Comparison("selection on test, AST", Side("ast", "last"), Side("ast", "test_best")),
    Comparison("selection on test, mn04", Side("mn", "validation"), Side("mn", "test_best")),
    Comparison("selection on test, mn04", Side("mn", "last"), Side("mn", "test_best")),
]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--only", choices=list(CONFIGS))
    arguments.add_argument("--table", action="store_true")
    given = arguments.parse_args()
    settings = Settings.load()
    seeds = list(range(given.seeds))
    if not given.table:
        for name in [given.only] if given.only else CONFIGS:
            for run in _runs(settings, name, seeds):
                result = run_fold(run, Site.of(settings))
                told = {p: round(c.test.icbhi4.score, 2) for p, c in result.protocols.items()}
                print(
                    f"{name} seed {run.seed}: {told}, {result.timing['train_seconds']:.0f} s",
                    file=sys.stderr,
                    flush=True,
                )
    if not given.only:
        print(table(settings, seeds))


def table(settings: Settings, seeds: Sequence[int]) -> str:
    """The comparisons in Markdown. The interval is over patients and seeds, both drawn again, paired."""
    hits = {name: _hits(settings, name, seeds) for name in CONFIGS}
    lines = [
        "| question | compared | without | with | difference | 95 % | by seed |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for question, without, defect in COMPARISONS:
        pair = [hits[side.config][side.protocol] for side in (without, defect)]
        means = [np.array([one.score for one in side]) for side in pair]
        by_seed = means[1] - means[0]
        bounds = interval(paired_bootstrap(*pair))
        assert bounds is not None
        same = without.protocol == defect.protocol
        compared = f"protocol {without.protocol}" if same else f"{without.protocol} -> {defect.protocol}"
        each = " ".join(f"{value:+.1f}" for value in by_seed)
        values = f"{means[0].mean():.2f} | {means[1].mean():.2f} | {by_seed.mean():+.2f}"
        lines.append(f"| {question} | {compared} | {values} | {bounds[0]:+.2f} to {bounds[1]:+.2f} | {each} |")
    return "\n".join(lines)


def paired_bootstrap(first: Sequence[PatientHits], second: Sequence[PatientHits], seed: int = 0) -> np.ndarray:
    """Differences of mean Scores ``[resamples]``, patients and seeds drawn again, the same ones on both sides."""
    rng = np.random.default_rng(seed)
    patients, count = len(first[0].patients), len(first)
    of_patients = rng.multinomial(patients, np.full(patients, 1 / patients), size=RESAMPLES)
    of_seeds = rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    sides = []
    for hits in (first, second):
        counts = np.stack([one.counts for one in hits], axis=1)  # [patients, seeds, 4]
        resampled = (of_patients @ counts.reshape(patients, -1)).reshape(RESAMPLES, count, 4)
        sides.append((scores(resampled) * of_seeds).sum(axis=1))
    return sides[1] - sides[0]


def _runs(settings: Settings, name: str, seeds: Sequence[int]) -> list[FoldRun]:
    config = pin_weights(ExperimentConfig.parse(CONFIGS[name], where=name), settings.weights)
    return [FoldRun(config, "official", 0, seed) for seed in seeds]


def _hits(settings: Settings, name: str, seeds: Sequence[int]) -> dict[str, list[PatientHits]]:
    """Each protocol's hits by patient on the test side, a seed after the other."""
    results = ResultStore.open(settings.results)
    found: dict[str, list[PatientHits]] = {}
    for key in fold_keys(_runs(settings, name, seeds), FeatureStore.open(settings.store)):
        told = results.predictions(key.hash)
        protocols, logits = np.asarray(told["protocol"].to_pylist()), np.asarray(told["logits"].to_pylist())
        labels, patients = told["label"].to_numpy(), np.asarray(told["patient"].to_pylist())
        for protocol in np.unique(protocols):
            rows = protocols == protocol
            hits = patient_hits(logits[rows].argmax(axis=1), labels[rows], patients[rows].tolist())
            found.setdefault(str(protocol), []).append(hits)
    return found


if __name__ == "__main__":
    main()
