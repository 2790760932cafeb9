"""`site.json`: what a build put into the board's folder, and of what each file was made.

It lies in a folder that others may write to, and what it names is deleted once it is stale. So only names count that a
build gives, of plain files that lie inside the folder.
"""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

from feature_store.storage import LocalStorage, Storage

INDEX = "site.json"
VERSION = 1
NAME = r"\w[\w.+-]*"
WRITTEN = re.compile(  # every kind of file that `render.write` puts into the folder
    r"(leaderboard\.(json|csv|md)|schema\.json|(index|compare)\.html"
    rf"|assets/{NAME}\.(css|js)|data/{NAME}\.js|boards/{NAME}\.(js|json)"
    rf"|entries/{NAME}\.(html|js|json|yaml)|spectrograms/{NAME}/{NAME}\.png)"
)


def read_index(storage: Storage) -> dict[str, list[Any]]:
    """File -> digest, size and the files that it needs, as the last build left them.

    Nothing where there was no build, or one of another version; names that no build gives are passed over.
    """
    try:
        content = json.loads(storage.read(INDEX))
        known = content["files"].items() if content["version"] == VERSION else ()
        return {name: record for name, record in known if written(name) and _is_record(record)}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def index_text(files: dict[str, list[Any]]) -> bytes:
    """The file's content."""
    content = {"version": VERSION, "files": dict(sorted(files.items()))}
    return (json.dumps(content, separators=(",", ":")) + "\n").encode()


def written(name: str) -> bool:
    """Whether a build gives files such names: relative, without a step up."""
    return WRITTEN.fullmatch(name) is not None


def leaves(storage: Storage, name: str) -> bool:
    """Whether a link on the way to a file leads somewhere else; the folder itself may be one."""
    if not isinstance(storage, LocalStorage):
        return False
    place = storage.root
    for part in Path(name).parts[:-1]:
        place = place / part
        if place.is_symlink():
            return True
    return False


def plain_size(storage: Storage, name: str) -> int | None:
    """Bytes of a plain file inside the folder; None where there is none, or a link leads there."""
    path = storage.local_path(name)
    try:
        found = path.lstat() if path else None
    except OSError:
        return None
    return found.st_size if found and stat.S_ISREG(found.st_mode) and not leaves(storage, name) else None


def _is_record(record: Any) -> bool:
    if not isinstance(record, list) or len(record) not in (2, 3):
        return False
    digest, size, uses = [*record, []][:3]
    if not isinstance(uses, list) or not all(isinstance(name, str) for name in uses):
        return False
    return isinstance(digest, str) and isinstance(size, int)
