"""What only an entry's own page and a comparison of two entries need, made from its results one entry at a time."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.errors import UserError
from feature_store.store import FeatureStore
from orchestrator.analysis import bootstrap
from orchestrator.analysis.breakdowns import UNKNOWN, age_group, breakdowns
from orchestrator.analysis.calibration import reliability
from orchestrator.analysis.patient_counts import Tally, tally
from orchestrator.leaderboard.ensembles import read_folds
from orchestrator.leaderboard.entries import cycles_of
from orchestrator.leaderboard.reading import unreadable
from orchestrator.leaderboard.schema import (
    Board,
    BoardDetail,
    Curve,
    Entry,
    EntryDetail,
    Leaderboard,
    Problem,
    Table,
    WorstError,
)
from workers.ensembles import EnsembleResult, EnsembleStore
from workers.evaluation import softmax
from workers.predictions import BROKEN, Predictions, read_predictions
from workers.results import FoldResult, ResultStore

VERSION = 2  # of how a document is made: another one makes all of them anew
COMPARED = 1000  # entries of a table, the best ones, that carry their resamples (40 kB each) for a comparison
WORST = 12
REMEMBERED = 64  # results in memory: enough for the folds and seeds of one config under all its protocols
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
SEXES = {"M": "male", "F": "female"}


class Details:
    """Makes the documents beside a `leaderboard.json`."""

    def __init__(self, leaderboard: Leaderboard, results: ResultStore, store: str | None = None) -> None:
        """
        Args:
            leaderboard: the board whose entries are asked for.
            results: the result store that it was built from.
            store: URI of the feature store, which knows location, sex and age. Where it cannot be read, these
                breakdowns are absent.
        """
        self._results, self._store, self._ensembles = results, store, EnsembleStore(results.storage)
        found = [
            (entry, board, table)
            for board in leaderboard.boards
            for table in board.tables
            for entry in (*table.entries, *table.incomplete)
        ]
        self._entries = [entry for entry, _, _ in found]
        self._resamples = leaderboard.bootstrap.resamples
        self._compared = {
            entry.id for board in leaderboard.boards for table in board.tables for entry in table.entries[:COMPARED]
        }
        self._tallies = functools.lru_cache(REMEMBERED)(self._count)
        self._places = {entry.id: (board, table) for entry, board, table in found}
        self._by_id = {entry.id: entry for entry in self._entries}
        self._result = functools.lru_cache(REMEMBERED)(self._read_result)
        self._predictions = functools.lru_cache(REMEMBERED)(lambda name: read_predictions(results, name))
        self._corpus = functools.cache(self._read_corpus)
        self.problems: list[Problem] = []
        self._attributes: dict[tuple[str, str], dict[str, np.ndarray]] = {}

    def digest(self, entry: Entry) -> str:
        """Of all that an entry's document is made of; none of its results is read for it."""
        board, table = self._places[entry.id]
        members = [member.model_dump(mode="json") for member in entry.members]
        parts = [
            VERSION,
            bootstrap.SEED,
            board.id,
            table.protocol,
            entry.id,
            entry.results,
            entry.cycles_hash,
            members,
            self._resamples if entry.id in self._compared else 0,
        ]
        parts.append(self._corpus(board.data.dataset)[0])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def documents(self, known: Mapping[str, str]) -> Iterator[EntryDetail]:
        """The documents that are not there yet, in an order in which each result is read once.

        Args:
            known: entry id -> digest of the document that is there.
        """
        wanted = [entry for entry in self._entries if known.get(entry.id) != self.digest(entry)]
        for entry in sorted(wanted, key=lambda entry: entry.results):
            yield self.entry(entry)

    def entry(self, entry: Entry) -> EntryDetail:
        """The document of one entry, without what cannot be made: then `problems` names what it lacks, and why.

        Such a document has a digest of its own, so that the next build makes it again.
        """
        board, table = self._places[entry.id]
        document = EntryDetail(id=entry.id, digest=self.digest(entry), config={}, curves=[])
        try:
            if entry.kind == "ensemble":
                document.config = self._ensemble(entry).model_dump(include={"method", "settings", "members"})
            else:
                runs = self._runs(entry)
                document.config = runs[0].config
                document.curves = [curve for run in runs if (curve := self._curve(run, table, document))]
            if entry.numbers is not None:
                self._fill(document, self._seeds(entry, table.protocol), board)
        except UserError as error:
            self._lacks(entry, document, error.what)
        except Exception as error:  # one entry, whatever is in its results, costs itself alone
            self._lacks(entry, document, unreadable(error))
        return document

    def _curve(self, run: FoldResult, table: Table, document: EntryDetail) -> Curve | None:
        """How a training went; None where its epochs are not what a training writes."""
        try:
            return _curve(run, table)
        except (AttributeError, TypeError, ValueError) as error:
            document.digest = f"incomplete {document.digest.split()[-1]}"
            self.problems.append(Problem(result=run.hash, what=f"its epochs cannot be read ({type(error).__name__})"))
            return None

    def _lacks(self, entry: Entry, document: EntryDetail, why: str) -> None:
        document.digest = f"incomplete {document.digest.split()[-1]}"
        self.problems.append(Problem(result=entry.id, what=f"the entry's page is not whole: {why}"))

    def resamples(self, entry_id: str) -> np.ndarray | None:
        """The board's own bootstrap of an entry, ``[resamples]`` float32: with it two entries are compared resample by
        resample. None where the predictions cannot be read, or the entry is beyond the `COMPARED` best.
        """
        entry = self._by_id[entry_id]
        if entry_id not in self._compared or entry.numbers is None:
            return None
        try:
            tallies = self._tallies(entry_id)
        except UserError:
            return None
        by_fold = [bootstrap.over_seeds([one.hits for one in fold]) for fold in zip(*tallies, strict=True)]
        return bootstrap.bootstrap([by_fold], self._resamples)[0]

    def board(self, board: Board) -> BoardDetail | None:
        """The cycles of a board's ranked entries; None where nothing is ranked, or it cannot be read any more."""
        for table in board.tables:
            for entry in table.entries:
                try:
                    folds = self._seeds(entry, table.protocol)[0]
                except (UserError, *BROKEN):
                    continue
                return BoardDetail(
                    id=board.id,
                    classes=board.data.classes,
                    cycles_hash=str(entry.cycles_hash),
                    cycle_ids=[name for fold in folds for name in fold.cycle_ids.tolist()],
                )
        return None

    # --- reading ---

    def _runs(self, entry: Entry) -> list[FoldResult]:
        return sorted((self._result(name) for name in entry.results), key=lambda run: (run.key.seed, run.key.fold))

    def _read_result(self, name: str) -> FoldResult:
        result = self._results.get(name)
        if result is None:
            raise UserError(f"result {name} is not there any more", where=self._results.storage.uri(""))
        return result

    def _ensemble(self, entry: Entry) -> EnsembleResult:
        found = self._ensembles.get(entry.config_hash)
        if found is None:
            raise UserError(f"ensemble {entry.config_hash} is not there any more", where=self._results.storage.uri(""))
        return found

    def _seeds(self, entry: Entry, protocol: str) -> list[list[Predictions]]:
        """Predictions ``[seeds][folds]``; of an ensemble as of one seed.

        Raises:
            UserError: a result lacks its predictions, or those of this protocol.
        """
        if entry.kind == "ensemble":
            return [read_folds(self._ensembles, self._ensemble(entry))]
        seeds: dict[int, list[Predictions]] = {}
        for run in self._runs(entry):
            found = self._predictions(run.hash).get(protocol)
            if found is None:
                raise UserError(f"result {run.hash} has no predictions under protocol '{protocol}'")
            seeds.setdefault(run.key.seed, []).append(found)
        return list(seeds.values())

    def _read_corpus(self, dataset: str) -> tuple[str, pa.Table | None]:
        """The store's table of cycles, and a digest of its content; empty and None where it cannot be read."""
        if self._store is None:
            return "", None
        try:
            content = FeatureStore.open(self._store).storage.read(f"{dataset}/cycles.parquet")
            return hashlib.sha256(content).hexdigest()[:16], pq.read_table(io.BytesIO(content))
        except (UserError, *BROKEN):
            return "", None

    def _of_cycles(self, dataset: str, folds: Sequence[Predictions], cycles_hash: str) -> dict[str, np.ndarray]:
        """Breakdown -> ``[cycles]`` names; a breakdown of which nothing is known is left out."""
        if (dataset, cycles_hash) not in self._attributes:
            found = {"device": np.concatenate([fold.devices for fold in folds])}
            table = self._corpus(dataset)[1]
            if table is not None:
                wanted = np.concatenate([fold.cycle_ids for fold in folds])
                with contextlib.suppress(*BROKEN):  # a store's table of another kind: these breakdowns are absent
                    found |= _located(table, wanted.tolist())
            known = {name: values for name, values in found.items() if set(values.tolist()) - {UNKNOWN, ""}}
            self._attributes[dataset, cycles_hash] = known
        return self._attributes[dataset, cycles_hash]

    # --- making ---

    def _count(self, entry_id: str) -> list[list[Tally]]:
        """Tallies ``[seeds][folds]`` of an entry."""
        board, table = self._places[entry_id]
        entry = self._by_id[entry_id]
        metric = board.tables[0].metric
        return [[tally(fold, metric) for fold in folds] for folds in self._seeds(entry, table.protocol)]

    def _fill(self, document: EntryDetail, seeds: Sequence[Sequence[Predictions]], board: Board) -> None:
        """Everything that follows from predictions."""
        metric = board.tables[0].metric
        tallies = self._tallies(document.id)
        by_fold = [bootstrap.over_seeds([one.hits for one in fold]) for fold in zip(*tallies, strict=True)]
        document.cycles_hash = cycles_of(tallies[0])
        document.patients = [list(hits.patients) for hits in by_fold]
        document.hits = [(hits.counts / hits.seeds).tolist() for hits in by_fold]
        labels = np.concatenate([fold.labels for fold in seeds[0]])
        patients = np.concatenate([fold.patients for fold in seeds[0]])
        predicted = np.stack([np.concatenate([fold.logits.argmax(axis=1) for fold in folds]) for folds in seeds])
        attributes = self._of_cycles(board.data.dataset, seeds[0], document.cycles_hash)
        document.breakdowns = breakdowns(predicted, labels, patients, board.data.classes, attributes, metric)
        document.reliability = reliability(np.sum([one.calibration for folds in tallies for one in folds], axis=0))
        probabilities = np.mean([softmax(np.concatenate([fold.logits for fold in folds])) for folds in seeds], axis=0)
        document.predicted = _characters(probabilities.argmax(axis=1))
        document.labels = _characters(labels)
        document.worst = _worst(probabilities, labels, seeds[0], board.data.classes)


