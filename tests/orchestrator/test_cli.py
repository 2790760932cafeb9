"""The command line: what it prints where, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from feature_store.features import NAMED
from feature_store.settings import Settings
from tests.conftest import Run
from tests.support.tiny_sweep import TINY_CONFIG


def write(path: Path, content: object) -> str:
    path.write_text(yaml.safe_dump(content))
    return str(path)


COMMANDS = [
    "data", "features", "presets", "train", "evaluate", "plan", "sweep", "status", "importance", "registry",
    "leaderboard", "predict", "ensemble", "nightly", "demo", "doctor",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, run: Run) -> None:
    code, printed, _ = run(command, "--help")
    assert code == 0 and "Usage" in printed


@pytest.mark.parametrize(
    "command",
    [
        "data check", "features build", "features verify", "train", "plan", "sweep", "demo", "doctor", "registry list",
        "registry show", "registry promote", "registry verify", "leaderboard build", "predict", "ensemble", "nightly",
    ],
)  # fmt: skip
def test_help_shows_an_example(command: str, run: Run) -> None:
    assert "Example: lungtune" in " ".join(run(*command.split(), "--help")[1].split())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"modle": {}}, "did you mean 'model'?"),
        ({"feature": "fbank"}, "features build"),
        ({"model": {"name": "cnn6"}, "objective": {"name": "patchmix"}}, "mixes patch tokens"),
        ({"objective": {"name": "patchmix_cl", "alpha": -1}}, "'objective.alpha' = -1"),
        ({"objective": {"name": "patchmix_cl", "tau": 0}}, "'objective.tau' = 0"),
        ({"model": {"name": "mn", "pretrained": "none.pt"}}, "LUNGTUNE_WEIGHTS"),
    ],
)
def test_bad_configs_end_with_two_and_say_why(changes: dict, said: str, run: Run, tmp_path: Path) -> None:
    code, printed, error = run("train", write(tmp_path / "config.yaml", {**TINY_CONFIG, **changes}))
    assert code == 2 and said in error and not printed
    assert "Traceback" not in error


@pytest.mark.slow
def test_other_bad_input_ends_with_two(run: Run, tmp_path: Path, settings: Settings) -> None:
    config = write(tmp_path / "config.yaml", TINY_CONFIG)
    empty = {"name": "x", "base": TINY_CONFIG, "space": {"optim.lr": {"choice": []}}}
    cases: list[tuple[tuple[str, ...], str]] = [
        (("train", str(tmp_path / "none.yaml")), "no such file"),
        (("train", config, "--split", "oficial"), "did you mean 'official'"),
        (("train", config, "--fold", "3"), "no fold 3"),
        (("train", config, "--set", "training.epochs"), "not key=value"),
        (("plan", write(tmp_path / "space.yaml", empty)), "the list of choices is empty"),
        (("sweep", write(tmp_path / "space.yaml", empty)), "the list of choices is empty"),
        (("features", "show", "mel"), "has no feature mel-"),
        (("features", "build", "--root", str(tmp_path / "nowhere")), "nowhere"),
        (("features", "build", "--root", str(tmp_path), "--feature", "fbnak"), "did you mean 'fbank'?"),
        (("data", "check", "--dataset", "icbi", "--root", str(tmp_path)), "did you mean 'icbhi'?"),
        (("registry", "show", "icbhi-lungsound4"), "nothing is registered yet"),
        (("sweeep",), "No such command"),
        (("train", config, "--epochs", "3"), "No such option"),
    ]
    for arguments, said in cases:
        code, _, error = run(*arguments)
        assert code == 2, (arguments, error)
        assert said in error, (arguments, error)


def test_a_store_of_another_version_is_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "store.json").write_text(json.dumps({"version": 99}))
    monkeypatch.setenv("LUNGTUNE_STORE", str(tmp_path))
    code, _, error = run("features", "list")
    assert code == 2 and "version 99" in error


def test_lungtune_toml_with_an_unknown_key_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lungtune.toml").write_text('stroe = "x"')
    monkeypatch.chdir(tmp_path)
    code, _, error = run("features", "list")
    assert code == 2 and "did you mean 'store'?" in error


@pytest.mark.slow
def test_training_prints_a_table_or_json_and_the_second_time_trains_nothing(run: Run, tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", TINY_CONFIG)
    code, printed, told = run("train", config, "--seed", "7", "--json")
    assert code == 0 and "epoch 1: loss" in told
    first = json.loads(printed)["runs"][0]
    assert {"last", "validation", "hash"} <= set(first) and first["seed"] == 7
    code, printed, told = run("train", config, "--seed", "7", "--json")
    assert code == 0 and "epoch" not in told and json.loads(printed)["runs"][0] == first
    assert first["hash"][:12] in run("train", config, "--seed", "7")[1]


@pytest.mark.slow
def test_lists_are_json_on_request(run: Run) -> None:
    code, printed, _ = run("features", "list", "--json")
    assert code == 0 and json.loads(printed)[0]["dataset"] == "icbhi"
    assert json.loads(run("registry", "list", "--json")[1]) == []
    checks = {check["name"]: check["state"] for check in json.loads(run("doctor", "--json")[1])}
    assert checks["Python"] == checks["packages"] == checks["feature store"] == "ok"


def test_without_a_store_the_features_that_can_be_built_are_listed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGTUNE_STORE", str(tmp_path / "none"))
    code, printed, told = run("features", "list")
    assert code == 0 and "phase9" in printed and "no feature store" in told and not (tmp_path / "none").exists()
    listed = json.loads(run("features", "list", "--json")[1])["can_be_built"]
    assert {"name": "mel", "feature": NAMED["mel"].feature_id, "shape": "400x128", "dtype": "float32"} in listed


def test_the_doctor_masks_passwords_and_names_what_fails(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNGTUNE_MLFLOW", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.setenv("LUNGTUNE_OPTUNA", "postgresql://me:hunter2@127.0.0.1:1/x")
    code, printed, error = run("doctor", "--json")
    states = {check["name"]: check["state"] for check in json.loads(printed)}
    assert code == 1 and states["MLflow"] == states["Optuna storage"] == "fail"
    assert "hunter2" not in printed + error


def test_verify_finds_a_damaged_part(
    run: Run, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    shutil.copytree(settings.store, tmp_path / "store")
    monkeypatch.setenv("LUNGTUNE_STORE", str(tmp_path / "store"))
    assert run("features", "verify")[0] == 0
    part = next((tmp_path / "store").glob("icbhi/features/*/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    code, _, error = run("features", "verify")
    assert code == 2 and part.name in error
