"""Build a feature of a corpus: only what is missing, in parallel, with the manifest as the commit point."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.audio import cut_cycles, load_recording, with_copies
from feature_store.audio_hashes import hash_audio
from feature_store.datasets.base import Corpus, Problem, Recording
from feature_store.datasets.contract import splits_of
from feature_store.disk import disk_errors
from feature_store.errors import UserError
from feature_store.features import Spec
from feature_store.manifest import Manifest, Part, RecordingEntry, recording_key
from feature_store.metrics import USUAL
from feature_store.part_files import keep_rows, write_part
from feature_store.splits import SplitTable
from feature_store.storage import HALF_WRITTEN, Storage, open_storage
from feature_store.store import EVENTS, FeatureStore

RECORDINGS_A_PART = 16
LOCK = ".build.lock"
AGAIN = "what was built before is still there: fix that (free some space), and run the same command again"
Progress = Callable[[int, int], None]


@dataclass
class BuildReport:
    """What a build did. Counts are recordings, unless named otherwise."""

    feature_id: str
    computed: int = 0
    reused: int = 0
    removed: int = 0
    failed: list[Problem] = field(default_factory=list)
    cycles: int = 0
    cycles_computed: int = 0
    seconds: float = 0.0


def build(
    corpus: Corpus,
    spec: Spec,
    store: FeatureStore,
    *,
    strict: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Bring a feature up to date with a corpus. A kill at any moment leaves the previous state readable.

    A recording whose audio, annotation and spec are unchanged is not computed again. A recording that cannot be
    used is reported and left out. Where a recording was replaced, a kill between the cycles and the manifest (the
    last writes) leaves a feature that is refused as out of date until the next build.

    Args:
        corpus: read from disk; on a cluster its files must be readable at the same path on every node.
        spec: the feature.
        store: written to.
        strict: stop at the first recording that cannot be used, with the store as it was.
        workers: 0 computes in this process; else Ray tasks, as many at once as the cluster has CPUs, or fewer.
        progress: called with recordings done and in all.

    Raises:
        UserError: nothing can be used, the splits cannot be made, `strict` and something cannot be used, or the store
            cannot be written (a full disk): it is then as it was before, or as after a kill.
    """
    started = time.perf_counter()
    failed = [problem for problem in corpus.problems if problem.severity == "error"]
    if strict and failed:
        raise UserError(failed[0].what, where=failed[0].where, hint=failed[0].hint or None)
    splits = list(splits_of(corpus).values())  # before anything is computed: it may be refused
    folder = f"{corpus.name}/features/{spec.feature_id}"
    with _lock(store, corpus.name), _whole(store, corpus.name, folder, spec):
        audio_hashes, unreadable = hash_audio(corpus.recordings)
        failed += unreadable
        if strict and unreadable:
            raise UserError(unreadable[0].what, where=unreadable[0].where)
        wanted = {
            recording.name: recording_key(audio_hashes[recording.name], recording.annotation_hash, spec.feature_id)
            for recording in corpus.recordings
            if recording.name in audio_hashes
        }
        old = _previous(store, corpus.name, spec)
        entries = {name: entry for name, entry in old.recordings.items() if wanted.get(name) == entry.key}
        parts = _live_parts(store.storage, folder, old, entries)
        report = BuildReport(spec.feature_id, reused=len(entries), removed=len(set(old.recordings) - set(wanted)))
        missing = [recording for recording in corpus.recordings if recording.name in wanted.keys() - entries.keys()]
        for part, rows, bad in _compute(missing, spec, store.uri, folder, workers, progress):
            if bad and strict:
                raise UserError(bad[0].what, where=bad[0].where, hint=bad[0].hint or None)
            failed += bad
            if part is None:
                continue
            parts.append(part)
            for name, count in rows.items():
                entry = RecordingEntry(key=wanted[name], audio_hash=audio_hashes[name], part=part.file, rows=count)
                entries[name] = entry
                report.cycles_computed += count
        report.computed, report.failed = len(entries) - report.reused, failed
        if not entries:
            reason = f"the first: {failed[0]}" if failed else "it has no recording with audio"
            raise UserError("no recording can be used", where=str(corpus.root), hint=reason)
        report.cycles = sum(entry.rows for entry in entries.values())
        _commit(store, corpus, splits, spec, parts, entries, audio_hashes)
    report.seconds = time.perf_counter() - started
    return report


# --- computing ---


