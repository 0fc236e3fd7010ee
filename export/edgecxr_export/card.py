"""MODEL_CARD.md, written from the bundle's reports: what stands here was measured, and nothing is typed by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]


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
    twins: Report | None = None,
    other_sources: Sequence[Report] = (),
    notes: Sequence[str] = (),
) -> str:
    """The card as Markdown.

    `training` is reports/training.json, `evaluation`, `parity` and `quantization` likewise; `artifacts` are the
    manifest's rows; `twins` is what benchmarks/twins.py writes, `other_sources` what `edgecxr eval` writes about data
    from elsewhere. How a model fares there comes first: it is the nearest there is to how it will fare on a device.
    """
    run = training["run"]
    sections = [
        _heading(name, version, labels, preprocessing),
        _intended_use(),
        *(_other_source(other) for other in other_sources),
        _accuracies(evaluation["models"]),
        _training_data(run, labels, notes),
        *(_figures(model, evaluation["temperature"]) for model in evaluation["models"] if model["in_full"]),
        _probabilities(evaluation["temperature"]),
        _artifacts(artifacts, parity, quantization),
        *([_twins(twins)] if twins else []),
        _limits(run, preprocessing),
        _licences(),
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _heading(name: str, version: str, labels: Sequence[str], preprocessing: Report) -> str:
    reduced = (
        f" Pictures are first reduced to {preprocessing['source_size']} px." if preprocessing["source_size"] else ""
    )
    return (
        f"# {name} {version}\n\n"
        f"Xception for chest X-ray pictures, {len(labels)} classes: {', '.join(f'`{label}`' for label in labels)}. "
        f"Input: one grey picture, uint8, {preprocessing['width']} x {preprocessing['height']} px.{reduced} "
        "Outputs: logits, and an evidence map whose sum over the picture, plus a constant, is the logit."
    )


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
    rows = [[model["model"], model["split"], *_share(model["accuracy"])] for model in models]
    header = ["", "split", "accuracy", "95 % interval (Wilson)", "pictures"]
    return "## Accuracy, all classes\n\n" + _table(header, rows)


def _other_source(report: Report) -> str:
    rejected = f" {len(report['rejected'])} pictures were rejected." if report["rejected"] else ""
    return (
        f"## Another source: the {report['precision']} artifact on {report['data']}\n\n"
        f"Pictures from elsewhere, through the device's own pipeline.{rejected}\n\n{_shares(report)}"
    )


def _figures(model: Report, temperature: Report) -> str:
    fitted = " (the split on which the temperature was fitted)" if model["split"] == temperature["split"] else ""
    return f"## Figures: {model['model']} on {model['split']}{fitted}\n\n{_shares(model)}"


def _shares(model: Report) -> str:
    """Shares with intervals, and the confusion matrix."""
    labels = model["labels"]
    rows = [["accuracy, all classes", *_share(model["accuracy"])]]
    rows += [[f"sensitivity, {label}", *_share(model["sensitivity"][label])] for label in labels]
    rows += [[f"specificity, {label}", *_share(model["specificity"][label])] for label in labels]
    rows += [[f"{row['label']} found, of {row['origin']}", *_share(row)] for row in model["by_origin"] if row["origin"]]
    for group in model.get("within_ages", []):
        title = _age_title(group)
        rows.append([f"{title}: accuracy", *_share(group["accuracy"])])
        rows += [[f"{title}: {label} found", *_share(group["sensitivity"][label])] for label in group["labels"]]
    confusion = [
        [label, *counts] for label, counts in zip(labels, model["confusion"], strict=True)
    ]  # a row is a true class
    figures = _table(["", "share", "95 % interval (Wilson)", "pictures"], [row for row in rows if row[-1] != "0"])
    return figures + "\n\n" + _table(["true \\ answer", *labels], confusion)


def _age_title(group: Report) -> str:
    """For the two pairs that the public sets confound with age, the words that say so."""
    age, others = group["age"], [label for label in group["labels"] if label != "normal"]
    if "normal" in group["labels"] and len(others) == 1:
        against = "paediatric" if age == "pediatric" else age
        return f"{others[0].replace('_', ' ')} against {against} normal"
    return f"{age} only"


def _probabilities(temperature: Report) -> str:
    edge = " The search ended at its bound: take the probabilities with care." if temperature["at_bound"] else ""
    return (
        "## Probabilities\n\n"
        f"softmax(logits / {temperature['temperature']:g}), a temperature fitted on {temperature['pictures']} pictures "
        f"of {temperature['split']} (Guo et al. 2017): negative log-likelihood {temperature['nll_before']:.4f} before, "
        f"{temperature['nll_after']:.4f} after.{edge} They say how sure the model is on data like these, not how "
        "common a disease is elsewhere."
    )


def _artifacts(artifacts: Sequence[Report], parity: Report, quantization: Report | None) -> str:
    measured = {row["precision"]: row for row in parity["artifacts"]}
    rows = []
    for artifact in artifacts:
        row = measured[artifact["precision"]]
        rows.append(
            [
                f"`{artifact['file']}`" + (" (preferred)" if artifact["preferred"] else ""),
                artifact["precision"],
                f"{artifact['bytes'] / 1e6:.1f}",
                artifact["opset"],
                f"{row['flips']} of {row['pictures']}",
                f"{row['max_dp']:.2g}",
                f"{row['p99_dp']:.2g}",
                f"{row['max_dlogit']:.2g}",
                f"{row['accuracy']:.1%} ({row['reference_accuracy']:.1%})",
            ]
        )
    header = ["file", "precision", "MB", "opset", "flips", "max Δp", "p99 Δp", "max Δlogit", "accuracy (reference's)"]
    lines = [
        "## Artifacts",
        "",
        f"Against the float32 Keras model on {parity['split']}, run with ONNX Runtime on a CPU.",
        "",
        _table(header, rows),
    ]
    if quantization:
        lines += [
            "",
            f"int8: static, weights per channel in 7 bits, calibrated on {quantization['pictures']} training pictures "
            "spread over classes and origins; the head stays float32, and its bias takes back the mean shift.",
        ]
    return "\n".join(lines)


def _twins(twins: Report) -> str:
    rows = []
    for name in ("as_shipped", "source_size_switched"):
        row = twins[name]
        how = f"originals first reduced to {row['source_size']} px" if row["source_size"] else "originals as they are"
        shipped = " (as shipped)" if name == "as_shipped" else ""
        rows.append(
            [how + shipped, f"{row['agree']} of {row['total']}", f"{row['max_dp']:.2g}", f"{row['mean_dp']:.2g}"]
        )
    return (
        "## Originals and their small twins\n\n"
        "Originals as devices meet them, against the small copies of the training data's source.\n\n"
        + _table(["preprocessing", "same class", "max Δp", "mean Δp"], rows)
    )


def _limits(run: Report, preprocessing: Report) -> str:
    lines = [
        "## Limits",
        "",
        "- Sources and ages are confounded with the classes in the public data: where a class comes from one hospital "
        "or one age group, a model can score by recognising that. Read the figures within an age group, above, first.",
        "- The labels come from the public sets and are partly wrong; intervals treat pictures as independent.",
        "- Every picture gets one of the classes, a photograph too: nothing abstains yet.",
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


def _share(share: Report) -> list[str]:
    if share["value"] is None:
        return ["", "", "0"]
    low, high = share["interval95"]
    return [f"{share['value']:.1%}", f"{low:.1%}–{high:.1%}", f"{share['hits']} of {share['total']}"]


def _table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(cell: object) -> str:
    return str(cell).replace("|", "\\|").replace("\n", " ")
