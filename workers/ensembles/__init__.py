"""Ensembles: several fold runs' stored predictions made one, weighted on held-out patients only, stored once."""

from workers.ensembles.build import build_ensemble
from workers.ensembles.members import check_protocol
from workers.ensembles.record import METHODS, EnsembleMember, EnsembleResult, FoldScores, Overall, Settings
from workers.ensembles.store import EnsembleStore, stored

__all__ = [
    "METHODS",
    "EnsembleMember",
    "EnsembleResult",
    "EnsembleStore",
    "FoldScores",
    "Overall",
    "Settings",
    "build_ensemble",
    "check_protocol",
    "stored",
]
