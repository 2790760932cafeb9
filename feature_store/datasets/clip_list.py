"""Corpora that are a list of clips (CSV) beside a folder of them: every clip is a recording of one cycle."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from feature_store.datasets.audio_header import read_header
from feature_store.datasets.base import Corpus, Cycle, Problem, Recording
from feature_store.datasets.text_tables import AUDIO_SUFFIXES, audio_by_stem


@dataclass(frozen=True)
class Clip:
    """A row of a list.

    Attributes:
        name: the stem of its audio file.
        listed: the clip as the list names it.
        code: its class as the list has it.
        line: in the file, the header being line 1.
        patient: whom it is grouped by.
        table: as `Recording.table`.
        doubts: what had to be filled in, in words.
    """

    name: str
    listed: str
    code: str
    line: int
    patient: str
    device: str = ""
    table: tuple[float, ...] = ()
    doubts: tuple[str, ...] = ()


class ClipCorpus(Corpus):
    """What corpora of listed clips have in common. A clip whose row or audio cannot be used is left out and named."""

    def _take(self, clips: Sequence[Clip], place: tuple[Path, Path], task: str, codes: Sequence[str]) -> None:
        """Fill `recordings` and `problems`.

        Args:
            clips: rows of the list.
            place: the list and the folder of its clips.
            task: the corpus' one.
            codes: how the list writes its classes, in their order.
        """
        listed, folder = place
        times = Counter(clip.name for clip in clips)
        sounds = audio_by_stem(folder)
        for clip in clips:
            where = f"{listed}:{clip.line}"
            if times[clip.name] > 1:
                what = f"'{clip.listed}' appears in the list {times[clip.name]} times"
                self._refuse(where, what, "keep one row of it")
            elif clip.code not in codes:
                what = f"the class of '{clip.listed}' is '{clip.code}'"
                self._refuse(where, what, f"it must be one of {', '.join(codes)}")
            elif (audio := sounds.get(clip.name)) is None:
                what = f"there is no {clip.name}{' or '.join(AUDIO_SUFFIXES)} of '{clip.listed}'"
                self._refuse(where, what, f"copy it into {folder.name}/")
            else:
                self.problems += [Problem("warning", where, doubt) for doubt in clip.doubts]
                header, problems = read_header(audio)
                self.problems += problems
                if header:
                    label = codes.index(clip.code)
                    self.recordings.append(_recording(clip, audio, listed, header.seconds, task, label))
        self.recordings.sort(key=lambda recording: recording.name)


def _recording(clip: Clip, audio: Path, listed: Path, seconds: float, task: str, label: int) -> Recording:
    place = (clip.patient, clip.device, "", "")
    cycle = Cycle(f"{clip.name}#000", clip.name, *place, 0.0, seconds, {task: label})
    content = f"{label} {seconds!r} {clip.table!r}" if clip.table else f"{label} {seconds!r}"
    digest = hashlib.sha256(content.encode()).hexdigest()
    return Recording(clip.name, *place, audio, listed, (cycle,), digest, table=clip.table)
