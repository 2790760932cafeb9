"""A contest's clips classified by one model, or by the weighted mean of several, and written as it asks for."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from feature_store.datasets.base import Contest
from feature_store.errors import UserError

if TYPE_CHECKING:
    from workers.inference import SoundModel

Probabilities = Mapping[str, np.ndarray]
"""Class probabilities ``[classes]`` of every clip, by its name in the contest's list."""


def probabilities_of(
    contest: Contest, models: Iterator[AbstractContextManager[SoundModel]], progress: Callable[[int], None]
) -> tuple[list[Probabilities], str]:
    """What each model says of every clip, and the task that they were trained for.

    Args:
        contest: its clips.
        models: opened one after the other.
        progress: called with the clips done by the model at work.

    Raises:
        UserError: a clip cannot be read, or the models have different tasks, or one that the contest does not ask for.
    """
    said: list[Probabilities] = []
    tasks: list[str] = []
    for opened in models:
        with opened as model:
            tasks.append(model.config.task)
            if tasks[-1] not in contest.codes or tasks[-1] != tasks[0]:
                wanted = tasks[0] if tasks[0] in contest.codes else " or ".join(contest.codes)
                raise UserError(f"a model of task '{tasks[-1]}' cannot answer", hint=f"the task is {wanted}")
            rows = {}
            for done, (name, audio) in enumerate(contest.clips, start=1):
                rows[name] = model.predict(audio, table=contest.tables.get(name, ())).probabilities
                progress(done)
            said.append(rows)
    return said, tasks[0]


def weighted(members: Sequence[Probabilities], weights: Sequence[float]) -> dict[str, np.ndarray]:
    """The weighted mean of the members' probabilities, clip by clip, in the first member's order.

    Raises:
        UserError: members speak of other clips or of other classes, or a probability is not a number.
    """
    first = members[0]
    for number, member in enumerate(members):
        where = f"member {number + 1}"
        if odd := sorted(first.keys() ^ member.keys()):
            raise UserError(
                f"its clips are not those of member 1: {odd[0]} and {len(odd) - 1} more differ", where=where
            )
        for name, row in member.items():
            if row.shape != first[name].shape or not np.isfinite(row).all():
                raise UserError(f"probabilities {row.tolist()} of clip {name} do not fit", where=where)
    share = np.asarray(weights, dtype=np.float64) / np.sum(weights)
    return {name: np.tensordot(share, np.stack([member[name] for member in members]), axes=1) for name in first}


def submission(contest: Contest, task: str, probabilities: Probabilities) -> str:
    """The CSV: a row per clip in the contest's order, with the code of its likeliest class; of equal ones the first.

    Lines end as the contest's own file does (`Contest.line_end`).
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=contest.line_end)
    if contest.columns is not None:
        writer.writerow(contest.columns)
    codes = contest.codes[task]
    writer.writerows((name, codes[int(probabilities[name].argmax())]) for name, _ in contest.clips)
    return text.getvalue()


def write(path: Path, text: str) -> None:
    """Replace a file at once, its folder made if it is not there.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.write_text(text, newline="")
        draft.replace(path)
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(path)) from error
