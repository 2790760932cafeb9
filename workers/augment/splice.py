"""Event synthesis of CycleGuardian: new abnormal cycles out of annotated crackles and wheezes of the training side.

Where the source joins waveforms, this joins frames of the stored feature on the device, as concatenation augmentation
does: nothing is computed again and no test cycle can be part of one. A bin standardised over its cycle stays as it was
there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from workers.augment.concatenate import BOTH, CRACKLE, NORMAL, WHEEZE
from workers.events import EventFrames

UNIT_SECONDS = {"crackle": 0.1, "wheeze": 1.0}
CRACKLES = 3  # the crackle class grows to three times its size


@dataclass(frozen=True)
class Spliced:
    """Cycles made frame by frame of cycles of the training side.

    Attributes:
        cycles: ``[spliced, frames]`` position in the training side that a frame is taken from.
        frames: ``[spliced, frames]`` its number there.
        labels: ``[spliced]`` class of each.
    """

    cycles: Tensor
    frames: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Layout:
    """The units of a new cycle: their kinds, and of each frame its unit and its place in it; ``[frames]`` each."""

    kinds: tuple[str, ...]
    unit: np.ndarray
    place: np.ndarray
    length: np.ndarray


def class_targets(labels: np.ndarray, scale: float) -> dict[int, int]:
    """New cycles of each class: crackle grows to three times its size, wheeze and both to `scale` of the normal one."""
    counts = np.bincount(labels, minlength=BOTH + 1)
    wanted = {CRACKLE: CRACKLES * counts[CRACKLE]} | {index: int(scale * counts[NORMAL]) for index in (WHEEZE, BOTH)}
    return {index: max(0, int(count - counts[index])) for index, count in wanted.items()}


def units_of(target: int, seconds: float, wheezes: int) -> tuple[str, ...]:
    """Kinds of the units of a new cycle, in their order.

    Eight seconds are 80 crackles, or 8 wheezes, or for `both` k wheezes after the crackles that fill the rest, but for
    one that follows the first crackle.
    """
    if target == CRACKLE:
        return ("crackle",) * round(seconds / UNIT_SECONDS["crackle"])
    if target == WHEEZE:
        return ("wheeze",) * round(seconds / UNIT_SECONDS["wheeze"])
    crackles = round((seconds - wheezes) / UNIT_SECONDS["crackle"])
    return ("crackle", "wheeze", *("crackle",) * (crackles - 1), *("wheeze",) * (wheezes - 1))


def lay_out(kinds: tuple[str, ...], frames: int) -> Layout:
    """The units over all frames, each with its share of the time."""
    ends = np.cumsum([UNIT_SECONDS[kind] for kind in kinds])
    edges = np.rint(np.concatenate([[0], ends / ends[-1]]) * frames).astype(int)
    lengths = np.diff(edges)
    unit = np.repeat(np.arange(len(kinds)), lengths)
    return Layout(kinds, unit, np.arange(frames) - edges[unit], lengths[unit])


def plan_splices(
    labels: np.ndarray,
    own_frames: np.ndarray,
    events: EventFrames,
    *,
    scale: float,
    seconds: float,
    frames: int,
    generator: torch.Generator,
) -> Spliced:
    """New cycles for every abnormal class whose events there are.

    A unit is an event, cut if it is longer, else preceded by an excerpt of a normal cycle longer than a second; where
    there is no such cycle, the event is repeated.

    Args:
        labels: ``[train]`` of the four lung-sound classes.
        own_frames: ``[train]`` frames before the padding begins.
        events: of the training side.
        scale: size of wheeze and both over that of the normal class.
        seconds, frames: of the feature, at least two seconds.
        generator: a CPU generator.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    normal = np.flatnonzero((labels == NORMAL) & (own_frames > frames / seconds))
    needed = {CRACKLE: {"crackle"}, WHEEZE: {"wheeze"}, BOTH: {"crackle", "wheeze"}}
    made: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for target, count in class_targets(labels, scale).items():
        if not needed[target] <= set(events.kinds.tolist()):
            continue
        wheezes = rng.integers(1, int(seconds), count) if target == BOTH else np.zeros(count, int)
        for number in np.unique(wheezes):
            layout, some = lay_out(units_of(target, seconds, int(number)), frames), int((wheezes == number).sum())
            made.append((*_splice(layout, events, normal, own_frames, some, rng), np.full(some, target)))
    if not made:
        nothing = torch.empty(0, frames, dtype=torch.long)
        return Spliced(nothing, nothing, torch.empty(0, dtype=torch.long))
    cycles, numbers, classes = (torch.from_numpy(np.concatenate(column)) for column in zip(*made, strict=True))
    return Spliced(cycles, numbers, classes)


def gather_frames(values: Tensor, rows: Tensor, frames: Tensor) -> Tensor:
    """Frames of stored cycles put together: ``[spliced, frames, bins]``, or with the maps before the frames.

    Args:
        values: ``[cycles, frames, bins]`` or ``[cycles, maps, frames, bins]``.
        rows, frames: ``[spliced, frames]`` which cycle and which of its frames.
    """
    if values.dim() == 3:
        return values[rows, frames]
    return values.transpose(1, 2)[rows, frames].transpose(1, 2)


def _splice(
    layout: Layout,
    events: EventFrames,
    normal: np.ndarray,
    own_frames: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cycles and frames ``[count, frames]`` of new cycles with one layout."""
    of_kind = {kind: np.flatnonzero(events.kinds == kind) for kind in set(layout.kinds)}
    drawn = np.stack([rng.choice(of_kind[kind], count) for kind in layout.kinds], axis=1)
    event = drawn[:, layout.unit]
    held = np.minimum(events.frames[event], layout.length)
    before = layout.length - held if len(normal) else np.zeros_like(held)
    inside = events.first[event] + (layout.place - before) % held
    if not len(normal):
        return events.cycles[event], inside
    other = rng.choice(normal, drawn.shape)
    longest = np.bincount(layout.unit, minlength=len(layout.kinds))  # frames of each unit
    start = (rng.random(drawn.shape) * (np.maximum(own_frames[other] - longest, 0) + 1)).astype(int)
    from_event = layout.place >= before
    cycles = np.where(from_event, events.cycles[event], other[:, layout.unit])
    excerpt = (start[:, layout.unit] + layout.place) % own_frames[other][:, layout.unit]
    return cycles, np.where(from_event, inside, excerpt)
