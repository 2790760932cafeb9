"""One fold run, from its names to a published result. The unit of work, of caching and of retry."""

from __future__ import annotations

import functools
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feature_store.settings import Settings
from feature_store.splits import COMPAT, SplitTable
from feature_store.store import FeatureStore
from workers import provenance
from workers.audit_log import AuditLog
from workers.checkpoint import CheckpointFolder
from workers.claim import claim
from workers.config import ExperimentConfig
from workers.data import data_hash, load_fold, task_classes
from workers.numbers_version import VERSION
from workers.results import (
    LOG,
    PREDICTIONS,
    RESULT,
    WEIGHTS,
    FoldKey,
    FoldResult,
    ProtocolResult,
    Provenance,
    ResultStore,
)
from workers.weights import local_weights

if TYPE_CHECKING:
    from workers.data import FoldData
    from workers.test_side import NoteRead
    from workers.training import Trained


@dataclass(frozen=True)
class FoldRun:
    """One training of one config on one fold with one seed, not yet run."""

    config: ExperimentConfig
    split: str
    fold: int
    seed: int


@dataclass(frozen=True)
class Site:
    """Where a fold run finds its data and leaves its result. Absolute, so that any node can use it.

    Attributes:
        store, results: URIs.
        cache: node-local folder.
        weights: folder of pretrained files.
        device: a torch device, or ``auto``.
        keep_weights: whether the trained weights are stored with the result.
        command, git_commit: for the record.
    """

    store: str
    results: str
    cache: str
    weights: str
    device: str = "auto"
    keep_weights: bool = True
    command: str = ""
    git_commit: str = "unknown"

    @classmethod
    def of(cls, settings: Settings) -> Site:
        """The places of an installation, and this process' command and code."""
        return cls(
            store=settings.store,
            results=settings.results,
            cache=str(settings.cache),
            weights=str(settings.weights),
            command=provenance.command_line(),
            git_commit=provenance.git_commit(),
        )


def fold_keys(runs: Sequence[FoldRun], store: FeatureStore) -> list[FoldKey]:
    """The names under which the runs' results are stored; cheap, and without torch. The store is read once a config.

    Raises:
        UserError: the store lacks the feature, the split or the task.
    """

    @functools.cache
    def read(config: ExperimentConfig, name: str) -> dict[str, Any]:
        manifest = store.manifest(config.dataset, config.feature)
        task_classes(store, config)  # an unknown task is reported before its column is looked for
        events = store.events(config.dataset) if config.training.event_scale else None
        return {
            "config_hash": config.config_hash,
            "data_hash": data_hash(manifest.content_hash, store.cycles(config.dataset), config.task, events),
            "feature_id": manifest.feature_id,
            "split": name,
            "split_hash": store.split(config.dataset, name, task=config.task).hash,
        }

    return [FoldKey(semantics=VERSION, fold=run.fold, seed=run.seed, **read(run.config, run.split)) for run in runs]


def run_fold(
    run: FoldRun,
    site: Site,
    *,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] | None = None,
) -> FoldResult:
    """The run's result: from the result store if it is there, else trained and published.

    Where another program trains the same run, its result is waited for.

    Args:
        run, site: what to train, and where its data is.
        on_epoch: called with each epoch's record.
        on_progress: called with what the run does now: waits, loads, trains a share of an epoch.
        should_stop: asked between batches.

    Raises:
        UserError: bad input.
        Diverged, Stopped: see `train_fold`.
    """
    store, results = FeatureStore.open(site.store), ResultStore.open(site.results)
    (key,) = fold_keys([run], store)
    finished = results.get(key.hash)
    if finished is not None:
        return finished

    def published() -> bool:
        return key.hash in results or bool(should_stop and should_stop())

    waiting = functools.partial(on_progress, "another program trains this fold run: waiting for its result")
    with claim(results.storage, key.hash, on_wait=waiting, stop_waiting=published):
        finished = results.get(key.hash)
        if finished is not None:
            return finished
        return _train_and_publish(run, key, site, store, results, on_epoch, on_progress, should_stop)


def _train_and_publish(
    run: FoldRun,
    key: FoldKey,
    site: Site,
    store: FeatureStore,
    results: ResultStore,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[str], None],
    should_stop: Callable[[], bool] | None,
) -> FoldResult:
    split = store.split(run.config.dataset, run.split, task=run.config.task)
    checkpoint = CheckpointFolder(Path(site.cache) / "checkpoints" / key.hash)
    audit = AuditLog.open(site.results)
    kept = checkpoint.kept()
    if kept is None:
        audit.note(key.hash, "begun", resumed=checkpoint.exists())
        note = functools.partial(audit.note, key.hash, "test_read")
        result, files = _train(run, key, site, store, split, checkpoint, note, on_epoch, on_progress, should_stop)
    else:
        result, files = FoldResult.model_validate_json(kept.pop(RESULT)), kept
    try:
        if kept is None or not any(event == "trained" for _, event, _ in audit.names(key.hash)):
            audit.note(key.hash, "trained", epochs=len(result.epochs), test_reads=result.test_reads)
        first = results.publish(result, files)
    except Exception:  # a full disk, a lost server: the training is not thrown away with it
        checkpoint.keep({**files, RESULT: result.to_json()})
        raise
    audit.note(key.hash, "published" if first else "lost")
    checkpoint.remove()  # not before: a kill in between would cost the whole training
    return result if first else results.get(key.hash) or result  # somebody else was faster: theirs is the result


