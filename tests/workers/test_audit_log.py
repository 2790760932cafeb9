"""The audit log: written by many, and it tells a second training from a first."""

from __future__ import annotations

import errno
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from feature_store.settings import Settings
from tests.conftest import TINY_FEATURE
from workers.audit_log import AuditLog
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.results import ResultStore

pytestmark = pytest.mark.slow


def test_writers_side_by_side_lose_no_event(tmp_path: Path) -> None:
    log = AuditLog.open(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: log.note(f"run{n % 5}", "begun", number=n), range(200)))
    entries = log.entries()
    assert sorted(entry.facts["number"] for entry in entries) == list(range(200))
    assert log.names() == [(entry.run, "begun", pytest.approx(entry.at, abs=1e-5)) for entry in entries]
    mine = log.of("run3")
    assert len(mine) == 40 and [entry.at for entry in mine] == sorted(entry.at for entry in mine)


@pytest.mark.spec("T12")
def test_a_fold_run_is_trained_once_and_its_test_reads_are_on_record(settings: Settings) -> None:
    config = ExperimentConfig.parse(
        {
            "feature": TINY_FEATURE,
            "model": {"name": "crnn", "hidden": 4, "layers": 1},
            "objective": {"name": "ce"},
            "training": {"epochs": 2, "batch_size": 32},
        }
    )
    site = Site.of(settings)
    first = run_fold(FoldRun(config, "official", 0, 0), site)
    assert run_fold(FoldRun(config, "official", 0, 0), site).hash == first.hash
    log = AuditLog.open(settings.results)
    events = log.of(first.hash)
    assert [entry.event for entry in events] == ["begun", "test_read", "trained", "published"]
    assert events[0].facts == {"resumed": False} and events[2].facts == {"epochs": 2, "test_reads": 1}
    watched = config.model_copy(update={"training": config.training.model_copy(update={"watch_test": True})})
    second = run_fold(FoldRun(watched, "official", 0, 0), replace(site, keep_weights=False))
    assert [entry.facts["test_reads"] for entry in log.of(second.hash) if entry.event == "trained"] == [3]
    assert ResultStore.open(settings.results).hashes() == sorted([first.hash, second.hash]), "the log is no result"


def test_a_result_that_cannot_be_published_is_kept_and_not_trained_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ExperimentConfig.parse(
        {
            "feature": TINY_FEATURE,
            "model": {"name": "crnn", "hidden": 4, "layers": 1},
            "objective": {"name": "ce"},
            "training": {"epochs": 1, "batch_size": 32},
        }
    )
    run, site = FoldRun(config, "official", 0, 0), Site.of(settings)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(ResultStore, "publish", full)
        with pytest.raises(OSError, match="No space left"):
            run_fold(run, site)
    result = run_fold(run, site)
    log = AuditLog.open(settings.results)
    assert [entry.event for entry in log.of(result.hash)] == ["begun", "test_read", "trained", "published"]
    store = ResultStore.open(settings.results)
    assert store.predictions(result.hash).num_rows > 0 and store.read(result.hash, "model.safetensors")
    assert not list((settings.cache / "checkpoints").iterdir()), "what was kept goes once it is published"
