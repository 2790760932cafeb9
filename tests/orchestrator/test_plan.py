"""What the dry run warns of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.sweep.plan import pruner_warnings
from search_spaces.schema import SearchSpace
from tests.conftest import Run
from tests.support.tiny_sweep import tiny_sweep


@pytest.mark.parametrize(
    ("pruner", "fold_runs", "told"),
    [
        ({"name": "wilcoxon", "p": 0.1, "after_folds": 1}, 5, None),
        ({"name": "wilcoxon", "p": 0.1, "after_folds": 1}, 4, "cannot reject before fold 4"),
        ({"name": "wilcoxon", "p": 0.03, "after_folds": 1}, 5, "wilcoxon is inert"),
        ({"name": "median", "after_folds": 3}, 3, "nothing can be stopped"),
        ({"name": "racing", "startup_trials": 6, "after_folds": 1}, 5, "has no more"),
        ({"name": "racing", "after_folds": 1}, 5, None),
        ({"name": "none", "after_folds": 9}, 5, None),
    ],
)
def test_a_pruner_that_can_stop_nothing_is_told(pruner: dict[str, Any], fold_runs: int, told: str | None) -> None:
    content = {
        "name": "plan",
        "base": {"feature": "fbank-small", "model": {"name": "cnn6"}, "objective": {"name": "ce"}},
        "search": {"trials": 6, "pruner": pruner},
    }
    warnings = pruner_warnings(SearchSpace.parse(content), fold_runs)
    assert bool(warnings) is (told is not None) and (told is None or told in warnings[0])


def test_a_server_that_does_not_answer_is_told_before_anything_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = {"name": "wilcoxon", "startup_trials": 1}
    content = tiny_sweep(search={"pruner": pruner}, budget={"cost_per_hour": 2.0})
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(content))
    code, printed, told = run("plan", str(file))
    assert code == 0 and "at most 4 fold runs" in printed and "nothing can be stopped" in told
    monkeypatch.setenv("LUNGTUNE_MLFLOW", "http://127.0.0.1:9")
    code, _, told = run("plan", str(file))
    assert code == 2 and "MLflow:" in told
