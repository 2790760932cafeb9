"""Settings of the models."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from workers.config.base import Part


class Pretrained(Part):
    """A file of pretrained weights. Its content counts for the config's hash, its place does not.

    A bare name is looked up in the weights folder (`LUNGTUNE_WEIGHTS`).
    """

    file: str
    sha256: str | None = Field(default=None, description="filled in by `lungtune` before anything runs")


class ModelPart(Part):
    pretrained: Pretrained | None = None
    resize: float = Field(default=1.0, gt=0, le=4, description="the feature is scaled to int(frames r) x int(bins r)")
    standardize: Literal["none", "train"] = Field(
        default="none", description="train: (x - mean) / std of the training side's values, kept with the weights"
    )

    @field_validator("pretrained", mode="before")
    @classmethod
    def _file_name(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value


class CnnConfig(ModelPart):
    """PANNs trunks (Kong et al., 2020): blocks of one 5x5 (`cnn6`) or two 3x3 convolutions (`cnn10`, `cnn14`)."""

    name: Literal["cnn6", "cnn10", "cnn14"]
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after each block; PANNs trains with 0.2")


class MnConfig(ModelPart):
    """MobileNetV3 for audio (EfficientAT, Schmid et al., 2023) with one input channel."""

    name: Literal["mn"]
    width: float = Field(default=0.4, gt=0, le=4, description="width multiplier: mn04 is 0.4")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in the classifier")


class CrnnConfig(ModelPart):
    """Three convolutions and a two-layer LSTM (SEEDS' credited CRNN)."""

    name: Literal["crnn"]
    hidden: int = Field(default=64, ge=1, le=1024)
    layers: int = Field(default=2, ge=1, le=8)
    bidirectional: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1, description="after each convolution")
    head_dropout: float = Field(default=0.3, ge=0, lt=1)
    packed: bool = Field(default=False, description="each cycle is heard up to where its padding begins")
    crop: float = Field(
        default=0.0, ge=0, le=1, description="share of training cycles of which only a part is heard, at least a fifth"
    )
    stretch: float = Field(
        default=0.0, ge=0, le=1, description="share of training cycles played at 0.6 to 1.4 times speed"
    )


class ImagePart(ModelPart):
    """Image networks of torchvision with one input channel."""

    pretrained_stem: Literal["sum", "random"] = Field(
        default="sum", description="first convolution of a colour network: summed over colours, or left untrained"
    )


class ResNetConfig(ImagePart):
    """ResNets (He et al., 2016)."""

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]


class EfficientNetConfig(ImagePart):
    """EfficientNets (Tan and Le, 2019)."""

    name: Literal["efficientnet_b0", "efficientnet_b1", "efficientnet_b2"]


class TransformerPart(ModelPart):
    size: Literal["tiny", "small", "base"] = "base"
    depth: int = Field(default=12, ge=1, le=48, description="transformer blocks")
    stride: int = Field(default=10, ge=1, le=64, description="step between patches, in bins and frames")
    drop_path: float = Field(default=0.0, ge=0, lt=1)


class AstConfig(TransformerPart):
    """Audio Spectrogram Transformer (Gong et al., 2021) on a ViT/DeiT backbone of timm."""

    name: Literal["ast"]
    patch: int = Field(default=16, ge=2, le=64, description="side of a square patch, in bins and frames")
    pos_embed_layout: Literal["correct", "seed_compat"] = Field(
        default="correct",
        description="seed_compat: pretrained positions are fitted with the axes swapped, as Patch-Mix's release does",
    )

    @property
    def patch_size(self) -> tuple[int, int]:
        """Bins and frames of a patch."""
        return self.patch, self.patch


class SsastConfig(TransformerPart):
    """Self-supervised AST (Gong et al., 2022): the same network, patches of any shape, features of all tokens."""

    name: Literal["ssast"]
    patch_bins: int = Field(default=16, ge=1, le=512, description="the checkpoint's: Patch 16, Frame 128")
    patch_frames: int = Field(default=16, ge=1, le=512, description="the checkpoint's: Patch 16, Frame 2")
    pool: Literal["avgtok", "cls"] = Field(
        default="avgtok", description="mean of all patches' outputs, or of the cls and distillation outputs"
    )

    @property
    def patch_size(self) -> tuple[int, int]:
        """Bins and frames of a patch."""
        return self.patch_bins, self.patch_frames


class PhasePart(ModelPart):
    """Networks of the breathing-phase classifier: any number of maps and of scalars beside them."""

    scalar_scale: Literal["train", "seed_compat"] = Field(
        default="train",
        description="train: scalars standardised by the training side's; seed_compat: as they are, from 1e-4 to 40",
    )


class Cnn8Config(PhasePart):
    """CNN8: eight convolutions (SEEDS 5.4)."""

    name: Literal["cnn8"]
    dropout: float = Field(default=0.3, ge=0, lt=1, description="of channels, of the scalars' network and the head")


class VggConfig(PhasePart):
    """Twelve convolutions in four blocks, one of them residual (SEEDS 5.4)."""

    name: Literal["vgg"]
    dropout: float = Field(default=0.2, ge=0, lt=1, description="everywhere; half of it after the first block")


class CycleGuardianConfig(ModelPart):
    """CycleGuardian: overlapping groups of frames, encoded alike, clustered and fused (SEEDS 3.3)."""

    name: Literal["cycleguardian"]
    group_frames: int = Field(default=20, ge=11, le=1000, description="length of a group")
    group_step: int = Field(default=15, ge=1, le=1000, description="frames from one group's start to the next's")
    clusters: int = Field(default=4, ge=2, le=64)
    codes: Literal["standardized", "raw"] = Field(
        default="standardized",
        description="of groups, compared with the clusters' centres; raw, as the source: all begin in one cluster",
    )
    fusion: Literal["conv", "gate"] = Field(
        default="conv", description="of the clusters' vectors; gate: by the module that the source leaves unused"
    )


class VoiceCnnConfig(ModelPart):
    """The voice classifier of the AI CUP 2023: three convolutions and a network of medical numbers (SEEDS 4.2)."""

    name: Literal["voice_cnn"]
    softmax_in_net: Literal["off", "seed_compat"] = Field(
        default="off",
        description="seed_compat: trained by a cross entropy of probabilities, which softmaxes them again",
    )


ModelConfig = Annotated[
    CnnConfig
    | MnConfig
    | CrnnConfig
    | ResNetConfig
    | EfficientNetConfig
    | AstConfig
    | SsastConfig
    | Cnn8Config
    | VggConfig
    | CycleGuardianConfig
    | VoiceCnnConfig,
    Field(discriminator="name"),
]
TOKEN_MODELS = frozenset({"ast", "ssast", "cycleguardian"})
CHANNEL_MODELS = frozenset({"cnn8", "vgg", "cycleguardian"})  # that take features of several maps
SCALAR_MODELS = frozenset({"cnn8", "vgg", "voice_cnn"})  # that take the scalars of a feature
CLUSTER_MODELS = frozenset({"cycleguardian"})
