"""What a fold run's stored predictions say of its test side, under one protocol."""

from __future__ import annotations

from feature_store.errors import UserError
from orchestrator.leaderboard.tallies import Predictions, read_predictions
from workers.results import PREDICTIONS, ResultStore


def predictions_of(results: ResultStore, name: str, protocol: str) -> Predictions:
    """The test side of a result.

    Raises:
        UserError: the result has no predictions, or none of that protocol, or they cannot be read.
    """
    said = read_predictions(results, name).get(protocol)
    if said is None:
        raise UserError(f"{PREDICTIONS} has no rows of protocol '{protocol}'", where=f"result {name[:12]}")
    return said
