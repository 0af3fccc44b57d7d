"""The registry: the experiments, their variations, the profiles, and the suites of several experiments."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

from wbc_lib.data.external import SOURCES
from wbc_lib.data.windows import CLOSE
from wbc_lib.errors import UnknownNameError
from wbc_lib.training.plan import BARCELONA, EFFICIENTNET_SHA256, WINDOWS, Experiment, Network, Plan, Settings, vary

Entry = TypeVar("Entry")

#: The models that `wbc predict` can ask: the stronger one, and the paper's.
MODELS = STRONGER, PAPER = ("stronger", "final")
#: Parts that the photos are divided into for cross-validation.
N_FOLDS = 5
_BASELINE = Network(convolutions=(32,), dense=(32,))
_RAW: dict[str, Any] = {"network": _BASELINE, "augment": True}
_OVERFITTING = Network()
_L1L2 = 1e-4


def _transfer(base: str, weights: str) -> Network:
    return dataclasses.replace(_OVERFITTING, convolutions=(), base=base, base_weights=weights)


# The first digits of the hashes of EfficientNet-Lite0's ImageNet weights and of the Barcelona set.
_PRETRAINED_WITH = f"{EFFICIENTNET_SHA256[:12]}+{SOURCES['pbc'].sha256[:12]}"
_WINDOWS: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 8e-4, "schedule": "one-cycle", "steps": 50}
_WINDOWS |= {"label_smoothing": 0.05, "views": 8}
_CLOSE: dict[str, Any] = {"input_shape": CLOSE.shape, "protocol": "test", "in_paper": False}


def _on_windows(weights: str) -> Network:
    base: dict[str, Any] = {
        "base": "efficientnet-lite0",
        "base_weights": weights,
        "base_pooling": "average",
        "base_trained": True,
    }
    return Network(convolutions=(), dense=(), base_sha256=_PRETRAINED_WITH, **base)


EXPERIMENTS = {
    e.name: e
    for e in (
        Experiment("raw-imbalanced", "Raw photos, imbalanced", material="raw", **_RAW),
        Experiment("raw-undersampled", "Raw photos, undersampled", material="raw-undersampled", **_RAW),
        Experiment("raw-cropped", "Raw photos, cut to the cell", material="raw-cropped", in_paper=False, **_RAW),
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

#: Experiments that go beyond the paper: windows around the cell, and pictures from elsewhere to learn from first.
BEYOND = {
    e.name: e
    for e in (
        Experiment(
            "pbc",
            "Trained on the Barcelona set alone",
            _on_windows("imagenet"),
            epochs=14,
            material=BARCELONA,
            settings=Settings(batch_size=64, **_WINDOWS),
            **_CLOSE,
        ),
        Experiment(
            "stronger",
            "Stronger model",
            _on_windows("pbc"),
            epochs=10,
            material=WINDOWS,
            settings=Settings(batch_size=48, **_WINDOWS),
            **_CLOSE,
        ),
    )
}


#: What an experiment's name may be followed by, each after a plus: what it is called, and what it changes.
VARIATIONS: dict[str, tuple[str, dict[str, Any]]] = {
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
    "from-imagenet": ("not trained on the Barcelona set first", {"base_weights": "imagenet"}),
    "from-random": ("from random weights", {"base_weights": "random"}),
    "weighted": ("class weights", {"class_weights": True}),
    "longer": ("ten times the epochs", {"epochs": 300}),
    "adadelta-0.001": ("Adadelta at 0.001", {"optimizer": "adadelta", "learning_rate": 0.001}),
    # As many steps as with all photos.
    **{f"photos-1-{n}": (f"1/{n} of the photos", {"photo_share": 1 / n, "passes": n}) for n in (2, 4, 8)},
}


@dataclass(frozen=True)
class Profile:
    """How much of each experiment is run."""

    name: str
    title: str
    # share of the paper's epochs, at least two; on the raw photos, a few steps each, none is cut unless it is 0
    share: float
    seeds: tuple[int, ...]  # each experiment is run once per seed

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


@dataclass(frozen=True)
class Suite:
    """Runs of several experiments that together answer one question."""

    name: str
    title: str
    seeds: dict[str, tuple[int, ...]]  # by the name of an experiment
    profile: str  # how much of each is run: "quick" or "paper"
    in_smoke: tuple[str, ...] = ()  # trained as well by a check that everything runs, once


_SEEDS: tuple[int, ...] = (0, 1, 2)
_FOLDS = [f"+fold-{k}" for k in range(1, N_FOLDS + 1)]
_LEAKAGE = ("final", "final+by-photo", "final+painted", "final+painted+by-photo")
#: The paper's networks that are compared by cross-validation, besides the final one.
COMPARED = ("baseline", "overfitting", "dropout-0.2", "dropout-0.4", "reduced", "l2-activity", "l1l2-kernel")
#: Of them, those that are trained over more than one division (docs/rules.md, c).
_OF_COMPARED = {"overfitting": _SEEDS, "reduced": _SEEDS}

SUITES = {
    d.name: d
    for d in (
        Suite(
            "sensitivity",
            "normalisation and optimizer of the final model",
            {f"final{scale}{how}": _SEEDS for scale in ("", "+01", "+standardised") for how in ("", "+rmsprop")},
            "quick",
        ),
        Suite(
            "leakage",
            "validation at random and by photo, with the cells and without",
            dict.fromkeys(_LEAKAGE, _SEEDS),
            "paper",
            in_smoke=_LEAKAGE,
        ),
        Suite(
            "folds",
            "cross-validation over all photos",
            {f"final{fold}": _SEEDS for fold in _FOLDS}
            | {f"{name}{fold}": _OF_COMPARED.get(name, (0,)) for name in COMPARED for fold in _FOLDS},
            "paper",
            in_smoke=tuple(f"final{fold}" for fold in _FOLDS),
        ),
        Suite(
            "features",
            "what a frozen base sees, and at which size",
            dict.fromkeys((f"{base}+linear" for base in ("vgg16-hed", "vgg16-random", "resnet50-random")), _SEEDS)
            | dict.fromkeys(("vgg16-hed+120x160", "vgg16-hed+120x160+linear"), _SEEDS),
            "paper",
        ),
    )
}


def find_experiment(name: str) -> Experiment:
    """Look an experiment up by name; ``final+by-photo+painted`` is the experiment ``final`` with these `VARIATIONS`.

    Raises `UnknownNameError` if nobody has that name, or there is no such variation.
    """
    base, *variations = name.split("+")
    experiment = _find(EXPERIMENTS | BEYOND, base, "experiment")
    if not variations:
        return experiment
    described = [_find(VARIATIONS, v, "variation") for v in variations]
    title = ", ".join([experiment.title, *(words for words, _ in described)])
    changes = {field: value for _, changed in described for field, value in changed.items()}
    return vary(experiment, **changes, name=name, title=title, in_paper=False)


def find_profile(name: str) -> Profile:
    """Look a profile up by name; raises `UnknownNameError` if nobody has it."""
    return _find(PROFILES, name, "profile")


def find_suite(name: str) -> Suite:
    """Look a suite up by name; raises `UnknownNameError` if nobody has it."""
    return _find(SUITES, name, "suite")


def _find(registry: dict[str, Entry], name: str, what: str) -> Entry:
    if name not in registry:
        raise UnknownNameError(f"There is no {what} {name!r}; choose one of: {', '.join(registry)}.")
    return registry[name]


def read_plan(name: str, config: dict[str, Any]) -> Plan:
    """Rebuild the plan of a recorded run, the opposite of `Plan.config`.

    Its key equals the recorded one only if the numerics have not changed since.
    """
    fields = {k: v for k, v in config.items() if k in {f.name for f in dataclasses.fields(Experiment)}}
    known = (EXPERIMENTS | BEYOND).get(name)
    fields |= {"name": name, "title": known.title if known else name, "in_paper": bool(known and known.in_paper)}
    fields |= {"network": Network(**config["network"]), "settings": Settings(**config["settings"])}
    fields |= {"input_shape": tuple(config["input_shape"]), "epochs": known.epochs if known else config["epochs"]}
    return Plan(Experiment(**fields), config["epochs"], config["seed"], config["data_sha256"])
