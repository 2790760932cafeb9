"""Concatenation augmentation of RespireNet (Gairola et al., 2021): new abnormal cycles out of two of the training side.

Where RespireNet joins waveforms, this joins frames of the stored feature on the device: nothing is computed again, the
pairs can differ from run to run, and a test cycle can never be part of one. The frames at the seam and the fade at the
end are what differs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

NORMAL, CRACKLE, WHEEZE, BOTH = range(4)
Share = tuple[float, tuple[int, int]]
RECIPES: dict[int, tuple[Share, ...]] = {
    CRACKLE: ((0.6, (CRACKLE, CRACKLE)), (0.2, (CRACKLE, NORMAL)), (0.2, (NORMAL, CRACKLE))),
    WHEEZE: ((0.6, (WHEEZE, WHEEZE)), (0.2, (WHEEZE, NORMAL)), (0.2, (NORMAL, WHEEZE))),
    BOTH: (
        (0.5, (BOTH, BOTH)),
        (0.2, (CRACKLE, WHEEZE)),
        (0.1, (WHEEZE, CRACKLE)),
        (0.1, (BOTH, NORMAL)),
        (0.1, (NORMAL, BOTH)),
    ),
}
"""For each abnormal class, the classes of the first and second cycle with their shares."""


@dataclass(frozen=True)
class Joined:
    """Pairs of training cycles that are heard one after the other.

    Attributes:
        pairs: ``[joined, 2]`` positions in the training side.
        labels: ``[joined]`` class of each pair.
    """

    pairs: Tensor
    labels: Tensor


def plan_pairs(labels: np.ndarray, scale: float, generator: torch.Generator) -> Joined:
    """Pairs that grow every abnormal class to `scale` times the normal one; a larger class stays as it is.

    A kind of pair for which a class has no cycle is left out, and the others take its share.

    Args:
        labels: ``[train]`` of the four lung-sound classes.
        scale: size of an abnormal class over that of the normal class; 0 plans nothing.
        generator: a CPU generator.
    """
    members = [torch.from_numpy(np.flatnonzero(labels == index)) for index in range(BOTH + 1)]
    pairs, classes = [], []
    for target, recipe in RECIPES.items():
        missing = int(scale * len(members[NORMAL])) - len(members[target])
        kinds = [(share, kind) for share, kind in recipe if len(members[kind[0]]) and len(members[kind[1]])]
        if missing <= 0 or not kinds:
            continue
        shares = torch.tensor([share for share, _ in kinds], dtype=torch.float64)
        drawn = torch.multinomial(shares, missing, replacement=True, generator=generator)
        for number, (_, kind) in enumerate(kinds):
            count = int((drawn == number).sum())
            sides = [members[side][torch.randint(len(members[side]), (count,), generator=generator)] for side in kind]
            pairs.append(torch.stack(sides, dim=1))
        classes.append(torch.full((missing,), target))
    if not pairs:
        return Joined(torch.empty(0, 2, dtype=torch.long), torch.empty(0, dtype=torch.long))
    return Joined(torch.cat(pairs), torch.cat(classes))


def join_frames(first: Tensor, second: Tensor, first_frames: Tensor, second_frames: Tensor) -> Tensor:
    """The own frames of one cycle, then those of another, repeated to the full length.

    Args:
        first, second: ``[batch, frames, bins]``, each padded by repetition.
        first_frames, second_frames: ``[batch]`` frames before the padding begins, at least 1.
    """
    place = torch.arange(first.shape[1], device=first.device) % (first_frames + second_frames)[:, None]
    from_second = place >= first_frames[:, None]
    rows = torch.where(from_second, place - first_frames[:, None], place)[..., None].expand_as(first)
    return torch.where(from_second[..., None], second.gather(1, rows), first.gather(1, rows))
