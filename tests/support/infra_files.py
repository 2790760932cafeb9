"""What the tests of infra/ share: its files, the Pods that they ask for, and how to run a program."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
INFRA = ROOT / "infra"
SCRIPTS = sorted(INFRA.rglob("*.sh"))
YAML_FILES = sorted(INFRA.rglob("*.yaml"))


def load(name: str) -> Any:
    return yaml.safe_load((INFRA / name).read_text())


def pods() -> dict[str, dict[str, Any]]:
    """Every Pod that Kubernetes is asked for, by its file and place there."""
    cluster, rayjob = load("kuberay/raycluster.yaml")["spec"], load("kuberay/sweep-rayjob.yaml")["spec"]
    nightly, raycron = load("kuberay/nightly-cronjob.yaml")["spec"], load("kuberay/nightly-raycronjob.yaml")["spec"]
    return {
        "head": cluster["headGroupSpec"]["template"]["spec"],
        **{group["groupName"]: group["template"]["spec"] for group in cluster["workerGroupSpecs"]},
        "sweep-job": load("kuberay/sweep-job.yaml")["spec"]["template"]["spec"],
        "sweep-rayjob": rayjob["submitterPodTemplate"]["spec"],
        "nightly-cronjob": nightly["jobTemplate"]["spec"]["template"]["spec"],
        "nightly-raycronjob": raycron["jobTemplate"]["submitterPodTemplate"]["spec"],
    }


def program(name: str) -> str:
    """A linter of the extra `dev`, from the environment that runs the tests."""
    return str(Path(sys.executable).with_name(name))


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **environment}
    )
