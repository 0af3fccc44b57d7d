"""Questions that take several experiments to answer, each with the runs it needs."""

from dataclasses import dataclass

from wbc_lib.errors import UnknownNameError
from wbc_lib.training.experiments import N_FOLDS


@dataclass(frozen=True)
class Design:
    """The runs that answer one question.

    Attributes
    ----------
    name, title : str
        For the command line and for readers.
    seeds : dict
        By the name of an experiment (see `experiments.find_experiment`), the seeds it is run with.
    profile : str
        How much of each experiment is run: "quick" or "paper".
    in_smoke : tuple of str
        Experiments that a check that everything runs trains as well, once.
    """

    name: str
    title: str
    seeds: dict[str, tuple[int, ...]]
    profile: str
    in_smoke: tuple[str, ...] = ()


_SEEDS = (0, 1, 2)
_FOLDS = [f"+fold-{k}" for k in range(1, N_FOLDS + 1)]
_LEAKAGE = ("final", "final+by-photo", "final+painted", "final+painted+by-photo")
#: The paper's networks that are compared by cross-validation, besides the final one.
COMPARED = ("baseline", "overfitting", "dropout-0.2", "dropout-0.4", "reduced", "l2-activity", "l1l2-kernel")

DESIGNS = {
    d.name: d
    for d in (
        Design(
            "sensitivity",
            "normalisation and optimizer of the final model",
            {
                f"final{scale}{optimizer}": _SEEDS
                for scale in ("", "+01", "+standardised")
                for optimizer in ("", "+rmsprop")
            },
            "quick",
        ),
        Design(
            "leakage",
            "validation at random and by photo, with the cells and without",
            dict.fromkeys(_LEAKAGE, _SEEDS),
            "paper",
            in_smoke=_LEAKAGE,
        ),
        Design(
            "folds",
            "cross-validation over all photos",
            {f"final{fold}": _SEEDS for fold in _FOLDS}
            | {f"{name}{fold}": (0,) for name in COMPARED for fold in _FOLDS},
            "quick",
            in_smoke=tuple(f"final{fold}" for fold in _FOLDS),
        ),
        Design(
            "features",
            "what a frozen base sees, and at which size",
            dict.fromkeys(
                (
                    "vgg16-hed+linear",
                    "vgg16-random+linear",
                    "resnet50-random+linear",
                    "vgg16-hed+120x160",
                    "vgg16-hed+120x160+linear",
                ),
                _SEEDS,
            ),
            "paper",
        ),
    )
}


def find_design(name: str) -> Design:
    """Look a design up by name.

    Raises
    ------
    UnknownNameError
        If there is none of that name.
    """
    if name not in DESIGNS:
        raise UnknownNameError(f"There is no design {name!r}; choose one of: {', '.join(DESIGNS)}.")
    return DESIGNS[name]
