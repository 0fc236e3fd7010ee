"""One thread of BLAS, as the audit itself has: more get in the way of everything else that runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True, scope="module")  # not "session": the limit would stay for all tests that follow
def one_thread_of_blas() -> Iterator[None]:
    with threadpool_limits(1):
        yield
