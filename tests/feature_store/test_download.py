"""Fetching a file: every byte is fetched once, whatever breaks off, and only the true file is put in place."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from feature_store.download import ATTEMPTS, MissingFile, fetch
from feature_store.errors import UserError
from tests.support.file_server import FileServer

CONTENT = bytes(range(256)) * 2000
HALF = 300_000


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer({"a.zip": CONTENT}) as server:
        yield server


def asked(server: FileServer) -> list[str | None]:
    return [answer.asked for answer in server.served]


def leave_a_part(server: FileServer, dest: Path) -> None:
    """Fetch the first half and give up, as a network does that is gone for good."""
    server.cuts = [HALF] + [0] * ATTEMPTS
    with pytest.raises(UserError, match="brought nothing"):
        fetch(f"{server.url}/a.zip", dest, pause=0)
    assert not dest.exists()
    server.served.clear()


def test_a_file_is_fetched_once(server: FileServer, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    dest = tmp_path / "a.zip"
    assert fetch(f"{server.url}/a.zip", dest, progress=lambda *now: told.append(now))
    assert dest.read_bytes() == CONTENT and told[-1] == ("a.zip", len(CONTENT), len(CONTENT))
    assert not fetch(f"{server.url}/a.zip", dest)
    assert len(server.served) == 1 and list(tmp_path.iterdir()) == [dest]


@pytest.mark.parametrize("etag", [True, False])
def test_a_lost_connection_costs_no_byte_twice(server: FileServer, tmp_path: Path, etag: bool) -> None:
    if not etag:
        server.etag = None
    server.cuts = [HALF, 100_000]
    notes: list[str] = []
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip", note=notes.append, pause=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert asked(server) == [None, "bytes=300000-", "bytes=400000-"]
    assert server.bytes_of("a.zip") == len(CONTENT) and len(notes) == 2
    assert "lost at 300,000 of 512,000 bytes" in notes[0]


def test_a_later_call_goes_on(server: FileServer, tmp_path: Path) -> None:
    leave_a_part(server, tmp_path / "a.zip")
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert asked(server) == ["bytes=300000-"] and server.bytes_of("a.zip") == len(CONTENT) - HALF
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_a_call_killed_before_its_rename_fetches_nothing_again(server: FileServer, tmp_path: Path) -> None:
    leave_a_part(server, tmp_path / "a.zip")
    (tmp_path / "a.zip.part").write_bytes(CONTENT)
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and not server.served


def test_a_server_without_ranges_begins_anew(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [HALF]
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip", pause=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    assert [answer.sent for answer in server.served] == [HALF, len(CONTENT)]


@pytest.mark.parametrize("if_range", [True, False])
@pytest.mark.parametrize("size", [100, len(CONTENT), 2 * len(CONTENT)])
def test_two_versions_of_a_file_are_never_joined(server: FileServer, tmp_path: Path, if_range: bool, size: int) -> None:
    leave_a_part(server, tmp_path / "a.zip")
    server.files["a.zip"] = new = (b"new" * size)[:size]
    server.if_range = if_range
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip", pause=0)
    assert (tmp_path / "a.zip").read_bytes() == new


def test_a_part_of_unknown_origin_is_not_continued(server: FileServer, tmp_path: Path) -> None:
    leave_a_part(server, tmp_path / "a.zip")
    mark = tmp_path / "a.zip.part.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"url": "http://elsewhere/a.zip"}))
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and asked(server) == [None]


def test_a_truncated_file_is_never_put_in_place(server: FileServer, tmp_path: Path) -> None:
    server.ranges, server.cuts = False, [HALF] * 20
    with pytest.raises(UserError, match="lost at 300,000 of 512,000 bytes") as caught:
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", pause=0)
    assert "the same command again" in str(caught.value.hint)
    assert not (tmp_path / "a.zip").exists() and len(server.served) == ATTEMPTS + 1


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/zip"])
def test_a_web_page_is_not_taken_for_the_file(server: FileServer, tmp_path: Path, content_type: str) -> None:
    leave_a_part(server, tmp_path / "a.zip")
    true, server.files["a.zip"] = server.files["a.zip"], b"\n<!DOCTYPE html><title>Log in</title>"
    server.content_type = content_type
    with pytest.raises(UserError, match="web page") as caught:
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip", by_hand="by hand")
    assert caught.value.hint == "by hand" and not (tmp_path / "a.zip").exists()
    server.files["a.zip"], server.content_type = true, "application/zip"
    fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert server.bytes_of("a.zip") < len(CONTENT), "the page cost what had arrived"
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_an_empty_answer_is_no_file(server: FileServer, tmp_path: Path) -> None:
    server.files["a.zip"] = b""
    with pytest.raises(UserError, match="empty file"):
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_told_from_a_lost_connection(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match="404") as caught:
        fetch(f"{server.url}/b.zip", tmp_path / "b.zip", by_hand="by hand")
    assert caught.value.where == f"{server.url}/b.zip" and caught.value.hint == "by hand"
    assert len(server.served) == 1


def test_a_server_that_cannot_be_reached_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip"
        began = time.monotonic()
        with pytest.raises(UserError, match="cannot be reached: Connection refused") as caught:
            fetch(url, tmp_path / "a.zip", by_hand="by hand", pause=30)
    assert time.monotonic() - began < 10 and (caught.value.where, caught.value.hint) == (url, "by hand")


def test_a_server_that_goes_away_in_the_middle_is_waited_for(tmp_path: Path) -> None:
    notes: list[str] = []
    with FileServer({"a.zip": CONTENT}, cuts=[HALF]) as server:

        def gone(note: str) -> None:
            if not notes:
                server._server.shutdown()
                server._server.server_close()
            notes.append(note)

        with pytest.raises(UserError, match="brought nothing: Connection refused") as caught:
            fetch(f"{server.url}/a.zip", tmp_path / "a.zip", note=gone, pause=0)
    assert len(notes) == ATTEMPTS and "byte 300,000" in str(caught.value.hint)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with FileServer({"a.zip": CONTENT}) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self_signed(tmp_path))
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        url = f"{server.url}/a.zip".replace("http:", "https:")
        with pytest.raises(UserError, match="certificate cannot be verified") as caught:
            fetch(url, tmp_path / "a.zip", by_hand="take it by hand")
    assert caught.value.hint and "SSL_CERT_FILE" in caught.value.hint and "take it by hand" in caught.value.hint


def self_signed(folder: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, drawn now."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    certificate = certificate.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + certificate.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path


def test_a_disk_that_fills_is_an_error_of_its_own(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="the disk is full") as caught:
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert caught.value.where == str(tmp_path / "a.zip.part") and len(server.served) == 1


def test_a_file_that_does_not_fit_is_not_begun(server: FileServer, tmp_path: Path) -> None:
    server.length = 1 << 60
    with pytest.raises(UserError, match="1,152,921,504,606,846,976 bytes") as caught:
        fetch(f"{server.url}/a.zip", tmp_path / "a.zip")
    assert caught.value.where == str(tmp_path) and not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/a", "host/a.zip", "http:///a", "http://ho st/a"])
def test_only_the_web_is_fetched_from(tmp_path: Path, url: str) -> None:
    with pytest.raises(UserError, match="http://"):
        fetch(url, tmp_path / "a.zip")


def test_a_password_in_a_url_is_refused_and_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="password") as caught:
        fetch("http://me:hunter2@127.0.0.1/a.zip", tmp_path / "a.zip")
    assert "hunter2" not in str(caught.value)


def test_a_killed_process_loses_nothing(server: FileServer, tmp_path: Path) -> None:
    server.cuts, server.stall = [HALF], True
    dest = tmp_path / "a.zip"
    code = "import sys; from pathlib import Path; from feature_store.download import fetch\n"
    code += "fetch(sys.argv[1], Path(sys.argv[2]))"
    command = [sys.executable, "-c", code, f"{server.url}/a.zip", str(dest)]
    child = subprocess.Popen(command, cwd=Path(__file__).resolve().parents[2])
    try:
        assert server.cut.wait(60)
        part = dest.with_name("a.zip.part")
        while not (part.exists() and part.stat().st_size == HALF):
            assert child.poll() is None
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    assert not dest.exists()
    fetch(f"{server.url}/a.zip", dest)
    assert dest.read_bytes() == CONTENT and server.bytes_of("a.zip") == len(CONTENT)
