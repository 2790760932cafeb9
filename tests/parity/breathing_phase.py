"""The breathing-phase classifier's maps and scalars by librosa.

Specified in docs/specification.md, 5.2 and 5.3.
"""

from __future__ import annotations

import functools
import warnings
from functools import partial

import numpy as np
import soundfile

from feature_store.features.phase9 import CHANNELS, Phase9Spec
from tests.feature_store import make_phase9_golden as original
from tests.parity.rows import Row, data, library

EVERY = 20  # of the 4,000 clips: 200
ORIGINAL = "breathing-phase classifier: librosa 0.11.0"


@functools.cache
def clips() -> list[np.ndarray]:
    paths = sorted(data("breathing_phase", "train").iterdir())[::EVERY]
    return [soundfile.read(path, dtype="float32")[0] for path in paths]


@functools.cache
def originals() -> list[dict[str, np.ndarray]]:
    """Of each clip the maps ``[63, 128]`` by name, and the scalars ``[36]``."""
    library("librosa", "librosa==0.11.0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a window that is longer than the sound at the lowest rates
        return [{**original.maps(clip), "scalars": np.array(original.scalars(clip))} for clip in clips()]


@functools.cache
def own(ninth: str) -> np.ndarray:
    """``[clips, 9, 63, 128]``."""
    return Phase9Spec.model_validate({"ninth": ninth, "lpc_frames": "seed_compat"}).compute(clips())


def map_difference(name: str) -> float:
    """The largest of any standardised value of any clip."""
    expected = np.stack([found[name] for found in originals()])
    ninth = "stft" if name == "stft" else "lpc"
    names = Phase9Spec.model_validate({"ninth": ninth}).names
    return float(np.abs(own(ninth)[:, names.index(name)] - expected).max())


def scalar_difference(first: int, last: int) -> float:
    """The largest of the scalars from `first` to `last`, counted from 0, as they are."""
    found = Phase9Spec().compute_scalars(clips())
    assert found is not None
    expected = np.stack([each["scalars"] for each in originals()])
    return float(np.abs(found - expected)[:, first : last + 1].max())


def rows() -> list[Row]:
    maps = [
        Row(
            f"phase9-{name}",
            f"`phase9`, map {name}" + (" (`lpc_frames: seed_compat`)" if name == "lpc" else "") + ", 200 real clips",
            ORIGINAL,
            "standardised value",
            partial(map_difference, name),
        )
        for name in sorted({*CHANNELS, "stft"})
    ]
    groups = {"0 to 25": (0, 25), "26 to 28 (flux, dB)": (26, 28), "29 to 35": (29, 35)}
    return maps + [
        Row(
            f"phase9-scalars-{first}-{last}",
            f"`phase9`, scalars {name}, 200 real clips",
            ORIGINAL,
            "as they are",
            partial(scalar_difference, first, last),
        )
        for name, (first, last) in groups.items()
    ]
