"""Sustained vowels of the AI CUP 2023 contest of pathological voices, each with a row of a medical table.

Specified in docs/specification.md, 4.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import ClassVar

from feature_store.datasets import aicup_table as table
from feature_store.datasets.base import Contest
from feature_store.datasets.clip_list import Clip, ClipCorpus
from feature_store.datasets.text_tables import audio_by_stem
from feature_store.errors import UserError
from feature_store.metrics import Metric
from feature_store.splits import SplitTable, inner_folds

TASK = "voice5"
CODES = ("5", "1", "2", "3", "4")  # of the classes in their order
FOLDS, SPLIT_SEED = 4, 0
TRAINING = ("Training_Dataset", "training_datalist.csv", "training_voice_data")
CONTEST = (
    ("Public_Testing_Dataset", "test_datalist_public.csv", "test_data_public"),
    ("Private_Testing_Dataset", "test_datalist_private.csv", "test_data_private"),
)


class AiCupCorpus(ClipCorpus):
    """The contest's three folders, each a list (CSV) and a folder of WAV or FLAC files: training, public and private.

    Their names may have blanks for underscores. A clip is a `Recording` of one cycle, its 44 medical numbers are the
    recording's `table`, and its ID stands in for the patient: the lists name no patients. The classes are those of the
    contest, normal first (its codes are 5, then 1 to 4).
    """

    name = "aicup-voice"
    classes: ClassVar[dict[str, tuple[str, ...]]] = {
        TASK: ("normal", "phonotrauma", "incomplete_closure", "vocal_palsy", "neoplasm")
    }
    metrics: ClassVar[dict[str, Metric]] = {TASK: "uar"}
    table_format: ClassVar[ModuleType | None] = table
    stands_in = "an ID"

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.recordings, self.problems = [], []
        listed, folder = _places(self.root, *TRAINING)
        self._rows = table.read_list(listed, labelled=True)
        clips = [
            Clip(row.name, row.name, row.code, row.line, patient=row.name, table=row.numbers, doubts=row.doubts)
            for row in self._rows
        ]
        self._take(clips, (listed, folder), TASK, CODES)

    @property
    def recordings_listed(self) -> int:
        """Rows of the training list, good or not."""
        return len(self._rows)

    def splits(self) -> dict[str, SplitTable]:
        """``four-fold``: four seeded parts of the IDs with the classes alike, each tested once.

        ``first-fold``: the first of them alone, 75 and 25 % as in the source system, whose own had no seed.
        """
        cycles = self.cycle_table()
        whole = SplitTable.of_sides("all", {0: {"train": cycles["cycle_id"].to_pylist()}})
        parts = inner_folds(cycles, whole, TASK, k=FOLDS, seed=SPLIT_SEED)
        first = {side: parts.side(0, side) for side in ("train", "test")}
        return {
            "four-fold": SplitTable("four-fold", parts.table),
            "first-fold": SplitTable.of_sides("first-fold", {0: first}),
        }

    def contest(self) -> Contest:
        """The clips of the public, then the private list; the submission has no header, and CRLF at its lines' ends.

        Raises:
            UserError: a list is missing or cannot be used, an ID appears twice, or a clip of it is missing.
        """
        clips, tables = [], {}
        for place in CONTEST:
            listed, folder = _places(self.root, *place)
            sounds = audio_by_stem(folder)
            for row in table.read_list(listed, labelled=False):
                audio, where = sounds.get(row.name), f"{listed}:{row.line}"
                if row.name in tables:
                    raise UserError(f"'{row.name}' appears twice", where=where, hint="keep one row of it")
                if audio is None:
                    raise UserError(f"there is no clip of '{row.name}' in {folder}", where=where, hint="copy it there")
                clips.append((row.name, audio))
                tables[row.name] = row.numbers
        codes: dict[str, tuple[str, ...]] = {TASK: CODES}
        return Contest(columns=None, clips=tuple(clips), codes=codes, tables=tables, line_end="\r\n")


def _places(root: Path, folder: str, listed: str, clips: str) -> tuple[Path, Path]:
    """A list and its folder of clips, with underscores in their names or with blanks.

    Raises:
        UserError: they are not there.
    """
    for name in (folder, folder.replace("_", " ")):
        for file in (listed, listed.replace("_", " ")):
            for sounds in (clips, clips.replace("_", " ")):
                if (root / name / file).is_file() and (root / name / sounds).is_dir():
                    return root / name / file, root / name / sounds
    hint = f"copy {folder}/ with {listed} and {clips}/ in it"
    raise UserError("there is no such list with its clips", where=str(root / folder / listed), hint=hint)
