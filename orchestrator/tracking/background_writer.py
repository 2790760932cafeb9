"""What is to be written to a server that may be lost for a while: in order, beside the work, tried again and again."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Job = Callable[[], object]
FIRST_WAIT, LONGEST_WAIT = 0.5, 10.0  # seconds between attempts


class Outbox:
    """A thread that does jobs one after the other. A job that cannot reach its server is tried again until it can.

    Args:
        lost: whether an error means that the server is lost, so that the job is to be tried again. A job that fails in
            any other way is dropped and reported.
        tell: called with the first error of an outage, and with every error that drops a job.
    """

    def __init__(self, lost: Callable[[Exception], bool], tell: Callable[[Exception], None]) -> None:
        self.lost, self.tell = lost, tell
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._given_up = threading.Event()
        self._done = threading.Condition()
        self._left = 0
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, job: Job) -> None:
        """Have a job done after all others that were put before."""
        with self._done:
            self._left += 1
        self._jobs.put(job)

    def ask(self, job: Callable[[], T], patience: float) -> T | None:
        """Have a job done after all others and wait for what it returns; None where `wait` gave up."""
        answers: list[T] = []
        self.put(lambda: answers.append(job()))
        self.wait(patience)
        return answers[0] if answers else None

    def wait(self, patience: float) -> int:
        """Wait until all jobs are done, or none was for `patience` seconds; returns how many are left."""
        with self._done:
            while self._left and self._done.wait(timeout=patience):
                pass  # one more is done: a long backlog is no lost server
            return self._left

    def close(self, patience: float) -> int:
        """Wait for the rest, then stop; returns how many jobs were never done."""
        left = self.wait(patience)
        self._given_up.set()
        self._jobs.put(None)
        self._thread.join(timeout=patience if left else None)
        return left

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not self._given_up.is_set():
                self._do(job)
            with self._done:
                self._left -= 1
                self._done.notify_all()

    def _do(self, job: Job) -> None:
        wait, told = FIRST_WAIT, False
        while not self._given_up.is_set():
            try:
                job()
                return
            except Exception as error:
                again = self.lost(error)
                if not again or not told:
                    self.tell(error)
                if not again:
                    return
                told = True
            until = time.monotonic() + wait
            while time.monotonic() < until and not self._given_up.is_set():
                time.sleep(0.05)
            wait = min(2 * wait, LONGEST_WAIT)
