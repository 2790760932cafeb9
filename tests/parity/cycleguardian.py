"""CycleGuardian's constant-Q map by nnAudio, on real recordings of ICBHI.

Specified in docs/specification.md, 3.2.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from feature_store.audio import cut_cycles, load_recording
from feature_store.features import HybridSpec
from tests.parity.patchmix import recordings
from tests.parity.rows import Row, data, library


def difference(rate: int, count: int = 2) -> float:
    """The largest of any standardised value of the first cycle of some recordings of a rate."""
    cqt = library("nnAudio.features.cqt", "nnAudio==0.3.4").CQT2010v2(
        sr=22000, hop_length=256, fmin=32.7, n_bins=84, bins_per_octave=12, verbose=False
    )
    settings = {"cqt": "seed_compat"} if "cqt" in HybridSpec.model_fields else {}
    spec, found = HybridSpec.model_validate(settings), []
    for path, spans in recordings(rate, data("icbhi", "audio"), count):
        (sound,) = cut_cycles(load_recording(path, spec.sample_rate, 0.0), spans[:1], spec)
        levels = 20 * cqt(torch.from_numpy(sound)).clamp_min(1e-10).log10()[0].T.numpy()
        expected = (levels - levels.mean(axis=0)) / levels.std(axis=0, ddof=1)
        found.append(float(np.abs(spec.compute([sound])[0, 0] - expected).max()))
    return max(found)


def rows() -> list[Row]:
    return [
        Row(
            f"cycleguardian-cqt-{rate}",
            f"`hybrid`, constant-Q map (`cqt: seed_compat`), real cycles of {rate / 1000:g} kHz",
            "CycleGuardian: nnAudio 0.3.4 `CQT2010v2`",
            "standardised value",
            partial(difference, rate),
        )
        for rate in (4000, 44100)
    ]
