"""Where the files of an ICBHI database lie: the challenge's layout, a flat folder, or annotations alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from feature_store.datasets.base import Problem
from feature_store.datasets.text_tables import AUDIO_SUFFIXES, FOREIGN_FOLDERS, audio_rank, files_in, find_file
from feature_store.errors import UserError

RECORDING_FOLDERS = (
    "ICBHI_final_database",  # the challenge's
    "audio_and_txt_files",  # Kaggle's mirror
    "audio_test_data",  # Patch-Mix's
    "audio",
    ".",
    "all_920_annotations",
)
DEPTH = 3  # folders between the one that is given and that of the recordings, as archives and releases nest them

LISTS = {  # known file names of each list, the challenge's first
    "split": ("ICBHI_challenge_train_test.txt", "official_split.txt", "patient_trainTest6_4.txt"),
    "folds": ("patient_list_foldwise.txt",),
    "diagnoses": ("ICBHI_Challenge_diagnosis.txt", "patient_diagnosis.txt", "patient_diagnosis.csv"),
    "demographics": ("metadata.txt", "demographic_info.txt", "ICBHI_Challenge_demographic_information.txt"),
    "renamed": ("filename_differences.txt",),
}
LIST_NAMES = frozenset(name.lower() for names in LISTS.values() for name in names) | {"filename_format.txt"}


@dataclass
class IcbhiFolder:
    """The files found.

    Attributes:
        root: the folder that was asked for.
        recordings: the folder that holds audio and annotations.
        audio, annotations: file of each stem, as it is spelt on disk.
        lists: the file of each list in `LISTS` that was found.
        problems: stems that are there twice.
    """

    root: Path
    recordings: Path
    audio: dict[str, Path] = field(default_factory=dict)
    annotations: dict[str, Path] = field(default_factory=dict)
    lists: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @classmethod
    def find(cls, root: Path) -> IcbhiFolder:
        """Look for recordings in `root` and its known subfolders, else up to `DEPTH` folders below.

        Lists are looked for there, in `metadata` and in the folder above.

        Raises:
            UserError: there is neither audio nor an annotation.
        """
        places = [root / name for name in RECORDING_FOLDERS if (root / name).is_dir()]
        if not places:
            raise UserError("there is no such folder", where=str(root))
        candidates = [cls._scan(root, place) for place in places]
        if not any(found.audio or found.annotations for found in candidates):
            candidates = [cls._scan(root, place) for place in _nested(root)]
        with_audio = [found for found in candidates if found.audio]
        with_annotations = [found for found in candidates if found.annotations]
        if not with_audio and not with_annotations:
            where, hint = str(root), "give the folder that holds ICBHI_final_database, or the recordings themselves"
            raise UserError("there are no recordings (WAV or FLAC with TXT) here", where=where, hint=hint)
        found = (with_audio or with_annotations)[0]
        near = [root, root / "metadata", found.recordings, found.recordings / "metadata"]
        near += [found.recordings.parent, found.recordings.parent / "metadata"]
        for kind, names in LISTS.items():
            if path := find_file(near, names):
                found.lists[kind] = path
        return found

    @classmethod
    def _scan(cls, root: Path, place: Path) -> IcbhiFolder:
        found = cls(root, place.resolve())
        for path in sorted(files_in(found.recordings), key=lambda p: (p.stem, audio_rank(p), p.name)):
            suffix = path.suffix.lower()
            if suffix in AUDIO_SUFFIXES:
                found._keep(found.audio, path)
            elif suffix == ".txt" and path.name.lower() not in LIST_NAMES and _looks_like_recording(path.stem):
                found._keep(found.annotations, path)
        return found

    def _keep(self, files: dict[str, Path], path: Path) -> None:
        if files.setdefault(path.stem, path) is not path:
            what = f"is there twice; {files[path.stem].name} is used"
            self.problems.append(Problem("warning", str(path), what, "remove one of the two"))

    @property
    def has_audio(self) -> bool:
        return bool(self.audio)


def _nested(root: Path) -> list[Path]:
    """Folders of recordings' names below others, as in `data/icbhi_dataset/audio_test_data`; the nearest first."""
    names = [name.lower() for name in RECORDING_FOLDERS]
    found: list[Path] = []
    level = [root]
    for _ in range(DEPTH):
        level = [path for folder in level for path in _folders_in(folder)]
        named = [path for path in level if path.name.lower() in names]
        found += sorted(named, key=lambda path: names.index(path.name.lower()))
    return found


def _folders_in(folder: Path) -> list[Path]:
    try:
        inside = sorted(folder.iterdir())
    except OSError:  # one that this user may not look into
        return []
    return [p for p in inside if not p.name.startswith(".") and p.name not in FOREIGN_FOLDERS and p.is_dir()]


def _looks_like_recording(stem: str) -> bool:
    """A patient's number, then tokens: tells a misnamed annotation from a licence or a readme."""
    head, separator, _ = stem.partition("_")
    return bool(separator) and head.isdecimal()
