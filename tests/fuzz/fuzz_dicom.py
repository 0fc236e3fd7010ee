"""Coverage-guided fuzzing of the DICOM reader: `python tests/fuzz/fuzz_dicom.py [FOLDER] [-max_total_time=300]`.

Needs atheris (pip install atheris), which isn't part of the tests. New inputs that reach new code go to FOLDER, a
finding to `crash-*` in the working directory; options are libFuzzer's.
"""

import sys
from pathlib import Path

import atheris

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
with atheris.instrument_imports(include=["edgecxr"]):
    from fuzz import targets

if __name__ == "__main__":
    targets.images.MAX_PIXELS = targets.MAX_PIXELS
    atheris.Setup([*sys.argv, str(targets.CORPUS / "dicom")], targets.picture)
    atheris.Fuzz()
