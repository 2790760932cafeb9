"""A sweep's driver that a fault strikes at one exact place. Run by test_crash_matrix.py as a process of its own.

usage: python crash_driver.py HOME SPACE.yaml FAULT    (prints the final table as JSON if it gets so far)
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def die(*_: Any, **__: Any) -> None:
    """Kill this driver and everything that it started, as a machine's end does."""
    os.killpg(os.getpgid(0), signal.SIGKILL)
    time.sleep(60)


def before_the_first_fold() -> None:
    import orchestrator.sweep.trial as trial  # noqa: F401  (imported before the searcher is patched)
    from orchestrator.sweep.tune_adapter import StudySearcher

    ask = StudySearcher.suggest
    StudySearcher.suggest = lambda self, trial_id: (ask(self, trial_id), die())  # type: ignore[method-assign,assignment]


def between_result_and_tell() -> None:
    from orchestrator.studies.study import Study

    Study.tell = die  # type: ignore[method-assign]


def between_tell_and_mlflow() -> None:
    from orchestrator.tracking.tracker import Tracker

    Tracker.trial_ended = die  # type: ignore[method-assign]


def in_a_fold() -> None:
    _when_training(die)


def worker() -> None:
    """Kill the Ray worker that trains, once; the driver lives."""
    _when_training(lambda pid: os.kill(pid, signal.SIGKILL))


def terminated() -> None:
    """What `ray job stop` sends."""
    _when_training(lambda _: os.kill(os.getpid(), signal.SIGTERM))


def impatient() -> None:
    """Machine's faults are tried again at once, so that a test need not wait."""
    import orchestrator.execution.backends as backends

    backends.WAITS = (0.1,)


def _when_training(strike: Callable[[int], object]) -> None:
    """Strike while the second fold run is being trained; the worker's process is told."""
    from workers.audit_log import AuditLog, Entry

    def watch() -> None:
        log = AuditLog.open(os.environ["CRASH_RESULTS"])
        while True:
            events: dict[str, list[Entry]] = {}
            for entry in log.entries():
                events.setdefault(entry.run, []).append(entry)
            training = [those[0] for those in events.values() if [entry.event for entry in those] == ["begun"]]
            if len(events) == 2 and training:
                strike(training[0].pid)
                return
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()


FAULTS = {f.__name__: f for f in (
    before_the_first_fold, between_result_and_tell, between_tell_and_mlflow, in_a_fold, worker, terminated, impatient,
)}  # fmt: skip


def main() -> None:
    home, space_file, fault = sys.argv[1:]
    os.environ["LUNGTUNE_HOME"] = home
    from feature_store.errors import UserError
    from feature_store.settings import Settings
    from orchestrator.cli.progress import outcome_json
    from orchestrator.sweep.run import run_sweep
    from search_spaces.schema import SearchSpace

    settings = Settings.load()
    os.environ["CRASH_RESULTS"] = settings.results
    if fault in FAULTS:
        FAULTS[fault]()
    try:
        outcome = run_sweep(SearchSpace.load(Path(space_file)), settings, lambda event: print(event, file=sys.stderr))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    print(json.dumps(outcome_json(outcome)))


if __name__ == "__main__":
    main()
