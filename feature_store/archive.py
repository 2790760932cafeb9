"""A zip file unpacked: nothing outside the folder, every checksum compared, the folder appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from feature_store.download import Progress, check_space, disk_errors
from feature_store.errors import UserError

BLOCK = 1 << 20
AGAIN = "remove it and run the same command again: it is downloaded again"


def unpack(
    archive: Path,
    into: Path,
    *,
    most_bytes: int | None = None,
    most_files: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Unpack a zip into the new folder `into`; returns the number of files.

    A folder that all files of the archive share is left out of their paths, and so is what macOS adds. The CRC of
    every file is compared. A killed call leaves a hidden folder that the next one removes.

    Args:
        archive: the zip.
        into: the folder to make.
        most_bytes: unpacked, that it can be; of a file no more than it announces is ever unpacked.
        most_files: as many files as it can hold.
        progress: called with the folder's name, bytes done and bytes in all.

    Raises:
        UserError: it is not a whole zip, it holds more than it can, a file in it is damaged, encrypted or a link, a
            name in it leads out of the folder or is there twice, `into` holds something, or the disk is full. Then
            `into` is as it was.
    """
    draft = into.with_name(f".{into.name}-unpacking")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as opened:
            files = _files(opened, archive)
            total = sum(info.file_size for info in files.values())
            _check_size(archive, total, len(files), most_bytes, most_files)
            check_space(into.parent, total, f"unpacking {archive.name}")
            done = 0
            for path, info in files.items():
                _write(opened, info, draft / path, archive)
                done += info.file_size
                if progress:
                    progress(f"{into.name}/", done, total)
    except zipfile.BadZipFile as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise UserError(f"is not a whole zip file: {error}", where=str(archive), hint=AGAIN) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    with disk_errors(into):
        draft.replace(into)
    return len(files)


def _check_size(archive: Path, total: int, files: int, most_bytes: int | None, most_files: int | None) -> None:
    """Whether it is as large as what it should be: a few kB can unpack to more than any disk holds."""
    if most_bytes is not None and total > most_bytes:
        what = f"holds {total:,} bytes, and what it should be has {most_bytes:,} at most; nothing is unpacked"
        raise UserError(what, where=str(archive), hint=AGAIN)
    if most_files is not None and files > most_files:
        what = f"holds {files:,} files, and what it should be has {most_files:,} at most; nothing is unpacked"
        raise UserError(what, where=str(archive), hint=AGAIN)


def _files(opened: zipfile.ZipFile, archive: Path) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Every file by its path below the folder, after all names were looked at."""
    files: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in opened.infolist():
        if info.filename.endswith(("/", "\\")):
            continue  # folders are made for the files in them
        path = PurePosixPath(info.filename.replace("\\", "/"))
        if not path.parts or path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
            raise UserError(f"'{info.filename}' in it leads out of the folder; nothing is unpacked", where=str(archive))
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG):
            what = f"'{info.filename}' in it is a link or a device; nothing is unpacked"
            raise UserError(what, where=str(archive))
        if path.parts[0] == "__MACOSX" or path.name == ".DS_Store":
            continue
        if path in files:
            raise UserError(f"'{info.filename}' is in it twice; nothing is unpacked", where=str(archive))
        files[path] = info
    if not files:
        raise UserError("the archive holds no file", where=str(archive), hint=AGAIN)
    if len({path.parts[0] for path in files}) == 1 and all(len(path.parts) > 1 for path in files):
        return {PurePosixPath(*path.parts[1:]): info for path, info in files.items()}
    return files


def _write(opened: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, archive: Path) -> None:
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    with file:
        try:
            with opened.open(info) as packed:
                while block := packed.read(BLOCK):  # at the end of the file its CRC is compared
                    with disk_errors(path):
                        file.write(block)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise UserError(
                f"'{info.filename}' in it cannot be read: {error}", where=str(archive), hint=AGAIN
            ) from error
        with disk_errors(path):
            file.flush()
            os.fsync(file.fileno())
