"""No command shows or writes a password, whichever setting or option holds it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from feature_store.redaction import mask
from infra.services.ports import free_ports
from orchestrator.cli.app import app
from tests.conftest import Run
from workers.provenance import command_line

SECRET = "hush-7f3a"
SETTINGS = {
    "LUNGTUNE_STORE": "s3://key:{secret}@bucket/store",
    "LUNGTUNE_RESULTS": "s3://key:{secret}@bucket/results",
    "LUNGTUNE_MLFLOW": "http://ann:{secret}@127.0.0.1:{port}",
    "LUNGTUNE_OPTUNA": "postgresql+psycopg2://ann:{secret}@127.0.0.1:{port}/optuna",
    "MLFLOW_TRACKING_URI": "http://ann:{secret}@127.0.0.1:{port}",
    "AWS_ENDPOINT_URL": "http://ann:{secret}@127.0.0.1:{port}",
    "LUNGTUNE_WEBHOOK": "http://127.0.0.1:{port}/services/{secret}",
}


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command of the program by its words; one that is added is found by itself."""

    def walk(command: click.Command, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        inner = getattr(command, "commands", None)
        if inner is None:
            yield words, command
        for name, one in (inner or {}).items():
            yield from walk(one, (*words, name))

    yield from walk(typer.main.get_command(app), ())


def arguments(words: tuple[str, ...], command: click.Command, uri: str, tmp_path: Path) -> list[str]:
    """A call of a command that gets past its parser; the URI is its mirror, where it has one."""
    given = {"dataset": "icbhi", "model": "champion", "space_file": "search_spaces/icbhi_cpu.yaml", "study": "x"}
    call = [*words]
    for parameter in command.params:
        text = given.get(parameter.name or "", str(tmp_path / "nothing"))
        name = next((name for name in parameter.opts if name.startswith("--")), None)
        if parameter.param_type_name == "argument" and parameter.required:
            call.append(text)
        elif name and (parameter.required or name == "--mirror"):
            call += [name, uri if name == "--mirror" else text]
    return call


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
@pytest.mark.parametrize("setting", SETTINGS)
def test_no_command_shows_or_writes_the_password_of_a_setting(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    uri = SETTINGS[setting].format(secret=SECRET, port=free_ports(1)[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv(setting, uri)
    if setting == "AWS_ENDPOINT_URL":
        monkeypatch.setenv("LUNGTUNE_RESULTS", "s3://bucket/results")
    seen = 0
    for words, command in commands():
        if words[0] in ("demo", "sweep", "plan", "doctor"):  # they start Ray or train; the doctor's own test has it
            continue
        call = arguments(words, command, "http://127.0.0.1:9/", tmp_path)
        code, out, error = run(*call)
        seen += 1
        assert code in (0, 1, 2), (call, code, error)
        assert "a fault of lungtune" not in error, (call, error)
        assert SECRET not in out + error, (call, out, error)
    assert seen > 15
    assert not [path for path in files(tmp_path) if SECRET.encode() in path.read_bytes()]


def test_a_mirror_s_password(run: Run, tmp_path: Path) -> None:
    mirror = f"http://ann:{SECRET}@127.0.0.1:{free_ports(1)[0]}/"
    code, out, error = run("data", "download", "icbhi", "--root", str(tmp_path / "db"), "--mirror", mirror[:-1] + "?x")
    assert code == 2 and SECRET not in out + error, error
    assert not [path for path in files(tmp_path) if SECRET.encode() in path.read_bytes()]


def test_json_stays_json_and_ordinary_text_ordinary() -> None:
    text = json.dumps({"uri": f"s3://key:{SECRET}@b/x", "passed=3": "n_key=4", "sigma=2": "key=value"})
    assert json.loads(mask(text)) == {"uri": "s3://***@b/x", "passed=3": "n_key=4", "sigma=2": "key=value"}


def test_the_command_that_a_result_records_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [
        "train",
        "a.yaml",
        "--store",
        "s3://key:hush@bucket/p",
        "--set",
        "x=postgresql://ann:hush@db/y?password=hush",
    ]
    monkeypatch.setattr("sys.argv", ["/usr/bin/lungtune", *words])
    command = command_line()
    assert "hush" not in command and command.startswith("lungtune train a.yaml --store")
