"""Fixtures that every test may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
for variable in [name for name in os.environ if name.startswith("LUNGTUNE_")]:
    del os.environ[variable]  # a developer's own settings must not reach the tests

from feature_store.settings import Settings  # noqa: E402
from tests.support.tiny_sweep import TINY_FEATURE, tiny_store  # noqa: E402

__all__ = ["TINY_FEATURE", "Run"]

Run = Callable[..., tuple[int, str, str]]
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


SEAWEEDFS = {"s3_server", "closed_server", "installed"}  # fixtures that start one


@pytest.hookimpl(tryfirst=True)  # before pytest selects by the marks, and pytest-xdist reads them
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs a browser or a service; the tests of one file run in one process, the longest files first.

    All files that start SeaweedFS run in one process: of two that start at the same time, one may answer for the other.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")
        elif item.path.parent.name == "integration":
            item.add_marker("service")
    items.sort(key=lambda item: item.path.parent.name != "integration")
    if config.pluginmanager.hasplugin("xdist"):
        of_seaweedfs = {item.path for item in items if SEAWEEDFS & set(getattr(item, "fixturenames", ()))}
        for item in items:
            group = "seaweedfs" if item.path in of_seaweedfs else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings and weights, `../shared/data` beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real data: {SHARED_DATA} is missing")
    return SHARED_DATA


@pytest.fixture(scope="session")
def synthetic_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic database in ICBHI's format. Read only."""
    from feature_store.datasets.synthetic import synthesize

    root = tmp_path_factory.mktemp("corpus")
    synthesize(root, patients=12, seed=3)
    return root


@pytest.fixture(scope="session")
def small_home(tmp_path_factory: pytest.TempPathFactory, synthetic_corpus: Path) -> Path:
    """A home whose store holds a tiny feature of the synthetic corpus. Read only: take a copy by `home`."""
    home = tmp_path_factory.mktemp("home")
    tiny_store(synthetic_corpus, Settings.load(home))
    return home


@pytest.fixture
def settings(tmp_path: Path, small_home: Path) -> Settings:
    """Settings of a fresh home that reads the small store."""
    from dataclasses import replace

    return replace(Settings.load(tmp_path / "home"), store=Settings.load(small_home).store)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], settings: Settings) -> Iterator[Run]:
    """Run `lungtune` in a fresh home with arguments: exit code, stdout, stderr on one line."""
    from orchestrator import cli

    monkeypatch.setenv("LUNGTUNE_HOME", str(settings.home))
    monkeypatch.setenv("LUNGTUNE_STORE", settings.store)

    def lungtune(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["lungtune", *map(str, arguments)])
        capsys.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code or 0
        printed = capsys.readouterr()
        assert isinstance(code, int)
        return code, printed.out, " ".join(printed.err.split())

    yield lungtune
    if "ray" in sys.modules:  # a command that joined a cluster in this process leaves none to the next test
        sys.modules["ray"].shutdown()
