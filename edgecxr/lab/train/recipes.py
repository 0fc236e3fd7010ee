"""How a classifier is fitted, as data: each recipe is a frozen dataclass whose fields carry their reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from edgecxr.errors import UsageError


@dataclass(frozen=True)
class Augmentation:
    """Random changes to a training picture. Ranges are symmetric unless said otherwise; 0 switches one off."""

    flip: bool = False  # left-right, half of the time; puts the heart on the right, so only the original recipe does it
    rotate: float = 0.0  # degrees; a patient stands askew
    shear: float = 0.0  # degrees
    shift: float = 0.0  # share of the side; the field isn't centred
    zoom: float = 0.0  # factors in 1 - zoom .. 1 + zoom
    zoom_axes: Literal["together", "apart"] = "together"  # one factor, or one for each side (which changes the aspect)
    contrast: float = 0.0  # factor in 1 - contrast .. 1 + contrast about the mean; exposure differs between devices
    brightness: float = 0.0  # share of the full range, added
    soften: float = 0.0  # smallest share of the side to which the picture is reduced and back: detectors differ


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one set of trainable layers."""

    epochs: int
    learning_rate: float
    # First trainable backbone layer by the start of its name ("" is all of them, None none: only the head learns).
    # Frozen layers also keep their batch norms' statistics.
    trainable_from: str | None
    warmup: float = 0.0  # share of the stage over which the rate rises from 0: fresh Adam moments take wild first steps
    schedule: Literal["constant", "cosine"] = "constant"  # cosine falls to 0, which averages the last steps' noise out


@dataclass(frozen=True)
class Distillation:
    """What a student learns from its teacher's answers to the very same views, beside the labels.

    After Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015: the divergence of softened
    answers, times the temperature's square so that its gradients weigh the same at every temperature. Pooled features
    are compared by their direction, since the head that follows is linear.
    """

    temperature: float  # of both softmaxes; above 1, so that the classes that the teacher all but excludes count
    labels: float  # weight of the labels' cross-entropy, 0 to 1; the teacher's answers have the rest
    features: float  # weight of 1 - cosine of both's pooled features

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and 0 <= self.labels <= 1 and self.features >= 0):
            raise UsageError(f"a distillation needs a temperature above 0 and weights of labels in 0 to 1, got {self}")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a fit except the data, the seed and the backbone's weights."""

    name: str
    head: Literal["flatten-dense16", "pooled"]
    stages: tuple[Stage, ...]
    batch_size: int
    augmentation: Augmentation
    scale: float  # the network sees scale * x + offset, x in 0..255
    offset: float
    dropout: float = 0.2
    label_smoothing: float = 0.0
    balance_classes: bool = False  # weigh each class by the inverse of its share
    # Instead of that: draw each class equally often, and within it each source by the square root of its films.
    balance_sources: bool = False
    weight_decay: float = 0.0  # decoupled, as in AdamW; of kernels only, not of norms and biases
    input_size: int = 299  # px, both sides; Xception's own
    middle_blocks: int = 8  # of Xception's 8, the first ones: the last are missed least; 1 to 8
    quantization_aware: bool = False  # rounded in training as int8 will be; see `rounding`
    keeps_head: bool = False  # the backbone's weights are a RUN's, whose head is taken too
    mixed_precision: bool = False  # bfloat16 arithmetic over float32 variables, where the hardware has it
    # Stages with a frozen backbone run on features that are computed once for this many augmented views of each
    # picture, which epochs take in turn; 0 computes every epoch afresh.
    # Of a recipe with a teacher: for so many views of each picture its answers are computed once, and no other is seen.
    feature_views: int = 0
    # The backbone's weights are then a RUN's, the teacher's, with its head; None learns from labels alone.
    distillation: Distillation | None = None
    biases_on_dev: bool = False  # after the last epoch the head's biases are moved to where dev is likeliest

    def __post_init__(self) -> None:
        if not 1 <= self.middle_blocks <= 8:
            raise UsageError(f"middle_blocks must be from 1 to 8, got {self.middle_blocks}")
        if self.keeps_head and self.head != "pooled":
            raise UsageError("a recipe that keeps its RUN's head needs a pooled one")
        if self.distillation and not (self.feature_views and self.head == "pooled"):
            raise UsageError("a recipe with a teacher needs a pooled head and 1 view or more of each picture")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Recipe:
        # A run of before a field was there did without it, which is what the field's default says.
        values = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        values["stages"] = tuple(Stage(**stage) for stage in data["stages"])
        # Earlier runs also name changes that were tried and went out again; every recipe had them switched off.
        changes = data["augmentation"]
        values["augmentation"] = Augmentation(
            **{f.name: changes[f.name] for f in fields(Augmentation) if f.name in changes}
        )
        if values.get("distillation"):
            values["distillation"] = Distillation(**values["distillation"])
        return cls(**values)


