"""`lungtune sweep` where MLflow has not taken the best in time, as a lost or a very slow server does."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import ray
import yaml

from orchestrator.events import FinalistNotRecorded
from orchestrator.tracking import tracker
from orchestrator.tracking.tracker import Tracker
from tests.conftest import Run
from tests.support.tiny_sweep import tiny_sweep


@pytest.mark.slow
def test_the_reader_is_told_and_the_same_command_again_registers_it(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes longer for the finalist than the sweep waits for it; what came of it is found again."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_sweep(search={"trials": 1}, resources={"cpus": 1})))
    write = Tracker._write_finalist

    def slowly(*arguments: object) -> str:
        time.sleep(3.0)
        return write(*arguments)  # type: ignore[arg-type]

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    with monkeypatch.context() as slow:
        slow.setattr(tracker, "PATIENCE", 1.0)
        slow.setattr(Tracker, "_write_finalist", slowly)
        code, printed, told = run("sweep", path, "--json")
    assert code == 1, told
    assert "MLflow has not taken all, so it is not registered: start the same command again" in told
    assert json.loads(printed)["finalists"][0]["registered"] is None
    code, printed, told = run("sweep", path, "--json")
    assert code == 0, told
    outcome = json.loads(printed)
    assert outcome["finalists"][0]["registered"]["aliases"] == ["champion"]
    assert outcome["fold_runs"]["trained"] == outcome["promotion_runs"]["trained"] == 0


@pytest.mark.parametrize(
    ("registers", "so"), [(True, "the best, so it is not registered: start"), (False, "the best: ")]
)
def test_only_the_sweep_s_best_is_said_not_to_be_registered(
    registers: bool, so: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.cli.progress import Reporter

    Reporter()(FinalistNotRecorded("the best", registers))
    assert f"MLflow has not taken {so}" in capsys.readouterr().err
