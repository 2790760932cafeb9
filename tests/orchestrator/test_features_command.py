"""`lungtune features build` of several features: what is left out is named whatever feature it failed for."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from feature_store.datasets import open_corpus
from feature_store.datasets.synthetic import synthesize
from feature_store.errors import UserError
from orchestrator.cli.features import app

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
