"""The registry: one entry per experiment, with its settings and the paper's figures."""

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
#: Parts that the photos are divided into for cross-validation.
N_FOLDS = 5


def _added(default: Any) -> Any:
    # A setting that came after the first runs were recorded: at its default it is left out of what is hashed.
    return field(default=default, metadata={"added": True})


def _plain(part: Any) -> None:
    # Equal settings must have one key: 0 is 0.0, and a number from an array is a number.
    for f in dataclasses.fields(part):
        value = getattr(part, f.name)
        plain = tuple(int(v) for v in value) if isinstance(f.default, tuple) else type(f.default)(value)
        object.__setattr__(part, f.name, plain)


@dataclass(frozen=True)
class Network:
    """A network as the paper describes it.

    Attributes
    ----------
    convolutions : tuple of int
        Filters of each 3x3 convolution; a 2x2 max-pooling follows each. Unused on a pretrained base.
    dense : tuple of int
        Units of the hidden dense layers; the output layer of five comes on top.
    dropout : float
        Share of units dropped after each hidden dense layer.
    kernel_l1, kernel_l2 : float
        Penalty on the weights of every dense layer.
    activity_l2 : float
        Penalty on the outputs of every hidden dense layer, averaged over the batch.
    base : str
        "" for the convolutions above, or "vgg16" or "resnet50", frozen.
    base_weights : str
        Where the frozen base's weights come from: "imagenet", "hed" (VGG16 trained on from ImageNet for edge
        detection) or "random".
    base_pooling : str
        What becomes of a frozen base's last maps: "flatten" or "average" (over each map).
    pool_after : str
        Which convolutions a 2x2 max-pooling follows: "each" or "last".
    pool_dropout : float
        Share of values dropped after the last max-pooling.
    """

    convolutions: tuple[int, ...] = (32, 64, 128)
    dense: tuple[int, ...] = (512, 256, 128, 64, 32)
    dropout: float = 0.0
    kernel_l1: float = 0.0
    kernel_l2: float = 0.0
    activity_l2: float = 0.0
    base: str = ""
    base_weights: str = ""
    base_pooling: str = _added("flatten")
    pool_after: str = _added("each")
    pool_dropout: float = _added(0.0)

    def __post_init__(self):
        _plain(self)


@dataclass(frozen=True)
class Settings:
    """What the paper does not state, and every experiment needs.

    Attributes
    ----------
    optimizer : str
        "adam", "rmsprop", "sgd" or "adadelta".
    learning_rate : float
    batch_size : int
    normalisation : str
        "[-1, 1]", "[0, 1]" or "standardised".
    validation_share : float
    class_weights : bool
        Whether a class counts in the loss in inverse proportion to its number of training examples.
    photo_share : float
        Share of the source photos of each class that is trained on (with all their copies), in folds.
    passes : int
        Times that the training examples are gone through in what is counted as one epoch.
    """

    optimizer: str = "adam"
    learning_rate: float = 1e-3
    batch_size: int = 32
    normalisation: str = "[-1, 1]"
    validation_share: float = 0.2
    class_weights: bool = _added(False)
    photo_share: float = _added(1.0)
    passes: int = _added(1)

    def __post_init__(self):
        _plain(self)


@dataclass(frozen=True)
class Experiment:
    """One experiment.

    Attributes
    ----------
    name, title : str
        For the command line and for readers.
    network : Network
    epochs : int
        As in the paper.
    material : str
        What it is trained on: "augmented" (the 12,444 images), "painted" (the same with the white cell painted over),
        "raw" (the source photos), "raw-undersampled" (the rarest class's number of each) or "raw-cropped" (the photos
        cut to the white cell's box).
    augment : bool
        Whether every epoch sees freshly turned and shifted copies (raw photos only).
    settings : Settings
    input_shape : tuple of int
        Height and width of the input.
    protocol : str
        How images are held back for validation: "random" (a random share, as in the paper), "by-photo" (no photo, nor
        another photo of its field, is on both sides), "fold-1" to "fold-5" (the same over TRAIN and TEST together;
        the fold's photos themselves take the place of TEST) or "test" (TEST itself is the validation part, and all of
        TRAIN is learned from: what the kernel did that the paper built on).
    in_paper : bool
        False for the controls that we add.
    """

    name: str
    title: str
    network: Network
    epochs: int = 30
    material: str = "augmented"
    augment: bool = False
    settings: Settings = field(default_factory=Settings)
    input_shape: tuple[int, int] = INPUT_SHAPE
    protocol: str = "random"
    in_paper: bool = True

    @property
    def reported(self) -> paper.Reported:
        """The paper's figures for it."""
        return paper.REPORTED.get(self.name, paper.Reported())


_BASELINE = Network(convolutions=(32,), dense=(32,))
_OVERFITTING = Network()
_L1L2 = 1e-4


