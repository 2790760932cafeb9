"""How many fold runs share a GPU: what one takes is measured on the first, and the next one's share follows from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from search_spaces.schema import Resources
from workers.config import ExperimentConfig

SHARES = (0.25, 0.3333, 0.5, 1.0)  # of a GPU; Ray counts in ten-thousandths. More than four at once gain nothing.
MARGIN = 1.2  # over the measured peak: other folds are larger, and the allocator's blocks do not fit without gaps
CONTEXT = 700 * 2**20  # bytes that CUDA itself takes for a process, which no allocator counts


def footprint(config: ExperimentConfig) -> str:
    """What decides how much memory a run takes: equal for configs that differ in anything else."""
    content = config.model_dump(mode="json")
    training = {key: content["training"][key] for key in ("batch_size", "eval_batch_size", "precision", "compile")}
    parts = [content["model"], config.feature.feature_id, content["objective"]["name"], training]
    return json.dumps(parts, sort_keys=True)


def share_of(peak_bytes: int, device_bytes: int) -> float:
    """The smallest share of a device that holds a run of this peak, the whole one if it is not known."""
    if not peak_bytes or not device_bytes:
        return 1.0
    needed = (MARGIN * peak_bytes + CONTEXT) / device_bytes
    return next((share for share in SHARES if share >= needed), 1.0)


@dataclass(frozen=True)
class Slot:
    """What one fold run gets: cores, and GPUs or a share of one."""

    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def of(cls, resources: Resources, auto: float = 1.0) -> Slot:
        """As the resources say, with the share given where they leave it open."""
        return cls(resources.cpus, auto if resources.gpus == "auto" else resources.gpus)


@dataclass
class Packing:
    """The shares that runs get, by their footprint.

    Attributes:
        resources: as the search space says; only ``gpus: auto`` is packed.
        shares: known so far. A larger run that is met later makes a share larger, never smaller.
    """

    resources: Resources
    shares: dict[str, float] = field(default_factory=dict)

    def note(self, config: ExperimentConfig, peak_bytes: int, device_bytes: int) -> None:
        """Learn from a finished run; one that ran on no GPU, and so has no bytes of a device, says nothing."""
        if device_bytes:
            key = footprint(config)
            self.shares[key] = max(self.shares.get(key, 0.0), share_of(peak_bytes, device_bytes))

    def slot(self, config: ExperimentConfig) -> Slot:
        """What the next run of a config asks for: a whole GPU as long as nothing is known."""
        return Slot.of(self.resources, self.shares.get(footprint(config), 1.0))
