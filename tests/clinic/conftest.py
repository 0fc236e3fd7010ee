"""A node in this process, and a target for its results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clinic.ends import QUICK, Archive
from edgecxr.bundle import load
from edgecxr.clinic.node import Address
from edgecxr.clinic.send import Target
from edgecxr.clinic.service import Node, Settings
from edgecxr.clinic.spool import Room, Spool
from edgecxr.scoring.session import Session, open_session

ROOMY = Room(free_bytes=0)


@pytest.fixture(scope="session")
def session(tiny_bundle: Path) -> Session:
    return open_session(load(tiny_bundle), workers=1)


@pytest.fixture
def archive() -> Iterator[Archive]:
    target = Archive()
    target.open()
    yield target
    target.close()


Begin = Callable[..., Node]


@pytest.fixture
def begin(session: Session, tmp_path: Path) -> Iterator[Begin]:
    """Begins a node on a free port over `tmp_path/spool`, and closes it at the end if nobody did."""
    with ExitStack() as stack:

        def start(
            *targets: Target, room: Room = ROOMY, port: int = 0, session: Session = session, **options: Any
        ) -> Node:
            own = ExitStack()
            held = own.enter_context(Spool(tmp_path / "spool", room).held())
            address = Address(
                port=0, **{key: options.pop(key) for key in ("allowed", "tls", "limits") if key in options}
            )
            settings = replace(Settings(address, targets, QUICK), **options)
            node = Node(session, held, settings)
            stop = threading.Event()
            keeper = threading.Thread(target=node.keep_going, args=(stop.wait,), daemon=True)
            keeper.start()
            own.callback(node.close)
            own.callback(keeper.join)
            own.callback(stop.set)
            node.end = own.close  # type: ignore[attr-defined]  # for tests that end it themselves
            stack.callback(own.close)
            return node

        yield start
