"""`lungtune features`: a build names what it leaves out whatever feature it failed for; `stats` as numpy; `clean`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.datasets import open_corpus
from feature_store.datasets.synthetic import synthesize
from feature_store.errors import UserError
from orchestrator.cli.features import app

pytestmark = pytest.mark.slow

SMALL = "kind: fbank\nseconds: 1.0\nn_mels: 16\nshift_ms: 50.0\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    synthesize(tmp_path / "corpus", patients=10, seed=1)
    return tmp_path / "corpus"


@pytest.fixture
def arguments(root: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "one.yaml").write_text(SMALL)
    (tmp_path / "two.yaml").write_text(SMALL.replace("16", "20"))
    place = ["--root", str(root), "--store", str(tmp_path / "store"), "--workers", "0"]
    return [*place, "--feature", str(tmp_path / "one.yaml"), "--feature", str(tmp_path / "two.yaml")]


def test_each_recording_left_out_is_named_once(arguments: list[str], root: Path) -> None:
    audio = open_corpus("icbhi", root).recordings[2].audio
    assert audio
    audio.write_bytes(audio.read_bytes()[:3000])
    done = CliRunner().invoke(app, ["build", *arguments])
    assert done.exit_code == 0, done.output
    assert done.stderr.count(audio.name) == 1
    strict = CliRunner().invoke(app, ["build", *arguments, "--strict"])
    assert isinstance(strict.exception, UserError)
    assert audio.name in str(strict.exception)


def test_a_recording_left_out_of_the_second_feature_only_is_named(
    arguments: list[str], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It breaks between the two: the first feature has it."""
    import feature_store.build

    build, audio = feature_store.build.build, open_corpus("icbhi", root).recordings[2].audio
    assert audio

    def build_then_break(*given, **options):
        report = build(*given, **options)
        audio.write_bytes(audio.read_bytes()[:3000])
        return report

    monkeypatch.setattr(feature_store.build, "build", build_then_break)
    done = CliRunner().invoke(app, ["build", *arguments])
    assert done.exit_code == 0, done.output
    assert audio.name in done.stderr


@pytest.mark.spec("F5")
def test_stats_prints_what_the_library_finds(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    from feature_store.features import FbankSpec
    from feature_store.store import FeatureStore

    monkeypatch.setenv("LUNGTUNE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.yaml").write_text(SMALL)
    place = ["--store", str(tmp_path / "store"), "--feature", str(tmp_path / "one.yaml")]
    assert CliRunner().invoke(app, ["build", "--root", str(root), "--workers", "0", *place]).exit_code == 0
    done = CliRunner().invoke(app, ["stats", "--json", *place])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    spec = FbankSpec(seconds=1.0, n_mels=16, shift_ms=50.0)
    store = FeatureStore.open(str(tmp_path / "store"))
    features = store.load("icbhi", spec.feature_id, tmp_path / "cache")
    train = set(store.split("icbhi", "official", "lungsound4").side(0, "train"))
    values = features.values[[row for row, name in enumerate(features.cycle_ids) if name in train]].astype(np.float64)
    assert 0 < len(train) < len(features.cycle_ids)
    assert found["cycles"] == len(train)
    assert (found["mean"], found["std"]) == pytest.approx((values.mean(), values.std()), rel=1e-9)
    raw = values * 2 * spec.std + spec.mean
    assert (found["raw_mean"], found["raw_std"]) == pytest.approx((raw.mean(), raw.std()), rel=1e-9)
    told = CliRunner().invoke(app, ["stats", *place])
    assert told.exit_code == 0, told.output
    assert f"mean: {raw.mean():.7f}" in told.stdout
    assert f"std: {raw.std():.7f}" in told.stdout


def test_clean_removes_what_was_not_mapped_for_so_many_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGTUNE_CACHE", str(tmp_path))
    (tmp_path / "features").mkdir()
    for name, days in (("fbank-1-old", 40), ("fbank-2-new", 2)):
        path = tmp_path / "features" / f"{name}.npy"
        path.write_bytes(bytes(2_000_000))
        os.utime(path, (time.time() - days * 86_400,) * 2)
    done = CliRunner().invoke(app, ["clean"])
    assert done.exit_code == 0, done.output
    assert "2.0 MB freed" in done.stdout
    told = json.loads(CliRunner().invoke(app, ["clean", "--unused", "1", "--json"]).stdout)["features"]
    assert [(each["name"], each["state"]) for each in told] == [("fbank-2-new", "removed")]
    assert not list((tmp_path / "features").glob("*.npy"))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "there is no such file (a spec's file, or a name: fbank"),
        ("kind: fbank\npad: zeros\n", "is no feature spec: 'pad'"),
        ("kind: fbank\nn_mel: 8\n", "did you mean 'n_mels'"),
        ("[]", "no feature"),
    ],
)
def test_a_spec_that_is_none_is_told_by_its_file(root: Path, tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_text(content)
    place = ["--store", str(tmp_path / "store"), "--feature", str(path)]
    done = CliRunner().invoke(app, ["build", "--root", str(root), "--workers", "0", *place])
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"{path}: ") and told in str(done.exception)
