"""The board's files, put in place together or not at all: for programs, for notes and for people."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from feature_store.counted import counted
from orchestrator.leaderboard import exports
from orchestrator.leaderboard.entry_documents import Details
from orchestrator.leaderboard.schema import Board, Entry, EntryDetail, Leaderboard, Table
from orchestrator.leaderboard.site import pages
from orchestrator.leaderboard.site.folder import SiteFolder
from orchestrator.leaderboard.site.spectrograms import Spectrograms

JSON, CSV, MARKDOWN, SCHEMA = "leaderboard.json", "leaderboard.csv", "leaderboard.md", "schema.json"
COMPARE, PAGE = "compare.html", "index.html"
NAMED = (JSON, CSV, MARKDOWN, SCHEMA, COMPARE, PAGE)


def write(
    leaderboard: Leaderboard,
    out: str | Path,
    details: Details,
    *,
    spectrograms: Spectrograms | None = None,
    runs: Mapping[str, str] | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> dict[str, str]:
    """Write the whole site. Pages of entries that have not changed are neither rendered nor written again.

    Args:
        leaderboard: what to write.
        out: a folder, made if need be, or ``s3://bucket/prefix``.
        details: what only an entry's own page shows; what it finds damaged is added to the leaderboard's problems.
        spectrograms: pictures of the worst errors; none if not given.
        runs: addresses of MLflow runs by config hash.
        progress: receives what is being done.

    Returns:
        Names of the files for programs and of the pages -> where they lie.

    Raises:
        UserError: the place cannot be written; the board that was there stays.
    """
    with SiteFolder(out) as folder:
        for name, content in pages.assets().items():
            folder.put(name, content)
        folder.put(pages.DATA, exports.board_script(leaderboard))
        writer = _EntryWriter(folder, details, spectrograms, runs or {}, leaderboard)
        writer.write_entries(leaderboard, progress)
        for board in leaderboard.boards:
            writer.write_cycles(board)
        leaderboard.problems.extend(details.problems)
        progress("tables")
        folder.put(SCHEMA, exports.to_schema())
        folder.put(JSON, exports.to_json(leaderboard))
        folder.put(CSV, exports.to_csv(leaderboard))
        folder.put(MARKDOWN, exports.to_markdown(leaderboard))
        folder.put(COMPARE, pages.compare_page())
        folder.put(PAGE, pages.index_page(leaderboard))
    return {name: folder.uri(name) for name in NAMED}


class _EntryWriter:
    """Writes an entry's page with its config, its data and the pictures that it shows."""

    def __init__(
        self,
        folder: SiteFolder,
        details: Details,
        spectrograms: Spectrograms | None,
        runs: Mapping[str, str],
        leaderboard: Leaderboard,
    ) -> None:
        self.folder, self.details, self.spectrograms, self.runs = folder, details, spectrograms, runs
        self.code = _code_digest()
        self.names = {
            entry.id: f"{entry.model.label}, {entry.objective.label}"
            for board in leaderboard.boards
            for table in board.tables
            for entry in (*table.entries, *table.incomplete)
        }

    def write_entries(self, leaderboard: Leaderboard, progress: Callable[[str], None]) -> None:
        """Write what is not there yet. A page whose rank alone has changed is made of the document that is there."""
        wanted: dict[str, tuple[Board, Table, Entry, str]] = {}
        known: dict[str, str] = {}
        for board in leaderboard.boards:
            for table in board.tables:
                for entry in (*table.entries, *table.incomplete):
                    digest = self.details.digest(entry)
                    made_of = self._made_of(board, table, entry, digest)
                    if self.folder.holds(f"entries/{entry.id}.html", made_of):
                        known[entry.id] = digest
                        continue
                    wanted[entry.id] = (board, table, entry, made_of)
                    if self.folder.holds(f"entries/{entry.id}.json", digest):
                        known[entry.id] = digest
        total = len(wanted)
        for detail in self.details.documents(known):
            board, table, entry, made_of = wanted.pop(detail.id)
            config = pages.config_text(detail.config) if entry.kind == "model" else ""
            self._write_data(detail, config)
            made_of = made_of if detail.digest == self.details.digest(entry) else detail.digest  # else made again
            self._write_page(board, table, entry, detail, config, made_of)
            progress(f"{total - len(wanted):,} of {counted(total, 'new page')}")
        for board, table, entry, made_of in wanted.values():
            try:
                detail = EntryDetail.model_validate_json(self.folder.read(f"entries/{entry.id}.json"))
                config = self.folder.read(f"entries/{entry.id}.yaml").decode() if entry.kind == "model" else ""
            except (OSError, ValueError):  # the file in the folder is damaged: make it again
                detail = self.details.entry(entry)
                config = pages.config_text(detail.config) if entry.kind == "model" else ""
                self._write_data(detail, config)
            self._write_page(board, table, entry, detail, config, made_of)

    def _made_of(self, board: Board, table: Table, entry: Entry, digest: str) -> str:
        """Digest of all that the page shows."""
        shown = [board.id, board.data.model_dump_json(), entry.model_dump_json(), digest, self._names(table, entry)]
        seen = self.spectrograms.content_hash(board.data.dataset, entry.feature_id) if self.spectrograms else ""
        return _digest(self.code, *shown, pages.rival(table, entry), seen, self.runs.get(entry.config_hash))

    def _names(self, table: Table, entry: Entry) -> dict[str, str]:
        """Labels of the entries that the page names."""
        others = [pages.rival(table, entry), entry.tied_with, *(member.id for member in entry.members)]
        others += [entry.difference.other] if entry.difference else []
        return {other: self.names[other] for other in others if other in self.names}

    def _write_data(self, detail: EntryDetail, config: str) -> None:
        """The entry's document, the same for a comparison, and its config."""
        base = f"entries/{detail.id}"
        files = {f"{base}.js": exports.entry_script(detail, self.details.resamples(detail.id))}
        if config:
            files[f"{base}.yaml"] = config
        for name, content in files.items():
            self.folder.put(name, content)
        self.folder.put(f"{base}.json", exports.to_entry_json(detail), made_of=detail.digest, uses=list(files))

    def _write_page(
        self, board: Board, table: Table, entry: Entry, detail: EntryDetail, config: str, made_of: str
    ) -> None:
        pictures = self._pictures(board, entry, detail)
        page = pages.entry_page(
            board,
            table,
            entry,
            detail,
            names=self._names(table, entry),
            rival=pages.rival(table, entry),
            pictures=pictures,
            config=config,
            run=self.runs.get(entry.config_hash),
        )
        base = f"entries/{entry.id}"
        beside = [f"{base}.json", f"{base}.js", *([f"{base}.yaml"] if config else [])]
        self.folder.put(f"{base}.html", page, made_of=made_of, uses=[*beside, *pictures.values()])

    def write_cycles(self, board: Board) -> None:
        """``boards/<id>.json`` and the script of the same; the entries say what they are made of."""
        hashes = {entry.cycles_hash for table in board.tables for entry in table.entries}
        made_of = _digest(self.code, board.id, sorted(map(str, hashes)))
        base = f"boards/{board.id}"
        if self.folder.holds(f"{base}.json", made_of) or (cycles := self.details.board(board)) is None:
            return
        self.folder.put(f"{base}.js", exports.cycles_script(cycles))
        self.folder.put(f"{base}.json", exports.to_board_json(cycles), made_of=made_of, uses=[f"{base}.js"])

    def _pictures(self, board: Board, entry: Entry, detail: EntryDetail) -> dict[str, str]:
        """Cycle id -> path of its picture, each drawn once for all entries."""
        found: dict[str, str] = {}
        if self.spectrograms is None:
            return found
        for error in detail.worst:
            place = (board.data.dataset, entry.feature_id, error.cycle_id)
            name = self.spectrograms.name(*place)
            if name is not None:
                found[error.cycle_id] = name
                if not self.folder.has(name):
                    self.folder.put(name, self.spectrograms.draw(*place), made_of=name.rpartition("/")[2])
        return found


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _code_digest() -> str:
    """Of all that makes pages: another digest renders every page again."""
    digest = hashlib.sha256()
    package = resources.files("orchestrator.leaderboard")
    for part in (resources.files("orchestrator.analysis"), package, package / "site", package / "templates"):
        for file in sorted(part.iterdir(), key=lambda file: file.name):
            if file.name.endswith((".py", ".j2")):
                digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]
