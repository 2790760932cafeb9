"""Settings of augmentation, optimisation and the training loop."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from feature_store.metrics import Metric
from workers.config.base import Experiment, Part


class AugmentConfig(Part):
    """Rolling and SpecAugment (Park et al., 2019), on the device, for whole batches.

    A policy's widths are those published, for 798 frames x 128 bins or with CycleGuardian's two (`group_sr22k`,
    `icbhi_group_cl`) for 688 x 84, and are scaled to the feature's size.
    """

    policy: Literal["none", "LB", "LD", "SM", "SS", "icbhi_sup", "icbhi_ast_sup", "group_sr22k", "icbhi_group_cl"] = (
        "icbhi_ast_sup"
    )
    fill: Literal["mean", "zero"] = "mean"
    gate: Literal["uniform", "seed_compat"] = Field(
        default="uniform",
        description="seed_compat: the policy's probability is compared with a normal draw, as in Patch-Mix's release",
    )
    roll: float = Field(default=0.0, ge=0, le=1, description="share of cycles whose frames are rolled around")


class OptimConfig(Part):
    name: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: float = Field(default=1e-3, gt=0, le=1e15)
    weight_decay: float = Field(default=1e-6, ge=0, le=100)
    amsgrad: bool = Field(default=False, description="adam and adamw: divide by the largest second moment so far")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Literal["cosine", "step", "one_cycle", "constant", "warmup_cosine"] = Field(
        default="cosine",
        description="cosine: once an epoch, to lr * decay_rate^3; step: lr * decay_rate after each of decay_epochs; "
        "one_cycle: once a step; warmup_cosine: once a step, up over warmup_share of them, then down to lowest_lr",
    )
    warmup_share: float = Field(default=0.05, ge=0, lt=1, description="warmup_cosine only: of all steps, from lr/10")
    lowest_lr: float = Field(default=1e-6, ge=0, le=100, description="warmup_cosine only: where it ends")
    decay_rate: float = Field(default=0.1, gt=0, le=1, description="of step and cosine")
    decay_epochs: tuple[int, ...] = Field(
        default=(120, 160), max_length=1000, description="step only: the last epochs before a drop"
    )
    warmup_epochs: int = Field(default=0, ge=0, le=100_000, description="linear from lr/10, set once a step")
    clip_norm: float | None = Field(default=None, gt=0, le=1e6, description="largest gradient norm")

    @model_validator(mode="after")
    def _sound(self) -> OptimConfig:
        if self.warmup_epochs and self.schedule == "one_cycle":
            raise ValueError("one_cycle has its own warm-up: set warmup_epochs to 0")
        if self.schedule == "warmup_cosine" and self.warmup_epochs:
            raise ValueError("warmup_cosine warms up over warmup_share of its steps: set warmup_epochs to 0")
        if self.schedule == "warmup_cosine" and self.lowest_lr > self.lr:
            raise ValueError(f"lowest_lr {self.lowest_lr:g} is above lr {self.lr:g}")
        if any(first < 1 for first in self.decay_epochs) or list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError(f"decay_epochs must be rising epochs from 1, not {list(self.decay_epochs)}")
        return self

    def check(self, config: Experiment) -> None:
        """Refuse a warm-up that is as long as the training."""
        epochs = config.training.epochs
        if self.warmup_epochs and self.warmup_epochs >= epochs:
            raise ValueError(
                f"optim.warmup_epochs: a warm-up of {self.warmup_epochs} epochs leaves none of {epochs} to train in; "
                f"use at most {epochs - 1}"
            )


class AverageConfig(Part):
    """Averaging of weights: `ema` keeps a shadow that is evaluated; `live_blend` blends into the live model."""

    name: Literal["none", "ema", "live_blend"] = "none"
    beta: float = Field(default=0.5, ge=0, lt=1, description="share of the previous weights")


class TrainingConfig(Part):
    epochs: int = Field(default=50, ge=1, le=100_000)
    batch_size: int = Field(default=8, ge=1, le=65_536)
    eval_batch_size: int = Field(default=64, ge=1, le=65_536)
    drop_last: bool = Field(default=True, description="drop the epoch's last, smaller batch")
    sampler: Literal["shuffle", "weighted"] = Field(
        default="shuffle", description="weighted: as many draws as cycles, with replacement, all classes alike"
    )
    concat_scale: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="grow every abnormal class to this share of the normal one, by pairs",
    )
    event_scale: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="grow crackle to three times its size, and wheeze and both to this share of the normal class, by "
        "cycles made of annotated events",
    )
    average: AverageConfig = AverageConfig()
    precision: Literal["auto", "fp32", "bf16"] = Field(default="auto", description="auto: bf16 on GPU, fp32 on CPU")
    compile: bool = Field(default=False, description="torch.compile the step")
    deterministic: bool = Field(default=False, description="only operations that give the same bits again, also on GPU")
    validation_fraction: float = Field(
        default=0.15, gt=0, lt=0.5, description="share of the training side's patients held out to choose an epoch"
    )
    metric: Metric | None = Field(
        default=None, description="what chooses an epoch: a Score, accuracy or mean recall; null: the task's own"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="stop after so many epochs without a better one on the held-out patients",
    )
    min_sensitivity: float = Field(
        default=0.0, ge=0, lt=100, description="an epoch is chosen only above this Se, percent; Patch-Mix: 5"
    )
    protocol: Literal["validation", "last"] = Field(
        default="last", description="whose epoch's weights are kept, and whose Score leads"
    )
    watch_test: bool = Field(default=False, description="also score the test side after every epoch (`test_best`)")

    def check(self, config: Experiment) -> None:
        """Refuse a task or a feature of which no cycles can be joined or made."""
        task, feature = config.task, config.feature
        if self.concat_scale and (task != "lungsound4" or feature.pad != "repeat"):
            raise ValueError(
                "training.concat_scale joins cycles of the four lung-sound classes that are padded by repetition: "
                f"it needs task lungsound4 and pad repeat, not {task} and {feature.pad}"
            )
        if self.event_scale and (task != "lungsound4" or feature.seconds < 2):
            raise ValueError(
                "training.event_scale makes cycles of crackles and wheezes: it needs task lungsound4 and at least two "
                f"seconds, not {task} and {feature.seconds:g} s"
            )
        if self.event_scale and (self.concat_scale or feature.scalars):
            raise ValueError(
                "training.event_scale makes cycles of maps, and is the only one to: set concat_scale to 0, and take a "
                "feature without scalars"
            )
        if self.concat_scale and (feature.copies or feature.channels):
            raise ValueError("training.concat_scale joins cycles of one map as they are: set feature.copies to 0")