@dataclass(frozen=True)
class SeedRecipe(Recipe):
    """The tutorial's recipe, to the letter where it says something: 24,138,347 parameters, 3,276,867 of them trained.

    Its own script also augmented the validation pictures; nobody's figures gain from that and ours don't.
    """

    name: str = "seed"
    head: Literal["flatten-dense16", "pooled"] = "flatten-dense16"
    stages: tuple[Stage, ...] = (Stage(epochs=30, learning_rate=1e-3, trainable_from=None),)
    batch_size: int = 16
    # Keras's ImageDataGenerator(shear_range=0.2, zoom_range=0.2, horizontal_flip=True): its shear is in degrees, so
    # 0.2 is next to nothing, and its zoom draws a factor for each side.
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(flip=True, shear=0.2, zoom=0.2, zoom_axes="apart")
    )
    scale: float = 1 / 255  # not what Xception was trained with (x / 127.5 - 1), but what the tutorial does
    offset: float = 0.0
    feature_views: int = 4  # the first four epochs see what they would have seen, the others see those views again


@dataclass(frozen=True)
class DefaultRecipe(Recipe):
    """Fine-tuning for chest films: what the embedded teacher, full, was fitted with."""

    name: str = "default"
    # 6,147 weights in place of 3.3 million, and an evidence map that doesn't depend on where a finding lies.
    head: Literal["flatten-dense16", "pooled"] = "pooled"
    stages: tuple[Stage, ...] = (
        # The fresh head first, so that its noise doesn't run through the backbone.
        Stage(epochs=1, learning_rate=3e-3, trainable_from=None, warmup=0.1),
        # Then the backbone's middle and exit flow. The entry flow's edge and texture filters carry over as they are,
        # and without gradients through the large early maps a step costs 0.57 times as much.
        Stage(epochs=4, learning_rate=2e-4, trainable_from="block5", warmup=0.1, schedule="cosine"),
    )
    batch_size: int = 16
    augmentation: Augmentation = field(
        default_factory=lambda: Augmentation(
            rotate=7.0, shift=0.05, zoom=0.12, contrast=0.2, brightness=0.08, soften=0.5
        )
    )
    scale: float = 1 / 127.5  # the scaling that Xception's weights were trained with
    offset: float = -1.0
    label_smoothing: float = 0.05  # labels of public sets are partly wrong, and calibration gains
    balance_sources: bool = True
    weight_decay: float = 1e-4
    mixed_precision: bool = True  # no averaging of weights: it cost 4 points on another source (recipe-ablation.json)
    feature_views: int = 1


@dataclass(frozen=True)
class Int8Recipe(DefaultRecipe):
    """A fitted model made ready for int8, with all of its weights trainable: quantization-aware training.

    Fine-tuned ImageNet weights have channels and outliers that 256 steps can't hold; small steps with the rounding in
    place find weights that answer alike and can be rounded.
    """

    name: str = "int8"
    stages: tuple[Stage, ...] = (Stage(epochs=1, learning_rate=5e-5, trainable_from="", warmup=0.1, schedule="cosine"),)
    input_size: int = 224  # of the model that the recipe default fits to pictures of radiography
    feature_views: int = 0
    quantization_aware: bool = True
    keeps_head: bool = True


@dataclass(frozen=True)
class EdgeRecipe(DefaultRecipe):
    """A smaller student of a fitted model: fewer middle blocks and pixels, each block beginning with its weights.

    Its pictures are drawn and changed as the default's, and a view is the same part of the same film to both, each at
    its own input size.
    """

    name: str = "edge"
    # No fresh head to calm first: the teacher's is there. From block4 on, a block earlier than the teacher's own
    # fine-tuning, since so little is left behind it; with all layers a step costs 1.8 times as much.
    stages: tuple[Stage, ...] = (
        # Two epochs: of six at 3e-4 dev lost two points from the second on, while train gained six.
        Stage(epochs=2, learning_rate=2e-4, trainable_from="block4", warmup=0.1, schedule="cosine"),
    )
    input_size: int = 192
    middle_blocks: int = 2  # on all films right on as much of dev as five (docs/model.md), and 1.45 times as fast
    dropout: float = 0.0  # the teacher's answers are for the features as they are
    feature_views: int = 2  # a view of each film costs the teacher what an epoch costs a student of 192 px
    distillation: Distillation | None = Distillation(temperature=3.0, labels=0.3, features=1.0)
    biases_on_dev: bool = True  # students say too little covid; four of them gain 5 to 15 dev films


RECIPES: dict[str, type[SeedRecipe | DefaultRecipe]] = {
    "seed": SeedRecipe,
    "default": DefaultRecipe,
    "int8": Int8Recipe,
    "edge": EdgeRecipe,
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; raises UsageError for an unknown one."""
    if name not in RECIPES:
        raise UsageError(f"unknown recipe: expected one of {', '.join(RECIPES)}, got {name!r}")
    return RECIPES[name]()
