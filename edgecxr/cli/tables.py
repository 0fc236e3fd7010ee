"""Tables and sentences that one verb prints: finished results in, nothing decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from edgecxr.views.terminal import printable

if TYPE_CHECKING:
    from edgecxr.bundle import Bundle
    from edgecxr.device.doctor import Checkup
    from edgecxr.device.golden import GoldenCheck
    from edgecxr.device.tune import Tuning
    from edgecxr.device.verify import Verification
    from edgecxr.lab.calibrate import Films
    from edgecxr.records.prediction import Prediction

_MARKS = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "red")}


def predictions_table(predictions: Sequence[Prediction], labels: Sequence[str], total: int) -> Table:
    """One row a picture, with its calibrated probabilities; `total` may be more than the rows at hand."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("picture")
    table.add_column("answer")
    for label in labels:
        table.add_column(f"p({label})", justify="right")
    for prediction in predictions:
        # Shares of classes that a picture isn't given would be read as an answer; its record has them.
        shares = [f"{prediction.probabilities[label]:.3f}" if prediction.label else "" for label in labels]
        table.add_row(printable(prediction.path or ""), _answer(prediction), *shares)
    if total > len(predictions):
        table.caption = f"{len(predictions)} of {total} shown, -o FILE writes all"
        table.caption_justify = "left"
    return table


def _answer(prediction: Prediction) -> Text:
    if prediction.label is not None:
        return Text(prediction.label, style="bold")
    if prediction.status == "abstained":
        return Text(f"abstained: ood {prediction.ood_score:.3g}", style="yellow")
    return Text(f"{prediction.status}: {prediction.error_code}", style="red")


def run_summary(summary: dict[str, Any]) -> str:
    """The closing lines of `infer`."""
    statuses = ", ".join(f"{count} {status}" for status, count in summary["statuses"].items())
    answers = ", ".join(f"{label} {count}" for label, count in summary["labels"].items())
    left_out = f" ({summary['skipped']} passed over)" if summary["skipped"] else ""
    left_out += f" ({summary['resumed']} of them by an earlier run)" if summary["resumed"] else ""
    return (
        f"{summary['records']} pictures in {summary['seconds']:.1f} s, {summary['pictures_per_second']:.1f}/s: "
        f"{statuses or 'none'}{left_out}{'; ' + answers if answers else ''}\n"
        f"{summary['model']} {summary['precision']}, {summary['engine']} {summary['provider']}, "
        f"{summary['workers']} workers, {summary['threads']} engine threads, batches of {summary['batch_size']}"
        f"{', as tuned here' if summary['tuned'] else ''}\n"
        f"{abstention_line(summary)}"
    )


def abstention_line(made: Mapping[str, Any]) -> str:
    """When what is scored so gets no label, in a sentence; `made` is a provenance."""
    if made["abstention"] == "none":
        return "nothing abstains: this model can't tell a chest film from another picture"
    if made["abstention"] == "off":
        return "nothing abstains, as asked: a picture that is no chest film has a label too"
    whose = "as asked" if made["abstention"] == "asked" else "the model's threshold"
    return f"pictures of ood {made['abstain_at']:.4g} or more get no label: too unlike frontal chest films ({whose})"


def results_summary(counts: dict[str, int]) -> str:
    """The line of `infer` on what `--dicom-out` wrote."""
    said = {
        "there": "there already",
        "not_dicom": "not DICOM, without one",
        "refused": "without one, as it can't be bound to its film",
        "another": "without one, as another stands under its name",
    }
    more = "".join(f"; {counts[what]} {words}" for what, words in said.items() if counts[what])
    return f"results as DICOM of {counts['written']} films written{more}"


def verification_table(verification: Verification) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("artifact", "engine", "device"):
        table.add_column(column)
    ood = any(check.ood_difference is not None for check in verification.golden)
    for column in ("golden", "max |Δlogit|", "tolerance", *(("max |Δood|", "tolerance") if ood else ()), "flips", ""):
        table.add_column(column, justify="right")
    for check in verification.golden:
        mark, style = _MARKS["ok" if check.passed else "problem"]
        table.add_row(
            check.artifact,
            f"{check.engine} {check.provider}",
            check.device,
            str(check.pictures),
            f"{check.max_difference:.2g}",
            f"{check.tolerance:.2g}",
            *(_ood_check(check) if ood else ()),
            str(check.label_flips),
            Text(mark, style=style),
        )
    return table


def _ood_check(check: GoldenCheck) -> tuple[str, str]:
    if check.ood_difference is None:
        return "", ""
    return f"{check.ood_difference:.2g}", f"{check.ood_tolerance:.2g}"


def _names(bundle: Bundle) -> dict[str, str]:
    """How an embedded bundle is called, and which others there are; nothing of another one."""
    from edgecxr.bundle import DEFAULT, NAMED, present

    name = next((name for name, folder in NAMED.items() if folder == bundle.path), None)
    if name is None:
        return {}
    others = "".join(f"; also here: {other}" for other in present() if other != name)
    return {"embedded as": f"{name}{', the default' if name == DEFAULT else ''}{others}"}


