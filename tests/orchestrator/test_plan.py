"""What the dry run warns of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.pruning import build_rule
from search_spaces.schema import Search
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
        ({"name": "wilcoxon", "p": 0.1, "startup_trials": 6, "after_folds": 1}, 5, "has no more"),
    ],
)
def test_a_rule_that_can_stop_nothing_says_so(pruner: dict[str, Any], fold_runs: int, told: str | None) -> None:
    rule = build_rule(Search.model_validate({"pruner": pruner}).pruner)
    assert rule is not None
    warnings = rule.warnings(fold_runs, trials=6)
    assert bool(warnings) is (told is not None) and (told is None or told in warnings[0])


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_told_before_anything_starts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pruner = {"name": "wilcoxon", "startup_trials": 1}
    content = tiny_sweep(search={"pruner": pruner}, budget={"cost_per_hour": 2.0})
    file = tmp_path / "space.yaml"
    file.write_text(yaml.safe_dump(content))
    code, printed, told = run("plan", str(file))
    assert code == 0 and "at most 4 fold runs" in printed and "nothing can be stopped" in told
    assert "startup_trials" not in told
    code, _, told = run("plan", str(file), "--set", "search.sampler=random", "--set", "search.startup_trials=3")
    assert code == 0 and "random draws all trials alike, so startup_trials does nothing" in told
    monkeypatch.setenv("LUNGTUNE_MLFLOW", "http://127.0.0.1:9")
    code, _, told = run("plan", str(file))
    assert code == 2 and "MLflow:" in told
