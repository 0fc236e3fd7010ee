"""The lab's verbs on the command line: train and export. Parse and call; nothing of the lab is loaded before."""

import os
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from edgecxr.cli import extras
from edgecxr.errors import UnavailableError, UsageError

BACKENDS = ("tensorflow", "jax")  # of Keras, that training is tested on


def train(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA…", help="A folder per class, or a folder with a manifest.csv; several are one."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="The RUN, a folder that is absent or empty.")],
    recipe: Annotated[
        Literal["default", "seed", "int8", "edge"],
        typer.Option(
            help="seed is the original tutorial's; int8 makes a RUN ready for int8; edge is a smaller student of a RUN."
        ),
    ] = "default",
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="With edge: whose answers are learnt, and with whose weights to begin."),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|PATH",
            help="imagenet (the default) is downloaded by Keras; PATH is a weights file, or a RUN in whose backbone to "
            "begin, with int8 also in its head.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of the last stage.")] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="RATE", help="Highest rate of the last stage, above 0 and at most 1.")
    ] = None,
    input_size: Annotated[int | None, typer.Option(min=71, max=1024, help="Side of the network's input, px.")] = None,
    middle_blocks: Annotated[
        int | None, typer.Option(min=1, max=8, help="Of Xception's 8 middle blocks, the first ones.")
    ] = None,
    feature_views: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=8,
            help="Views of each picture that a frozen backbone, or a teacher, computes once; 0: each epoch its own.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Decides weights, shuffling, augmentation and splits.")
    ] = 0,
    where: Annotated[list[str] | None, typer.Option(help="Only pictures with COLUMN=VALUE in the manifest.")] = None,
    folds: Annotated[
        int | None, typer.Option(min=2, max=20, help="Cross-validate: a RUN a fold, and folds.json over all of them.")
    ] = None,
    leave_one_out: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN[=VALUE]",
            help="Test on one value of a manifest column, learn from the others: a RUN a value, and left-out.json over "
            "all of them; or the RUN of that VALUE.",
        ),
    ] = None,
    ignore_label: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="A label that is no class; may be repeated.")
    ] = None,
    leave_out: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE.csv", help="Films that are only tested, in a column file; may be repeated."),
    ] = None,
    device: Annotated[
        Literal["auto", "cpu", "gpu"], typer.Option(help="A GPU asked for by name is used or the run fails.")
    ] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an unfinished RUN of the same call.")] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for decoded pictures, kept for the next call (default: edgecxr in your cache's)."),
    ] = None,
    workers: Annotated[int, typer.Option("-j", "--workers", min=1, max=256, help="Threads that augment.")] = 1,
) -> None:
    """Fit a classifier: weights, curves, and logits on dev and test, in RUN (extra: train).

    A checkpoint is kept after each epoch and when Ctrl-C or SIGTERM stops the run; --resume goes on from it.
    """
    if folds is not None and leave_one_out is not None:
        raise UsageError("--folds and --leave-one-out are two ways to choose the test pictures; give one of them")
    column, equals, value = (leave_one_out or "").partition("=")
    if leave_one_out is not None and not (column and (value or not equals)):
        raise UsageError(f"--leave-one-out expects COLUMN or COLUMN=VALUE, got {leave_one_out!r}")
    if (recipe == "edge") != (teacher is not None):
        raise UsageError("--recipe edge and --teacher go together; give both or neither")
    if teacher is not None and backbone_weights is not None:
        raise UsageError("a student begins with its teacher's weights; leave --backbone-weights out")
    if teacher is not None and (folds is not None or (column and not value)):
        raise UsageError(
            "one teacher has learnt from what other fits test; with --teacher, name one test: leave --folds out, or "
            "give --leave-one-out COLUMN=VALUE"
        )
    from edgecxr.lab.dataset import check_outside
    from edgecxr.lab.run import held, read_run

    recipes: Any = import_module("edgecxr.lab.train.recipes")
    chosen = recipes.recipe(recipe)
    if chosen.keeps_head:
        if backbone_weights is None:
            raise UsageError("--recipe int8 goes on from a fitted model; give --backbone-weights its RUN")
        theirs = read_run(Path(backbone_weights)).recipe
        chosen = replace(chosen, input_size=theirs.input_size, middle_blocks=theirs.middle_blocks)
    if input_size is not None:
        chosen = replace(chosen, input_size=input_size)
    if middle_blocks is not None:
        chosen = replace(chosen, middle_blocks=middle_blocks)
    if feature_views is not None:
        chosen = replace(chosen, feature_views=feature_views)
    if learning_rate is not None and not 0 < learning_rate <= 1:  # a NaN isn't either
        raise UsageError(f"--learning-rate expects a number above 0 and at most 1, got {learning_rate}")
    last = {"epochs": epochs, "learning_rate": learning_rate}
    last_stage = replace(chosen.stages[-1], **{name: value for name, value in last.items() if value is not None})
    chosen = replace(chosen, stages=(*chosen.stages[:-1], last_stage))
    _choose_backend(device)
    console = Console(stderr=True, highlight=False, markup=False)
    options: dict[str, Any] = {
        "backbone_weights": str(teacher) if teacher is not None else backbone_weights or "imagenet",
        "seed": seed,
        "device": device,
        "resume": resume,
        "cache": cache,
        "workers": workers,
        "console": console,
    }
    selections: Any = import_module("edgecxr.lab.selection")
    left_out = selections.read_left_out(leave_out or (), data)
    if leave_out:
        console.print(f"{len(left_out)} films are only tested", highlight=False)
    options["selection"] = selections.Selection(
        extras.conditions(where),
        tuple(ignore_label or ()),
        left_out,
        held_out=(column, value) if value else None,
    )
    check_outside(data, output)
    with held(output):  # from the first second, which is before TensorFlow's
        if folds is not None:
            cross_validate = extras.load_lab("edgecxr.lab.train.crossval", "train").cross_validate
            report = cross_validate(data, output, chosen, folds, **options)
            share = report["accuracy"]
            low, high = share["interval95"]
            console.print(f"accuracy over {folds} folds: {share['value']:.1%} ({low:.1%}–{high:.1%}); runs in {output}")
        elif column and not value:
            report = extras.load_lab("edgecxr.lab.train.leftout", "train").leave_one_out(
                data, output, chosen, column, **options
            )
            console.print(import_module("edgecxr.cli.tables").left_out_table(report))
            console.print(f"runs and left-out.json in {output}")
        else:
            extras.load_lab("edgecxr.lab.train.fit", "train").fit(data, output, chosen, **options)


def _choose_backend(device: str) -> None:
    """What Keras must be told before it is imported."""
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
        os.environ["JAX_PLATFORMS"] = "cpu"
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend not in BACKENDS:
        raise UsageError(f"KERAS_BACKEND must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "jax" and not find_spec("jax"):
        raise UnavailableError("KERAS_BACKEND is jax, which isn't here; run: pip install 'edgecxr[train-gpu]'")
    # The extra train-gpu brings JAX and no TensorFlow, which Keras would look for first.
    if "KERAS_BACKEND" not in os.environ and not find_spec("tensorflow") and find_spec("jax"):
        os.environ["KERAS_BACKEND"] = "jax"
