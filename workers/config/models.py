"""Settings of the models: one class each, with label, inputs and the module that builds it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, PlainValidator, SerializeAsAny, field_validator

from feature_store.errors import nearest
from workers.config.base import Experiment, NamedPart, Part
from workers.config.part_classes import PartClasses

Kind = Literal["maps", "scalars", "tokens", "clusters"]
"""What a model may take beside one map: a feature of several maps; scalars beside it; or, from an objective that mixes,
its own tokens (`tokens` and `encode`) and their clusters (`cluster`)."""


class Pretrained(Part):
    """A file of pretrained weights. Its content counts for the config's hash, its place does not.

    A bare name is looked up in the weights folder (`LUNGTUNE_WEIGHTS`).
    """

    file: str
    sha256: str | None = Field(default=None, description="filled in by `lungtune` before anything runs")


class ModelPart(NamedPart):
    """Base of the models' settings. Its `build` is that of `workers.models.build_model`.

    Attributes:
        takes: what the model takes beside one map.
    """

    takes: ClassVar[frozenset[Kind]] = frozenset()

    pretrained: Pretrained | None = None
    resize: float = Field(default=1.0, gt=0, le=4, description="the feature is scaled to int(frames r) x int(bins r)")
    standardize: Literal["none", "train"] = Field(
        default="none", description="train: (x - mean) / std of the training side's values, kept with the weights"
    )

    @field_validator("pretrained", mode="before")
    @classmethod
    def _file_name(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @property
    def takes_shares(self) -> bool:
        """Whether the model receives `workers.inputs.WithShares`: how much of each cycle is its own."""
        return False

    def check(self, config: Experiment) -> None:
        """Refuse a feature of several maps, or with scalars, that the model does not take."""
        feature = config.feature
        if feature.channels is not None and "maps" not in self.takes:
            raise ValueError(
                f"feature '{feature.kind}' has {feature.channels} maps, and model '{self.name}' takes one; use model "
                f"{', '.join(models_that_take('maps'))}"
            )
        if feature.scalars and "scalars" not in self.takes:
            raise ValueError(
                f"feature '{feature.kind}' has {feature.scalars} scalars, which model '{self.name}' does not take; use "
                f"model {', '.join(models_that_take('scalars'))}"
            )

    @classmethod
    def fault(cls) -> str | None:
        """What the class itself lacks, or takes that no model does."""
        if not isinstance(cls.takes, frozenset):
            return f"takes of {cls.__name__} is no frozenset"
        unknown = sorted(map(str, cls.takes - set(get_args(Kind))))
        if unknown:
            return f"{cls.__name__} takes '{unknown[0]}' ({nearest(unknown[0], get_args(Kind))})"
        return super().fault()


class CnnConfig(ModelPart):
    """PANNs trunks (Kong et al., 2020): blocks of one 5x5 (`cnn6`) or two 3x3 convolutions (`cnn10`, `cnn14`)."""

    label = "CNN"
    module = "workers.models.cnn"

    name: Literal["cnn6", "cnn10", "cnn14"]
    dropout: float = Field(default=0.0, ge=0, lt=1, description="after each block; PANNs trains with 0.2")

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and layers."""
        return str(settings["name"]).replace("cnn", cls.label)


class MnConfig(ModelPart):
    """MobileNetV3 for audio (EfficientAT, Schmid et al., 2023) with one input channel."""

    label = "MobileNet"
    module = "workers.models.mn"

    name: Literal["mn"]
    width: float = Field(default=0.4, gt=0, le=4, description="width multiplier: mn04 is 0.4")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="in the classifier")

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and width, as EfficientAT names it."""
        return f"{cls.label} mn{round(float(settings['width']) * 10):02d}"


class CrnnConfig(ModelPart):
    """Three convolutions and a two-layer LSTM (docs/specification.md, 6.1)."""

    label = "CRNN"
    module = "workers.models.crnn"

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

    @property
    def takes_shares(self) -> bool:
        """With `packed`, which leaves the padding out."""
        return self.packed

    def check(self, config: Experiment) -> None:
        """Refuse, with `packed`, what moves a cycle's own sound from the beginning or mixes it."""
        super().check(config)
        feature = config.feature
        fits = {
            "feature.pad repeat or augment": feature.pad in {"repeat", "augment"},
            "feature.copies 0 or feature.copy_by noise": not feature.copies or feature.copy_by == "noise",
            "objective ce": config.objective.name == "ce",
            "augment.roll 0": not config.augment.roll,
            "training.concat_scale 0": not config.training.concat_scale,
            "training.event_scale 0": not config.training.event_scale,
        }
        lacking = [wanted for wanted, fit in fits.items() if not fit]
        if self.packed and lacking:
            raise ValueError(f"model.packed needs {lacking[0]}: a cycle's own sound comes first, and padding after it")

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label, cells and layers of the LSTM."""
        return f"{cls.label} {settings['hidden']}×{settings['layers']}"


class ImagePart(ModelPart):
    """Image networks of torchvision with one input channel."""

    module = "workers.models.image"

    pretrained_stem: Literal["sum", "random"] = Field(
        default="sum", description="first convolution of a colour network: summed over colours, or left untrained"
    )


class ResNetConfig(ImagePart):
    """ResNets (He et al., 2016)."""

    label = "ResNet"

    name: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"]

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and layers."""
        return str(settings["name"]).replace("resnet", cls.label)


