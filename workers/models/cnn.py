"""CNN6, CNN10 and CNN14 of PANNs (Kong et al., 2020), without their spectrogram front end and tagging head."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm2d
from workers.config.models import CnnConfig
from workers.models.classifier import SoundClassifier, Task

SIZES = {"cnn6": (4, 1), "cnn10": (4, 2), "cnn14": (6, 2)}  # blocks, and convolutions in each
CHANNELS = (64, 128, 256, 512, 1024, 2048)
POOLED = 5  # blocks that halve frames and bins; the sixth leaves them as they are


def build(config: CnnConfig, task: Task) -> SoundClassifier:
    """The trunk of a config and a linear head."""
    blocks, convolutions = SIZES[config.name]
    backbone = PannsCnn(task.front.size, blocks=blocks, convolutions=convolutions, dropout=config.dropout)
    head = nn.Linear(backbone.feature_dim, task.classes)
    return SoundClassifier(task.front, backbone, head, backbone.feature_dim)


class ConvBlock(nn.Module):
    """One 5x5 or two 3x3 convolutions with batch norm and ReLU, then average pooling over `pool` x `pool`."""

    def __init__(self, inputs: int, outputs: int, *, convolutions: int, pool: int = 2) -> None:
        super().__init__()
        self.pool = pool
        self.kernels = convolutions
        kernel = 5 if convolutions == 1 else 3
        for index in range(1, convolutions + 1):
            conv = nn.Conv2d(inputs if index == 1 else outputs, outputs, kernel, padding=kernel // 2, bias=False)
            nn.init.xavier_uniform_(conv.weight)
            self.add_module(f"conv{index}", conv)
            self.add_module(f"bn{index}", BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.kernels + 1):
            x = F.relu(getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)))
        return F.avg_pool2d(x, self.pool)


class PannsCnn(nn.Module):
    """Blocks; mean over mel, then maximum plus mean over time: ``[B, 1, T, F]`` to ``[B, D]``.

    D is 512 after four blocks and 2048 after six. `cnn6` (four blocks of one convolution) has 4,304,320 parameters,
    `cnn10` (four of two) 4,686,144, `cnn14` (six of two) 75,477,312.

    Args:
        shape: frames and bins of the feature.
        blocks: 4 or 6.
        convolutions: in a block.
        dropout: after each block; 0 in Patch-Mix, 0.2 in PANNs.

    Raises:
        UserError: the poolings would leave nothing of the feature.
    """

    def __init__(self, shape: tuple[int, ...], *, blocks: int = 4, convolutions: int, dropout: float) -> None:
        super().__init__()
        _check_size(shape, 2 ** min(blocks, POOLED))
        self.blocks, self.dropout = blocks, dropout
        inputs = 1
        for number, outputs in enumerate(CHANNELS[:blocks], start=1):
            block = ConvBlock(inputs, outputs, convolutions=convolutions, pool=2 if number <= POOLED else 1)
            self.add_module(f"conv_block{number}", block)  # PANNs' names, so that its checkpoints load as they are
            inputs = outputs
        self.feature_dim = inputs

    def forward(self, x: Tensor) -> Tensor:
        for number in range(1, self.blocks + 1):
            x = F.dropout(getattr(self, f"conv_block{number}")(x), self.dropout, self.training)
        over_mel: Tensor = x.mean(dim=3)
        return torch.amax(over_mel, dim=2) + over_mel.mean(dim=2)


def _check_size(shape: tuple[int, ...], smallest: int) -> None:
    if min(shape[-2:]) < smallest:
        raise UserError(
            f"the CNN needs at least {smallest} frames and {smallest} bins, the feature has {shape[-2]} x {shape[-1]}",
            where="model",
        )