def _transfer(base: str, weights: str) -> Network:
    return dataclasses.replace(_OVERFITTING, convolutions=(), base=base, base_weights=weights)


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment("raw-imbalanced", "Raw photos, imbalanced", _BASELINE, material="raw", augment=True),
        Experiment(
            "raw-undersampled",
            "Raw photos, undersampled",
            _BASELINE,
            material="raw-undersampled",
            augment=True,
        ),
        Experiment(
            "raw-cropped",
            "Raw photos, cut to the cell",
            _BASELINE,
            material="raw-cropped",
            augment=True,
            in_paper=False,
        ),
        Experiment("baseline", "Baseline CNN", _BASELINE),
        Experiment("overfitting", "Overfitting CNN", _OVERFITTING),
        Experiment("dropout-0.2", "Dropout 0.2", dataclasses.replace(_OVERFITTING, dropout=0.2)),
        Experiment("dropout-0.4", "Dropout 0.4", dataclasses.replace(_OVERFITTING, dropout=0.4)),
        Experiment("reduced", "Reduced capacity", dataclasses.replace(_OVERFITTING, dense=(128, 64, 32))),
        Experiment("l2-activity", "L2 activity 0.005", dataclasses.replace(_OVERFITTING, activity_l2=0.005)),
        Experiment(
            "l1l2-kernel",
            "L1L2 kernel 0.0001",
            dataclasses.replace(_OVERFITTING, kernel_l1=_L1L2, kernel_l2=_L1L2),
            epochs=50,
        ),
        Experiment("vgg16", "VGG16, ImageNet, frozen", _transfer("vgg16", "imagenet")),
        Experiment("resnet50", "ResNet50, ImageNet, frozen", _transfer("resnet50", "imagenet")),
        Experiment(
            "final",
            "Final model",
            Network(dense=(64, 32), dropout=0.4, kernel_l1=_L1L2, kernel_l2=_L1L2),
            epochs=50,
        ),
        Experiment("vgg16-hed", "VGG16, edge detection, frozen", _transfer("vgg16", "hed"), in_paper=False),
        Experiment("vgg16-random", "VGG16, random, frozen", _transfer("vgg16", "random"), in_paper=False),
        Experiment("resnet50-random", "ResNet50, random, frozen", _transfer("resnet50", "random"), in_paper=False),
        Experiment(
            "efficientnet-lite0",
            "EfficientNet-Lite0, ImageNet, frozen",
            _transfer("efficientnet-lite0", "imagenet"),
            in_paper=False,
        ),
        Experiment(
            "kernel",
            "The Kaggle kernel's settings",
            # Its dropout is not published; these are the rates of Keras' example of that time.
            Network(convolutions=(32, 64), dense=(128,), dropout=0.5, pool_after="last", pool_dropout=0.25),
            settings=Settings(optimizer="adadelta", learning_rate=1.0, normalisation="[0, 1]"),
            protocol="test",
            in_paper=False,
        ),
    )
}


#: What an experiment's name may be followed by, each after a plus: what it is called, and what it changes.
VARIATIONS = {
    "by-photo": ("validated by photo", {"protocol": "by-photo"}),
    "painted": ("cells painted over", {"material": "painted"}),
    **{f"fold-{k}": (f"fold {k} of {N_FOLDS}", {"protocol": f"fold-{k}"}) for k in range(1, N_FOLDS + 1)},
    "rmsprop": ("RMSprop", {"optimizer": "rmsprop"}),
    "01": ("pixels in [0, 1]", {"normalisation": "[0, 1]"}),
    "standardised": ("pixels standardised", {"normalisation": "standardised"}),
    "linear": ("a single linear layer", {"dense": ()}),
    "120x160": ("input of 120x160", {"input_shape": (120, 160)}),
    "224x224": ("input of 224x224", {"input_shape": (224, 224), "base_pooling": "average"}),
    "no-dropout": ("without dropout", {"dropout": 0.0}),
    "no-penalty": ("without L1 and L2", {"kernel_l1": 0.0, "kernel_l2": 0.0}),
    "overfitting-head": ("the overfitting model's dense layers", {"dense": _OVERFITTING.dense}),
    "30-epochs": ("30 epochs", {"epochs": 30}),
    "4-convolutions": ("one convolution more", {"convolutions": (32, 64, 128, 256)}),
    "2-convolutions": ("one convolution fewer", {"convolutions": (32, 64)}),
    "weighted": ("class weights", {"class_weights": True}),
    "longer": ("ten times the epochs", {"epochs": 300}),
    "adadelta-0.001": ("Adadelta at 0.001", {"optimizer": "adadelta", "learning_rate": 0.001}),
    **{
        f"photos-1-{n}": (f"1/{n} of the photos", {"photo_share": 1 / n, "passes": n}) for n in (2, 4, 8)
    },  # as many steps as with all photos
}


