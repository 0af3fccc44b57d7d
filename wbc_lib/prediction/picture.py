"""What there is to ask about in any picture, its white cells, and what a recorded network says of each.

It says a class, how sure it is of it, and whether it would rather not say. What takes a second to load, TensorFlow and
the library for charts, is loaded where it is needed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.data.pictures import ENDINGS
from wbc_lib.data.windows import CLOSE, WHOLE_PHOTO, Cell, Window, find_cells, measure_red_cell
from wbc_lib.errors import NoAnswerError, UnknownNameError
from wbc_lib.evaluation.scores import confidence_threshold
from wbc_lib.prediction import forward, refusal
from wbc_lib.training.experiments import PAPER, PROFILES, STRONGER, find_experiment
from wbc_lib.training.plan import BARCELONA, WINDOWS, Plan
from wbc_lib.training.runs import Run, Store

if TYPE_CHECKING:
    import keras

DISCLAIMER = "This is a teaching example and no medical device: no diagnosis may rest on it."
#: How many of the decided validation images are to be right, unless said otherwise.
ACCURACY = 0.99

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Sighting:
    """One white cell of a picture."""

    cell: Cell
    red_cell: float  # diameter of red cells in the picture, in pixels
    window: NDArray[np.uint8]  # as much around it as the network sees, at the size of its input
    colours: NDArray[np.uint8]  # the window whose colours are compared, shape (64, 64, RGB)

    @property
    def nucleus(self) -> float:
        """Diameter of a disc with the nucleus' area, in red cells."""
        return self.cell.diameter(self.red_cell)


def look(picture: NDArray[np.uint8], red_cell: float = 0.0, window: Window = WHOLE_PHOTO) -> list[Sighting]:
    """Find the white cells of a picture, the one with the largest nucleus first.

    `red_cell` is the diameter of its red cells in pixels, 0 to have it measured; `window` what the network sees of a
    cell. Raises `NoAnswerError` if the picture has no colour, cannot be scaled, or shows no white cell.
    """
    if np.ptp(picture, axis=2).max() == 0:
        raise NoAnswerError("it has no colour, and cells are told by their stain")
    if not red_cell:
        measured = measure_red_cell(picture)
        if measured is None:
            raise NoAnswerError(
                "it shows no red cells that could be measured; if it is a smear, give their diameter "
                "with --red-cell PIXELS"
            )
        red_cell = measured
    cells = find_cells(picture, red_cell)
    if not cells:
        raise NoAnswerError("it shows no white cell: nothing is stained as a nucleus and as large as one")
    return [sight(picture, cell, red_cell, window) for cell in cells]


def sight(picture: NDArray[np.uint8], cell: Cell, red_cell: float, window: Window = WHOLE_PHOTO) -> Sighting:
    """Cut what is asked about one white cell out of a picture; parameters as of `look`."""
    seen = window.cut(picture, (cell.x, cell.y), red_cell)
    return Sighting(cell, red_cell, seen, refusal.cut_colours(picture, cell, red_cell))


