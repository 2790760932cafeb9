"""Cycles a second from files to the published fbank: a plain torchaudio loop, a cold build, and the second build."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile
import torch
import torchaudio
from torchaudio.compliance import kaldi

from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.datasets.base import Corpus
from feature_store.datasets.synthetic import synthesize
from feature_store.features import FbankSpec
from feature_store.store import FeatureStore

PATIENTS = 13  # of each side: about 60 recordings
REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "icbhi" / "make_database.py"
SPEC = FbankSpec()


def lay_out(folder: Path) -> Corpus:
    """Real recordings where there are any, else synthetic ones."""
    if REAL.exists():
        command = [sys.executable, str(REAL), str(folder), "--limit-patients", str(PATIENTS)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    else:
        synthesize(folder, patients=30, recordings_per_patient=2, cycles_per_recording=8)
    return open_corpus("icbhi", folder)


def torchaudio_loop(corpus: Corpus) -> int:
    """What a research script does, one cycle after the other; returns how many there were."""
    rate, length, ramp = 16000, 128000, 1000
    whole = torchaudio.transforms.Fade(ramp, ramp, "linear")
    end_only = torchaudio.transforms.Fade(0, ramp, "linear")
    values = []
    for recording in corpus.recordings:
        samples, native = soundfile.read(recording.audio, dtype="float32")
        waveform = torch.from_numpy(samples)[None]
        if native != rate:
            waveform = torchaudio.transforms.Resample(native, rate)(waveform)
        waveform = whole(waveform)
        for cycle in recording.cycles:
            piece = waveform[:, int(cycle.start * rate) : int(cycle.end * rate)]
            if piece.shape[1] > length:
                piece = piece[:, :length]
            else:
                piece = end_only(piece.repeat(1, -(-length // piece.shape[1]))[:, :length])
            fbank = kaldi.fbank(
                piece,
                htk_compat=True,
                sample_frequency=rate,
                use_energy=False,
                window_type="hanning",
                num_mel_bins=128,
                dither=0.0,
                frame_shift=10,
            )
            values.append(((fbank + 4.2677393) / (2 * 4.5689974)).numpy())
    return len(values)


@contextlib.contextmanager
def warm_cluster(cpus: int) -> Iterator[None]:
    """Ray with workers that have loaded everything: starting them is no part of the measurement."""
    import ray

    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            corpus = open_corpus("icbhi", synthesize(Path(scratch) / "corpus", patients=10 * cpus))
            small = FbankSpec(seconds=1.0, n_mels=16)
            build(corpus, small, FeatureStore.open(f"{scratch}/store", create=True), workers=cpus)
        yield
    finally:
        ray.shutdown()


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit, and ratio to the torchaudio loop."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = lay_out(Path(scratch) / "corpus")
        started = time.perf_counter()
        cycles = torchaudio_loop(corpus)
        loop = cycles / (time.perf_counter() - started)
        rows = [_row("torchaudio loop, one process", loop, loop)]
        store = FeatureStore.open(f"{scratch}/store-0", create=True)
        report = build(corpus, SPEC, store, workers=0)
        rows.append(_row("cold build, in this process", report.cycles / report.seconds, loop))
        for workers in (1, 2):
            store = FeatureStore.open(f"{scratch}/store-{workers}", create=True)
            with warm_cluster(workers):
                report = build(corpus, SPEC, store, workers=workers)
            assert report.cycles == report.cycles_computed == cycles
            name = f"cold build, {workers} Ray worker{'s' if workers > 1 else ''}"
            rows.append(_row(name, report.cycles / report.seconds, loop))
        report = build(corpus, SPEC, store, workers=0)
        assert report.computed == 0
        rows.append(_row("second build", report.cycles / report.seconds, loop))
    return rows


def _row(name: str, value: float, reference: float) -> dict[str, Any]:
    return {"name": f"fbank: {name}", "value": value, "unit": "cycles/s", "ratio": value / reference}
