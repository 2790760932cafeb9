"""CycleGuardian's network: overlapping groups of frames, each encoded alike, then clustered and fused.

Specified in docs/specification.md, 3.3.
"""

from __future__ import annotations

from typing import Literal

from timm.layers import trunc_normal_
from torch import Tensor, nn

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d, BatchNorm2d
from workers.config.models import CycleGuardianConfig
from workers.models.classifier import SoundClassifier, Task
from workers.models.clustering import Clustered, DeepClustering
from workers.models.front_end import FrontEnd

HIDDEN, STATE, CODE = 1024, 768, 128  # widths of a group's encoding, its state, and the features
SMALLEST = 11  # frames or bins of a group that the convolutions leave something of


def build(config: CycleGuardianConfig, task: Task) -> GroupClassifier:
    """The network of a config and a linear head."""
    sizes = config.model_dump(include={"group_frames", "group_step", "clusters", "codes", "fusion"})
    return GroupClassifier(task.front, CycleGuardian(task.maps, task.front.size, **sizes), task.classes)


class CycleGuardian(nn.Module):
    """``[B, C, T, F]`` to ``[B, 128]``: at the published size 45 groups, and 6,790,451 parameters.

    Groups of 20 frames begin every 15. All groups of all cycles pass the encoder as one batch, so that batch
    normalisation sees the batch once, where the source normalises each group's place in the cycle by itself in a loop.
    The encoder's last convolution wraps around at the edges (bins and frames).

    Args:
        channels: maps of the feature.
        size: frames and bins of the feature.
        group_frames, group_step: length of a group, and from one's start to the next's.
        clusters: of groups.
        codes, fusion: see `DeepClustering`.

    Raises:
        UserError: the feature is too small for a group, or a group for the convolutions.
    """

    feature_dim = CODE

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        *,
        group_frames: int = 20,
        group_step: int = 15,
        clusters: int = 4,
        codes: Literal["standardized", "raw"] = "standardized",
        fusion: Literal["conv", "gate"] = "conv",
    ) -> None:
        super().__init__()
        frames, bins = size
        _check_size(frames, bins, group_frames)
        self.group_frames, self.group_step = group_frames, group_step
        self.count = (frames - group_frames) // group_step + 1
        self.encoder = nn.Sequential(
            *_convolution(channels, 16, 1),
            *_convolution(16, 32, 3, stride=2),
            *_convolution(32, 64, 1),
            *_convolution(64, 128, 3, stride=2),
            *_convolution(128, 256, 3, stride=2, circular=True),
            nn.Flatten(),
            nn.Linear(256 * _encoded(bins) * _encoded(group_frames), HIDDEN),
            BatchNorm1d(HIDDEN),
            nn.ReLU(),
        )
        self.state = nn.Sequential(nn.Linear(HIDDEN, STATE), nn.Softplus())
        self.clustering = DeepClustering(self.count, STATE, clusters=clusters, code=CODE, codes=codes, fusion=fusion)
        self.apply(initialise)

    def groups(self, x: Tensor) -> Tensor:
        """The states of all groups, ``[B, groups, 768]``: where groups are mixed."""
        windows = x.unfold(2, self.group_frames, self.group_step)  # [B, C, groups, F, frames of a group]
        batch = windows.transpose(1, 2).flatten(0, 1)
        return self.state(self.encoder(batch)).view(len(x), self.count, STATE)

    def forward(self, x: Tensor) -> Tensor:
        return self.clustering(self.groups(x)).features


class GroupClassifier(SoundClassifier):
    """A classifier of groups, which stand in one row in time: Patch-Mix' objectives can mix them as tokens."""

    backbone: CycleGuardian

    def __init__(self, front: FrontEnd, backbone: CycleGuardian, n_classes: int) -> None:
        head = nn.Linear(CODE, n_classes)
        initialise(head)
        super().__init__(front, backbone, head, CODE)

    @property
    def grid(self) -> tuple[int, int]:
        """One row of groups."""
        return 1, self.backbone.count

    @property
    def clustering(self) -> DeepClustering:
        return self.backbone.clustering

    def tokens(self, x: Tensor) -> Tensor:
        """See `CycleGuardian.groups`."""
        return self.backbone.groups(self.front(x))

    def cluster(self, tokens: Tensor) -> Clustered:
        """Groups ``[B, groups, 768]`` assigned to clusters."""
        return self.backbone.clustering(tokens)

    def encode(self, tokens: Tensor) -> Tensor:
        """Groups ``[B, groups, 768]`` to ``[B, 128]``."""
        return self.cluster(tokens).features


def initialise(module: nn.Module) -> None:
    """The source's: truncated normal of 0.01 for linear layers, He's by outputs for convolutions, no biases."""
    if isinstance(module, nn.Linear):
        trunc_normal_(module.weight, std=0.01)
    elif isinstance(module, nn.Conv1d | nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, circular: bool = False
) -> tuple[nn.Module, ...]:
    mode: Literal["zeros", "circular"] = "circular" if circular else "zeros"
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, int(circular), padding_mode=mode)
    return convolution, BatchNorm2d(outputs), nn.ReLU()


def _encoded(length: int) -> int:
    """Bins or frames that the convolutions leave: 84 bins become 10, 20 frames 2."""
    halved = ((length - 3) // 2 + 1 - 3) // 2 + 1
    return (halved - 1) // 2 + 1


def _check_size(frames: int, bins: int, group_frames: int) -> None:
    if frames < group_frames:
        what = f"a group of {group_frames} frames does not fit a feature of {frames}"
        raise UserError(what, where="model.group_frames", hint="take shorter groups or a longer feature")
    if min(bins, group_frames) < SMALLEST:
        what = f"groups of {group_frames} frames x {bins} bins are too small: at least {SMALLEST} of each"
        raise UserError(what, where="model.group_frames")
