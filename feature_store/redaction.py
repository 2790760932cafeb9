"""Passwords taken out of text that leaves the program: console, files, webhook, MLflow. Imports nothing of lungtune."""

from __future__ import annotations

import os
import re
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
USER = re.compile(r"(?<=://)(?!/)[^\s'\"]*@")  # to the last @: a password may hold one
NAMES = r"pass(?:word|wd|phrase|)|pwd|secret\w*|(?:\w+_)?token|(?:api|\w*access)_?key\w*|sslpassword"
PARAMETER = re.compile(rf"(?i)((?:(?<![\w-])(?:{NAMES})|[?&](?:key|sig|signature|x-amz-\w+))=)[^&;\s'\"]+")
AUTHORIZATION = re.compile(r"(?i)\b((?:basic|bearer)\s+)[\w+/=.~-]{8,}")
SECRET_VARIABLES = (
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "RAY_AUTH_TOKEN",
    "PGPASSWORD",
)
SHORTEST = 6  # characters of a password that is also masked where it is quoted without its URI


def mask(text: str) -> str:
    """A text without the users and passwords in its URIs, and without those that the environment holds.

    Drivers quote pieces of a URI ("could not translate host name ..."). So passwords of this process' environment and
    arguments are masked wherever they appear, unless they are plain words, which would blacken ordinary text.

    >>> mask("no answer from postgresql://ann:hush@db:5432/x?sslkey=abc")
    'no answer from postgresql://***@db:5432/x?sslkey=abc'
    >>> mask("http://host/?password=hush&page=2")
    'http://host/?password=***&page=2'
    """
    if "://" in text:
        text = USER.sub(f"{HIDDEN}@", text)
    if "=" in text:
        text = PARAMETER.sub(rf"\1{HIDDEN}", text)
    text = AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    for secret in _known():
        text = text.replace(secret, HIDDEN)
    return text


def masked(content: Any) -> Any:
    """Plain data (mappings, lists, texts) with every text in it masked."""
    if isinstance(content, str):
        return mask(content)
    if isinstance(content, dict):
        return {masked(key): masked(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [masked(value) for value in content]
    return content


def _known() -> list[str]:
    """Passwords of the environment and the arguments, the longest first."""
    found = {value for name in SECRET_VARIABLES if (value := os.environ.get(name))}
    for text in (*os.environ.values(), *sys.argv):
        if "://" in text:
            found.update(_passwords(text))
    return sorted((secret for secret in found if _telling(secret)), key=len, reverse=True)


def _passwords(uri: str) -> Iterator[str]:
    """The password in a URI as written and decoded; a webhook's path is one as a whole."""
    for user in re.findall(r"://(?!/)([^\s'\"]*)@", uri):
        for part in (user, user.partition(":")[2]):
            yield part
            yield urllib.parse.unquote(part)
    if uri == os.environ.get("LUNGTUNE_WEBHOOK"):
        parts = urllib.parse.urlsplit(uri)
        yield from (uri, parts.path, parts.query)


def _telling(secret: str) -> bool:
    """Whether a text is long and unusual enough to be masked wherever it appears."""
    return len(secret) >= SHORTEST and not re.fullmatch(r"[A-Za-z]+|\d+|/[a-z]*", secret)


class MaskedStream:
    """A text stream that masks what is written to it, and ends the program quietly when its reader has gone.

    Everything else is the stream's own.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with _ReaderMayGo(self._stream):
            self._stream.write(mask(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        with _ReaderMayGo(self._stream):
            self._stream.flush()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ReaderGone(SystemExit):
    """Nobody reads the output any more, as after ``| head``: ends with SIGPIPE's code, 128 + 13."""

    def __init__(self) -> None:
        super().__init__(141)


class _ReaderMayGo:
    """Turns a broken pipe of one stream into `ReaderGone`; what is still in its buffer goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if not isinstance(error, BrokenPipeError):
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        raise ReaderGone from None
