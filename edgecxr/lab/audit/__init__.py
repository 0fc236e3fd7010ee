"""What is wrong with a data set before anything is trained on it: leaks, copies, shortcuts (extra: eval).

examples -> films (each picture read once) -> duplicates (align confirms) -> findings
                                           -> shortcuts (questions of probes) -> findings -> report -> table, page
"""

from __future__ import annotations

from edgecxr.lab.audit.report import audit

__all__ = ["audit"]
