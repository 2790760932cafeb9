"""The nightly run by cron, systemd and Kubernetes: one hour, one command, sound units."""

from __future__ import annotations

import fcntl
import re
import shutil
from pathlib import Path

import pytest

from tests.support.infra_files import INFRA, ROOT, load, pods, run


def test_schedules_agree_on_hour_and_command():
    cron = load("kuberay/nightly-cronjob.yaml")["spec"]
    raycron = load("kuberay/nightly-raycronjob.yaml")["spec"]
    table = (INFRA / "schedules/lungtune.crontab").read_text()
    unit = (INFRA / "schedules/lungtune-nightly.service").read_text()
    assert cron["schedule"] == raycron["schedule"] == "17 2 * * *"
    assert "\n17 2 * * * lungtune /opt/lungtune/infra/schedules/nightly.sh /etc/lungtune/env\n" in table
    assert "\nExecStart=/opt/lungtune/infra/schedules/nightly.sh /etc/lungtune/env\n" in unit
    assert "OnCalendar=*-*-* 02:17:00 UTC" in (INFRA / "schedules/lungtune-nightly.timer").read_text()
    words = [" ".join(pods()["nightly-cronjob"]["containers"][0]["command"]), raycron["jobTemplate"]["entrypoint"]]
    words.append((INFRA / "schedules/nightly.sh").read_text().strip())
    assert all(line.endswith("python -m orchestrator nightly") for line in words)


def test_systemd_takes_the_units(tmp_path: Path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze on this machine")
    for path in (INFRA / "schedules").glob("lungtune-nightly.*"):
        here = re.sub("(?m)^User=.*$", "User=root", path.read_text().replace("/opt/lungtune", str(ROOT)))
        (tmp_path / path.name).write_text(here)
    units = sorted(map(str, tmp_path.glob("lungtune-nightly.*")))
    ended = run("systemd-analyze", "verify", "--man=no", *units)
    assert ended.returncode == 0 and not ended.stderr, ended.stderr
    (tmp_path / "lungtune-nightly.timer").write_text("[Timer]\nOnCalender=daily\n")
    assert "OnCalender" in run("systemd-analyze", "verify", "--man=no", *units).stderr


def test_the_nightly_script_reads_its_environment_and_never_runs_twice(tmp_path: Path):
    """With a program of the test's in the place of Python: what it is told, where it runs, and its exit code."""
    shutil.copytree(INFRA / "schedules", tmp_path / "checkout" / "infra" / "schedules")
    told = tmp_path / "checkout" / ".venv" / "bin" / "python"
    told.parent.mkdir(parents=True)
    told.write_text('#!/bin/sh\necho "$PWD $LUNGTUNE_STORE $*"; exit 7\n')
    told.chmod(0o755)
    home = tmp_path / "home"
    (tmp_path / "env").write_text(f"export LUNGTUNE_HOME='{home}' LUNGTUNE_STORE=s3://b/store\n")
    nightly = [str(tmp_path / "checkout/infra/schedules/nightly.sh"), str(tmp_path / "env")]
    ended = run(*nightly)
    assert ended.stdout == f"{tmp_path / 'checkout'} s3://b/store -m orchestrator nightly\n"
    assert ended.returncode == 7
    with (home / "nightly.lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert run(*nightly).returncode == 75
