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


ModelConfig = Annotated[
    CnnConfig | MnConfig | CrnnConfig | ResNetConfig | EfficientNetConfig | AstConfig | SsastConfig,
    Field(discriminator="name"),
]
TOKEN_MODELS = frozenset({"ast", "ssast"})
