"""Lists and folders as people hand them on: delimiters, byte-order marks, line ends, and files that are no data.

Every adapter reads its lists and looks for its files by this module, so that all of them take what one of them takes.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from feature_store.errors import UserError

AUDIO_SUFFIXES = (".wav", ".flac")
"""In lower case; the first is taken where both are there."""
FOREIGN_FOLDERS = frozenset({"__MACOSX"})
"""Folders that an archiver of macOS adds: their files only look like recordings."""
DELIMITERS = ",;\t"
SUFFIX = re.compile(r"\.(wav|flac)$", re.IGNORECASE)
DECIMAL_COMMA = re.compile(r"^[+-]?\d+,\d+$")
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def is_data(path: Path, root: Path) -> bool:
    """Whether a path below `root` is data: neither it nor a folder on the way is hidden or macOS' own."""
    parts = path.relative_to(root).parts
    return not any(part.startswith(".") or part in FOREIGN_FOLDERS for part in parts)


def files_below(root: Path, suffixes: Collection[str]) -> list[Path]:
    """Files of data at any depth whose suffix, in any case, is one of `suffixes` (lower case); sorted."""
    found = (path for path in root.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(path for path in found if is_data(path, root) and path.is_file())


def files_in(folder: Path) -> list[Path]:
    """Files of data in one folder, sorted: neither hidden ones nor the `._*` of macOS."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file())


def audio_rank(path: Path) -> int:
    """Which of two audio files of one name is taken: the one with the lower rank."""
    suffix = path.suffix.lower()
    return AUDIO_SUFFIXES.index(suffix) if suffix in AUDIO_SUFFIXES else len(AUDIO_SUFFIXES)


def audio_by_stem(folder: Path) -> dict[str, Path]:
    """Audio files of one folder by their names without suffix, `.WAV` as well as `.wav`; empty without the folder."""
    files = files_in(folder) if folder.is_dir() else []
    ranked = sorted((path for path in files if path.suffix.lower() in AUDIO_SUFFIXES), key=audio_rank, reverse=True)
    return {path.stem: path for path in ranked}


def without_audio_suffix(name: str) -> str:
    """A recording's name as a list has it, without `.wav` or `.flac`, in any case, at its end.

    >>> without_audio_suffix("101_1b1_Al_sc_Meditron.WAV")
    '101_1b1_Al_sc_Meditron'
    """
    return SUFFIX.sub("", name.strip())


def read_text(path: Path) -> str:
    """A text file in UTF-8 with or without a byte-order mark, or in UTF-16 with one.

    Raises:
        UserError: the file is not there, cannot be read, or is no text.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UserError("there is no such list", where=str(path), hint="give the folder that holds it") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        what = f"is not a text file in UTF-8 ({error.reason})"
        raise UserError(what, where=str(path), hint="download it again, or save it as UTF-8") from None
    if "\0" in text:
        raise UserError("is not a text file", where=str(path), hint="download it again")
    return text


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each line that is not blank, with its number from 1, as its fields (see `fields_of`).

    Raises:
        UserError: as `read_text`.
    """
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            yield number, fields_of(line)


def fields_of(line: str) -> list[str]:
    """The fields of a line: between tabs, else between semicolons, else between commas and blanks.

    >>> fields_of("0,036;0,579;0;1"), fields_of("101, URTI")
    (['0,036', '0,579', '0', '1'], ['101', 'URTI'])
    """
    line = line.strip()
    for delimiter in "\t;":
        if delimiter in line:
            return [field.strip() for field in line.split(delimiter)]
    return line.replace(",", " ").split()


def number_of(text: str) -> float:
    """A number, with a decimal point or, as a spreadsheet of many countries writes it, a decimal comma.

    Raises:
        ValueError: it is none.
    """
    text = text.strip()
    return float(text.replace(",", ".") if DECIMAL_COMMA.match(text) else text)


def read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """A list's columns, and each row's line with its text by column. Blanks around names and cells do not matter.

    The header says what delimits cells: comma, semicolon or tab. A cell that a short row lacks is empty; cells beyond
    the header are dropped.

    Raises:
        UserError: there is no such list, or it is no CSV.
    """
    text = read_text(path)
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(DELIMITERS, key=header.count)  # of equal counts the first, the comma
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [(reader.line_num, _stripped(row)) for row in reader]
        return [name.strip() for name in reader.fieldnames or []], rows
    except csv.Error as error:
        raise UserError(f"cannot be read as CSV: {error}", where=str(path)) from error


def find_file(places: Iterable[Path], names: Iterable[str]) -> Path | None:
    """The first file with one of the names, upper and lower case alike; of one folder the earlier name wins."""
    wanted = [name.lower() for name in names]
    for place in places:
        there = {path.name.lower(): path for path in files_in(place)} if place.is_dir() else {}
        if found := next((there[name] for name in wanted if name in there), None):
            return found
    return None


def _stripped(row: Mapping[str | None, str | list[str] | None]) -> dict[str, str]:
    return {str(name).strip(): (value or "").strip() for name, value in row.items() if not isinstance(value, list)}
