"""ICBHI 2017 from the challenge's site: the database, its official split, and the lists and events beside it."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from feature_store.archive import unpack
from feature_store.audit import AuditReport, audit
from feature_store.datasets.icbhi import IcbhiCorpus
from feature_store.datasets.icbhi_events import FOLDER as EVENTS
from feature_store.datasets.icbhi_folder import LISTS, RECORDING_FOLDERS, IcbhiFolder
from feature_store.datasets.icbhi_published import COMPLETE
from feature_store.download import MissingFile, Note, Progress, fetch
from feature_store.errors import UserError

PAGE = "https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge"
SITE = "https://bhichallenge.med.auth.gr/sites/default/files/ICBHI_final_database"
RECORDINGS = RECORDING_FOLDERS[0]
SPLIT = LISTS["split"][0]
FILES = {  # what -> file at the site
    "recordings": f"{RECORDINGS}.zip",
    "split": SPLIT,
    "diagnoses": "ICBHI_Challenge_diagnosis.txt",
    "demographics": "ICBHI_Challenge_demographic_information.txt",
    "events": f"{EVENTS}.zip",
}
NEEDED = ("recordings", "split")  # the rest may be missing at a mirror
LOCK = ".download.lock"
MOST = {  # what -> bytes and files that its zip can unpack to
    "recordings": (5_000_000_000, 2_500),  # 920 recordings of 5.5 hours, at most 44.1 kHz and 32 bits: 3.5 GB
    "events": (50_000_000, 2_500),  # a short text for each recording
}


@dataclass(frozen=True)
class Part:
    """One file of the database: `state` is ``fetched``, ``present`` (nothing was asked of the site) or ``not there``.

    `path` is where it lies, for recordings and events the folder.
    """

    what: str
    state: str
    path: str
    url: str


@dataclass(frozen=True)
class Download:
    """What a download came to.

    Attributes:
        archives: zip files that are not needed any more.
        corrected: rows of the official split that now name the recording as its file is named.
        audit: counts and problems of the corpus that is there now.
    """

    root: str
    parts: list[Part]
    archives: list[str]
    corrected: list[str]
    audit: AuditReport

    @property
    def missing(self) -> str | None:
        """What keeps it from being the whole database; None where all 920 recordings are there and good."""
        listed, report = self.audit.recordings_listed, self.audit
        if listed != COMPLETE and not report.synthetic:
            return f"the official split lists {listed:,} recordings, not {COMPLETE}"
        if not report.complete:
            return f"{report.recordings:,} of {listed:,} recordings are here and good"
        return "some of its files or lists have errors" if report.errors else None


def download(
    root: str | Path,
    site: str = SITE,
    *,
    progress: Progress | None = None,
    note: Note | None = None,
    pause: float = 1.0,
) -> Download:
    """Put the whole database into `root` so that `open_corpus("icbhi", root)` reads it, and audit it.

    Only what is missing is fetched: a zip or a list that was put there by hand counts. The zip's checksums are
    compared while it is unpacked; a recording folder appears whole or not at all and is never changed afterwards. One
    row of the challenge's list is known to name another device than the recording's file does: see `corrected`.

    Args:
        site: URL of the folder that holds the files.
        progress, note, pause: as for `feature_store.download.fetch`.

    Raises:
        UserError: a file cannot be fetched or unpacked, or another process is downloading into `root`.
    """
    root = Path(root).expanduser().resolve()
    with _alone(root):
        site = site.rstrip("/")

        def get(what: str) -> Path:
            name = FILES[what]
            by_hand = f"download {name} by hand from {PAGE}, put it into {root}, and run the same command again"
            fetch(f"{site}/{name}", root / name, by_hand=by_hand, progress=progress, note=note, pause=pause)
            return root / name

        def part(what: str, state: str, path: Path) -> Part:
            return Part(what, state, str(path), f"{site}/{FILES[what]}")

        def unpacked(what: str, folder: Path) -> Part:
            state = "present" if (root / FILES[what]).exists() else "fetched"
            most_bytes, most_files = MOST[what]
            unpack(get(what), folder, most_bytes=most_bytes, most_files=most_files, progress=progress)
            return part(what, state, folder)

        recordings = _recordings(root)
        parts = [part("recordings", "present", recordings) if recordings else unpacked("recordings", root / RECORDINGS)]
        found = IcbhiFolder.find(root)
        for what in ("split", "diagnoses", "demographics"):
            if what in found.lists:
                parts.append(part(what, "present", found.lists[what]))
                continue
            try:
                parts.append(part(what, "fetched", get(what)))
            except MissingFile:
                if what in NEEDED:
                    raise
                parts.append(part(what, "not there", root / FILES[what]))
        places = (root, found.recordings, found.recordings.parent)
        events = next((place / EVENTS for place in places if (place / EVENTS).is_dir()), None)
        try:
            parts.append(part("events", "present", events) if events else unpacked("events", root / EVENTS))
        except MissingFile:
            parts.append(part("events", "not there", root / EVENTS))
        corrected = _name_as_recorded(root)
        archives = [str(root / name) for name in FILES.values() if name.endswith(".zip") and (root / name).exists()]
        return Download(str(root), parts, archives, corrected, audit(IcbhiCorpus(root)))


def _recordings(root: Path) -> Path | None:
    """The folder of recordings with audio that is there already."""
    try:
        found = IcbhiFolder.find(root)
    except UserError:
        found = None
    if found and found.has_audio:
        return found.recordings
    folder = root / RECORDINGS
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        hint = "move it away and run the same command again"
        raise UserError("holds no audio, and is in the place of the recordings", where=str(folder), hint=hint)
    return None


def _name_as_recorded(root: Path) -> list[str]:
    """Let rows of the challenge's split name recordings as their files are named.

    The list names ``226_1b1_Pl_sc_Meditron`` and the zip holds ``226_1b1_Pl_sc_LittC2SE``. A row is changed only if no
    file has its name and exactly one file that no row names has the same patient, take, place and mode.
    """
    found, path = IcbhiFolder.find(root), root / SPLIT
    if found.lists.get("split") != path or "renamed" in found.lists:
        return []
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines(keepends=True)
    listed = {line.split()[0] for line in lines if line.strip()}
    unlisted: dict[str, list[str]] = {}
    for stem in sorted(set(found.audio) - listed):
        unlisted.setdefault(stem.rpartition("_")[0], []).append(stem)
    corrected = []
    for number, line in enumerate(lines):
        name = line.split()[0] if line.strip() else ""
        meant = unlisted.get(name.rpartition("_")[0], [])
        if name and name not in found.audio and len(meant) == 1:
            lines[number] = line.replace(name, meant[0], 1)
            corrected.append(f"{name} -> {meant[0]}")
    if corrected:
        draft = root / f".{SPLIT}.corrected"
        draft.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
        draft.replace(path)
    return corrected


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One download into a folder at a time."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / LOCK).open("w")
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(root), hint="give another folder") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError("another process is downloading into this folder", where=str(root)) from error
        yield
