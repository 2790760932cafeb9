"""`lungtune predict` and `lungtune registry` on a model that was trained and registered here."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.special import softmax

from feature_store.settings import Settings
from feature_store.store import FeatureStore
from orchestrator.registry.registry import Registry
from orchestrator.tracking.client import experiment_id
from tests.conftest import Run
from tests.support.tiny_sweep import TINY_CONFIG
from workers.config import ExperimentConfig
from workers.fold import FoldRun, Site, run_fold
from workers.results import FoldResult

pytestmark = pytest.mark.slow

NAME = "icbhi-lungsound4"


@pytest.fixture(scope="module")
def registered(small_home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, FoldResult]:
    """A home whose registry has one model by two seeds, which is the champion; and the run of its weights."""
    home = replace(Settings.load(tmp_path_factory.mktemp("predict")), store=Settings.load(small_home).store)
    site = Site(home.store, home.results, str(home.cache), str(home.weights), device="cpu")
    config = ExperimentConfig.parse(TINY_CONFIG)
    results = [run_fold(FoldRun(config, "official", 0, seed), site) for seed in (0, 1)]
    registry = Registry.open(home)
    run = registry.client.create_run(experiment_id(registry.client, NAME, home))
    version = registry.register(config, results, search_value=50.0, study="s", run_id=run.info.run_id)
    assert version.card is not None and version.aliases == ("champion",)
    return home, next(result for result in results if result.hash == version.card.weights_result)


@pytest.fixture
def settings(registered: tuple[Settings, FoldResult], monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """What `run` takes."""
    yield registered[0]


@pytest.fixture
def recordings(synthetic_corpus: Path) -> list[str]:
    return [str(path) for path in sorted(synthetic_corpus.rglob("*.wav"))[:2]]


def test_the_champion_on_several_files_as_a_table_json_and_csv(run: Run, recordings: list[str], tmp_path: Path) -> None:
    code, printed, _ = run("predict", "champion", *recordings, "--csv", str(tmp_path / "out.csv"), "--json")
    assert code == 0
    documents = json.loads(printed)
    assert [document["file"] for document in documents] == recordings
    for document in documents:
        seconds = soundfile.info(document["file"]).duration
        assert document["seconds"] == pytest.approx(seconds) and document["cycles"][-1]["end"] == pytest.approx(seconds)
        weights = [cycle["end"] - cycle["start"] for cycle in document["cycles"]]
        for name, probability in document["recording"]["probabilities"].items():
            own = [cycle["probabilities"][name] for cycle in document["cycles"]]
            assert probability == pytest.approx(np.average(own, weights=weights), abs=1e-6)
        best = max(document["recording"]["probabilities"].items(), key=lambda pair: pair[1])
        assert document["recording"]["label"] == best[0]
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(1 + len(document["cycles"]) for document in documents)
    assert float(rows[0]["wheeze"]) == documents[0]["recording"]["probabilities"]["wheeze"]
    code, printed, _ = run("predict", "champion", *recordings)
    assert code == 0 and Path(recordings[0]).name in printed and "cut into" in printed


def test_every_name_of_a_model_gives_the_same(
    run: Run, registered: tuple[Settings, FoldResult], recordings: list[str], tmp_path: Path
) -> None:
    home, result = registered
    (package,) = home.home.glob("mlflow-artifacts/**/MODEL_CARD.md")
    expected = json.loads(run("predict", "champion", recordings[0], "--json")[1])
    for name in (f"{NAME}@champion", f"{NAME}/1", NAME, result.hash[:8], str(package.parent)):
        code, printed, told = run("predict", name, recordings[0], "--json")
        assert code == 0, told
        assert json.loads(printed) == expected


def test_annotated_cycles_give_the_stored_predictions(
    run: Run, registered: tuple[Settings, FoldResult], synthetic_corpus: Path, settings: Settings
) -> None:
    _, result = registered
    registry = Registry.open(settings)
    stored = registry.results.predictions(result.hash).to_pandas()
    stored = stored[stored["protocol"] == "last"].merge(
        FeatureStore.open(settings.store).cycles("icbhi").to_pandas()[["cycle_id", "recording", "start"]]
    )
    name = stored["recording"].iloc[0]
    own = stored[stored["recording"] == name].sort_values("start")
    path = next(synthetic_corpus.rglob(f"{name}.wav"))
    for option in ("beside", str(path.with_suffix(".txt"))):
        code, printed, _ = run("predict", "champion", str(path), "--cycles", option, "--json")
        assert code == 0
        cycles = json.loads(printed)[0]["cycles"]
        found = np.array([list(cycle["probabilities"].values()) for cycle in cycles])
        assert found == pytest.approx(softmax(np.stack(own["logits"]).astype(float), axis=1), abs=1e-6)


@pytest.mark.spec("E6")
def test_a_long_cycle_is_heard_in_pieces(run: Run, recordings: list[str], tmp_path: Path) -> None:
    """4.7 s by a feature of 2 s: from 0, 1 and 2 s, and the last 1.7 s. A short cycle is the same either way."""
    (tmp_path / "long.txt").write_text("0.5 5.2\n0.5 1.5\n")
    (tmp_path / "pieces.txt").write_text("0.5 2.6\n1.5 3.6\n2.5 4.6\n3.5 5.2\n")
    arguments = ("predict", "champion", recordings[0], "--json", "--cycles")
    cut = json.loads(run(*arguments, str(tmp_path / "pieces.txt"))[1])[0]["cycles"]
    rows = np.array([list(cycle["probabilities"].values()) for cycle in cut])
    said, short = {}, []
    for pieces in ("one", "mean", "vote"):
        code, printed, told = run(*arguments, str(tmp_path / "long.txt"), "--pieces", pieces)
        assert code == 0, told
        cycle, other = json.loads(printed)[0]["cycles"]
        said[pieces] = list(cycle["probabilities"].values())
        short.append(other)
        assert cycle["label"] == max(cycle["probabilities"], key=cycle["probabilities"].get)
    assert said["one"] == pytest.approx(rows[0], abs=1e-6)
    assert said["mean"] == pytest.approx(rows.mean(axis=0), abs=1e-6)
    votes = rows.argmax(axis=1)
    assert said["vote"] == pytest.approx(rows[votes == np.bincount(votes).argmax()].mean(axis=0), abs=1e-6)
    assert short[0] == short[1] == short[2]
    code, printed, _ = run("predict", "champion", recordings[0], "--cycles", str(tmp_path / "long.txt"), "--json")
    assert list(json.loads(printed)[0]["cycles"][0]["probabilities"].values()) == said["one"], "the default"


def test_a_bad_file_is_named_and_the_rest_is_done(run: Run, recordings: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "text.wav"
    bad.write_text("no sound")
    missing = tmp_path / "missing.wav"
    code, printed, told = run("predict", "champion", str(bad), recordings[0], str(missing), "--json")
    assert code == 1
    documents = json.loads(printed)
    assert "error" in documents[0] and "cycles" in documents[1] and "error" in documents[2]
    assert "text.wav" in told and "missing.wav" in told and "Traceback" not in told
    code, printed, told = run("predict", "champion", str(bad), str(missing))
    assert code == 2 and not printed and "text.wav" in told and "missing.wav" in told


def test_names_that_are_no_utf_8_or_steer_the_terminal(run: Run, recordings: list[str], tmp_path: Path) -> None:
    names = [b"M\xe9d.wav", b"a\x1b[31mRED\x07.wav", b"[red]a.wav"]
    files = [str(tmp_path / os.fsdecode(name)) for name in names]
    for file in files:
        shutil.copy(recordings[0], file)
    gone = str(tmp_path / os.fsdecode(b"gone\xff\x1b[31m[/x].wav"))
    code, printed, told = run("predict", "champion", *files, recordings[0], gone, "--csv", str(tmp_path / "out.csv"))
    assert code == 1 and "Traceback" not in told
    assert (
        "M\\xe9d.wav" in printed
        and "a\\x1b[31mRED\\x07.wav" in printed
        and "[red]a.wav" in printed
        and "gone\\xff\\x1b[31m[/x].wav" in told
    )
    assert "\x1b" not in printed + told and "\x07" not in printed
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "recording"]
    assert [Path(row["file"]).name for row in rows[:2]] == ["M\\xe9d.wav", "a\\x1b[31mRED\\x07.wav"]
    assert len({row["wheeze"] for row in rows}) == 1, "all are the same recording"
    code, printed, _ = run("predict", "champion", *files, "--json")
    assert code == 0 and [document["file"] for document in json.loads(printed)] == files


def test_bad_options_end_with_two_and_say_why(run: Run, recordings: list[str], tmp_path: Path) -> None:
    (tmp_path / "cycles.txt").write_text("0.0\t1.5\n1.5 to 2.0\n")
    cases = [
        (("champoin", recordings[0]), "no registered model 'champoin'"),
        (("voice@champion", recordings[0]), f"did you mean '{NAME}@champion'?"),
        (("abcdef12", recordings[0]), "no result begins with 'abcdef12'"),
        ((str(tmp_path), recordings[0]), "has no model_config.json"),
        (("champion", *recordings, "--cycles", "cycles.txt"), "one file of cycles belongs to one recording"),
        (("champion", recordings[0], "--cycles", str(tmp_path / "cycles.txt")), "cycles.txt, line 2: no cycle"),
        (("champion", recordings[0], "--cycles", str(tmp_path / "none.txt")), "cannot be read"),
        (("champion", *recordings, "--window", "99"), "a window of 99 s does not fit the model"),
        (("champion", recordings[0], "--pieces", "vote"), "windows are never longer than what the model takes"),
        (("champion", recordings[0], "--csv", str(tmp_path / "no" / "out.csv")), "there is no such folder"),
    ]
    for arguments, said in cases:
        code, printed, told = run("predict", *arguments)
        assert code == 2 and said in told, (arguments, told)
        assert not printed and told.count(said) == 1


def test_real_recordings_are_predicted(run: Run, shared_data: Path) -> None:
    """44.1 kHz and 4 kHz, FLAC, with the challenge's own annotations."""
    audio = shared_data / "icbhi" / "audio"
    files = sorted(audio.glob("*.flac"))
    rates: dict[int, str] = {}
    for path in files:
        rates.setdefault(soundfile.info(path).samplerate, str(path))
    code, printed, told = run("predict", "champion", *rates.values(), "--cycles", "beside", "--json")
    assert code == 0, told
    for (rate, path), document in zip(rates.items(), json.loads(printed), strict=True):
        annotated = [line.split() for line in Path(path).with_suffix(".txt").read_text().splitlines()]
        assert document["rate"] == rate and len(document["cycles"]) == len(annotated)
        assert [cycle["start"] for cycle in document["cycles"]] == [float(row[0]) for row in annotated]
        assert sum(document["recording"]["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)
    assert len(rates) > 1


def test_show_prints_the_card_the_decision_and_the_champions(run: Run) -> None:
    code, printed, _ = run("registry", "show", "champion")
    assert code == 0
    for said in (f"# {NAME}: CRNN", "Not a medical device", "By recording device", "every rule of policy 'default'"):
        assert said in printed
    assert f"{NAME}/1 is champion" in printed and f"champions of {NAME}" in printed
    document = json.loads(run("registry", "show", NAME, "--json")[1])
    assert document["card"]["config_hash"] == document["tags"]["config_hash"]
    assert [change["version"] for change in document["history"]] == ["1"]
    assert document["decision"]["promoted"] is True


def test_promote_judges_and_force_needs_a_reason(
    run: Run, registered: tuple[Settings, FoldResult], tmp_path: Path
) -> None:
    home, _ = registered
    code, printed, _ = run("registry", "promote", f"{NAME}/1")
    assert code == 0 and "is the champion already" in printed
    registry = Registry.open(home)
    first = registry.client.get_model_version(NAME, "1")
    registry.client.create_model_version(NAME, source=first.source, run_id=first.run_id, tags=dict(first.tags))
    code, printed, _ = run("registry", "promote", f"{NAME}/2")
    assert code == 1 and f"{NAME}/2 is not champion" in printed and "refuses" in printed
    code, _, told = run("registry", "promote", f"{NAME}/2", "--force")
    assert code == 2 and "--force and --because TEXT go together" in told
    (tmp_path / "policy.yaml").write_text("name: lenient\nscore: off\nverified: off\nseedss: off\n")
    code, _, told = run("registry", "promote", f"{NAME}/2", "--policy", str(tmp_path / "policy.yaml"))
    assert code == 2 and "did you mean 'seeds'?" in told
    (tmp_path / "policy.yaml").write_text("name: lenient\nscore: off\nverified: off\n")
    code, printed, _ = run("registry", "promote", f"{NAME}/2", "--policy", str(tmp_path / "policy.yaml"))
    assert code == 0 and f"{NAME}/2 is champion" in printed and "policy 'lenient'" in printed
    code, printed, _ = run("registry", "promote", f"{NAME}/1", "--force", "--because", "version 2 hums", "--json")
    assert code == 0 and json.loads(printed)["tags"]["promoted_because"].startswith("forced: version 2 hums")
    assert [change.kind for change in registry.history(NAME)] == ["policy", "policy", "forced"]


def test_verify_runs_the_weights_again_and_a_model_whose_files_are_gone_is_told(
    run: Run, registered: tuple[Settings, FoldResult], recordings: list[str]
) -> None:
    home, _ = registered
    code, printed, _ = run("registry", "verify", f"{NAME}/1")
    assert code == 0 and "verified" in printed and "100.0 %" in printed
    artifacts, aside = home.home / "mlflow-artifacts", home.home / "aside"
    shutil.move(artifacts, aside)
    try:
        code, printed, _ = run("registry", "verify", f"{NAME}/1")
        assert code == 1 and "not verified" in printed and "files are gone" in " ".join(printed.split())
        code, _, told = run("predict", "champion", recordings[0])
        assert code == 2 and "the model's files are gone" in told and "Traceback" not in told
    finally:
        shutil.move(aside, artifacts)