def _located(table: pa.Table, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """Location, sex and age group of cycles, as far as the store's table has such columns."""
    row_of = {name: row for row, name in enumerate(table["cycle_id"].to_pylist())}

    def column(name: str) -> list[Any]:
        values = table[name].to_pylist()
        return [values[row_of[cycle]] if cycle in row_of else None for cycle in wanted]

    found = {}
    if "location" in table.column_names:
        found["location"] = np.array([value or UNKNOWN for value in column("location")], dtype=object)
    if "sex" in table.column_names:
        found["sex"] = np.array([SEXES.get(value, UNKNOWN) for value in column("sex")], dtype=object)
    if "age" in table.column_names:
        found["age_group"] = np.array([age_group(value) for value in column("age")], dtype=object)
    return found


def _curve(run: FoldResult, table: Table) -> Curve:
    key = table.metric if table.metric in ("accuracy", "uar") else "score"
    return Curve(
        seed=run.key.seed,
        fold=run.key.fold,
        chosen=run.protocols[table.protocol].epoch,
        validation=[(epoch.get("validation") or {}).get(key) for epoch in run.epochs],
        train_loss=[epoch.get("train_loss") for epoch in run.epochs],
    )


def _characters(classes: np.ndarray) -> str:
    return "".join(map(DIGITS.__getitem__, classes.tolist()))


def _worst(
    probabilities: np.ndarray, labels: np.ndarray, folds: Sequence[Predictions], classes: Sequence[str]
) -> list[WorstError]:
    """The wrong cycles with the highest probability of the predicted class."""
    predicted = probabilities.argmax(axis=1)
    confidence = np.where(predicted == labels, -1.0, probabilities.max(axis=1))
    names, patients, devices = (
        np.concatenate([getattr(fold, column) for fold in folds]) for column in ("cycle_ids", "patients", "devices")
    )
    rows = [row for row in np.argsort(-confidence, kind="stable")[:WORST].tolist() if confidence[row] >= 0]
    return [
        WorstError(
            cycle_id=names[row],
            recording=names[row].rpartition("#")[0],
            patient=patients[row],
            device=devices[row],
            truth=classes[labels[row]],
            predicted=classes[predicted[row]],
            probability=float(confidence[row]),
        )
        for row in rows
    ]
