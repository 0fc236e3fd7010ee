"""The node from C-STORE to the target, and what is refused on the way."""

from __future__ import annotations

import json
from pathlib import Path

from clinic.ends import Archive, film, films, send, wait_for
from edgecxr.clinic import spool


def test_a_film_comes_in_is_scored_and_its_result_goes_out(begin, archive: Archive, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    node = begin(archive.target)
    assert send(node.port, film("1.2.3"), film("1.2.33", seed=1)) == [0, 0]
    wait_for(lambda: films(tmp_path / "spool", "done") == 2)
    assert len(archive.got) == 2
    found = spool.status(tmp_path / "spool")
    print(json.dumps(found))
