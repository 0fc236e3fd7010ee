"""Reports of bench, eval and audit as claims: the figures that a reader asks for first; the rest stands in the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgecxr.bench import mlperf
from edgecxr.dossier.claims import Claim, Section, Source, Verdict, listed, said

MAX_LISTED = 40  # findings of an audit, rows of a comparison
TITLES = {"quick": "Speed", "mlperf": "Speed by MLPerf's rules", "sustained": "Speed over time"}
VERDICTS: dict[str, Verdict] = {"leak": "bad", "warning": "warn"}  # of an audit's severities


def benched(report: Mapping[str, Any], source: Source) -> Section:
    """How fast it was, on the machine that the report names."""
    machine = f"{report['machine']['cpu']}, {report['machine']['cpus_usable']} CPUs"
    claims = [said("machine", machine), said("measured", report["time_utc"])]
    if report["kind"] == "mlperf":
        claims.append(said("by MLPerf's rules, no MLPerf result", mlperf.headline(report)))
    elif report["kind"] == "sustained":
        remaining = report["remaining"]
        shown = "too short to say" if remaining is None else f"{100 * remaining:.1f} %"
        claims.append(said(f"of the speed left after {report['minutes']:g} minutes", remaining, shown))
        claims.append(said("median throughput", report["throughput"], _rate(report["throughput"])))
    else:
        claims += [claim for row in report["results"] for claim in _speeds(row)]
        for row in report["cold_start"]:
            what = f"{row['precision']} on {row['engine']}: a fresh process to its first record"
            memory = "" if row["peak_megabytes"] is None else f", {row['peak_megabytes']:.0f} MB at most"
            kept = {key: row[key] for key in ("seconds", "peak_megabytes")}
            claims.append(Claim(what, kept, f"{row['seconds']:.2f} s{memory}"))
    warnings = tuple(f"{text[:1].upper()}{text[1:]}." for text in report["warnings"])
    drawn = "Measured on the bundle's golden pictures, drawn and small: real ones take longer to decode."
    return Section(
        TITLES[report["kind"]], source, tuple(claims), (drawn,) if report.get("golden_inputs") else (), warnings
    )


def _speeds(row: Mapping[str, Any]) -> Iterator[Claim]:
    where = f"{row['precision']} on {row['engine']}" + ("" if row["device"] == "cpu" else f", {row['device']}")
    if row["what"] == "picture":
        kept = {key: row[key] for key in ("p50_ms", "p90_ms", "p50_spread_ms", "samples")}
        spread = " ({:.1f}–{:.1f})".format(*row["p50_spread_ms"]) if row["p50_spread_ms"] else ""
        yield Claim(f"{where}: a picture, file to answer, median", kept, f"{row['p50_ms']:.1f} ms{spread}")
    if row["what"] == "folder":
        kept = {key: row[key] for key in ("throughput", "throughput_low", "throughput_high")}
        yield Claim(f"{where}: a folder, as infer runs", kept, _rate(row["throughput"]))


def _rate(pictures: float | None) -> str:
    return "none" if pictures is None else f"{pictures:.1f} pictures/s"


def evaluated(report: Mapping[str, Any], source: Source) -> Section:
    claims = [said("pictures", report["pictures"], f"{report['pictures']:,} in {report['groups']:,} groups")]
    claims += figures(report)
    notes = []
    acceptance = report.get("acceptance")
    for row in (acceptance or {}).get("requirements", []):
        shown = "met" if row["passed"] else f"NOT MET: {row['why']}"
        claims.append(Claim(f"required: {row['require']}", row, shown, "good" if row["passed"] else "bad"))
    silence = report.get("silence")
    if silence:
        claims.append(_share("answered, at the bundle's threshold", silence["rows"][0]["answered"]))
        claims.append(_share("accuracy of what is answered", silence["rows"][0]["accuracy"]))
    against = report.get("against")
    if against:
        for row in against["rows"][:MAX_LISTED]:
            claims.append(_compared(row, str(against["model"])))
    rejected = report.get("rejected") or []
    if rejected:
        notes.append(f"{len(rejected)} pictures were rejected and are in no figure.")
    ignored = report.get("ignored_labels") or []
    if ignored:
        notes.append(f"Left out: pictures labelled {listed(ignored)}.")
    title = f"Evaluation on {report['data']}, {report['split']}: {report['precision']}, {report['engine']}"
    return Section(title, source, tuple(claims), tuple(notes))


def figures(report: Mapping[str, Any]) -> list[Claim]:
    """The figures of an evaluation, with their intervals."""
    claims = [_share("accuracy, all classes", report["accuracy"])]
    claims += [_share("balanced accuracy", report["balanced_accuracy"]), _plain("macro AUROC", report["macro_auroc"])]
    for name in ("sensitivity", "specificity", "ppv"):
        for label, figure in report[name].items():
            claims.append(_share(f"{'PPV' if name == 'ppv' else name}, {label}", figure))
    claims.append(_share("expected calibration error", report["calibration"]["after"]["ece"]))
    return [claim for claim in claims if claim.value["value"] is not None]


def _kept(figure: Mapping[str, Any]) -> dict[str, Any]:
    return {key: figure[key] for key in ("value", "interval95", "hits", "total") if key in figure}


def _share(what: str, figure: Mapping[str, Any]) -> Claim:
    kept = _kept(figure)
    if kept["value"] is None:
        return Claim(what, kept, "not measured")
    counts = f", {kept['hits']:,} of {kept['total']:,}" if "hits" in kept else ""
    bounds = (
        "" if kept["interval95"] is None else f" ({100 * kept['interval95'][0]:.1f}–{100 * kept['interval95'][1]:.1f})"
    )
    return Claim(what, kept, f"{100 * kept['value']:.1f} %{bounds}{counts}")


def _plain(what: str, figure: Mapping[str, Any]) -> Claim:
    kept = _kept(figure)
    if kept["value"] is None:
        return Claim(what, kept, "not measured")
    bounds = "" if kept["interval95"] is None else f" ({kept['interval95'][0]:.3f}–{kept['interval95'][1]:.3f})"
    return Claim(what, kept, f"{kept['value']:.3f}{bounds}")


def _compared(row: Mapping[str, Any], rival: str) -> Claim:
    kept = {key: row[key] for key in ("label", "only_first", "only_second", "p_value")} | _kept(row["difference"])
    bounds = (
        "" if kept["interval95"] is None else " ({:+.1f} to {:+.1f})".format(*(100 * b for b in kept["interval95"]))
    )
    alone = f"right alone {kept['only_first']}, the other alone {kept['only_second']}"
    shown = f"{100 * kept['value']:+.1f} points{bounds}, {alone}, p = {kept['p_value']:.2g}"
    return Claim(f"right answers less those of {rival}: {row['label'] or 'all classes'}", kept, shown)


def audited(report: Mapping[str, Any], source: Source) -> Section:
    findings: Sequence[Mapping[str, Any]] = report["findings"]
    claims = [
        said("pictures", report["pictures"], f"{report['pictures']:,}"),
        Claim("leaks between splits", report["leaks"], *(("YES", "bad") if report["leaks"] else ("none", "good"))),
    ]
    for finding in findings[:MAX_LISTED]:
        claims.append(
            Claim(
                finding["title"],
                finding["values"],
                f"{finding['severity']}: {finding['figure']}",
                VERDICTS.get(finding["severity"], ""),
            )
        )
    left = len(findings) - MAX_LISTED
    notes = (f"{left} more findings stand in the file.",) if left > 0 else ()
    return Section(f"Audit of {report['data']}", source, tuple(claims), notes)
