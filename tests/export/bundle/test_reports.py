"""A bundle's reports as bytes."""

from __future__ import annotations

import json
import os

from edgecxr_export.bundle.reports import to_bytes


def test_names_that_are_not_utf_8_come_back_from_a_report() -> None:
    data = {"file": os.fsdecode(b"covid/\xe9.png"), "note": "–"}
    assert json.loads(to_bytes(data)) == data
    assert "–".encode() in to_bytes(data)