def bundle_table(bundle: Bundle) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    contract = bundle.preprocessing
    reduced = f", first reduced to {contract.source_size} px" if contract.source_size else ""
    rows: dict[str, str | Text] = {
        "model": f"{bundle.name} {bundle.version}",
        **_names(bundle),
        "path": printable(str(bundle.path)),
        "sha256": bundle.digest,
        "labels": ", ".join(bundle.labels),
        "input": f"grey uint8, {contract.width} x {contract.height} px{reduced}",
        "resize": f"{contract.filter}, {contract.geometry}",
        "temperature": f"{bundle.temperature:.3f}",
    }
    for point in bundle.operating_points:
        rows[f"{point.label} at {point.target_sensitivity:.0%} of {point.split}"] = (
            f"p >= {point.threshold:.3f}: sensitivity {point.sensitivity:.1%}, specificity {point.specificity:.1%}"
        )
    abstention = bundle.abstention
    rows["abstention"] = (
        f"from {abstention.pictures} films of {abstention.split}, so that {abstention.kept:.1%} of such are answered"
        if abstention
        else "none: every picture gets a label, one that is no chest film too"
    )
    for row in abstention.thresholds if abstention else ():
        rows[f"abstains: {row.artifact} on {row.engine} in {row.precision}"] = f"ood >= {row.threshold:.4g}"
    for artifact in bundle.artifacts:
        preferred = ", preferred" if artifact.preferred else ""
        rows[artifact.file] = f"{artifact.format} {artifact.precision}, {artifact.bytes / 1e6:.1f} MB{preferred}"
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def checkup_table(checkup: Checkup) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    found = checkup.machine
    memory = f", {found['memory_bytes'] / 2**30:.0f} GiB" if found["memory_bytes"] else ""
    features = " ".join(found["cpu_features"]) or "none of note"
    table.add_row("", f"{found['cpu']}, {found['cpus_usable']} CPUs usable{memory} ({features})")
    table.add_row("", f"{found['system']}, Python {found['python']}")
    for gpu in found["gpus"]:
        table.add_row("", printable(gpu))
    for finding in checkup.findings:
        mark, style = _MARKS[finding.level]
        table.add_row(Text(mark, style=style), Text(finding.what))
        if finding.repair:
            table.add_row("", Text(f"  → {finding.repair}", style="bold"))
    return table


def tuning_table(found: Tuning) -> Table:
    from rich.table import Table

    table = Table(title=f"{found.pictures} pictures, {found.seconds:.0f} s")
    for name in ("engine", "device", "precision"):
        table.add_column(name)
    for name in ("workers", "threads", "batch", "pictures/s", "spread", "other labels"):
        table.add_column(name, justify="right")
    table.add_column("")
    for candidate in found.candidates:
        c, rates = candidate.configuration, candidate.rates
        table.add_row(
            c.engine,
            c.device,
            c.precision,
            str(c.workers),
            str(c.threads),
            str(c.batch_size),
            f"{candidate.rate:.1f}" if rates else "",
            f"{min(rates):.1f} to {max(rates):.1f}" if rates else "",
            "" if candidate.label_changes is None else str(candidate.label_changes),
            "winner" if candidate is found.winner else candidate.left_out,
        )
    return table


def left_out_table(report: Mapping[str, Any]) -> Table:
    """A row for each value that a fit has left out, with 95 % intervals; sensitivity by class."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(printable(report["column"]))
    for name in ("films", "accuracy", "balanced"):
        table.add_column(name, justify="right")
    for label in report["labels"]:
        table.add_column(printable(label), justify="right")
    for row in report["values"]:
        figures = [row["accuracy"], row["balanced_accuracy"], *(row["sensitivity"][name] for name in report["labels"])]
        table.add_row(printable(row["value"]), str(row["pictures"]), *map(_share, figures))
    for row in report["untested"]:
        table.add_row(printable(row["value"]), "", "not tested")
    return table


def _share(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return ""
    interval = figure["interval95"]
    return f"{figure['value']:.1%}" + (f" ({interval[0]:.0%}–{interval[1]:.0%})" if interval else "")


def claims_table(films: Films) -> Table:
    """What a site's bundle may say, the groups that takes, and those that are there; before any film is scored."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what the site's bundle may say")
    for column in ("groups needed", "in the half that fits"):
        table.add_column(column, justify="right")
    for claim in films.claims:
        wrong = ", answered wrongly" if claim.kind == "temperature" else ""
        there = f"at most {claim.there}" if wrong else str(claim.there)
        mark = Text(there, style="" if claim.possible else "yellow")
        table.add_row(printable(claim.what), f"{claim.needed}{wrong}", mark)
    return table


def site_table(told: Mapping[str, Any]) -> Table:
    """What the bundle gave on the half that reports, and what the site's gives."""
    from edgecxr.lab.site_bundle import comparison

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("on the half that reports")
    for column in ("before", "now"):
        table.add_column(column, justify="right")
    for row in comparison(told):
        table.add_row(*map(printable, row))
    return table