class EfficientNetConfig(ImagePart):
    """EfficientNets (Tan and Le, 2019)."""

    label = "EfficientNet"

    name: Literal["efficientnet_b0", "efficientnet_b1", "efficientnet_b2"]

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and size."""
        return str(settings["name"]).replace("efficientnet_b", f"{cls.label} B")


class TransformerPart(ModelPart):
    """Transformers over patches of the spectrogram."""

    takes = frozenset({"tokens"})
    module = "workers.models.ast"

    size: Literal["tiny", "small", "base"] = "base"
    depth: int = Field(default=12, ge=1, le=48, description="transformer blocks")
    stride: int = Field(default=10, ge=1, le=64, description="step between patches, in bins and frames")
    drop_path: float = Field(default=0.0, ge=0, lt=1)

    @property
    @abstractmethod
    def patch_size(self) -> tuple[int, int]:
        """Bins and frames of a patch."""

    def check(self, config: Experiment) -> None:
        """Refuse a feature that is smaller than a patch."""
        super().check(config)
        frames, bins = scaled(config.feature.shape, self.resize)
        patch_bins, patch_frames = self.patch_size
        if bins < patch_bins or frames < patch_frames:
            raise ValueError(
                f"a patch of {patch_bins} bins x {patch_frames} frames does not fit a feature of {frames} frames x "
                f"{bins} bins"
            )

    @classmethod
    def describe(cls, settings: Mapping[str, Any]) -> str:
        """Label and size, and the depth where it is not the usual one."""
        usual = cls.model_fields["depth"].default
        depth = settings.get("depth", usual)
        return f"{cls.label} {settings['size']}" + (f", {depth} blocks" if depth != usual else "")


class AstConfig(TransformerPart):
    """Audio Spectrogram Transformer (Gong et al., 2021) on a ViT/DeiT backbone of timm."""

    label = "AST"

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

    label = "SSAST"

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

    takes = frozenset({"maps", "scalars"})

    scalar_scale: Literal["train", "seed_compat"] = Field(
        default="train",
        description="train: scalars standardised by the training side's; seed_compat: as they are, from 1e-4 to 40",
    )


class Cnn8Config(PhasePart):
    """CNN8: eight convolutions (docs/specification.md, 5.4)."""

    label = "CNN8"
    module = "workers.models.cnn8"

    name: Literal["cnn8"]
    dropout: float = Field(default=0.3, ge=0, lt=1, description="of channels, of the scalars' network and the head")


class VggConfig(PhasePart):
    """Twelve convolutions in four blocks, one of them residual (docs/specification.md, 5.4)."""

    label = "VGG"
    module = "workers.models.vgg"

    name: Literal["vgg"]
    dropout: float = Field(default=0.2, ge=0, lt=1, description="everywhere; half of it after the first block")


class CycleGuardianConfig(ModelPart):
    """CycleGuardian: overlapping groups of frames, encoded alike, clustered and fused (docs/specification.md, 3.3)."""

    label = "CycleGuardian"
    module = "workers.models.cycleguardian"
    takes = frozenset({"maps", "tokens", "clusters"})

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
    """The voice classifier of the AI CUP 2023: three convolutions and a network of medical numbers.

    Specified in docs/specification.md, 4.2.
    """

    label = "Voice CNN"
    module = "workers.models.voice_cnn"
    takes = frozenset({"scalars"})

    name: Literal["voice_cnn"]
    softmax_in_net: Literal["off", "seed_compat"] = Field(
        default="off",
        description="seed_compat: trained by a cross entropy of probabilities, which softmaxes them again",
    )


MODELS = PartClasses(ModelPart, "lungtune.models", vars())
ModelConfig = Annotated[ModelPart, PlainValidator(MODELS.validate), SerializeAsAny(), MODELS]


def models_that_take(kind: Kind) -> list[str]:
    """Names of lungtune's models that take it, sorted."""
    return sorted(name for name, model in MODELS.own.items() if kind in model.takes)


def scaled(shape: tuple[int, ...], resize: float) -> tuple[int, int]:
    """Frames and bins of a feature after `resize`: each cut down to a whole number, as Patch-Mix does."""
    frames, bins = shape[-2:]
    return int(frames * resize), int(bins * resize)
