"""Ensembles beside the results: ``<results>/ensembles/<hash>/{ensemble.json, predictions.parquet}``, written once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from feature_store.errors import UserError
from feature_store.storage import Storage, open_storage
from workers.ensembles.record import EnsembleResult
from workers.results import PREDICTIONS, table_of_side

if TYPE_CHECKING:
    import pyarrow as pa

FOLDER, ENSEMBLE = "ensembles", "ensemble.json"


class EnsembleStore:
    """The ensembles of a result store; one is there wholly or not at all."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def open(cls, results: str) -> EnsembleStore:
        """Of the result store at a URI: a folder or ``s3://bucket/prefix``."""
        return cls(open_storage(results))

    def hashes(self) -> list[str]:
        """Names of all ensembles, sorted."""
        names = (key.split("/") for key in self.storage.list(FOLDER))
        return sorted(parts[1] for parts in names if len(parts) == 3 and parts[2] == ENSEMBLE)

    def get(self, ensemble_hash: str) -> EnsembleResult | None:
        """The ensemble, or None where there is none of that name.

        Raises:
            UserError: it is there but cannot be read.
        """
        key = f"{FOLDER}/{ensemble_hash}/{ENSEMBLE}"
        try:
            return EnsembleResult.model_validate_json(self.storage.read(key))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise UserError(
                f"is not an ensemble of this version ({error.error_count()} problems)",
                where=self.storage.uri(key),
                hint="delete its folder and run `lungtune ensemble` again",
            ) from error

    def predictions(self, ensemble_hash: str, side: str = "test") -> pa.Table:
        """Logits per cycle in the columns of a fold run's predictions, and the fold of each row.

        Args:
            ensemble_hash: a stored ensemble.
            side: ``test``, or ``validation`` where members of a fold share their held-out patients.

        Raises:
            UserError: there is no such ensemble.
        """
        try:
            content = self.storage.read(f"{FOLDER}/{ensemble_hash}/{PREDICTIONS}")
        except FileNotFoundError as error:
            raise UserError(f"there is no ensemble {ensemble_hash}", where=self.storage.uri(FOLDER)) from error
        return table_of_side(content, side)

    def publish(self, ensemble: EnsembleResult, predictions: bytes) -> EnsembleResult:
        """Store an ensemble once, and give back what is stored.

        `ensemble.json` is written last, by one rename or one conditional PUT: it makes the ensemble visible. Two
        writers of one name write the same predictions, since the name covers all that they follow from.
        """
        found = self.get(ensemble.hash)
        if found is not None:
            return found
        self.storage.write(f"{FOLDER}/{ensemble.hash}/{PREDICTIONS}", predictions)
        first = self.storage.write_if_absent(f"{FOLDER}/{ensemble.hash}/{ENSEMBLE}", ensemble.to_json())
        return ensemble if first else self.get(ensemble.hash) or ensemble


def stored(results: str) -> list[EnsembleResult]:
    """Every ensemble of the result store at a URI, in the order of their hashes.

    Raises:
        UserError: one cannot be read.
    """
    store = EnsembleStore.open(results)
    found = (store.get(name) for name in store.hashes())
    return [ensemble for ensemble in found if ensemble is not None]
