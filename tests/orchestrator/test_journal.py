"""Optuna's journal survives kills and full disks, and nothing else of that name is written to."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from feature_store.errors import UserError
from feature_store.settings import Settings
from orchestrator.diagnosis import services
from orchestrator.studies.journal import open_journal, torn_lines
from tests.conftest import Run

ROOT = Path(__file__).resolve().parents[2]

WRITER = """
import sys
from pathlib import Path
import optuna
from orchestrator.studies.journal import open_journal
study = optuna.create_study(study_name="s", storage=open_journal(Path(sys.argv[1])), load_if_exists=True)
print("writes", flush=True)
while True:
    trial = study.ask()
    trial.set_user_attr("config", "x" * 200_000)
    study.tell(trial, 1.0)
"""

FULL = """
import resource, signal, sys
from pathlib import Path
import optuna
from orchestrator.studies.journal import open_journal
study = optuna.create_study(study_name="s", storage=open_journal(Path(sys.argv[1])))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
trial = study.ask()
try:
    trial.set_user_attr("config", "x" * 200_000)
except OSError as error:
    print("refused", error.errno)
"""


def journal(path: Path, trials: int = 3) -> Path:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(study_name="s", storage=open_journal(path))
    for _ in range(trials):
        study.tell(study.ask(), 1.0)
    return path


def trials(path: Path) -> int:
    return len(optuna.load_study(study_name="s", storage=open_journal(path)).trials)


@pytest.mark.parametrize("tail", [b'{"op_code":4,"wor', b"{", b"\0" * 40, b'{"op_code":5,"x":"\xc3'])
def test_a_torn_last_line_is_moved_aside_and_the_study_goes_on(tmp_path: Path, tail: bytes) -> None:
    path = journal(tmp_path / "optuna.journal")
    with path.open("ab") as file:
        file.write(tail)
    assert trials(path) == 3
    study = optuna.load_study(study_name="s", storage=open_journal(path))
    study.tell(study.ask(), 2.0)
    assert trials(path) == 4
    assert [json.loads(line)["op_code"] for line in path.read_bytes().splitlines()]
    assert (tmp_path / "optuna.journal.torn").read_bytes() == tail + b"\n"


def test_what_an_older_lungtune_appended_to_a_torn_line_is_kept(tmp_path: Path) -> None:
    path = journal(tmp_path / "optuna.journal")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-2], b'{"op_code":6,"tri', *lines[-2:]]))
    with pytest.raises(json.JSONDecodeError):  # what it was before
        optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    assert trials(path) == 3
    assert path.read_bytes().splitlines(keepends=True) == lines


@pytest.mark.slow
def test_a_writer_that_is_killed_leaves_a_journal_that_opens(tmp_path: Path) -> None:
    path, rng, ended = tmp_path / "optuna.journal", random.Random(0), 0
    for _ in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert writer.stdout is not None and writer.stdout.readline() == b"writes\n"
        time.sleep(rng.uniform(0.05, 0.25))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        started = time.monotonic()
        now = trials(path)
        assert time.monotonic() - started < 15  # nobody waits for a dead writer's lock
        assert now > ended
        ended = now
        assert not torn_lines(path)


@pytest.mark.slow
def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """The limit on a file's size stands in for the disk: the kernel writes what fits, then refuses."""
    path = tmp_path / "optuna.journal"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    assert "refused 27" in ended.stdout
    assert not torn_lines(path) and trials(path) == 1


@pytest.mark.parametrize("content", [b"hello\n", b'{"a": 1}\n', b"SQLite format 3\0xyz", b"[1, 2]\n", b"x"])
def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "optuna.journal"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no journal"):
        open_journal(path)
    assert path.read_bytes() == content and [file.name for file in tmp_path.iterdir()] == [path.name]


def test_commands_and_the_doctor_say_so(run: Run, settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    path = journal(settings.home / "optuna.journal")
    with path.open("ab") as file:
        file.write(b'{"op_code":4,"wor')
    assert services.optuna_storage(settings).state == "warn"
    code, _, error = run("status")
    assert code == 0 and "torn line" in caplog.text
    path.write_text("not a journal\n")
    assert services.optuna_storage(settings).state == "fail"
    code, _, error = run("status")
    assert code == 2 and "no journal" in error and "LUNGTUNE_OPTUNA" in error
