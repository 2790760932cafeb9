"""A file over HTTP(S): resumed where it broke off, checked against the server's length, put in place whole."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from feature_store.errors import UserError

Progress = Callable[[str, int, int | None], None]  # file name, bytes done, bytes in all where they are known
Note = Callable[[str], None]

ATTEMPTS = 6  # in a row that bring nothing new, before it is given up
LONGEST_PAUSE = 30.0  # seconds
TIMEOUT = 60.0  # seconds without a byte
BLOCK = 1 << 20
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
PAGE = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)


class MissingFile(UserError):
    """The server says that it has no such file."""


class _Lost(Exception):
    """The connection broke off, or the server is busy: worth another attempt."""


class _Unreachable(_Lost):
    """No connection at all."""


@dataclass(frozen=True)
class _Version:
    """Which content a part is of: its URL, a strong ETag or the date of its last change, its bytes."""

    url: str
    validator: str | None
    size: int | None


def fetch(
    url: str,
    dest: Path,
    *,
    by_hand: str | None = None,
    progress: Progress | None = None,
    note: Note | None = None,
    pause: float = 1.0,
) -> bool:
    """Fetch `url` into the file `dest`; False where it is there already and nothing is asked of the server.

    What has arrived is kept in `<dest>.part`, beside it in `<dest>.part.json` which version of the file it is of. A
    later call, also after a kill, asks for the rest only (RFC 9110, sections 13.1.5 and 14: `If-Range` and `Range`);
    a server that knows no ranges, or has another version by now, starts from the beginning. A lost connection is tried
    again, each time after twice the pause. Only one process may fetch a file at a time.

    Args:
        by_hand: the hint where the server does not give the file.
        progress: receives the name, bytes so far and bytes in all.
        note: receives a line per lost connection.
        pause: seconds before the second attempt.

    Raises:
        MissingFile: the server has no such file.
        UserError: the URL is not HTTP(S), the server cannot be reached or refuses, it sends a web page, the
            connection is lost again and again, or the disk is full. The part stays.
    """
    part, mark = dest.with_name(f"{dest.name}.part"), dest.with_name(f"{dest.name}.part.json")
    if dest.exists():
        mark.unlink(missing_ok=True)
        return False
    _check_url(url)
    barren, reached = 0, False
    while True:
        before = _size(part)
        try:
            _receive(url, part, mark, dest.name, by_hand, progress)
            break
        except _Lost as lost:
            if isinstance(lost, _Unreachable) and not reached:
                raise UserError(f"cannot be reached: {lost}", where=url, hint=by_hand) from lost
            reached = True
            barren = 0 if _size(part) > before else barren + 1
            if barren == ATTEMPTS:
                hint = f"the same command again goes on from byte {_size(part):,}"
                raise UserError(f"{ATTEMPTS} attempts in a row brought nothing: {lost}", where=url, hint=hint) from lost
            seconds = min(pause * 2**barren, LONGEST_PAUSE)
            if note:
                note(f"{dest.name}: {lost}; next attempt in {seconds:g} s")
            time.sleep(seconds)
    part.replace(dest)
    mark.unlink(missing_ok=True)
    return True


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises UserError where fewer than `needed` bytes are free."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        hint = "free some, or take another folder, and run the same command again"
        raise UserError(f"{what} needs {needed:,} bytes and {free:,} are free", where=str(folder), hint=hint)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """What the file system refuses while `path` is written, as an error that a reader can act on."""
    try:
        yield
    except OSError as error:
        what = "the disk is full" if error.errno in FULL else f"cannot be written: {error.strerror or error}"
        raise UserError(what, where=str(path), hint="what has arrived is kept: run the same command again") from error


def _check_url(url: str) -> None:
    parts = urlsplit(url) if url.isascii() and url.isprintable() and " " not in url else None
    if parts and parts.username is not None:
        raise UserError("a URL with a user name or a password is not taken", where=parts.hostname)
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError("is not a URL that begins with http:// or https://", where=url)


def _receive(url: str, part: Path, mark: Path, name: str, by_hand: str | None, progress: Progress | None) -> None:
    """One attempt: the part is whole when it returns."""
    known = _read_mark(mark)
    start = _size(part) if known and known.url == url else 0
    if known and start and start == known.size:
        return
    request = urllib.request.Request(url, headers={"User-Agent": "lungtune"})
    if known and start:
        request.add_header("Range", f"bytes={start}-")
        if known.validator:
            request.add_header("If-Range", known.validator)
    with _connect(request, mark, by_hand) as response:
        offset, version = _described(response, url)
        if offset and (offset != start or (known and not _same(known, version))):
            mark.unlink(missing_ok=True)
            raise _Lost("the server has another version of the file; it is downloaded again")
        block = _read(response)
        if response.headers.get_content_type() == "text/html" or (not offset and PAGE.match(block)):
            raise UserError("the server sent a web page, not the file", where=response.url, hint=by_hand)
        if not offset and not block and not version.size:
            raise UserError("the server sent an empty file", where=url, hint=by_hand)
        check_space(part.parent, (version.size or 0) - (offset or _size(part)), name)
        with disk_errors(part):
            file = part.open("ab" if offset else "wb")
        with file:
            with disk_errors(part):
                mark.write_text(json.dumps(asdict(version)))
            done = offset
            while block:
                with disk_errors(part):
                    file.write(block)
                    file.flush()
                done += len(block)
                if progress:
                    progress(name, done, version.size)
                block = _read(response)
            if version.size is not None and done < version.size:
                raise _Lost(f"the connection was lost at {done:,} of {version.size:,} bytes")
            with disk_errors(part):
                os.fsync(file.fileno())


def _connect(request: urllib.request.Request, mark: Path, by_hand: str | None) -> Any:
    url = request.full_url
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # the part is longer than the file is by now
            mark.unlink(missing_ok=True)
            raise _Lost("the server has another version of the file; it is downloaded again") from error
        if error.code in TRANSIENT:
            raise _Lost(f"the server answered {error.code} {error.reason}") from error
        kind = MissingFile if error.code in (404, 410) else UserError
        raise kind(f"the server answered {error.code} {error.reason}", where=url, hint=by_hand) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            what = f"the server's certificate cannot be verified: {error.reason.verify_message}"
            hint = "give the authority's certificates in SSL_CERT_FILE" + (f", or {by_hand}" if by_hand else "")
            raise UserError(what, where=url, hint=hint) from error
        reason = error.reason
        said = (reason.strerror or str(reason)) if isinstance(reason, OSError) else reason
        raise _Unreachable(str(said)) from error
    except http.client.InvalidURL as error:
        raise UserError(f"is not a URL: {error}", where=url) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"the connection was lost ({type(error).__name__})") from error


def _read(response: Any) -> bytes:
    """The next bytes as they come; empty at the end, which may be a connection that was cut."""
    try:
        return response.read1(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _Lost(f"the connection was lost ({type(error).__name__})") from error


def _described(response: Any, url: str) -> tuple[int, _Version]:
    """The byte that an answer begins with, and which version of the file it is of."""
    headers = response.headers
    etag = headers.get("ETag")
    validator = etag if etag and not etag.startswith("W/") else headers.get("Last-Modified")
    if response.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
        if found is None:
            raise UserError("the server answered a range without saying which", where=url)
        return int(found[1]), _Version(url, validator, None if found[2] == "*" else int(found[2]))
    length = headers.get("Content-Length", "")
    return 0, _Version(url, validator, int(length) if length.isdecimal() else None)


def _same(known: _Version, answered: _Version) -> bool:
    """Whether an answer can go on with a part; what one of the two does not say cannot differ."""
    pairs = ((known.validator, answered.validator), (known.size, answered.size))
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _read_mark(mark: Path) -> _Version | None:
    try:
        return _Version(**json.loads(mark.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
