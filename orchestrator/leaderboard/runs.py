"""Fold runs as the leaderboard needs them: small enough for tens of thousands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from orchestrator.analysis.groups import Cohort
from workers.results import FoldKey, FoldResult, ProtocolResult, Provenance


@dataclass(frozen=True, slots=True)
class Run:
    """One fold run: a `FoldResult` without what only its own page would show."""

    hash: str
    key: FoldKey
    cohort: Cohort
    config: dict[str, Any]
    protocols: dict[str, ProtocolResult]
    test_cycles: int
    test_patients: int
    both_sides: tuple[str, ...]
    sounds_on_both_sides: tuple[str, ...]
    sounds_in_doubt: tuple[str, ...]
    split_source: str
    parameters: int
    provenance: Provenance
    train_seconds: float
    energy_kwh: float | None
    test_reads: int
    compat: tuple[str, ...]

    @classmethod
    def of(cls, result: FoldResult, shared: dict[Any, Any]) -> Run:
        """Keep what the board needs; equal configs and cohorts are one object, through `shared`."""
        data, cohort = result.data, Cohort.of(result)
        return cls(
            hash=result.hash,
            key=result.key,
            cohort=shared.setdefault(cohort, cohort),
            config=shared.setdefault(json.dumps(result.config, sort_keys=True), result.config),
            protocols=result.protocols,
            test_cycles=data.test,
            test_patients=data.test_patients,
            both_sides=tuple(data.patients_on_both_sides),
            sounds_on_both_sides=tuple(data.sounds_on_both_sides),
            sounds_in_doubt=tuple(data.sounds_in_doubt),
            split_source=data.split_source,
            parameters=int(result.model["parameters"]),
            provenance=result.provenance,
            train_seconds=float(result.timing.get("train_seconds", 0.0)),
            energy_kwh=result.timing.get("energy_kwh"),
            test_reads=result.test_reads,
            compat=tuple(result.compat),
        )