@dataclass(frozen=True)
class Profile:
    """How much of each experiment is run.

    Attributes
    ----------
    name, title : str
    share : float
        Of the paper's epochs, 0 to 1; at least two epochs are run. On the raw photos an epoch is a few steps, so
        there none is cut unless the share is 0.
    seeds : tuple of int
        Each experiment is run once per seed.
    """

    name: str
    title: str
    share: float
    seeds: tuple[int, ...]

    @property
    def is_cut(self) -> bool:
        """Whether fewer epochs than the paper's are run."""
        return self.share < 1

    def epochs(self, experiment: Experiment) -> int:
        """Epochs of one experiment under this profile."""
        is_short = experiment.material.startswith("raw") and self.share > 0
        return experiment.epochs if is_short else max(2, round(experiment.epochs * self.share))


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", "a check that everything runs", 0.0, (0,)),
        Profile("quick", "a sixth of the paper's epochs, one seed", 1 / 6, (0,)),
        Profile("paper", "the paper's epochs, three seeds", 1.0, (0, 1, 2)),
    )
}


def find_experiment(name: str) -> Experiment:
    """Look an experiment up by name; ``final+by-photo+painted`` is the experiment ``final`` with these `VARIATIONS`.

    Raises
    ------
    UnknownNameError
        If nobody has that name, or there is no such variation.
    """
    base, *variations = name.split("+")
    experiment = _find(EXPERIMENTS, base, "experiment")
    if not variations:
        return experiment
    described = [_find(VARIATIONS, v, "variation") for v in variations]
    title = ", ".join([experiment.title, *(words for words, _ in described)])
    changes = {field: value for _, changed in described for field, value in changed.items()}
    return vary(experiment, **changes, name=name, title=title, in_paper=False)


def find_profile(name: str) -> Profile:
    """Look a profile up by name.

    Raises
    ------
    UnknownNameError
        If nobody has that name.
    """
    return _find(PROFILES, name, "profile")


def _find(registry: dict[str, Any], name: str, what: str) -> Any:
    if name not in registry:
        raise UnknownNameError(f"There is no {what} {name!r}; choose one of: {', '.join(registry)}.")
    return registry[name]


@dataclass(frozen=True)
class Plan:
    """All that decides a run's outcome: equal plans give equal runs.

    Attributes
    ----------
    experiment : Experiment
    epochs : int
    seed : int
        Decides the split, the first weights, the order of the images and what dropout drops.
    data_sha256 : str
        Of the data set's files.
    """

    experiment: Experiment
    epochs: int
    seed: int
    data_sha256: str

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
        return json.loads(
            json.dumps(
                {
                    **described,
                    "epochs": self.epochs,
                    "seed": self.seed,
                    "data_sha256": self.data_sha256,
                    "resizing": RESIZING,
                    "numerics": NUMERICS,
                }
            )
        )

    @property
    def key(self) -> str:
        """Sha256 of the normalised configuration, in hex."""
        return hashlib.sha256(json.dumps(self.config, sort_keys=True).encode()).hexdigest()


def read_plan(name: str, config: dict[str, Any]) -> Plan:
    """Rebuild the plan of a recorded run, the opposite of `Plan.config`.

    Its key equals the recorded one only if the numerics have not changed since.
    """
    fields = {k: v for k, v in config.items() if k in {f.name for f in dataclasses.fields(Experiment)}}
    known = EXPERIMENTS.get(name)
    fields |= {"name": name, "title": known.title if known else name, "in_paper": bool(known and known.in_paper)}
    network = {k: tuple(v) if isinstance(v, list) else v for k, v in config["network"].items()}
    fields |= {"network": Network(**network), "settings": Settings(**config["settings"])}
    fields |= {"input_shape": tuple(config["input_shape"]), "epochs": known.epochs if known else config["epochs"]}
    return Plan(Experiment(**fields), config["epochs"], config["seed"], config["data_sha256"])


def vary(experiment: Experiment, **changes: Any) -> Experiment:
    """Copy an experiment with other values, each given by its name wherever it lives.

    Parameters
    ----------
    experiment : Experiment
    **changes
        Fields of `Network`, `Settings` or `Experiment`: ``vary(final, dropout=0.2, optimizer="rmsprop")``.

    Raises
    ------
    UnknownNameError
        If no part of an experiment has a field of that name.
    """
    for name, value in changes.items():
        new = tuple(value) if isinstance(value, list) else value
        for part in ("network", "settings"):
            if name in {f.name for f in dataclasses.fields(getattr(experiment, part))}:
                changed = dataclasses.replace(getattr(experiment, part), **{name: new})
                experiment = dataclasses.replace(experiment, **{part: changed})
                break
        else:
            if name not in {f.name for f in dataclasses.fields(Experiment)}:
                raise UnknownNameError(f"An experiment has no setting {name!r}; see wbc_lib.training.experiments.")
            experiment = dataclasses.replace(experiment, **{name: new})
    return experiment
