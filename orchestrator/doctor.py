"""What is wrong with this installation, and how to mend it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from feature_store.settings import Settings

State = Literal["ok", "warn", "fail"]
TOGETHER = {"torchaudio": "2.11", "torchvision": "0.26"}  # built against torch 2.11
PACKAGES = ("torch", "torchaudio", "torchvision", "timm", "ray", "optuna", "mlflow", "pyarrow")
SMALL_DISK, SMALL_MEMORY = 5e9, 4e9


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        found: what is there.
        mend: what to do about it, where something is to be done.
    """

    name: str
    state: State
    found: str
    mend: str = ""


def examine(settings: Settings) -> list[Check]:
    """Look at everything that lungtune needs. Never raises: what fails is a check that says so."""
    checks = (
        ("Python", _python),
        ("packages", _packages),
        ("compute", _compute),
        ("audio", _audio),
        ("memory", _memory),
        ("disk", lambda: _disk(settings)),
        ("home", lambda: _home(settings)),
        ("feature store", lambda: _store(settings)),
        ("result store", lambda: _results(settings)),
        ("Optuna storage", lambda: _optuna(settings)),
        ("MLflow", lambda: _mlflow(settings)),
        ("Ray cluster", _ray),
    )
    return [_guarded(name, check) for name, check in checks]


def mask(text: str) -> str:
    """A text without the passwords in its URIs."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _guarded(name: str, check: Callable[[], tuple[State, str, str]]) -> Check:
    try:
        state, found, mend = check()
    except Exception as error:  # the doctor's own patience: any failure is a finding
        state, found, mend = "fail", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}", ""
    return Check(name, state, mask(found), mask(mend))


def _python() -> tuple[State, str, str]:
    return "ok", f"{platform.python_version()} at {sys.executable}", ""


def _packages() -> tuple[State, str, str]:
    found, missing = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return "fail", f"missing: {', '.join(missing)}", "run `make setup`, or pip install the missing packages"
    wrong = [name for name, wanted in TOGETHER.items() if not metadata.version(name).startswith(wanted)]
    if metadata.version("torch").startswith("2.11") and wrong:
        return "fail", ", ".join(found), f"{', '.join(wrong)} does not belong to this torch: install requirements.lock"
    return "ok", ", ".join(found), ""


def _compute() -> tuple[State, str, str]:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not torch.cuda.is_available():
        return "ok", f"{cores} CPU cores, no GPU: small models only", ""
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return "ok", f"{cores} CPU cores, GPUs: {', '.join(names)}", ""


def _audio() -> tuple[State, str, str]:
    import io

    import numpy as np
    import soundfile

    sink = io.BytesIO()
    soundfile.write(sink, np.zeros(160, dtype=np.float32), 16000, format="WAV", subtype="PCM_24")
    sink.seek(0)
    samples, _ = soundfile.read(sink)
    return "ok", f"soundfile {soundfile.__version__} reads 24-bit WAV ({len(samples)} samples)", ""


def _memory() -> tuple[State, str, str]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    state: State = "ok" if total >= SMALL_MEMORY else "warn"
    return state, f"{total / 1e9:.0f} GB", "" if state == "ok" else "4 GB or more are needed beside Ray and MLflow"


def _disk(settings: Settings) -> tuple[State, str, str]:
    place = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    found = f"{free / 1e9:.0f} GB free at {place}"
    if free < SMALL_DISK:
        return (
            "warn",
            found,
            "the published filter bank of ICBHI alone takes 2.8 GB, twice: set LUNGTUNE_HOME elsewhere",
        )
    return "ok", found, ""


def _home(settings: Settings) -> tuple[State, str, str]:
    settings.home.mkdir(parents=True, exist_ok=True)
    probe = settings.home / f".doctor-{os.getpid()}"
    probe.write_text("")
    probe.unlink()
    return "ok", str(settings.home), ""


def _store(settings: Settings) -> tuple[State, str, str]:
    from feature_store.errors import UserError
    from feature_store.store import FeatureStore

    try:
        store = FeatureStore.open(settings.store)
    except UserError as error:
        return "warn", str(error.what), error.hint or ""
    features = [manifest.feature_id for name in store.datasets() for manifest in store.manifests(name)]
    return "ok", f"{settings.store}: {', '.join(features) or 'no feature yet'}", ""


def _results(settings: Settings) -> tuple[State, str, str]:
    from workers.results import ResultStore

    return "ok", f"{settings.results}: {len(ResultStore.open(settings.results).hashes())} results", ""


def _optuna(settings: Settings) -> tuple[State, str, str]:
    from feature_store.errors import UserError
    from orchestrator.study import open_storage

    if "://" not in settings.optuna and not Path(settings.optuna).exists():
        return "ok", f"{settings.optuna} (made by the first sweep)", ""
    try:
        studies = open_storage(settings.optuna).get_all_studies()
    except UserError as error:
        return "fail", f"{settings.optuna}: {error.what}", error.hint or ""
    return "ok", f"{settings.optuna}: {len(studies)} studies", ""


def _mlflow(settings: Settings) -> tuple[State, str, str]:
    uri = settings.mlflow
    if uri.startswith("http"):
        try:
            with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=5) as answer:
                return "ok", f"{uri} answers {answer.status}", ""
        except OSError as error:
            hint = "start it (infra/start-mlflow.sh); a 403 means that its --allowed-hosts lacks this name"
            return "fail", f"{uri}: {error}", hint
    return "ok", f"{uri}{'' if Path(uri.removeprefix('sqlite:///')).exists() else ' (made by the first sweep)'}", ""


def _ray() -> tuple[State, str, str]:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return "ok", "none named: a sweep starts its own on this machine (RAY_ADDRESS names a cluster)", ""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        hint = "export RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH on nodes and clients, before Ray is imported"
        return "warn", f"{address}, without token authentication", hint
    import ray

    ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
    resources = ray.cluster_resources()
    return "ok", f"{address}: {resources.get('CPU', 0):g} CPUs, {resources.get('GPU', 0):g} GPUs", ""
