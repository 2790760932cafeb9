"""Ensembles in a result store on a real S3 server (SeaweedFS)."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.ensemble_results import publish
from workers.ensembles import EnsembleStore, build_ensemble, stored
from workers.results import ResultStore


@pytest.fixture
def store(s3: str) -> ResultStore:
    return ResultStore.open(f"{s3}/{uuid.uuid4().hex}")


def test_of_eight_writers_of_one_ensemble_all_end_with_the_same(store: ResultStore) -> None:
    names = [publish(store, config) for config in "ab"]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: build_ensemble(store, names, method="greedy"), range(8)))
    assert all(one == made[0] for one in made)
    assert stored(store.storage.uri("")) == [made[0]] and len(store.hashes()) == 2
    table = EnsembleStore(store.storage).predictions(made[0].hash)
    assert table.num_rows == made[0].folds[0].test.n
