"""A child that is forked from a process with engines: it answers as its parent, at once, and ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# A pre-forking server: the parent answers first, from two workers; then a child, and a child of that child.
PROGRAM = """
import json, os, sys, time
import edgecxr
bundle, picture, engine = sys.argv[1:]
classifier = edgecxr.Classifier(bundle, engine=engine, workers=2)
idle = edgecxr.Classifier(bundle, engine=engine)
def answers():
    begin = time.monotonic()
    scored = [classifier.predict(picture), *classifier.stream([picture] * 5)]
    return [[p.logits for p in scored], classifier.evidence(picture).tolist(), time.monotonic() - begin]
print(json.dumps(answers()), flush=True)
for generation in range(2):
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(answers()), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "litert"])
def test_a_child_answers_as_its_parent_and_ends(both_formats: Path, picture: Callable[..., Path], engine: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, both_formats, picture(), engine]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    parent, *children = map(json.loads, done.stdout.splitlines())
    assert [child[:2] for child in children] == [parent[:2]] * 2
    assert max(child[2] for child in children) < 20  # and doesn't wait for a thread that isn't there
