"""MODEL_CARD.md, written from the bundle's reports: what stands here was measured, and nothing is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edgecxr.engines.select import SYMMETRIC
from edgecxr.lab import ancestry
from edgecxr.lab.evaluation.operating import unkept
from edgecxr.lab.evaluation.subsets import not_measured, pair_title

Report = Mapping[str, Any]

INTERVAL = "95 % interval"

# Of reports/quantization.json, each with the file that it tells of.
INT8 = {
    "onnx": "model.int8.onnx",
    "onnx-symmetric": "model.int8-symmetric.onnx",
    "tflite": "model.int8.tflite",
}


def model_card(
    *,
    name: str,
    version: str,
    labels: Sequence[str],
    preprocessing: Report,
    training: Report,
    evaluation: Report,
    parity: Report,
    artifacts: Sequence[Report],
    quantization: Report | None = None,
    abstention: Report | None = None,
    twins: Report | None = None,
    other_sources: Sequence[Report] = (),
    left_out: Sequence[Report] = (),
    audits: Sequence[Report] = (),
    notes: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    `training` is reports/training.json, `evaluation`, `parity`, `quantization` and `abstention` likewise; `artifacts`
    are the manifest's rows; `twins` is what benchmarks/twins.py writes, `other_sources` what `edgecxr eval` writes
    about data from elsewhere, `left_out` what it writes about a RUN that a source was left out of, `audits` what
    `edgecxr audit` writes. How a model fares elsewhere comes first: it is the nearest there is to how it will fare on
    a device.
    """
    run = training["run"]
    sections = [
        _heading(name, version, labels, preprocessing, abstention),
        *_moved_limits(parity),
        _intended_use(),
        *map(_left_out, left_out),
        *(_other_source(other, run["data"].get("origins", [])) for other in other_sources),
        _accuracies(evaluation["models"]),
        *([_thumbnails(audits)] if audits else []),
        _training_data(run, labels, notes),
        *(_figures(model, evaluation["temperature"]) for model in evaluation["models"] if model["in_full"]),
        _probabilities(evaluation["temperature"], evaluation["models"], ancestry.doubts(run)),
        *_operating_points(evaluation["models"]),
        *([_abstention(abstention, artifacts)] if abstention else []),
        _artifacts(artifacts, parity, quantization),
        *([_parity_elsewhere(parity["elsewhere"])] if parity["elsewhere"] else []),
        *([_twins(twins)] if twins else []),
        _limits(run, preprocessing, abstention),
        _licences(),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _heading(name: str, version: str, labels: Sequence[str], preprocessing: Report, abstention: Report | None) -> str:
    reduced = (
        f" Pictures are first reduced to {preprocessing['source_size']} px." if preprocessing["source_size"] else ""
    )
    return (
        f"# {name} {version}\n\n"
        f"Xception for chest X-ray pictures, {len(labels)} classes: {', '.join(f'`{label}`' for label in labels)}. "
        f"Input: one grey picture, uint8, {preprocessing['width']} x {preprocessing['height']} px.{reduced} "
        "Outputs: logits, and an evidence map whose sum over the picture, plus a constant, is the logit"
        + ("; and `ood`, how far the picture is from frontal chest films." if abstention else ".")
    )


def _moved_limits(parity: Report) -> list[str]:
    """What the export's own limits would have refused, had they not been moved by hand."""
    return [
        f"By the export's own limits `{row['file']}` would have been refused; they were moved for it. It has {breach}."
        for row in parity["artifacts"]
        for breach in ["; ".join(row["exceeds_defaults"])]
        if breach
    ]


def _intended_use() -> str:
    return (
        "## Intended use\n\n"
        "Research on classifying frontal chest X-rays and on running such a classifier on small devices. "
        "It is not a medical device and no basis for a diagnosis."
    )


def _training_data(run: Report, labels: Sequence[str], notes: Sequence[str]) -> str:
    data, recipe = run["data"], run["recipe"]
    rows = [[split, *(counts.get(label, 0) for label in labels)] for split, counts in data["splits"].items()]
    lines = ["## Training", "", _table(["pictures", *labels], rows), ""]
    if data.get("where"):
        lines.append(f"- selection: {', '.join(f'{column} = {value}' for column, value in data['where'].items())}")
    lines += [f"- source: {source}" for source in data.get("sources", [])]
    lines += [f"- origin: {origin}" for origin in data.get("origins", [])]
    backbone = run["backbone_weights"]
    identity = f", SHA-256 `{backbone['sha256']}`" if "sha256" in backbone else ""
    epochs = sum(stage["epochs"] for stage in recipe["stages"])
    lines += [
        f"- recipe `{recipe['name']}`: head {recipe['head']}, {epochs} epochs, seed {run['seed']}",
        f"- backbone weights before training: `{backbone['source']}`{identity}",
        f"- data fingerprint: `{data['fingerprint']}`",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join(lines)


def _accuracies(models: Sequence[Report]) -> str:
    rows = [
        [model["model"], model["split"], *_figure(model["accuracy"]), *_figure(model["macro_auroc"], share=False)[:2]]
        for model in models
    ]
    header = ["", "split", "accuracy", INTERVAL, "pictures", "macro AUROC", INTERVAL]
    return "## Accuracy, all classes\n\n" + _table(header, rows)


def _left_out(report: Report) -> str:
    """Figures of another fit on the source that it was left out of: what a hospital that is new may expect."""
    conditions = "".join(f", {column} = {value}" for column, value in report["where"].items() if value)
    title = f"## A source left out of another fit: {report['model']} on {report['data']}{conditions}"
    said = (
        "They are figures of a fit that saw no film of these places, and not of this model, whose fit did. They are "
        "the nearest there is to a hospital that is new."
    )
    return f"{title}\n\n{said}\n\n{_shares(report)}{_unkept(report['operating_points'])}"


def _other_source(report: Report, learnt_from: Sequence[str]) -> str:
    """Figures on data from elsewhere; where films of the same origins were learnt from, it isn't called that."""
    conditions = "".join(f", {column} = {value}" for column, value in report["where"].items() if value)
    what = f"the {report['precision']} artifact on {report['data']}{conditions}"
    rejected = f" {len(report['rejected'])} pictures were rejected." if report["rejected"] else ""
    if {row["origin"] for row in report["by_origin"]} & set(learnt_from):
        title = f"## Within one source: {what}"
        said = "Other films of these places were learnt from, so this says nothing about a hospital that is new."
    else:
        title = f"## Another source: {what}"
        said = "Pictures of a collection that wasn't fitted on."
    return f"{title}\n\n{said} They went through the device's own pipeline.{rejected}\n\n{_shares(report)}" + _unkept(
        report["operating_points"]
    )


def _unkept(points: Sequence[Report]) -> str:
    """Which operating points don't give here what they promise; empty where all do."""
    lines = [f"- {sentence}" for sentence in unkept(points)]
    if not lines:
        return ""
    return "\n\nOperating points whose interval here excludes what they promise:\n\n" + "\n".join(lines)


def thumbnails_of(audit: Report) -> Report:
    """What the card quotes of a report of `edgecxr audit`."""
    findings = [
        finding
        for finding in audit["findings"]
        if (finding["values"].get("target"), finding["values"].get("source")) == ("label", "thumbnail")
    ]
    where = audit.get("where", {})  # which the command adds
    return {"schema": audit["schema"], "data": audit["data"], "where": where, "findings": findings}


def _thumbnails(audits: Sequence[Report]) -> str:
    """What tells the label without a network, in each data set and each place in it that has several classes."""
    rows = []
    for audit in map(thumbnails_of, audits):
        for finding in audit["findings"]:
            values = finding["values"]
            low, high = values["interval95"]
            within = values["within"] or ", ".join(f"{key} = {value}" for key, value in audit["where"].items()) or "all"
            shares = (f"{values['balanced_accuracy']:.1%}", f"{low:.1%}–{high:.1%}", f"{values['chance']:.1%}")
            rows.append([audit["data"], within, ", ".join(values["classes"]), *shares, values["pictures"]])
    return (
        "## What a thumbnail tells\n\n"
        "Balanced accuracy of a logistic regression on the film reduced to 64 x 64 px, cross-validated by group on the "
        "data themselves. Only what a network tells beyond it is more than brightness, outline and position.\n\n"
        + _table(["data", "of which", "classes", "balanced accuracy", INTERVAL, "chance", "pictures"], rows)
    )


def _figures(model: Report, temperature: Report) -> str:
    fitted = " (the split on which the temperature was fitted)" if model["split"] == temperature["split"] else ""
    return f"## Figures: {model['model']} on {model['split']}{fitted}\n\n{_shares(model)}"


def _shares(model: Report) -> str:
    """Every figure with its interval, and the confusion matrix."""
    labels = model["labels"]
    rows = [["accuracy, all classes", *_figure(model["accuracy"])]]
    rows += [["balanced accuracy", *_figure(model["balanced_accuracy"])]]
    rows += [["macro F1", *_figure(model["macro_f1"], share=False)]]
    rows += [["macro AUROC", *_figure(model["macro_auroc"], share=False)]]
    for key in ("sensitivity", "specificity", "ppv", "auroc"):
        name = key if key in ("sensitivity", "specificity") else key.upper()
        rows += [[f"{name}, {label}", *_figure(model[key][label], share=key != "auroc")] for label in labels]
    rows += [[f"{row['label']} found, of {row['origin']}", *_figure(row["sensitivity"])] for row in model["by_origin"]]
    for pair in model["within_ages"]:
        title = pair_title(pair)
        if pair["absent"]:
            rows.append([title, not_measured(pair), "", ""])
            continue
        rows.append([f"{title}: accuracy", *_figure(pair["accuracy"])])
        rows += [[f"{title}: {label} found", *_figure(pair["sensitivity"][label])] for label in pair["labels"]]
        rows.append([f"{title}: AUROC", *_figure(pair["auroc"], share=False)])
    confusion = [
        [label, *counts] for label, counts in zip(labels, model["confusion"], strict=True)
    ]  # a row is a true class
    figures = _table(["", "value", INTERVAL, "pictures"], [row for row in rows if row[1]])
    return figures + "\n\n" + _table(["true \\ answer", *labels], confusion)


def _probabilities(temperature: Report, models: Sequence[Report], doubts: Sequence[str]) -> str:
    edge = " The search ended at its bound: take the probabilities with care." if temperature["at_bound"] else ""
    rows = []
    for model in models:
        before, after = (model["calibration"][when] for when in ("before", "after"))
        fitted = model is models[0] and model["split"] == temperature["split"]
        if not (fitted or model["in_full"]):
            continue
        name = f"{model['model']}, {model['split']}" + (" (fitted here)" if fitted else "")
        ece = [_figure(part["ece"])[0] for part in (before, after)]
        others = [f"{part[key]['value']:.3f}" for key in ("brier", "nll") for part in (before, after)]
        rows.append([name, *ece, _figure(after["ece"])[1], *others])
    header = ["", "ECE before", "ECE after", INTERVAL, "Brier before", "after", "NLL before", "after"]
    return (
        "## Probabilities\n\n"
        f"softmax(logits / {temperature['temperature']:g}), a temperature fitted on {temperature['pictures']} pictures "
        f"of {temperature['split']} (Guo et al. 2017).{edge} ECE: expected calibration error, 15 equal bins. "
        "Brier score: summed over the classes, 0 to 2. NLL: negative log-likelihood, nats. Probabilities say how sure "
        "the model is on data like these, not how common a disease is elsewhere.\n\n"
        + "".join(f"Note: {doubt}; {ancestry.FLATTER}.\n\n" for doubt in doubts)
        + _table(header, rows)
    )


def _operating_points(models: Sequence[Report]) -> list[str]:
    """What the bundle's thresholds give, as fitted and by the preferred artifact on the test split."""
    final = [model for model in models if model["in_full"]][-1:]
    rows = []
    for point in [point for model in final for point in model["operating_points"]]:
        fitted = point["fitted"]
        rows.append(
            [
                point["label"],
                f"{point['threshold']:.4f}",
                f"{fitted['sensitivity']:.1%} / {fitted['specificity']:.1%}",
                *(text for key in ("sensitivity", "specificity") for text in _figure(point[key])[:2]),
            ]
        )
    if not rows:
        return []
    split = final[0]["operating_points"][0]["fitted"]["split"]
    header = ["class", "p at least", f"sens. / spec. on {split}", "sensitivity", INTERVAL, "specificity", INTERVAL]
    return [
        "## Operating points\n\n"
        f"Thresholds on a class's probability, fitted on {split} with the float32 reference for a stated sensitivity; "
        f"then what the {final[0]['model']} gives on {final[0]['split']}. In `bundle.json`.\n\n"
        + _table(header, rows)
        + "".join(_unkept(model["operating_points"]) for model in final)
    ]


def _abstention(found: Report, artifacts: Sequence[Report]) -> str:
    """When the bundle gives no answer: on what that was fitted, with its terms, and what it costs on test."""
    fitted = found["fitted_on"]
    altered = [
        [f"{row['way']} film", "training films, altered here", "those of the training data", row["pictures"]]
        for row in fitted["altered"]
    ]
    outliers = fitted["outliers"]["kinds"] if fitted["outliers"] else []
    shown = [
        [
            row["kind"] + (" (near)" if row["near"] else ""),
            row["source"] or "not stated",
            "; ".join(row["terms"]),
            row["pictures"],
        ]
        for row in outliers
    ]
    thresholds = [
        [f"`{row['artifact']}`", row["engine"], row["precision"], f"{row['threshold']:.3f}"]
        for row in found["thresholds"]
    ]
    preferred = [row["file"] for row in artifacts if row["preferred"]] or [found["test"][0]["artifact"]]
    (test,) = [row for row in found["test"] if row["artifact"] == preferred[0]]
    kept = [
        [
            row["source"] or "not stated",
            f"{row['abstained']} of {row['pictures']}",
            f"{row['abstained'] / row['pictures']:.1%}",
            "–".join(f"{bound:.1%}" for bound in row["interval95"]),
        ]
        for row in test["sources"]
    ]
    without = "" if outliers else " No picture of other kinds was shown to it."
    return (
        "## When it gives no answer\n\n"
        "The output `ood` says how far a picture is from frontal chest films; where it reaches the threshold, the "
        "picture abstains: it has no label. Its unit is how far films' scores lie apart. It is the larger of two "
        f"figures from the middle of the network: what lies outside of the directions in which {fitted['films']} "
        f"training films vary, and what a linear unit says that has seen what is no frontal film:{without}\n\n"
        + _table(["kind", "from", "terms as found", "pictures"], [*shown, *altered])
        + f"\n\nThe thresholds keep {found['kept']:.1%} of films like the {found['pictures']} of {found['split']}, "
        "which neither this nor int8 was chosen on (split conformal). Films of other sources are kept less often.\n\n"
        + _table(["file", "engine", "computed", "threshold"], thresholds)
        + f"\n\nTest films that `{test['artifact']}` turns away ({test['engine']}):\n\n"
        + _table(["source", "turned away", "share", INTERVAL], kept)
        + "\n\nIt is no detector of an unfamiliar hospital: films that are misread keep passing it. And it is none of "
        "other diseases: a frontal film of tuberculosis is a frontal film."
    )


def _artifacts(artifacts: Sequence[Report], parity: Report, quantization: Report | None) -> str:
    measured = {row["file"]: row for row in parity["artifacts"]}
    rows = []
    for artifact in artifacts:
        row = measured[artifact["file"]]
        speed = artifact.get("speed")
        rows.append(
            [
                f"`{artifact['file']}`" + (" (preferred)" if artifact["preferred"] else ""),
                f"{artifact['bytes'] / 1e6:.1f}",
                f"{row['flips']} of {row['pictures']} ({_range(row['flips_interval95'])})",
                f"{row['max_dp']:.2g}",
                f"{row['p99_dp']:.2g}",
                f"{row['accuracy']:.1%} ({row['reference_accuracy']:.1%})",
                f"{row['ece']:.1%} ({row['reference_ece']:.1%})",
                f"{row['evidence']['correlation_mean']:.3f}",
                f"{speed['p50_ms']:.1f} ({speed['engine']})" if speed else "",
            ]
        )
    header = ["file", "MB", "flips", "max Δp", "p99 Δp", "accuracy (ref.)", "ECE (ref.)", "evidence", "ms"]
    gates = parity["gates"]
    lines = [
        "## Artifacts",
        "",
        f"Against the float32 Keras model (ref.) on {parity['split']}: ONNX files run with ONNX Runtime, TFLite files "
        "with LiteRT, on a CPU. Flips: pictures whose class is another. Evidence: mean correlation of its maps with "
        "the reference's. ms: median for one picture on every core of the machine that exported.",
        "",
        _table(header, rows),
        "",
        _decided(artifacts, measured, gates),
    ]
    for artifact in artifacts:
        for breach in measured[artifact["file"]]["exceeds_on_test"]:
            lines += ["", f"On {parity['split']}, which decides nothing, `{artifact['file']}` has {breach}."]
    if any(artifact["precision"] == SYMMETRIC for artifact in artifacts):
        lines += [
            "",
            f"`{INT8['onnx-symmetric']}` has activations of zero point 0, for TensorRT and other programs that take no "
            "others. It is measured here on a CPU, which gains nothing by it, and has run on no such program.",
        ]
    for artifact in artifacts:
        if artifact.get("unverified"):
            lines += ["", f"`{artifact['file']}` is for GPUs and has run on none yet: `edgecxr verify` there first."]
    if quantization:
        lines += ["", *(_quantized(kind, file, quantization) for kind, file in INT8.items() if kind in quantization)]
    return "\n".join(lines)


def _decided(artifacts: Sequence[Report], measured: Mapping[str, Report], gates: Report) -> str:
    """What every artifact had to keep on the half of dev that chose nothing, and what it kept."""
    rows = []
    for artifact in artifacts:
        found = measured[artifact["file"]]["deciding"]
        drop = 100 * (found["reference_accuracy"] - found["accuracy"])
        drop_interval, logits_interval = found["drop_interval95"], found["p99_logits_interval95"]
        rows.append(
            [
                f"`{artifact['file']}`",
                f"{found['flips']} of {found['pictures']} ({_range(found['flips_interval95'])})",
                f"{drop:.2f}"
                + (" ({:.2f} to {:.2f})".format(*(100 * x for x in drop_interval)) if drop_interval else ""),
                f"{found['p99_logits']:.2%}" + (f" ({_range(logits_interval)})" if logits_interval else ""),
                f"{found['max_dp']:.2g}",
            ]
        )
    return (
        "What decided, on the half of dev (by group) that chose nothing. Point estimates decide; the intervals are of "
        "95 %. Logits: the 99th percentile over pictures of the largest error of a "
        "logit, as a share of how far a picture's logits lie apart.\n\n"
        + _table(["file", "flips", "points of accuracy lost", "logits", "max Δp"], rows)
        + f"\n\nGates: fp32 {gates['fp32_max_dp']:g} in any probability and no flip; fp16 {gates['fp16_max_dp']:g} in "
        f"any probability and no flip where the two likeliest classes are {gates['fp16_edge']:g} apart; int8 "
        f"{100 * gates['max_drop']:g} points of accuracy, {gates['max_flips']:.1%} flips, "
        f"{gates['int8_p99_logits']:.0%} in logits."
    )


def _parity_elsewhere(elsewhere: Sequence[Report]) -> str:
    """The artifacts against the trained model on pictures that aren't the run's."""
    rows = [
        [
            other["data"] + (f" ({other['left_out']} of other classes left out)" if other["left_out"] else ""),
            f"`{found['file']}`",
            f"{found['flips']} of {found['pictures']} ({_range(found['flips_interval95'])})",
            f"{found['max_dp']:.2g}",
            f"{found['p99_logits']:.2%}",
            f"{found['accuracy']:.1%} ({found['reference_accuracy']:.1%})",
        ]
        for other in elsewhere
        for found in other["artifacts"]
    ]
    return (
        "## Artifacts on pictures from elsewhere\n\n"
        "Against the float32 Keras model (ref.) on pictures that it wasn't fitted on; this decides nothing.\n\n"
        + _table(["data", "file", "flips", "max Δp", "logits", "accuracy (ref.)"], rows)
    )


def _quantized(kind: str, file: str, quantization: Report) -> str:
    """How an int8 file was made."""
    found = quantization[kind]
    chosen = found.get("chosen", {"clip": "min-max"})
    made = f"ranges {chosen['clip']}"
    if chosen.get("channels") == "alike":
        made += ", channels made alike"
    if chosen.get("rounding") == "second-order":
        made += ", weights rounded to second order"
    if chosen.get("biases") == "corrected":
        made += ", biases corrected by channel"
    left = len(found["steps"][-1]["float_nodes"])
    floats = f"; {left} convolutions stay float32" if left else ""
    return (
        f"`{file}`: static, weights per channel, {made}, as chosen on half of dev, calibrated on "
        f"{quantization['pictures']} training pictures spread over classes and origins{floats}; the head stays "
        "float32, and its bias takes back the mean shift.\n"
    )


def _range(interval: Sequence[float]) -> str:
    return f"{100 * interval[0]:.2g}–{100 * interval[1]:.2g} %"


def _twins(twins: Report) -> str:
    rows = []
    for name in ("as_shipped", "source_size_switched"):
        row = twins[name]
        how = f"originals first reduced to {row['source_size']} px" if row["source_size"] else "originals as they are"
        shipped = " (as shipped)" if name == "as_shipped" else ""
        rows.append(
            [how + shipped, f"{row['agree']} of {row['total']}", f"{row['max_dp']:.2g}", f"{row['mean_dp']:.2g}"]
        )
    of = "test films" if twins.get("split") == "test" else "films of every split, learnt ones too"
    return (
        "## Originals and their small twins\n\n"
        f"Originals as devices meet them, against the small copies of the training data's source ({of}).\n\n"
        + _table(["preprocessing", "same class", "max Δp", "mean Δp"], rows)
    )


def _limits(run: Report, preprocessing: Report, abstention: Report | None) -> str:
    lines = [
        "## Limits",
        "",
        "- Sources and ages are confounded with the classes in the public data: where a class comes from one hospital "
        "or one age group, a model can score by recognising that. Read the figures within an age group, above, first.",
        "- The labels come from the public sets and are partly wrong. Intervals are percentiles of a bootstrap over "
        "groups (patients, or near-duplicates where patients aren't known), and Wilson's over groups at 0 and 100 %: "
        "they say nothing about other hospitals.",
        "- What is no frontal chest film isn't always turned away, and a frontal film of another disease isn't meant "
        "to be: it gets one of the classes. Abstention detects no unfamiliar hospital."
        if abstention
        else "- Every picture gets one of the classes, a photograph too: nothing abstains.",
        "- The evidence map shows where the logit comes from, on a coarse grid. It is not a segmentation.",
    ]
    if preprocessing["source_size"]:
        lines.append(
            f"- The training pictures are {preprocessing['source_size']} px wide or high: finer detail never counts."
        )
    if not run["data"].get("origins"):
        lines.append("- The training data name no origins, so a shortcut by origin can't be ruled out.")
    return "\n".join(lines)


def _licences() -> str:
    return (
        "## Licences\n\n"
        "The code is under the Apache License 2.0. The weights come from the data above: see LICENSE-weights of the "
        "edgecxr package for their terms."
    )


def _figure(figure: Report, *, share: bool = True) -> list[str]:
    """[value, interval, hits of total], empty where there is none."""
    if figure["value"] is None:
        return ["", "", ""]

    def show(value: float) -> str:
        return f"{value:.1%}" if share else f"{value:.3f}"

    interval = "–".join(map(show, figure["interval95"])) if figure["interval95"] else ""
    return [show(figure["value"]), interval, f"{figure['hits']} of {figure['total']}" if "hits" in figure else ""]


def _table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