def find_window(run: Run) -> Window:
    """What a run's network sees of a cell."""
    if run.record["config"]["material"] in (WINDOWS, BARCELONA):
        return CLOSE
    return replace(WHOLE_PHOTO, shape=tuple(run.record["config"]["input_shape"]))


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture."""

    pixels: NDArray[np.uint8]  # as the network sees it
    probabilities: NDArray[np.float64]  # of no class and of the four, summing to one
    threshold: float  # below this probability the network would rather abstain; above 1 it always would
    attention: NDArray[np.float64] | None = None  # Grad-CAM for the likeliest class, 0 to 1, of the size of `pixels`
    box: Box | None = None  # of the nucleus in the picture: left, top, right, bottom

    @property
    def cell(self) -> str:
        """The likeliest class; "" for the output that belongs to none."""
        return ("", *CLASSES)[int(self.probabilities.argmax())]

    @property
    def probability(self) -> float:
        """Of the likeliest class."""
        return float(self.probabilities.max())

    @property
    def abstains(self) -> bool:
        """Whether the network would rather not name a class."""
        return not self.cell or self.probability < self.threshold

    def describe(self) -> str:
        """For the command line."""
        doubt = "; would rather abstain" if self.abstains else ""
        return f"{self.cell.capitalize() if self.cell else 'None of the four'}, {self.probability:.1%}{doubt}"

    def as_plain(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        by_class = dict(zip(("NONE", *CLASSES), map(float, self.probabilities), strict=True))
        return {
            "cell": self.cell or None,
            "refused": "",
            "probability": self.probability,
            "abstains": self.abstains,
            "probabilities": by_class,
        }


def find_run(store: Store, data_sha256: str = PUBLISHED_SHA256, model: str = PAPER) -> Run | None:
    """Find the run of one of `MODELS` on some data that was trained longest, of several seeds the first.

    ``None`` if none is there; raises `RunError` if one is damaged.
    """
    experiment = find_experiment(model)
    for profile in sorted(PROFILES.values(), key=lambda p: -p.share):
        for seed in profile.seeds:
            run = store.find(Plan(experiment, profile.epochs(experiment), seed, data_sha256))
            if run and "weights.npz" in run.record["files"]:
                return run
    return None


def choose_threshold(run: Run, accuracy: float = ACCURACY, folds: Sequence[Run] = ()) -> float:
    """The probability below which a network would rather abstain, chosen on its validation images.

    At or above it as many of them are decided as can be, and no fewer than `accuracy` of those are right; above 1 if no
    threshold gives that. They are copies of photos that it was trained on: on new photos expect fewer to be right.
    Where there are `folds`, runs of the same experiment, it is chosen on the photos that these had never seen.
    """
    runs, part = (folds, "test") if folds else ([run], "validation")
    probabilities = np.concatenate([r.probabilities(part) for r in runs])
    is_right = np.concatenate([r.predicted(part) == r.labels(part) for r in runs])
    return confidence_threshold(probabilities.max(axis=1), is_right, accuracy)


def find_folds(run: Run, store: Store) -> list[Run]:
    """The cross-validation of the stronger model that is recorded, whose photos choose its threshold; else nothing."""
    name = run.record["experiment"]
    return store.read_all(f"{name}+fold-") if name == STRONGER else []


def describe_basis(run: Run, threshold: float, accuracy: float, folds: Sequence[Run] = ()) -> str:
    """Say which network is asked and when it abstains, and what it is not."""
    right = f"{accuracy:.0%} of {'the photos held out in folds' if folds else 'its validation images'} are right"
    rule = f"abstains below {threshold:.1%}: at or above, {right}" if threshold <= 1 else f"abstains: never {right}"
    return f"{run.name} {rule}. {DISCLAIMER}"


def ask(
    run: Run, model: "keras.Model | None", pictures: Sequence[NDArray[np.uint8]], with_attention: bool = False
) -> Iterator[Prediction]:
    """Ask a run's network about pixels of its size; a threshold is left open.

    Takes the network rebuilt in Keras, or ``None`` to have it computed with NumPy. `with_attention`: whether to map
    what speaks for the likeliest class, which only Keras can.
    """
    if not pictures:
        return
    pixels = np.stack(pictures)
    experiment = run.plan.experiment
    network, views = experiment.network, experiment.settings.views
    if model is None:
        logits = forward.compute_logits(network, run.record["scale"], run.weights(), pixels, views)
    else:
        from wbc_lib.training.fit import predict

        logits = predict(model, pixels, views)
    probabilities = softmax(logits.astype(float), axis=1)
    attention: Sequence[NDArray[np.float64] | None] = [None] * len(pixels)
    if model is not None and with_attention:
        maps = saliency.map_attention(model, network, pixels, logits.argmax(axis=1))
        attention = list(maps / np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(float).tiny))
    for picture, each, attended in zip(pixels, probabilities, attention, strict=True):
        yield Prediction(picture, each, 0.0, attended)


def write_map(prediction: Prediction, target: Path) -> None:
    """Draw, to a .png or .svg file, a picture as the network sees it, and beside it how strong its attention is."""
    from wbc_lib.attention.summary import Panel
    from wbc_lib.figures.attention import draw_panels

    title = prediction.describe().replace(";", ",")
    mapped = Panel("what speaks for it", prediction.pixels, attention=prediction.attention)
    figure = draw_panels([Panel(title, prediction.pixels), mapped], columns=2)
    with paths.written_whole(target) as temporary:
        figure.savefig(temporary, format=target.suffix[1:].lower())


def drawing_paths(
    target: Path, pictures: Sequence[Path], what: str = "map", endings: tuple[str, ...] = (".png", ".svg")
) -> list[Path]:
    """Where drawings of pictures go: to `target` if it has such an ending, else into the folder of that name.

    Raises `UnknownNameError` if one file is named for several pictures, or one that is a picture or of another kind.
    """
    ending = target.suffix.lower()
    if ending in endings and not target.is_dir():
        if len(pictures) > 1:
            raise UnknownNameError(f"{target} is one file for {len(pictures):,} pictures; name a folder.")
        if any(target.resolve() == picture.resolve() for picture in pictures):
            raise UnknownNameError(f"{target} is the picture itself; name another file for its {what}.")
        return [target] * len(pictures)
    if ending in {*ENDINGS, ".svg", ".pdf", ".gif"} or target.is_file():
        raise UnknownNameError(f"{target} is no {' or '.join(endings)}; name such a file, or a folder.")
    names: dict[str, None] = {}
    for picture in pictures:
        name, n = f"{picture.stem}-{what}.png", 1
        while name in names:
            n += 1
            name = f"{picture.stem}-{what}-{n}.png"
        names[name] = None
    return [target / name for name in names]
