"""Fold runs read once from the result store; those that cannot be used are named, and the rest is built."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from feature_store.errors import UserError
from orchestrator.leaderboard.result_cache import Kept
from orchestrator.leaderboard.runs import Run
from orchestrator.leaderboard.schema import Problem
from orchestrator.leaderboard.soundness import apart_from_most, fault_of
from workers.results import READERS, RESULT, ResultStore


def read_runs(results: ResultStore, kept: Kept) -> tuple[list[Run], list[Problem]]:
    """Every sound fold run, in the order of their hashes, and the results that are left out.

    Args:
        results: the result store.
        kept: what earlier builds have read; what is new is added.
    """
    shared: dict[Any, Any] = {}

    def read(name: str) -> Run | Problem:
        try:
            result = kept.result(name)
            if result is None:
                return Problem(result=name, what=f"its {RESULT} is not where its name says")
            fault = fault_of(name, result)
            return Problem(result=name, what=fault) if fault else Run.of(result, shared)
        except UserError as error:
            return Problem(result=name, what=error.what)
        except Exception as error:  # one result, whatever is in it, costs itself alone
            return Problem(result=name, what=unreadable(error))

    finished, torn = results.census()
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(read, finished))
    problems = [item for item in found if isinstance(item, Problem)]
    problems += [Problem(result=name, what=f"its {RESULT} is missing") for name in torn]
    runs = [run for run in found if isinstance(run, Run)]
    apart = apart_from_most(runs)
    problems += [Problem(result=name, what=what) for name, what in apart.items()]
    return [run for run in runs if run.hash not in apart], sorted(problems, key=lambda problem: problem.result)


def unreadable(error: Exception) -> str:
    """An error that nobody foresaw, in one line."""
    first = (str(error).splitlines() or [""])[0][:200]
    return f"cannot be used ({type(error).__name__}: {first})"
