"""Pieces of a cycle and CycleGuardian's augmented copies (docs/specification.md, D23, A5, E6)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import audio
from feature_store.audio import cut_cycle_pieces, cut_cycles, with_copies
from feature_store.cycle_pieces import cut_pieces, fill_either_side
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.features import FbankSpec, HybridSpec

SPEC = HybridSpec(seconds=1.0, bins=24, bins_per_octave=6, low_hz=100.0, copies=2, copy_of="cycle")


@pytest.mark.slow
@pytest.mark.spec("D23")
def test_fold_4_trains_on_5471_pieces_and_tests_1444_cycles(shared_data: Path) -> None:
    """RespireNet's published log, at its 4 kHz: 17 more than the 5,454 cycles; no test cycle is longer than 8 s."""
    corpus = IcbhiCorpus(shared_data / "icbhi" / "all_920_annotations")
    split = corpus.splits()["five-fold"]
    spans = {cycle.cycle_id: (cycle.start, cycle.end) for cycle in corpus.cycles()}
    rng = np.random.default_rng(0)
    counts = {}
    for side in ("train", "test"):
        lengths = [int(end * 4000) - int(start * 4000) for start, end in (spans[c] for c in split.side(4, side))]
        counts[side] = sum(len(cut_pieces(np.zeros(length, np.float32), 32000, rng)) for length in lengths)
    assert counts == {"train": 5471, "test": 1444}


@pytest.mark.spec("D23")
@settings(max_examples=50, deadline=None)
@given(st.integers(1, 900), st.integers(2, 200), st.integers(0, 9))
def test_pieces_share_half_and_lose_nothing(length: int, samples: int, seed: int) -> None:
    cycle = np.arange(length)
    pieces = cut_pieces(cycle, samples, np.random.default_rng(seed))
    assert all(len(piece) == samples for piece in pieces)
    assert set(np.concatenate(pieces)) == set(cycle)
    for number, piece in enumerate(pieces[:-1]):
        np.testing.assert_array_equal(piece, cycle[number * (samples // 2) :][:samples])
    left = length - (len(pieces) - 1) * (samples // 2)
    assert 0 < left <= samples + samples // 2
    assert len(set(pieces[-1])) == min(left, samples)


@pytest.mark.spec("D23")
@pytest.mark.parametrize("length", [3, 10])
def test_a_short_piece_is_filled_before_or_after_it_alike_often(length: int) -> None:
    rng = np.random.default_rng(0)
    filled = np.stack([fill_either_side(np.arange(length), 10, rng) for _ in range(2000)])
    after, before = np.arange(10) % length, (np.arange(10) - 10) % length
    assert {tuple(row) for row in filled} == {tuple(after), tuple(before)}
    if length < 10:
        assert abs((filled == after).all(axis=1).mean() - 0.5) < 0.04


@pytest.mark.spec("A5")
def test_a_copy_of_the_cycle_is_one_operator_away_from_it_and_never_faded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    cycle = np.random.default_rng(3).standard_normal(SPEC.samples).astype(np.float32)

    def shorter(waveform: np.ndarray, rate: int, rng: np.random.Generator) -> np.ndarray:
        seen.append(waveform)
        return waveform[: len(waveform) // 3]

    monkeypatch.setattr(audio, "augment", shorter)
    own, *copies = with_copies(cycle, SPEC)
    assert own is cycle and len(copies) == 2
    assert all(np.array_equal(waveform, cycle) for waveform in seen), "not of the copy before it"
    short = cycle[: SPEC.samples // 3]
    ways = [np.tile(short, 4)[: SPEC.samples], np.tile(short, 4)[-SPEC.samples :]]
    assert all(any(np.array_equal(copy, way) for way in ways) for copy in copies)


@pytest.mark.spec("A5")
def test_a_copy_longer_than_the_feature_keeps_its_first_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "augment", lambda waveform, rate, rng: np.tile(waveform, 2))
    cycle = np.random.default_rng(4).standard_normal(SPEC.samples).astype(np.float32)
    np.testing.assert_array_equal(with_copies(cycle, SPEC)[1], cycle)


@pytest.mark.spec("A5")
def test_copies_are_the_same_whenever_they_are_made() -> None:
    cycle = np.random.default_rng(5).standard_normal(SPEC.samples).astype(np.float32)
    first, again = with_copies(cycle, SPEC), with_copies(cycle, SPEC)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(first[1]) == len(first[2]) == SPEC.samples and not np.array_equal(first[1], first[2])


@pytest.mark.spec("E6")
def test_a_long_cycle_is_heard_in_pieces_of_which_the_first_is_what_is_heard_otherwise() -> None:
    """2.6 s at 1 s: from 0, 0.5, 1 and 1.5 s, and from 2 s what is left, which is filled up as a short cycle is."""
    spec = FbankSpec(seconds=1.0)
    waveform = np.random.default_rng(6).standard_normal(4 * spec.samples).astype(np.float32)
    pieces, seconds = cut_cycle_pieces(waveform, (0.5, 3.1), spec)
    assert seconds == pytest.approx([1.0, 1.0, 1.0, 1.0, 0.6])
    first, *between, last = pieces
    np.testing.assert_array_equal(first, cut_cycles(waveform, [(0.5, 3.1)], spec)[0])
    for number, piece in enumerate(between, start=1):
        np.testing.assert_array_equal(piece, waveform[8000 + number * 8000 :][:16000])
    np.testing.assert_array_equal(last, cut_cycles(waveform, [(2.5, 3.1)], spec)[0])


@pytest.mark.spec("E6")
@pytest.mark.parametrize("pad", ["repeat", "zero", "augment", "stretch"])
@pytest.mark.parametrize("length", [0.4, 1.0])
def test_a_cycle_that_fits_is_one_piece(pad: str, length: float) -> None:
    spec = FbankSpec(seconds=1.0, pad=pad)  # type: ignore[arg-type]
    waveform = np.random.default_rng(7).standard_normal(2 * spec.samples).astype(np.float32)
    (piece,), seconds = cut_cycle_pieces(waveform, (0.2, 0.2 + length), spec)
    np.testing.assert_array_equal(piece, cut_cycles(waveform, [(0.2, 0.2 + length)], spec)[0])
    assert seconds == pytest.approx([length], abs=1e-4)