def _compute(
    recordings: list[Recording], spec: Spec, uri: str, folder: str, workers: int | None, progress: Progress | None
) -> Iterator[tuple[Part | None, dict[str, int], list[Problem]]]:
    """Parts with the rows of each recording in them, and the recordings that could not be used."""
    size = max(1, RECORDINGS_A_PART // (1 + spec.copies))
    batches = [recordings[start : start + size] for start in range(0, len(recordings), size)]
    done = 0
    if progress:
        progress(0, len(recordings))
    for batch, result in _run(batches, spec, uri, folder, workers):
        done += len(batch)
        if progress:
            progress(done, len(recordings))
        yield result


def _run(
    batches: list[list[Recording]], spec: Spec, uri: str, folder: str, workers: int | None
) -> Iterator[tuple[list[Recording], Any]]:
    """Each batch with its part, in this process or by Ray tasks."""
    if workers == 0 or not batches:
        for batch in batches:
            yield batch, compute_part(batch, spec, uri, folder)
        return
    import ray

    if not ray.is_initialized():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False)
        else:  # without an address Ray joins whatever cluster this machine has, a dead one too
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
    task = ray.remote(num_cpus=1)(_compute_part_alone)
    at_once = min(workers or len(batches), max(1, int(ray.cluster_resources().get("CPU", 1))))
    waiting = list(reversed(batches))
    running: dict[Any, list[Recording]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            batch = waiting.pop()
            running[task.remote(batch, spec, uri, folder)] = batch
        finished, _ = ray.wait(list(running), num_returns=1)
        try:
            result = ray.get(finished[0])
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, UserError):
                raise error.cause from error
            raise
        yield running.pop(finished[0]), result


def _compute_part_alone(*arguments: Any) -> Any:
    """In a worker of its own: one thread, since the workers share the cores."""
    import torch

    torch.set_num_threads(1)
    return compute_part(*arguments)


def compute_part(
    recordings: list[Recording], spec: Spec, uri: str, folder: str
) -> tuple[Part | None, dict[str, int], list[Problem]]:
    """Decode each recording once, compute its cycles, and store them as one part."""
    ids: list[str] = []
    blocks: list[np.ndarray] = []
    scalars: list[np.ndarray] = []
    rows: dict[str, int] = {}
    failed: list[Problem] = []
    for recording in recordings:
        try:
            values, beside = compute_recording(recording, spec)
        except UserError as error:
            failed.append(Problem("error", error.where or str(recording.audio), error.what, error.hint or ""))
            continue
        ids += [cycle.cycle_id for cycle in recording.cycles]
        blocks.append(values)
        if beside is not None:
            scalars.append(beside)
        rows[recording.name] = len(values)
    if not blocks:
        return None, rows, failed
    together = np.concatenate(scalars) if scalars else None
    with disk_errors(f"{uri}/{folder}", AGAIN):
        part = write_part(open_storage(uri), folder, ids, np.concatenate(blocks), together)
    return part, rows, failed


def compute_recording(recording: Recording, spec: Spec) -> tuple[np.ndarray, np.ndarray | None]:
    """All cycles of a recording with their augmented copies, ``[cycles, *stored_shape]`` in the spec's dtype.

    Beside them the scalars of the cycles themselves, ``[cycles, scalars]`` float32, if the feature has any.

    Raises:
        UserError: the audio cannot be used, or a value is not finite.
    """
    assert recording.audio is not None
    waveform = load_recording(recording.audio, spec.sample_rate, spec.fade_seconds, spec.band_pass, spec.full_scale)
    cycles = cut_cycles(waveform, [(cycle.start, cycle.end) for cycle in recording.cycles], spec)
    values = spec.compute([version for cycle in cycles for version in with_copies(cycle, spec)])
    values = values.reshape(len(cycles), *spec.stored_shape)
    scalars = spec.compute_scalars(cycles, recording.table)
    if not (np.isfinite(values).all() and (scalars is None or np.isfinite(scalars).all())):
        raise UserError("its features are not finite numbers", where=str(recording.audio), hint="is its audio sound?")
    return values.astype(spec.dtype), scalars


# --- committing ---


def _previous(store: FeatureStore, dataset: str, spec: Spec) -> Manifest:
    """The manifest as it is, or an empty one. Nothing else is read: what else is damaged is written again."""
    try:
        return store.read_manifest(dataset, spec.feature_id)
    except FileNotFoundError:
        return _manifest(spec, [], {})


