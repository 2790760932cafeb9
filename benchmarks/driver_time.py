"""CPU time of the driver alone, and where it goes: by its threads, and within the main thread by what is called."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

CALLS = ("ask", "report", "tell", "trial", "history")  # of a study: all that Optuna does during a sweep


class DriverTime(AbstractContextManager["DriverTime"]):
    """To be entered by the thread that runs the sweep, around the sweep.

    Seconds of CPU, since `start`: other processes and waiting do not count, so that a busy machine changes little.
    """

    def __init__(self) -> None:
        self.optuna = 0.0
        self._begun: dict[str, float] = {}
        self._ended: dict[str, float] = {}
        self._stack = ExitStack()

    def __enter__(self) -> DriverTime:
        from orchestrator.studies.study import Study
        from orchestrator.tracking.background_writer import Outbox

        for name in CALLS:
            self._stack.enter_context(mock.patch.object(Study, name, self._timed(getattr(Study, name))))
        close = Outbox.close

        def closing(outbox: Outbox, patience: float) -> int:
            outbox.wait(3600)  # to the end, however far MLflow is behind
            self._ended = self._now()  # while the thread is still there
            return close(outbox, patience)

        self._stack.enter_context(mock.patch.object(Outbox, "close", closing))
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def start(self) -> None:
        """Count from here on."""
        self._begun = self._now()

    def shares(self) -> dict[str, float]:
        """Seconds by part; the first is the sum of the others."""
        spent = {name: self._ended[name] - self._begun[name] for name in self._ended}
        return {
            "driver, CPU in all": spent["process"],
            "  Ray Tune's loop, searcher, scheduler, events": spent["main"] - spent["optuna"],
            "  Optuna: ask, report, tell": spent["optuna"],
            "  MLflow, in its thread": spent["outbox"],
            "  other threads: Ray's, the lease's": spent["process"] - spent["main"] - spent["outbox"],
        }

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def timed(*arguments: Any, **named: Any) -> Any:
            begun = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.optuna += time.thread_time() - begun

        return timed

    def _now(self) -> dict[str, float]:
        (outbox,) = [thread for thread in threading.enumerate() if thread.name == "outbox"]
        assert outbox.ident is not None
        clock = time.pthread_getcpuclockid(outbox.ident)
        return {
            "process": time.process_time(),
            "main": time.thread_time(),
            "optuna": self.optuna,
            "outbox": time.clock_gettime(clock),
        }
