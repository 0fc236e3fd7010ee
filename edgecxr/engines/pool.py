"""What one call at a time may use, for engines whose requests or interpreters aren't thread-safe."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

T = TypeVar("T")


class Pool(Generic[T]):
    """Lends an item to one caller at a time and makes another where all are lent: as many as calls ever overlapped."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._free: deque[T] = deque()  # its append and pop are atomic

    @contextmanager
    def lent(self) -> Iterator[T]:
        try:
            item = self._free.pop()  # the one used last: its memory is still in the caches
        except IndexError:
            item = self._make()
        yield item
        self._free.append(item)  # not after an exception: who knows what state it is in
