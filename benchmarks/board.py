"""The leaderboard of 10,000 fold results: its data, its documents and its pages, from nothing and again.

usage: python -m benchmarks board [--site]    (not part of `make bench`: minutes, mostly to make the results)
"""

from __future__ import annotations

import itertools
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.leaderboard_results import MN, Recipe, Side, fold_result

RESULTS = 10_000
SIDE = Side(recordings=920, patients=49, cycles=920)
PROCESSES = 2
DOCUMENTS = 1_000  # timed without their pages


def make_results(folder: Path, count: int) -> None:
    """Write results of as many configs, one seed each."""
    step = (count + PROCESSES - 1) // PROCESSES
    parts = [(folder, range(start, min(start + step, count))) for start in range(0, count, step)]
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(_write, *zip(*parts, strict=True)))


def _write(folder: Path, numbers: range) -> None:
    """As `ResultStore.publish` lays them out, but without waiting for the disk."""
    for number in numbers:
        recipe = replace(Recipe(MN, parameters=993_485), skill=0.3 + number / RESULTS, lr=1e-5 * (1 + number))
        result, predictions = fold_result(recipe, SIDE, 0, 0)
        place = folder / result.hash[:2] / result.hash
        place.mkdir(parents=True)
        (place / "result.json").write_bytes(result.to_json())
        (place / "predictions.parquet").write_bytes(predictions)


def run() -> list[dict[str, Any]]:
    """Rows of name, value, unit and ratio to the first build."""
    from orchestrator.leaderboard.board import build_board
    from orchestrator.leaderboard.entry_documents import Details
    from orchestrator.leaderboard.site.write import write
    from workers.results import ResultStore

    rows: list[dict[str, Any]] = []

    def note(what: str, begun: float, ratio: float | None = None) -> float:
        seconds = time.perf_counter() - begun
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ratio = seconds / ratio if ratio else None
        rows.append({"name": f"{RESULTS} results: {what}", "value": seconds, "unit": "s", "ratio": ratio})
        rows.append({"name": f"{RESULTS} results: {what}, peak memory", "value": peak, "unit": "MB", "ratio": None})
        return seconds

    folder = Path(tempfile.mkdtemp())
    try:
        make_results(folder / "results", RESULTS)
        results, cache = ResultStore.open(str(folder / "results")), folder / "cache"
        begun = time.perf_counter()
        first = build_board(results, cache=cache)
        entries = sum(len(table.entries) for board in first.boards for table in board.tables)
        cold = note(f"{entries} entries, nothing kept", begun)
        begun = time.perf_counter()
        second = build_board(results, cache=cache, generated=first.generated)
        note("again, what was read is kept", begun, cold)
        assert first == second
        assert entries == 2 * RESULTS
        begun = time.perf_counter()
        made = sum(1 for _ in itertools.islice(Details(second, results).documents({}), DOCUMENTS))
        note(f"{made} documents of entries", begun)
        if "--site" in sys.argv:
            begun = time.perf_counter()
            write(second, folder / "site", Details(second, results))
            site = note("the whole site", begun)
            begun = time.perf_counter()
            write(second, folder / "site", Details(second, results))
            note("the whole site again, nothing new", begun, site)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rows
