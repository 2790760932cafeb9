"""One-second clips of a single breathing phase, inhaling or exhaling: the contest of docs/specification.md, section 5.

A clip is a part of a longer recording, and its name says of which: what several clips share but for the last number.
Nobody says which recordings are of one patient, so the recording stands in for the patient wherever cycles are grouped.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar

import numpy as np

from feature_store.datasets import breathing_phase_format as formats
from feature_store.datasets.base import Contest, SideCounts, SideKey
from feature_store.datasets.clip_list import ClipCorpus
from feature_store.datasets.text_tables import audio_by_stem
from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.splits import SplitTable, hold_out_patients

TASK = "phase2"
TEST_SHARE, SPLIT_SEED = 0.2, 42

PUBLISHED: dict[SideKey, SideCounts] = {
    ("random", 0, "train"): SideCounts(2152, 3200, 3200, (1596, 1604)),
    ("random", 0, "test"): SideCounts(715, 800, 800, (404, 396)),
}
COMPLETE = 4000  # clips


class BreathingPhaseCorpus(ClipCorpus):
    """`train.csv` and its clips in `train/`, as WAV or FLAC; `test.csv` and `test/` where they are.

    Names are understood in both styles: `steth_20180814_09_37_11_I_004`, with the class in it, whose file leaves the
    class out, and `steth_20180814_09_37_11_004`. No feature and no label comes of a name. A clip is left out, and named
    in `problems`, where its row or its audio cannot be used.

    Every clip is a `Recording` of one cycle; its `patient` is the source recording.
    """

    name = "breathing-phase"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {TASK: ("inhale", "exhale")}
    metrics: ClassVar[dict[str, Metric]] = {TASK: "accuracy"}
    stands_in = "a source recording"

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recordings, self.problems = [], []
        listed, folder = self.root / formats.TRAIN_LIST, self.root / "train"
        self._clips, found = formats.read_labels(listed)
        self.problems += found
        if not folder.is_dir():
            raise UserError("there is no folder of clips", where=str(folder), hint="copy train/ beside train.csv")
        self._take(self._clips, (listed, folder), TASK, formats.CODES)

    @property
    def recordings_listed(self) -> int:
        """Rows of `train.csv`, good or not."""
        return len(self._clips)

    def published_counts(self) -> dict[SideKey, SideCounts]:
        """What the complete corpus must count to; empty for a part of it."""
        return PUBLISHED if len(self.recordings) == COMPLETE else {}

    def splits(self) -> dict[str, SplitTable]:
        """Both hold a fifth of the clips back.

        ``grouped``: whole recordings, the classes alike on both sides: nothing leaks.
        ``random``: the source system's: single clips at random (seed 42, in the order of `train.csv`). It leaks: 388
        recordings are on both sides, and 55.5 % of the tested clips have a sibling in training.
        """
        here = {recording.name: recording.cycles[0] for recording in self.recordings}
        order = np.random.RandomState(SPLIT_SEED).permutation(len(self._clips))
        tested = {self._clips[row].name for row in order[: math.ceil(TEST_SHARE * len(self._clips))].tolist()}
        drawn: dict[str, list[str]] = {"train": [], "test": []}
        for name, cycle in here.items():
            drawn["test" if name in tested else "train"].append(cycle.cycle_id)
        cycles = list(here.values())
        labels = np.array([cycle.labels[TASK] for cycle in cycles], int)
        ids, sources = [cycle.cycle_id for cycle in cycles], [cycle.patient for cycle in cycles]
        whole = hold_out_patients(ids, sources, labels, TEST_SHARE, SPLIT_SEED)
        sides = {"grouped": dict(zip(("train", "test"), whole, strict=True)), "random": drawn}
        return {name: SplitTable.of_sides(name, {0: side}) for name, side in sides.items()}

    def contest(self) -> Contest:
        """The clips of `test.csv`, in its order, and how a submission writes their classes.

        Raises:
            UserError: there is no such list, it cannot be used, or a clip of it is missing.
        """
        where = self.root / formats.TEST_LIST
        names = formats.read_ids(where)
        clips, sounds = [], audio_by_stem(self.root / "test")
        for row, name in enumerate(names, start=2):
            audio = sounds.get(formats.stem_of(name))
            if audio is None:
                hint = "copy test/ beside test.csv"
                raise UserError(
                    f"there is no clip of '{name}' in {self.root / 'test'}", where=f"{where}:{row}", hint=hint
                )
            clips.append((name, audio))
        return Contest(columns=formats.SUBMISSION, clips=tuple(clips), codes={TASK: formats.CODES})