def _live_parts(storage: Storage, folder: str, old: Manifest, live: dict[str, RecordingEntry]) -> list[Part]:
    """Parts of which every row is live: as they are, or what is live of them written again. Updates `live`."""
    parts = []
    there = set(storage.list(folder))
    for part in old.parts:
        members = {name for name, entry in old.recordings.items() if entry.part == part.file}
        kept = members & live.keys()
        if f"{folder}/{part.file}" not in there:  # deleted: its recordings are computed again
            for name in kept:
                del live[name]
        elif kept == members:
            parts.append(part)
        elif kept:
            rewritten = keep_rows(storage, folder, part, kept)
            parts.append(rewritten)
            for name in kept:
                live[name] = live[name].model_copy(update={"part": rewritten.file})
    return parts


def _commit(
    store: FeatureStore,
    corpus: Corpus,
    splits: list[SplitTable],
    spec: Spec,
    parts: list[Part],
    entries: dict[str, RecordingEntry],
    audio_hashes: dict[str, str],
) -> None:
    """Cycles, splits and the corpus' description, then the manifest, then what it no longer names goes."""
    storage, name = store.storage, corpus.name
    folder = f"{name}/features/{spec.feature_id}"
    cycles = corpus.cycle_table()
    usable = pa.array([recording in entries for recording in cycles["recording"].to_pylist()])
    cycles = cycles.filter(usable)
    annotation_hashes = {recording.name: recording.annotation_hash for recording in corpus.recordings}
    for column, hashes in (("audio_hash", audio_hashes), ("annotation_hash", annotation_hashes)):
        of_cycles = [hashes[recording] for recording in cycles["recording"].to_pylist()]
        cycles = cycles.append_column(column, pa.array(of_cycles, pa.string()))
    storage.write(f"{name}/cycles.parquet", _parquet(cycles))
    events = pa.Table.from_pylist([event._asdict() for event in corpus.events()], EVENTS)
    storage.write(f"{name}/events.parquet", _parquet(events))
    ids = set(cycles["cycle_id"].to_pylist())
    for split in splits:
        storage.write(f"{name}/splits/{split.name}.parquet", _parquet(split.restrict(ids).table))
    about = {"name": name, "classes": {task: list(names) for task, names in corpus.classes.items()}}
    about["metrics"] = {task: corpus.metrics.get(task, USUAL) for task in corpus.classes}
    about |= corpus.summary() | {"recordings": len(entries), "cycles": len(cycles)}
    about["split_source"] = corpus.split_source
    storage.write(f"{name}/dataset.json", json.dumps(about, indent=1).encode())
    storage.write(f"{folder}/spec.json", json.dumps(spec.model_dump(mode="json"), indent=1).encode())
    manifest = _manifest(spec, parts, entries)
    storage.write(f"{folder}/manifest.json", manifest.model_dump_json(indent=1).encode())
    _sweep(storage, name, folder, parts)


def _sweep(storage: Storage, dataset: str, folder: str, parts: list[Part]) -> None:
    """Delete parts that the manifest does not name, and what a killed build left half written."""
    named = {f"{folder}/{part.file}" for part in parts}
    for key in storage.list(folder):
        if key.endswith(".parquet") and key not in named:
            storage.delete(key)
    if place := storage.local_path(dataset):
        for leftover in place.rglob(".*"):  # nobody else is writing them: this build holds the lock
            if HALF_WRITTEN.fullmatch(leftover.name):
                leftover.unlink()


def _manifest(spec: Spec, parts: list[Part], entries: dict[str, RecordingEntry]) -> Manifest:
    return Manifest(
        feature_id=spec.feature_id,
        spec=spec.model_dump(mode="json"),
        shape=list(spec.stored_shape),
        dtype=spec.dtype,
        scalars=spec.scalars,
        parts=sorted(parts, key=lambda part: part.file),
        recordings=dict(sorted(entries.items())),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def _parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


@contextlib.contextmanager
def _whole(store: FeatureStore, dataset: str, folder: str, spec: Spec) -> Iterator[None]:
    """A build that fails leaves no part that no manifest names: it would keep a full disk full."""
    try:
        with disk_errors(store.uri, AGAIN):
            yield
    except UserError:
        with contextlib.suppress(OSError, UserError):
            _sweep(store.storage, dataset, folder, _previous(store, dataset, spec).parts)
        raise


@contextlib.contextmanager
def _lock(store: FeatureStore, dataset: str) -> Iterator[None]:
    """One build of a dataset at a time where the store is a folder; on S3 the last manifest counts."""
    path = store.storage.local_path(f"{dataset}/{LOCK}")
    if path is None:
        yield
        return
    with disk_errors(path, AGAIN):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("w")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
