"""A feature's id: equal for equal specs, another for every other parameter, and unchanged from release to release."""

from __future__ import annotations

import re
from typing import Any

import pytest

from feature_store.features import NAMED, FbankSpec, MelDbSpec, MelSpec, resolve_feature

COMMON = {
    "fade_seconds": 0.0625, "pad": "repeat", "band_pass": None, "clip_blank": False, "copies": 0, "dtype": "float32",
    "denoise": 0.0, "keep": "first", "copy_of": "previous", "table": 0,
    "copy_by": "operator", "noise_sigma": 0.001, "noise_share": None,
    "full_scale": None,
}  # fmt: skip
HYBRID = {
    "kind": "hybrid", "sample_rate": 22000, "seconds": 8.0, "bins": 84, "hop": 256, "n_fft": 1024, "mel_window": 1000,
    "bins_per_octave": 12, "low_hz": 32.7, "high_hz": 3000.0, **COMMON, "fade_seconds": 0.0, "keep": "last",
    "cqt": "direct",
}  # fmt: skip
FBANK = {
    "kind": "fbank", "sample_rate": 16000, "seconds": 8.0, "n_mels": 128, "frame_ms": 25.0, "shift_ms": 10.0,
    "low_hz": 20.0, "high_hz": 0.0, "preemphasis": 0.97, "mean": -4.2677393, "std": 4.5689974, **COMMON,
}  # fmt: skip
MFCC = {
    "kind": "mfcc", "sample_rate": 44100, "seconds": 1.0, "n_mfcc": 13, "window_ms": 16.0, "shift_ms": 8.0, **COMMON,
    "fade_seconds": 0.0,
}  # fmt: skip
PUBLISHED: dict[str, tuple[str, dict[str, Any]]] = {
    "fbank": ("fbank-acdc3b92937d", FBANK),
    "fbank-small": ("fbank-5ef33348f032", {**FBANK, "seconds": 5.0, "n_mels": 64, "shift_ms": 20.0}),
    "hybrid": ("hybrid-309697d32279", HYBRID),
    "hybrid-augmented": ("hybrid-a651432c5afb", {**HYBRID, "copies": 1, "copy_of": "cycle"}),
    "mel": (
        "mel-845eec5b2b85",
        {
            "kind": "mel", "sample_rate": 32000, "seconds": 4.0, "n_mels": 128, "n_fft": 1024, "window": 800,
            "hop": 320, "low_hz": 0.0, "high_hz": 15000.0, **COMMON,
        },
    ),
    "mel-db": (
        "mel-db-1d923b6b2ece",
        {
            "kind": "mel-db", "sample_rate": 16000, "seconds": 8.0, "n_mels": 128, "n_fft": 1024, "hop": 512,
            "low_hz": 50.0, "high_hz": 2000.0, **COMMON,
        },
    ),
    "mfcc": ("mfcc-7f69fae7baea", MFCC),
    **{
        f"voice-mfcc{size}": (f"mfcc-{digits}", {**MFCC, "n_mfcc": size, "table": 44})
        for size, digits in {
            13: "476173fa333a", 17: "14cc2dfae300", 21: "b694b3908a48", 30: "0e2563c73873",
            50: "a6eb017adaf9",
        }.items()
    },
    "phase9": (
        "phase9-6ed3b6bf6806",
        {
            "kind": "phase9", "sample_rate": 16000, "seconds": 1.0, "ninth": "lpc", "lpc_frames": "aligned", **COMMON,
            "fade_seconds": 0.0, "pad": "zero",
        },
    ),
}  # fmt: skip
CHANGED: dict[str, Any] = {
    "sample_rate": 48000, "seconds": 5.0, "fade_seconds": 0.0, "pad": "zero", "dtype": "float16", "n_mels": 64,
    "frame_ms": 30.0, "shift_ms": 20.0, "low_hz": 55.0, "high_hz": 7000.0, "preemphasis": 0.9, "mean": 0.0, "std": 1.0,
    "n_fft": 2048, "window": 1024, "hop": 256, "band_pass": (200.0, 1800.0), "clip_blank": True, "copies": 3,
    "denoise": 1.0, "keep": "last", "copy_of": "cycle", "table": 44,
    "copy_by": "noise", "noise_sigma": 0.01, "noise_share": 0.3,
    "full_scale": 32768.0,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_a_named_feature_keeps_its_id_and_its_parameters(name: str) -> None:
    """Built stores and published results carry the id, and it leaves defaults out: a changed one must be seen here."""
    expected_id, parameters = PUBLISHED[name]
    assert NAMED[name].model_dump() == parameters, f"a default of {name} has changed: raise `revision`"
    assert NAMED[name].feature_id == expected_id, "the id has changed: raise `revision` on purpose only"


def test_a_spec_has_its_id_however_it_is_written() -> None:
    published, _ = PUBLISHED["fbank"]
    assert FbankSpec(n_mels=128, seconds=8).feature_id == published
    assert resolve_feature(NAMED["fbank"].model_dump()).feature_id == published
    assert resolve_feature(NAMED["fbank"].model_dump(mode="json")).feature_id == published
    lists, tuples = ({"kind": "mel", "band_pass": kind((200, 1800))} for kind in (list, tuple))
    assert resolve_feature(lists).feature_id == resolve_feature(tuples).feature_id


@pytest.mark.parametrize("kind", [FbankSpec, MelSpec, MelDbSpec])
def test_every_field_changes_the_id(kind: type[FbankSpec | MelSpec | MelDbSpec]) -> None:
    fields = set(kind.model_fields) - {"kind"}
    ids = {kind.model_validate({field: CHANGED[field]}).feature_id for field in fields}
    assert len(ids | {kind().feature_id}) == len(fields) + 1
    assert all(re.fullmatch(rf"{kind().kind}-[0-9a-f]{{12}}", each) for each in ids)


def test_the_revision_changes_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = FbankSpec().feature_id
    monkeypatch.setattr(FbankSpec, "revision", FbankSpec.revision + 1)
    assert FbankSpec().feature_id != before
