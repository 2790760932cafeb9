"""What a model saw of a cycle, as a small picture: drawn from the feature store, shared by all pages that show it."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import numpy as np

from feature_store.errors import UserError
from feature_store.settings import Settings
from feature_store.store import Features, FeatureStore

WIDTH, HEIGHT = 240, 96
LEVELS = 48
# Corners of the scale from silence to loudness, evenly spaced, dark to light so that it reads in grey as well.
SCALE = np.array([[8, 10, 34], [58, 20, 92], [138, 35, 105], [209, 67, 74], [246, 138, 46], [252, 232, 150]], float)


class Spectrograms:
    """Pictures of the cycles of one feature store.

    Args:
        settings: where the store and its cache are; without a store there are no pictures.
    """

    def __init__(self, settings: Settings) -> None:
        self.cache: Path = settings.cache
        self.known: dict[tuple[str, str], tuple[Features, dict[str, int]] | None] = {}
        try:
            self.store: FeatureStore | None = FeatureStore.open(settings.store)
        except UserError:
            self.store = None

    def content_hash(self, dataset: str, feature_id: str) -> str:
        """Of what a feature's pictures are drawn from; empty where it cannot be read."""
        found = self._features(dataset, feature_id)
        return found[0].content_hash if found else ""

    def name(self, dataset: str, feature_id: str, cycle_id: str) -> str | None:
        """Path of a cycle's picture in the board's folder; None where there is no such picture."""
        found = self._features(dataset, feature_id)
        if found is None or cycle_id not in found[1]:
            return None
        digest = hashlib.sha256(f"{found[0].content_hash} {cycle_id}".encode()).hexdigest()[:12]
        return f"spectrograms/{feature_id}/{digest}.png"

    def draw(self, dataset: str, feature_id: str, cycle_id: str) -> bytes:
        """The picture of a cycle that has a name."""
        found = self._features(dataset, feature_id)
        assert found is not None
        return picture(found[0].values[found[1][cycle_id]])

    def _features(self, dataset: str, feature_id: str) -> tuple[Features, dict[str, int]] | None:
        """A feature and the row of each cycle; None where it is not there, or stale."""
        key = (dataset, feature_id)
        if key not in self.known:
            self.known[key] = None
            if self.store is not None:
                try:
                    found = self.store.load(dataset, feature_id, self.cache)
                    self.known[key] = found, {cycle_id: row for row, cycle_id in enumerate(found.cycle_ids)}
                except (UserError, OSError):
                    pass
        return self.known[key]


def picture(values: np.ndarray) -> bytes:
    """A PNG of ``WIDTH`` x ``HEIGHT`` pixels in `LEVELS` colours.

    Args:
        values: ``[copies, maps, frames, bins]``, or without either of the first two. The first copy is the cycle
            itself; of several maps the first is drawn. The scale reaches from its 2nd to its 99.5th percentile.
    """
    from PIL import Image

    frames = np.asarray(values.reshape(-1, *values.shape[-2:])[0], np.float32)
    low, high = np.percentile(frames, [2.0, 99.5])
    level = np.clip((frames - low) / max(float(high - low), 1e-9), 0.0, 1.0) * (LEVELS - 1)
    image = Image.fromarray(np.flipud(level.T).astype(np.float32))
    indexed = np.rint(np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR))).astype(np.uint8)
    drawn = Image.fromarray(indexed).convert("P")
    drawn.putpalette(_palette().tobytes())
    drawn.putdata(indexed.ravel())
    sink = io.BytesIO()
    drawn.save(sink, "PNG", optimize=True)
    return sink.getvalue()


def _palette() -> np.ndarray:
    """``[LEVELS, 3]`` bytes."""
    at = np.linspace(0, len(SCALE) - 1, LEVELS)
    return np.stack([np.interp(at, range(len(SCALE)), SCALE[:, i]) for i in range(3)], axis=1).round().astype(np.uint8)
