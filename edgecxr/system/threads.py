"""Calls that may never come back, in threads that are used again: starting one for each costs more than many a call."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_IDLE = 16  # threads that are kept for the next call

_idle: deque[_Thread] = deque()  # its append and pop are atomic
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has none of its parent's threads


class Task(Generic[T]):
    """A call that was begun in a thread of its own."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> None:
        try:
            self._outcome.append(self._call())
        except BaseException as error:  # raised where the outcome is asked for
            self._error = error

    def settle(self) -> None:
        self._done.release()

    @property
    def finished(self) -> bool:
        return bool(self._outcome) or self._error is not None

    def join(self, seconds: float) -> bool:
        """Wait for at most `seconds`; whether the call has come back."""
        if not self.finished and self._done.acquire(timeout=seconds):
            self._done.release()
        return self.finished

    @property
    def outcome(self) -> T:
        """What the call gave, or raises what it raised; only once it is finished."""
        if self._error is not None:
            raise self._error
        return self._outcome[0]


class _Thread(threading.Thread):
    """A daemon, so that a call which never comes back doesn't keep the program from ending."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.tasks: SimpleQueue[Task[object]] = SimpleQueue()

    def run(self) -> None:
        while True:
            task = self.tasks.get()
            task.run()
            idle = len(_idle) < MAX_IDLE
            if idle:
                _idle.append(self)  # before whoever waits goes on, and may have the next call
            task.settle()
            del task  # what it holds is the caller's from here on
            if not idle:
                return


def begin(call: Callable[[], T], name: str) -> Task[T]:
    """Begin `call` in an idle thread, or in a new one called `name`; raises RuntimeError where none is to be had."""
    task = Task(call)
    try:
        thread = _idle.pop()  # the one used last
    except IndexError:
        thread = _Thread(name)
        thread.start()
    thread.tasks.put(task)  # type: ignore[arg-type]  # nobody looks at what a thread's tasks give
    return task
