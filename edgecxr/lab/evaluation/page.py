"""The report as one HTML page that holds its plots and no film: what is sent to a colleague."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import edgecxr
from edgecxr.lab.evaluation.operating import unkept
from edgecxr.lab.evaluation.plots import plots
from edgecxr.lab.evaluation.subsets import not_measured, pair_title
from edgecxr.lab.evaluation.table import points, row_title, verdict
from edgecxr.views.html import data_uri, render

Report = Mapping[str, Any]

MAIN = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced accuracy"),
    ("macro_f1", "macro F1"),
    ("macro_auroc", "macro AUROC"),
)


def page(report: Report) -> str:
    """The page of what `edgecxr eval` reports; `data` and `model` in it are names and never paths."""
    accepted = report.get("acceptance")
    return render(
        "eval.html",
        version=edgecxr.__version__,
        report=report,
        main=MAIN,
        pairs=[(pair_title(row), not_measured(row), row) for row in report["within_ages"]],
        unkept=unkept(report["operating_points"]),
        points=points,
        verdict=verdict(accepted) if accepted else [],
        row_title=row_title,
        plots={name.removesuffix(".png"): data_uri(content) for name, content in plots(report).items()},
        pictures_of={label: sum(row) for label, row in zip(report["labels"], report["confusion"], strict=True)},
    )
