"""The convolutional recurrent network of ksanjeevan/crnn-audio-classification (docs/specification.md, 6.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d, BatchNorm2d
from workers.config.models import CrnnConfig
from workers.models.classifier import SoundClassifier, Task

CHANNELS = (32, 64, 64)
POOLS = (3, 4, 4)
LEFT = (5, 3, 1)  # frames and bins that each pooling must leave for the convolutions after it
SMALLEST = 7  # each of the three convolutions takes two
SLOWEST, FASTEST = 0.6, 1.4  # speeds of `time_stretched`
CUT, LARGEST_CUT = 0.25, 0.8  # deviation and limit of the share that a crop takes away


def build(config: CrnnConfig, task: Task) -> SoundClassifier:
    """The network of a config and a linear head."""
    backbone = Crnn(
        task.front.size,
        hidden=config.hidden,
        layers=config.layers,
        bidirectional=config.bidirectional,
        dropout=config.dropout,
        head_dropout=config.head_dropout,
        crop=config.crop,
        stretch=config.stretch,
    )
    head = nn.Linear(backbone.feature_dim, task.classes)
    return SoundClassifier(task.front, backbone, head, backbone.feature_dim)


class Crnn(nn.Module):
    """Three valid 3x3 convolutions (batch norm, ELU, max pooling, dropout), an LSTM over time, batch norm.

    ``[B, 1, T, F]`` to ``[B, hidden * directions]``. The input is whitened per sample, on the device. Given the shares
    of the frames that are each cycle's own, padding neither counts for that nor reaches the LSTM, whose sequences are
    packed: the feature is that of the cycle alone, however it is padded. At 128 bins with hidden 64 the whole network
    has 139,786 parameters for 10 classes, 256,266 in both directions, as the original.

    Two things differ from the original. The feature is the last state of each direction, so that the backward half
    has seen the whole cycle and not its last frame alone. And where pools of 3, 4 and 4 would leave nothing, which is
    below 80 bins or frames, a pool shrinks to what leaves room for the layers after it.

    Args:
        shape: frames and bins of the feature.
        hidden, layers, bidirectional: of the LSTM.
        dropout: after each convolution.
        head_dropout: before the batch norm.
        crop: share of cycles of which only a part is heard in training.
        stretch: share of cycles that are played slower or faster in training.

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
        crop: float = 0.0,
        stretch: float = 0.0,
    ) -> None:
        super().__init__()
        frames, bins = shape[-2:]
        if min(frames, bins) < SMALLEST:
            raise UserError(
                f"a CRNN needs at least {SMALLEST} frames and {SMALLEST} bins, the feature has {frames} x {bins}",
                where="model",
            )
        blocks: list[nn.Module] = []
        self.crop, self.stretch, self.windows = crop, stretch, list[int]()
        channels = 1
        for outputs, pool, left in zip(CHANNELS, POOLS, LEFT, strict=True):
            frames, bins = frames - 2, bins - 2
            window = (_fitting(frames, pool, left), _fitting(bins, pool, left))
            self.windows.append(window[0])
            blocks += [
                nn.Conv2d(channels, outputs, 3),
                BatchNorm2d(outputs),
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
        self.norm = BatchNorm1d(self.feature_dim)

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        """The features of a batch; `shares` as in `WithShares`."""
        if self.training and self.crop:
            x, shares = self._cropped(x, shares)
        if self.training and self.stretch:
            x, shares = self._stretched(x, shares)
        lengths = None if shares is None else (shares * x.shape[2]).round().long().clamp(SMALLEST, x.shape[2])
        x = self.convolutions(whitened(x, lengths))
        frames = x.permute(0, 2, 1, 3).flatten(2)  # [B, frames, channels * bins]
        sequence: Tensor | PackedSequence = frames
        if lengths is not None:
            sequence = pack_padded_sequence(frames, self._steps(lengths), batch_first=True, enforce_sorted=False)
        _, (states, _) = self.lstm(sequence)  # [layers * directions, B, hidden]
        last = states[-self.directions :].transpose(0, 1).flatten(1)
        return self.norm(self.dropout(last))

    def _steps(self, lengths: Tensor) -> Tensor:
        """Steps of the LSTM that depend on the first `lengths` frames ``[B]`` alone, at least one; on the CPU."""
        for window in self.windows:
            lengths = ((lengths - 2) // window).clamp(1)
        return lengths.cpu()

    def _cropped(self, x: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Some cycles cut down to a stretch of their own sound, drawn like dropout, which is repeated to the end."""
        batch, frames = len(x), x.shape[2]
        chosen = torch.rand(batch, device=x.device) < self.crop
        cut = torch.where(chosen, (CUT * torch.randn(batch, device=x.device)).abs().clamp(max=LARGEST_CUT), 0.0)
        own = torch.full((batch,), frames, device=x.device) if shares is None else (shares * frames).round()
        kept = (own * (1 - cut)).round().clamp(min=1).long()
        start = (torch.rand(batch, device=x.device) * (own - kept + 1)).long()
        place = torch.arange(frames, device=x.device)
        whole = (kept == own)[:, None]  # what is not cut keeps its own padding
        index = torch.where(whole, place, start[:, None] + place % kept[:, None])
        return x.gather(2, index[:, None, :, None].expand_as(x)), None if shares is None else kept / frames

    def _stretched(self, x: Tensor, shares: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Some cycles at another speed, drawn like dropout; what they have of their own grows or shrinks with it."""
        chosen = torch.rand(len(x), device=x.device) < self.stretch
        speeds = torch.empty(len(x), device=x.device).uniform_(SLOWEST, FASTEST)
        speeds = torch.where(chosen, speeds, 1.0)
        return time_stretched(x, speeds), None if shares is None else (shares / speeds).clamp(max=1.0)


def whitened(x: Tensor, lengths: Tensor | None = None) -> Tensor:
    """``[B, C, T, F]`` with mean 0 and deviation 1 per sample, over its first `lengths` frames ``[B]`` if given."""
    if lengths is None:
        deviation, mean = torch.std_mean(x, dim=(1, 2, 3), keepdim=True)
        return (x - mean) / (deviation + 1e-5)
    own = (torch.arange(x.shape[2], device=x.device) < lengths[:, None])[:, None, :, None]
    count = (lengths * x.shape[1] * x.shape[3]).view(-1, 1, 1, 1)
    mean = (x * own).sum(dim=(1, 2, 3), keepdim=True) / count
    variance = ((x - mean).square() * own).sum(dim=(1, 2, 3), keepdim=True) / (count - 1)
    return (x - mean) / (variance.sqrt() + 1e-5)


def time_stretched(x: Tensor, speeds: Tensor) -> Tensor:
    """``[B, C, T, F]`` played at speeds ``[B]``, at the same pitch: frames interpolated along time.

    A phase vocoder interpolates the magnitudes of its spectrum just so; phases, which it is named for, leave no trace
    in a spectrogram. What a faster cycle lacks at its end begins anew, as its padding by repetition does.
    """
    frames = x.shape[2]
    places = torch.arange(frames, device=x.device) * speeds[:, None] % frames
    before = places.floor().long().clamp(max=frames - 1)
    share = (places - before).to(x.dtype)[:, None, :, None]

    def taken(index: Tensor) -> Tensor:
        return x.gather(2, index[:, None, :, None].expand_as(x))

    return taken(before) * (1 - share) + taken((before + 1) % frames) * share


def _fitting(size: int, pool: int, left: int) -> int:
    """The pooling, or less where too little would be left for the next convolution."""
    while pool > 1 and size // pool < left:
        pool -= 1
    return pool
