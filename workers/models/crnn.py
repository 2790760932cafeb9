"""The convolutional recurrent network of ksanjeevan/crnn-audio-classification, for cycles of one length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm

CHANNELS = (32, 64, 64)
POOLS = (3, 4, 4)
LEFT = (5, 3, 1)  # frames and bins that each pooling must leave for the convolutions after it
SMALLEST = 7  # each of the three convolutions takes two


class Crnn(nn.Module):
    """Three valid 3x3 convolutions (batch norm, ELU, max pooling, dropout), an LSTM over time, batch norm.

    ``[B, 1, T, F]`` to ``[B, hidden * directions]``. The input is whitened per sample. At 128 bins with hidden 64 the
    whole network has 139,786 parameters for 10 classes, 256,266 in both directions, as the original.

    Two things differ from the original. The feature is the last state of each direction, so that the backward half
    has seen the whole cycle and not its last frame alone. And where pools of 3, 4 and 4 would leave nothing, which is
    below 80 bins or frames, a pool shrinks to what leaves room for the layers after it.

    Args:
        shape: frames and bins of the feature.
        hidden, layers, bidirectional: of the LSTM.
        dropout: after each convolution.
        head_dropout: before the batch norm.

    Raises:
        UserError: the convolutions would leave nothing of the feature.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: int,
        layers: int,
        bidirectional: bool,
        dropout: float,
        head_dropout: float,
    ) -> None:
        super().__init__()
        frames, bins = shape[-2:]
        if min(frames, bins) < SMALLEST:
            raise UserError(
                f"a CRNN needs at least {SMALLEST} frames and {SMALLEST} bins, the feature has {frames} x {bins}",
                where="model",
            )
        blocks: list[nn.Module] = []
        channels = 1
        for outputs, pool, left in zip(CHANNELS, POOLS, LEFT, strict=True):
            frames, bins = frames - 2, bins - 2
            window = (_fitting(frames, pool, left), _fitting(bins, pool, left))
            blocks += [
                nn.Conv2d(channels, outputs, 3),
                nn.BatchNorm2d(outputs),
                nn.ELU(),
                nn.MaxPool2d(window),
                nn.Dropout(dropout),
            ]
            channels, frames, bins = outputs, frames // window[0], bins // window[1]
        self.convolutions = nn.Sequential(*blocks)
        self.lstm = nn.LSTM(channels * bins, hidden, layers, batch_first=True, bidirectional=bidirectional)
        self.directions = 2 if bidirectional else 1
        self.feature_dim = hidden * self.directions
        self.dropout = nn.Dropout(head_dropout)
        self.norm = BatchNorm(self.feature_dim)

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
        x = self.convolutions((x - mean) / (deviation + 1e-5))
        sequence = x.permute(0, 2, 1, 3).flatten(2)  # [B, frames, channels * bins]
        _, (states, _) = self.lstm(sequence)  # [layers * directions, B, hidden]
        last = states[-self.directions :].transpose(0, 1).flatten(1)
        return self.norm(self.dropout(last))


def _fitting(size: int, pool: int, left: int) -> int:
    """The pooling, or less where too little would be left for the next convolution."""
    while pool > 1 and size // pool < left:
        pool -= 1
    return pool
