"""`lungtune data check`: what stands in for a patient, and which splits' Scores it says are never ranked."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.datasets import CORPORA
from feature_store.datasets.breathing_phase import BreathingPhaseCorpus
from feature_store.splits import SplitTable
from orchestrator.cli.data import app
from tests.support.breathing_clips import write_clips


def check(root: Path, dataset: str = "breathing-phase") -> str:
    done = CliRunner().invoke(app, ["check", "--dataset", dataset, "--root", str(root)])
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_a_corpus_without_patients_says_what_stands_in_for_one(tmp_path: Path, synthetic_corpus: Path) -> None:
    told = check(write_clips(tmp_path, count=24))
    assert "24 cycles of 8 patients\nThe corpus names no patients: a source recording stands in for one.\n" in told
    assert "stands in" not in check(synthetic_corpus, "icbhi")


@pytest.mark.parametrize(("split", "ranked"), [("mine", True), ("compat-mine", False)])
def test_only_splits_of_a_source_systems_defect_are_said_to_be_never_ranked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, ranked: bool
) -> None:
    class Leaking(BreathingPhaseCorpus):
        def splits(self) -> dict[str, SplitTable]:
            ids = [cycle.cycle_id for cycle in self.cycles()]
            return {split: SplitTable.of_sides(split, {0: {"train": ids, "test": ids[:3]}})}

    monkeypatch.setitem(CORPORA, "breathing-phase", Leaking)
    told = check(write_clips(tmp_path, count=24))
    assert f"{split}, fold 0: 1 patient on both sides; 3 of 3 tested cycles are theirs (100.0%)." in told
    end = "." if ranked else ": its Scores are never ranked."
    assert f"\n3 recordings are trained and tested on in {split}{end}\n" in told
