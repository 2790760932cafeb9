"""Settings of the samplers, which choose the next config of a search: one class per sampler."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar, Literal

from pydantic import PlainValidator, SerializeAsAny, SerializerFunctionWrapHandler, model_serializer

from workers.config.base import NamedPart
from workers.config.part_classes import PartClasses


class SamplerPart(NamedPart):
    """Base of all: what `sampler` of a search may be. A name alone stands for a sampler with its usual settings.

    ``build(settings, search, asked)`` of a class's module makes an Optuna sampler of the settings, the
    `search_spaces.schema.Search` that they are part of, and the number of trials that were asked for before.

    Attributes:
        learns: whether it draws the first `startup_trials` of the search at random, and learns from what they reach.
        takes_cost: whether it can search for a high Score and a low cost at once.
    """

    module: ClassVar[str] = "orchestrator.studies.samplers"
    learns: ClassVar[bool] = False
    takes_cost: ClassVar[bool] = True

    @model_serializer(mode="wrap")
    def _name_alone(self, handler: SerializerFunctionWrapHandler) -> Any:
        settings = {"name": self.name, **handler(self)}
        return settings if len(settings) > 1 else self.name

    def warnings(self, given: Collection[str]) -> list[str]:
        """Settings of a search that do nothing with this sampler.

        Args:
            given: the search's settings that a search space has.
        """
        if self.learns or "startup_trials" not in given:
            return []
        return [f"sampler: {self.name} draws all trials alike, so startup_trials does nothing"]


class TpeSampler(SamplerPart):
    """Tree-structured Parzen estimator (Bergstra et al., 2011), over all parameters of a family together."""

    label = "TPE"
    learns = True

    name: Literal["tpe"] = "tpe"


class GpSampler(SamplerPart):
    """Gaussian process with expected improvement."""

    label = "Gaussian process"
    learns = True

    name: Literal["gp"]


class CmaEsSampler(SamplerPart):
    """CMA-ES (Hansen, 2016). It takes numbers only, and draws choices at random."""

    label = "CMA-ES"
    learns = True
    takes_cost = False

    name: Literal["cmaes"]


class QmcSampler(SamplerPart):
    """Quasi-random: a scrambled Sobol sequence."""

    label = "Quasi-random"

    name: Literal["qmc"]


class RandomSampler(SamplerPart):
    """Every trial independent of the others."""

    label = "Random"

    name: Literal["random"]


SAMPLERS = PartClasses(SamplerPart, "lungtune.samplers", vars())
Sampler = Annotated[SamplerPart, PlainValidator(SAMPLERS.validate), SerializeAsAny(), SAMPLERS]
USUAL_SAMPLER = TpeSampler()
