"""The error that a reader can act on: what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable

QUOTED = 80  # characters of a value in a message


class UserError(Exception):
    """Bad input. The command line prints it without a traceback and exits with 2.

    Args:
        what: what was wrong, in one sentence.
        where: the file, row or key it was found in.
        hint: what to do about it.
    """

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        what = re.sub(r"\S{200,}", lambda word: shortened(word.group()), what)  # a value is quoted by its beginning
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.hint})" if self.hint else text

    def __reduce__(self):  # keyword-only arguments would be lost when Ray pickles the error
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(cls: type[UserError], what: str, where: str | None, hint: str | None) -> UserError:
    return cls(what, where=where, hint=hint)


def printable(text: object) -> str:
    """Text for people, such as a file's name: bytes that are no UTF-8 and control characters as escapes.

    >>> printable("a\\udce9\\x1b[31m.wav")
    'a\\\\xe9\\\\x1b[31m.wav'
    """
    return "".join(_escaped(one) if unicodedata.category(one) in {"Cc", "Cs"} else one for one in str(text))


def _escaped(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return one.encode("unicode_escape", "surrogatepass").decode()


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest known word and lists the others.

    >>> nearest("alhpa", ["alpha", "tau"])
    "did you mean 'alpha'? known: alpha, tau"
    """
    known = sorted(known)
    close = closest(name, known)
    listing = "known: " + ", ".join(known)
    return f"did you mean '{close}'? {listing}" if close else listing


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known word that is most like another one; None where none is.

    >>> closest("alhpa", ["alpha", "tau"])
    'alpha'
    """
    return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=0.5)), None)


def shortened(text: str, most: int = QUOTED) -> str:
    """A text cut to a line's length, for messages.

    >>> shortened("abcdefgh", 4)
    'abcd... (8 characters)'
    """
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"
