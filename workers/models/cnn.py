"""CNN6 and CNN10 of PANNs (Kong et al., 2020), without their spectrogram front end and tagging head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError

CHANNELS = (64, 128, 256, 512)


class ConvBlock(nn.Module):
    """One 5x5 or two 3x3 convolutions with batch norm and ReLU, then 2x2 average pooling."""

    def __init__(self, inputs: int, outputs: int, *, convolutions: int) -> None:
        super().__init__()
        self.kernels = convolutions
        kernel = 5 if convolutions == 1 else 3
        for index in range(1, convolutions + 1):
            conv = nn.Conv2d(inputs if index == 1 else outputs, outputs, kernel, padding=kernel // 2, bias=False)
            nn.init.xavier_uniform_(conv.weight)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.kernels + 1):
            x = F.relu(getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)))
        return F.avg_pool2d(x, 2)


class PannsCnn(nn.Module):
    """Four blocks; mean over mel, then maximum plus mean over time: ``[B, 1, T, F]`` to ``[B, 512]``.

    4,304,320 parameters as `cnn6` (one convolution a block), 4,686,144 as `cnn10` (two).

    Args:
        convolutions: a block.
        dropout: after each block; 0 in Patch-Mix, 0.2 in PANNs.
    """

    feature_dim = CHANNELS[-1]

    def __init__(self, *, convolutions: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        inputs = (1, *CHANNELS[:-1])
        for number, (before, after) in enumerate(zip(inputs, CHANNELS, strict=True), start=1):
            # PANNs' names, so that its checkpoints load as they are
            self.add_module(f"conv_block{number}", ConvBlock(before, after, convolutions=convolutions))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, len(CHANNELS) + 1):
            x = F.dropout(getattr(self, f"conv_block{number}")(x), self.dropout, self.training)
        over_mel: Tensor = x.mean(dim=3)
        return torch.amax(over_mel, dim=2) + over_mel.mean(dim=2)


def check_size(shape: tuple[int, ...]) -> None:
    """Refuse a feature that four poolings would leave nothing of."""
    smallest = 2 ** len(CHANNELS)
    if min(shape[-2:]) < smallest:
        raise UserError(
            f"a CNN needs at least {smallest} frames and {smallest} bins, the feature has {shape[-2]} x {shape[-1]}",
            where="model",
        )