def _train(
    run: FoldRun,
    key: FoldKey,
    site: Site,
    store: FeatureStore,
    split: SplitTable,
    checkpoint: CheckpointFolder,
    on_test_read: NoteRead,
    on_epoch: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[str], None],
    should_stop: Callable[[], bool] | None,
) -> tuple[FoldResult, dict[str, bytes]]:
    begun, started = provenance.now(), time.perf_counter()
    import torch
    from safetensors.torch import save

    from workers.training import train_fold

    on_progress("mapping the feature")
    data = load_fold(store, run.config, split, run.fold, run.seed, Path(site.cache))
    device = pick_device(site.device)
    prepared = time.perf_counter() - started
    trained = train_fold(
        run.config,
        data,
        seed=run.seed,
        on_test_read=on_test_read,
        device=device,
        pretrained=local_weights(run.config.model.pretrained, Path(site.weights)),
        checkpoint=checkpoint,
        on_epoch=on_epoch,
        on_progress=on_progress,
        should_stop=should_stop,
    )
    files = {
        PREDICTIONS: _predictions(trained, data),
        LOG: "".join(json.dumps(record) + "\n" for record in trained.epochs).encode(),
    }
    if site.keep_weights:
        files[WEIGHTS] = save({name: value.contiguous() for name, value in trained.weights.items()})
    result = FoldResult(
        hash=key.hash,
        key=key,
        config=run.config.model_dump(mode="json"),
        compat=run.config.compat + (["split"] if run.split.startswith(COMPAT) else []),
        protocols=_protocols(trained, data),
        epochs=trained.epochs,
        data=data.summary,
        model={"parameters": trained.parameters, "pretrained": trained.pretrained, **_packages(run.config)},
        provenance=Provenance(
            **provenance.versions(),
            git_commit=site.git_commit,
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
            started=begun,
            finished=provenance.now(),
            command=site.command,
        ),
        timing={
            "train_seconds": trained.train_seconds,
            "total_seconds": time.perf_counter() - started,
            "first_step_seconds": prepared + trained.first_step_seconds,
        },
        memory={"peak_bytes": trained.peak_bytes, "device_bytes": device_bytes(device)},
        test_reads=trained.test_reads,
        files={name: name for name in files},
    )
    return result, files


def pick_device(name: str) -> Any:
    """``auto`` is the GPU that Ray gave this worker, or else the CPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def device_bytes(device: Any) -> int:
    """Memory of a GPU; 0 for the CPU, which is not shared out."""
    import torch

    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0


def _packages(config: ExperimentConfig) -> dict[str, Any]:
    """The record of other packages that the config's parts are from, if any: their versions are in the key's hash."""
    return {"packages": config.packages} if config.packages else {}


def _protocols(trained: Trained, data: FoldData) -> dict[str, ProtocolResult]:
    from workers.evaluation import evaluate

    return {
        name: ProtocolResult(
            epoch=said.epoch,
            guarded=said.guarded,
            test=evaluate(said.test, data.labels[data.test]),
            validation=None if said.validation is None else evaluate(said.validation, data.labels[data.validation]),
        )
        for name, said in trained.protocols.items()
    }


def _predictions(trained: Trained, data: FoldData) -> bytes:
    """Logits of every test and held-out cycle under each protocol, as Parquet."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for protocol, said in trained.protocols.items():
        for side, logits, rows in (("test", said.test, data.test), ("validation", said.validation, data.validation)):
            if logits is None:
                continue
            flat = pa.array(np.ascontiguousarray(logits, dtype=np.float32).ravel())
            offsets = pa.array(np.arange(0, logits.size + 1, logits.shape[1], dtype=np.int32))
            tables.append(
                pa.table(
                    {
                        "cycle_id": data.cycle_ids[rows],
                        "patient": data.patients[rows],
                        "device": data.devices[rows],
                        "label": data.labels[rows].astype(np.int8),
                        "side": [side] * len(rows),
                        "protocol": [protocol] * len(rows),
                        "logits": pa.ListArray.from_arrays(offsets, flat),
                    }
                )
            )
    sink = io.BytesIO()
    pq.write_table(pa.concat_tables(tables), sink, compression="zstd")
    return sink.getvalue()
