"""The Ray cluster: joining one, starting one, and knowing whether what is asked for fits."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass

import ray

from feature_store.errors import UserError
from search_spaces.schema import Resources


@dataclass(frozen=True)
class Cluster:
    """What the cluster has in all."""

    nodes: int
    cpus: float
    gpus: float

    def check(self, resources: Resources) -> None:
        """Refuse what would otherwise wait silently for ever.

        Raises:
            UserError: a fold run asks for more than the cluster has.
        """
        for name, asked, there in (("GPUs", resources.gpus, self.gpus), ("CPUs", resources.cpus, self.cpus)):
            if asked > there:
                raise UserError(
                    f"a fold run asks for {asked:g} {name}, the cluster has {there:g}",
                    where=f"resources.{name.lower()}",
                    hint=f"lower it (--set resources.{name.lower()}={int(there)}) or join a larger cluster",
                )

    def slots(self, resources: Resources) -> int:
        """How many fold runs fit at once."""
        fits = [self.cpus / resources.cpus]
        if resources.gpus:
            fits.append(self.gpus / resources.gpus)
        return max(1, int(min(fits)))


def connect() -> Cluster:
    """Join the cluster that the environment names (`RAY_ADDRESS`, or a Ray job's), or start one on this machine."""
    if not ray.is_initialized():
        if os.environ.get("RAY_ADDRESS"):
            ray.init(log_to_driver=False, logging_level=logging.ERROR)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    totals = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return Cluster(nodes=nodes, cpus=totals.get("CPU", 0.0), gpus=totals.get("GPU", 0.0))
