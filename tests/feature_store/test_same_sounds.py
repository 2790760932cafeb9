"""One sound under two names is found by its content, by the check of a corpus and in what a training records."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.audit import audit
from feature_store.build import build
from feature_store.datasets import open_corpus
from feature_store.features import FbankSpec
from feature_store.same_sounds import same_sounds
from feature_store.store import FeatureStore
from orchestrator.cli.data import app
from workers.config import ExperimentConfig
from workers.data import load_fold

SPEC = FbankSpec(seconds=2.0, n_mels=32, shift_ms=40.0)


@pytest.fixture(scope="module")
def copied(synthetic_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A corpus in which a tested recording has the sound of a trained one of another patient; the two names."""
    root = Path(shutil.copytree(synthetic_corpus, tmp_path_factory.mktemp("copied") / "corpus"))
    corpus = open_corpus("icbhi", root)
    official = corpus.splits()["official"]
    names = {side: sorted({c.split("#")[0] for c in official.side(0, side)}) for side in ("train", "test")}
    by_name = {recording.name: recording for recording in corpus.recordings}
    train = names["train"][0]
    test = next(name for name in names["test"] if by_name[name].patient != by_name[train].patient)
    for kind in ("audio", "annotation"):
        source, target = (getattr(by_name[name], kind) for name in (train, test))
        shutil.copy(source, target)
    return root, train, test


def test_a_corpus_without_copies_has_none(synthetic_corpus: Path) -> None:
    report = audit(open_corpus("icbhi", synthetic_corpus))
    assert report.shared_sounds == [] and not [p for p in report.problems if "same sound" in p.what]


@pytest.mark.slow
def test_a_copy_is_named_with_its_patients_and_the_splits_that_it_crosses(
    copied: tuple[Path, str, str],
) -> None:
    root, train, test = copied
    corpus = open_corpus("icbhi", root)
    (sound,) = audit(corpus).shared_sounds
    assert sound.recordings == sorted([train, test])
    assert sound.patients == sorted(name.split("_")[0] for name in (train, test))
    assert "official, fold 0" in sound.on_both_sides
    (problem,) = [p for p in audit(corpus).problems if "same sound" in p.what]
    assert problem.severity == "warning" and problem.hint and "under 2 patients" in problem.what
    shown = CliRunner().invoke(app, ["check", "--root", str(root)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    assert "1 sound has 2 names: 1 on both sides of a split, 1 under two patients" in shown.stdout
    document = json.loads(CliRunner().invoke(app, ["check", "--root", str(root), "--json"]).stdout)
    assert document["shared_sounds"][0]["recordings"] == sound.recordings


def test_other_labels_of_one_sound_are_told(copied: tuple[Path, str, str]) -> None:
    root, train, test = copied
    corpus = open_corpus("icbhi", root)
    hashes = {train: "x", test: "x"}
    assert [sound.labels_differ for sound in same_sounds(corpus.cycles(), hashes)] == [
        [r.cycles[0].labels for r in corpus.recordings if r.name == train]
        != [r.cycles[0].labels for r in corpus.recordings if r.name == test]
    ]
    others = {recording.name: "y" for recording in corpus.recordings if recording.name not in hashes}
    (found,) = same_sounds(corpus.cycles(), others)
    assert found.labels_differ and len(found.recordings) == len(others)
    assert not found.crosses(train=[found.recordings[0]], test=[found.recordings[0]]), "itself is no copy"
    assert found.crosses(train=[found.recordings[0]], test=[found.recordings[1]])


@pytest.mark.slow
def test_a_training_records_what_it_was_tested_on_twice(copied: tuple[Path, str, str], tmp_path: Path) -> None:
    root, train, test = copied
    store = FeatureStore.open(str(tmp_path / "store"), create=True)
    build(open_corpus("icbhi", root), SPEC, store, workers=0)
    parts = {"feature": SPEC.model_dump(mode="json"), "model": {"name": "cnn6"}, "objective": {"name": "ce"}}
    config = ExperimentConfig.model_validate({"task": "lungsound4", **parts})
    summary = load_fold(store, config, store.split("icbhi", "official", "lungsound4"), 0, 0, tmp_path / "c").summary
    assert summary.sounds_on_both_sides == [test]
    assert summary.sounds_in_doubt == sorted([train, test])
