"""What is wrong with this installation, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from feature_store.redaction import mask
from feature_store.settings import Settings
from orchestrator.diagnosis import services
from orchestrator.diagnosis.services import Finding, State

PROGRAM = "lungtune"
SHOWN = ("torch", "torchaudio", "torchvision", "timm", "ray", "optuna", "mlflow", "pyarrow")
SMALL_DISK, SMALL_MEMORY, SMALL_SHM = 5e9, 4e9, 2e9  # bytes
PATIENCE = 60.0  # seconds for one check, whatever it waits for
INSTALL = "pip install -r requirements.lock, or `make setup`"


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
    """Look at everything that lungtune needs. Never raises and never hangs: what fails is a check that says so."""
    checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("Python", python),
        ("packages", packages),
        ("torch", torch_build),
        ("compute", compute),
        ("audio", audio),
        ("corpora", corpora),
        ("memory", memory),
        ("shared memory", shared_memory),
        ("disk", lambda: disk(settings)),
        ("home", lambda: services.writable(settings.home, "LUNGTUNE_HOME")),
        ("cache", lambda: services.writable(settings.cache, "LUNGTUNE_CACHE")),
        ("temporary folder", services.temporary),
        *_servers(settings),
        ("Ray cluster", services.ray_cluster),
    )
    return [guarded(name, check) for name, check in checks]


def servers(settings: Settings) -> list[Check]:
    """Whether the stores and servers that a sweep needs answer."""
    return [guarded(name, check) for name, check in _servers(settings)]


def _servers(settings: Settings) -> tuple[tuple[str, Callable[[], Finding]], ...]:
    return (
        ("feature store", lambda: services.feature_store(settings)),
        ("result store", lambda: services.result_store(settings)),
        ("Optuna storage", lambda: services.optuna_storage(settings)),
        ("MLflow", lambda: services.mlflow_tracking(settings)),
    )


def guarded(name: str, check: Callable[[], Finding], patience: float = PATIENCE) -> Check:
    """Run a check; what it raises, or that it does not end, is its finding. Passwords in URIs are masked."""
    ended: list[Finding] = []

    def look() -> None:
        try:
            ended.append(check())
        except Exception as error:  # the doctor's own patience: any failure is a finding
            ended.append(Finding("fail", f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(patience)
    finding = ended[0] if ended else Finding("fail", f"no answer within {patience:g} s", "is the server up?")
    return Check(name, finding.state, mask(finding.found), mask(finding.mend))


# --- what is installed ---


def python() -> Finding:
    """The Python that runs this, against what the package asks for."""
    from packaging.specifiers import SpecifierSet

    found = f"{platform.python_version()} at {sys.executable}"
    wanted = metadata.metadata(PROGRAM)["Requires-Python"]
    if not SpecifierSet(wanted).contains(platform.python_version(), prereleases=True):
        return Finding("fail", f"{found}, {wanted} is needed", "make setup PYTHON=/path/to/a/newer/python")
    return Finding("ok", found)


def packages() -> Finding:
    """Every package that lungtune depends on, against the range in which it is supported."""
    from packaging.requirements import Requirement

    wrong = []
    for line in metadata.requires(PROGRAM) or []:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            installed = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(installed, prereleases=True):
            wrong.append(f"{wanted.name} {installed} is not {wanted.specifier}")
    if wrong:
        return Finding("fail", "; ".join(wrong), INSTALL)
    return Finding("ok", ", ".join(f"{name} {metadata.version(name)}" for name in SHOWN))


def corpora() -> Finding:
    """Whether the adapter of every corpus, shipped or installed, can be loaded and keeps the contract."""
    from feature_store.datasets import CORPORA, broken_adapters

    if broken := broken_adapters():
        return Finding("warn", "; ".join(map(str, broken)), "fix or uninstall the adapter; the others can be used")
    return Finding("ok", ", ".join(sorted(CORPORA)))


def torch_build() -> Finding:
    """Whether torch, torchaudio and torchvision load together: they do only where all three are of one build."""
    try:
        import torch
        import torchaudio
        import torchvision
    except (ImportError, OSError, RuntimeError) as error:
        said = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
        return Finding("fail", f"torch, torchaudio and torchvision do not load together: {said}", INSTALL)
    found = ", ".join(f"{module.__name__} {module.__version__}" for module in (torch, torchaudio, torchvision))
    return Finding("ok", f"{found} load together")


def audio() -> Finding:
    """Whether soundfile reads back what it wrote, as the recordings come: 24-bit WAV, and FLAC."""
    import io

    import numpy as np
    import soundfile

    wave = np.sin(np.arange(160) / 8) / 2
    for kind in ("WAV", "FLAC"):
        sink = io.BytesIO()
        soundfile.write(sink, wave, 16000, format=kind, subtype="PCM_24")
        sink.seek(0)
        samples, rate = soundfile.read(sink)
        if rate != 16000 or not np.allclose(samples, wave, atol=2**-22):
            return Finding("fail", f"soundfile {soundfile.__version__} does not read back its own {kind}", INSTALL)
    return Finding("ok", f"soundfile {soundfile.__version__} reads 24-bit WAV and FLAC")


# --- what the machine has ---


def compute() -> Finding:
    """Cores and GPUs that a training can use."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if torch.cuda.is_available():
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{device.name} ({device.total_memory / 1e9:.0f} GB)" for device in devices)
        return Finding("ok", f"{cores} CPU cores, GPUs: {names}")
    if shutil.which("nvidia-smi"):
        hint = f"torch {torch.__version__} is built for CUDA {torch.version.cuda}: is the driver new enough for it?"
        return Finding("warn", f"{cores} CPU cores, and a GPU that torch cannot use", hint)
    return Finding("ok", f"{cores} CPU cores, no GPU: small models only")


def memory() -> Finding:
    """Memory that this process may use: the machine's, or less where a container limits it."""
    total = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and limit.read_text().strip().isdigit():
        total = min(total, float(limit.read_text()))
    if total < SMALL_MEMORY:
        return Finding("warn", f"{total / 1e9:.1f} GB", "4 GB or more are needed beside Ray and MLflow")
    return Finding("ok", f"{total / 1e9:.0f} GB")


def shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Room for Ray's object store, which goes to a slower folder where there is too little."""
    if not folder.is_dir():
        return Finding("ok", f"no {folder} on this system")
    free = shutil.disk_usage(folder).free
    if free < SMALL_SHM:
        return Finding("warn", f"{free / 1e9:.1f} GB free at {folder}", "give the container more: --shm-size=2g")
    return Finding("ok", f"{free / 1e9:.0f} GB free at {folder}")


def disk(settings: Settings) -> Finding:
    """Room for features, and for their mapped copy."""
    found, small = [], False
    for folder in dict.fromkeys((settings.home, settings.cache)):
        place = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(place).free
        small = small or free < SMALL_DISK
        found.append(f"{free / 1e9:.0f} GB free at {place}")
    if small:
        hint = "ICBHI's filter bank as published takes 2.8 GB, twice: set LUNGTUNE_HOME or LUNGTUNE_CACHE elsewhere"
        return Finding("warn", "; ".join(dict.fromkeys(found)), hint)
    return Finding("ok", "; ".join(dict.fromkeys(found)))
