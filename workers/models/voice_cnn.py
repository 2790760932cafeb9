"""The voice classifier of the AI CUP 2023: three convolutions over cepstral coefficients beside a medical network."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from feature_store.errors import UserError
from workers.batch_norm import BatchNorm1d, BatchNorm2d
from workers.config.models import VoiceCnnConfig
from workers.models.classifier import Task
from workers.models.two_inputs import TwoInputClassifier, join
from workers.models.weight_file import State

BESIDE = 128  # width of what the medical numbers become
SMALLEST = 40  # frames: two convolutions take seven each, after one and two halvings
PARTS = {
    **{name: f"backbone.{name}" for name in ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3")},
    "linear1": "beside.0", "linear2": "beside.2", "linear3": "beside.4",
    "fc1": "head.0", "bnfc": "head.2", "fc2": "head.3",
}  # fmt: skip
"""Parts of a published checkpoint and ours."""
UNUSED = frozenset({"conv4", "bn4", "conv5", "bn5", "conv6", "bn6", "conv7", "bn7", "l1", "l2"})


def build(config: VoiceCnnConfig, task: Task) -> TwoInputClassifier:
    """The network of a config; the medical numbers go in as they are, as in the source system."""
    softmax_in_net = config.softmax_in_net == "seed_compat"
    return join(
        task,
        VoiceCnn(task.front.size),
        VoiceCnn.feature_dim,
        medical_branch,
        BESIDE,
        lambda width: head(width, task.classes, softmax_in_net=softmax_in_net),
        standardizes=False,
    )


class VoiceCnn(nn.Module):
    """Three convolutions with CELU, batch norm and a maximum over 2 x 2; the mean over all places.

    Specified in docs/specification.md, 4.2.

    ``[B, 1, T, F]`` to ``[B, 64]``. Kernels span 3 coefficients and 3, 10 and 10 frames, padded by one, so that each of
    the latter two takes seven frames. 444,261 parameters with `medical_branch` and `head`; those that the source system
    declares and never uses are left out.

    Args:
        shape: frames and coefficients.

    Raises:
        UserError: too few frames.
    """

    feature_dim = 64

    def __init__(self, shape: tuple[int, int]) -> None:
        super().__init__()
        if shape[0] < SMALLEST:
            what = f"the voice CNN needs {SMALLEST} frames, the feature has {shape[0]}"
            raise UserError(what, where="model", hint="lower feature.shift_ms")
        self.conv1, self.bn1 = nn.Conv2d(1, 16, (3, 3), padding=1), BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, (3, 10), padding=1), BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 64, (3, 10), padding=1), BatchNorm2d(64)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(2, 3)  # coefficients first, as the published kernels lie
        for convolution, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x = F.max_pool2d(norm(F.celu(convolution(x))), 2, padding=1)
        return x.mean(dim=(2, 3))


def medical_branch(scalars: int) -> nn.Sequential:
    """``[B, scalars]`` to ``[B, 128]``."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((scalars, 1024), (1024, 256), (256, BESIDE)):
        layers += [nn.Linear(inputs, outputs), nn.CELU()]
    return nn.Sequential(*layers)


def head(width: int, classes: int, *, softmax_in_net: bool) -> nn.Sequential:
    """``[B, width]`` to logits ``[B, classes]``, or in training to probabilities; see `SoftmaxInTraining`."""
    layers = [nn.Linear(width, 128), nn.CELU(), BatchNorm1d(128), nn.Linear(128, classes)]
    return nn.Sequential(*layers, *([SoftmaxInTraining()] if softmax_in_net else []))


class SoftmaxInTraining(nn.Module):
    """Probabilities where a loss expects logits: the source system's cross entropy takes the softmax of a softmax.

    When evaluated it gives the logits. Their softmax is what the source system's network puts out, so stored
    predictions and ensembles are of its probabilities, and not of those softmaxed twice.
    """

    def forward(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1) if self.training else logits


def published_state(state: State) -> tuple[State, list[str]] | None:
    """A published checkpoint (``mfcc<n>_use_all.pth``) under our names, and what it has that no forward uses.

    None for a state that is none of these. Its five outputs are the contest's classes 1 to 5, of which the last is
    normal; ours begin with it.
    """
    parts = {name.split(".")[0] for name in state}
    if parts != PARTS.keys() | UNUSED:
        return None
    renamed = {f"{PARTS[part]}.{rest}": value for part, rest, value in _split(state) if part in PARTS}
    for name in ("head.3.weight", "head.3.bias"):
        renamed[name] = torch.roll(renamed[name], 1, dims=0)
    return renamed, [f"{part}.{rest}" for part, rest, _ in _split(state) if part in UNUSED]


def _split(state: State) -> list[tuple[str, str, Tensor]]:
    return [(*name.split(".", 1), value) for name, value in state.items()]  # type: ignore[misc]
