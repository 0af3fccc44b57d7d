"""What a recorded network says of any picture: a class, how sure it is of it, and whether it would rather not say.

TensorFlow is loaded by the functions that need it.
"""

import glob
import io
import os
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbc_lib import paths, saliency
from wbc_lib.attention_figures import draw_panels
from wbc_lib.attention_views import Panel
from wbc_lib.calibration import Predictions, find_threshold
from wbc_lib.errors import BadDataError, UnknownNameError
from wbc_lib.experiments import PROFILES, Plan, find_experiment
from wbc_lib.figures import nice
from wbc_lib.images import INPUT_SHAPE, decode, shrink
from wbc_lib.manifest import PUBLISHED_SHA256
from wbc_lib.photos import CLASSES, IMAGE_SIZE
from wbc_lib.runs import Run, Store

if TYPE_CHECKING:
    import keras

DISCLAIMER = "This is a teaching example and no medical device: no diagnosis may rest on it."
#: How many of the decided validation images are to be right, unless said otherwise.
ACCURACY = 0.99
#: Endings of the files that are taken from a folder.
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp")

_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
# Room for a large camera's picture without compression; what is larger shows no single cell.
_MAX_BYTES = 200_000_000
_BATCH = 256


@dataclass(frozen=True)
class Prediction:
    """What a network says of one picture.

    Attributes
    ----------
    path : Path
    pixels : ndarray of uint8, shape (height, width, RGB)
        The picture as the network sees it.
    probabilities : ndarray of float, shape (5,)
        Of no class and of the four classes, summing to one.
    threshold : float
        Below this probability the network would rather abstain; above 1 it always would.
    attention : ndarray of float, shape (height, width), optional
        Grad-CAM for the likeliest class, 0 to 1.
    """

    path: Path
    pixels: NDArray[np.uint8]
    probabilities: NDArray[np.float64]
    threshold: float
    attention: NDArray[np.float64] | None = None

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
        """One line for the command line."""
        doubt = "; would rather abstain" if self.abstains else ""
        return f"{_show(self.path)}: {_name(self.cell)}, {self.probability:.1%}{doubt}"

    def as_plain(self) -> dict[str, Any]:
        """As values that JSON can hold."""
        by_class = dict(zip(("NONE", *CLASSES), map(float, self.probabilities), strict=True))
        return {
            "image": str(self.path),
            "cell": self.cell or None,
            "probability": self.probability,
            "abstains": self.abstains,
            "probabilities": by_class,
        }


def find_run(store: Store, data_sha256: str = PUBLISHED_SHA256) -> Run | None:
    """Find the run of the final model that was trained longest, of several seeds the first; ``None`` if none is there.

    Parameters
    ----------
    store : Store
    data_sha256 : str
        Of the data that it was trained on.

    Raises
    ------
    RunError
        If one is damaged.
    """
    final = find_experiment("final")
    for profile in sorted(PROFILES.values(), key=lambda p: -p.share):
        for seed in profile.seeds:
            run = store.find(Plan(final, profile.epochs(final), seed, data_sha256))
            if run and "weights.npz" in run.record["files"]:
                return run
    return None


def choose_threshold(run: Run, accuracy: float = ACCURACY) -> float:
    """The probability below which a network would rather abstain, chosen on its validation images.

    At or above it `metrics.automatic_share` of them are decided, and no fewer than `accuracy` of those are right.
    They are copies of photos that it was trained on: on new photos expect fewer to be right.

    Returns
    -------
    float
        0 to 1, or above 1 if no threshold gives that accuracy.
    """
    labels, logits = run.labels("validation"), run.logits("validation").astype(float)
    return find_threshold(Predictions(labels, logits, np.zeros(len(labels), int)), accuracy)


def describe_basis(run: Run, threshold: float, accuracy: float) -> str:
    """Say which network is asked and when it abstains, and what it is not."""
    right = f"{accuracy:.0%} of its validation images are right"
    rule = f"abstains below {threshold:.1%}: at or above, {right}" if threshold <= 1 else f"abstains: never {right}"
    return f"{run.name} {rule}. {DISCLAIMER}"


def find_pictures(names: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Find the pictures that are meant by names of files, folders (all pictures below them) or patterns.

    Returns
    -------
    pictures : list of Path
        Each once: in the order of the names, within a folder or pattern by name.
    problems : list of str
        A sentence for every name that means none.
    """
    found: dict[Path, None] = {}
    problems = []
    for name in names:
        place = Path(name)
        matches = _match(name)
        pictures = [p for match in matches for p in (_below(match) if match.is_dir() else [match])]
        if not matches:
            problems.append(f"{_show(place)}: there is no such file or folder.")
        elif not pictures:
            problems.append(f"{_show(place)}: holds no picture ({', '.join(ENDINGS)}).")
        found |= dict.fromkeys(pictures)
    return list(found), problems


def _match(name: str) -> list[Path]:
    try:
        if Path(name).exists():
            return [Path(name)]
        return [Path(p) for p in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207 - may start at the root
    except (OSError, ValueError):  # a name too long, a NUL
        return []


def _below(folder: Path) -> list[Path]:
    return sorted(
        Path(place, name)
        for place, _, names in os.walk(folder)
        for name in names
        if name.lower().endswith(ENDINGS) and not name.startswith(".")
    )


def read_picture(path: Path, shape: tuple[int, int] = INPUT_SHAPE) -> NDArray[np.uint8]:
    """Read any JPEG, PNG, TIFF, BMP or WebP at the network's size.

    A JPEG of 320x240, as the data set has, is decoded at half size and averaged (`images.read_small`): the very pixels
    that a training sees. Of any other picture the middle, cut to the network's proportions (4:3), is averaged down.
    EXIF turns are applied; transparency and colour profiles are ignored.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Height and width of the network's input.

    Returns
    -------
    ndarray of uint8, shape (height, width, RGB)

    Raises
    ------
    BadDataError
        If it cannot be read or decoded, or is smaller than the network's input.
    """
    content = _read(path)
    is_jpeg, size = _examine(content, path)
    if is_jpeg and content.rfind(_JPEG_END) < content.rfind(_JPEG_SCAN):
        raise BadDataError(f"{_show(path)}: ends too early; take another copy.")
    if is_jpeg and size == IMAGE_SIZE:
        half = decode(content, _show(path), reduce=True)
        if half.shape[1::-1] == (IMAGE_SIZE[0] // 2, IMAGE_SIZE[1] // 2):  # else its EXIF data turn it
            return shrink(half, shape)
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        image = None
    if image is None:
        raise BadDataError(f"{_show(path)}: cannot be decoded; take another copy.")
    middle = cut(image, shape)
    if middle.shape[0] < shape[0] or middle.shape[1] < shape[1]:
        raise BadDataError(
            f"{_show(path)}: {image.shape[1]}x{image.shape[0]} is too small; "
            f"the network looks at {shape[1]}x{shape[0]} pixels."
        )
    return shrink(middle, shape)


def cut(image: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut the middle out of an image, as large as can be with the proportions of `shape` (height, width)."""
    height, width = image.shape[:2]
    rows = min(height, width * shape[0] // shape[1])
    columns = min(width, height * shape[1] // shape[0])
    top, left = (height - rows) // 2, (width - columns) // 2
    return image[top : top + rows, left : left + columns]


def _read(path: Path) -> bytes:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for ever
            raise BadDataError(f"{_show(path)}: is no file.")
        if found.st_size > _MAX_BYTES:
            raise BadDataError(f"{_show(path)}: {found.st_size:,} bytes are too many for a picture of a cell.")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadDataError(f"{_show(path)}: cannot be read ({reason}).") from error


def _examine(content: bytes, path: Path) -> tuple[bool, tuple[int, int]]:
    # Whether it is a JPEG, and its stored size, both off its header: nothing is decoded yet.
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return image.format in {"JPEG", "MPO"}, image.size
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise BadDataError(f"{_show(path)}: has more than {limit} pixels; cut out the part with the cell.") from error
    except Exception as error:  # Pillow passes on whatever a header made it meet
        raise BadDataError(
            f"{_show(path)}: is no picture that can be read; give a JPEG, PNG, TIFF, BMP or WebP file."
        ) from error


def classify(
    run: Run,
    pictures: Sequence[Path],
    threshold: float,
    *,
    with_attention: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Prediction | BadDataError]:
    """Ask a network what pictures show.

    Parameters
    ----------
    run : Run
        With weights and convolutions of its own; its network is built from code.
    pictures : sequence of Path
    threshold : float
        Below which it would rather abstain, as `choose_threshold` chooses it.
    with_attention : bool
        Whether to map what speaks for the likeliest class.
    on_progress : callable, optional
        Called with (pictures done, pictures in all).

    Yields
    ------
    Prediction or BadDataError
        For each picture, in order: what the network says, or why it cannot be read.

    Raises
    ------
    RunError
        If the run has no weights, or stands on a frozen base.
    """
    model = saliency.rebuild(run)
    shape = tuple(run.record["config"]["input_shape"])
    for start in range(0, len(pictures), _BATCH):
        some = pictures[start : start + _BATCH]
        read = [_try_to_read(path, shape) for path in some]
        said = iter(_ask(model, run, [p for p in read if not isinstance(p, BadDataError)], with_attention))
        for done, (path, picture) in enumerate(zip(some, read, strict=True), start + 1):
            is_bad = isinstance(picture, BadDataError)
            yield picture if is_bad else replace(next(said), path=path, threshold=threshold)
            if on_progress:
                on_progress(done, len(pictures))


def _try_to_read(path: Path, shape: tuple[int, int]) -> NDArray[np.uint8] | BadDataError:
    try:
        return read_picture(path, shape)
    except BadDataError as error:
        return error


def _ask(
    model: "keras.Model", run: Run, pictures: list[NDArray[np.uint8]], with_attention: bool
) -> Iterator[Prediction]:
    from wbc_lib.training import predict

    if not pictures:
        return
    pixels = np.stack(pictures)
    logits = predict(model, pixels)
    probabilities = Predictions(np.empty(0), logits.astype(float), np.empty(0)).probabilities
    maps: Sequence[NDArray[np.float64] | None] = [None] * len(pixels)
    if with_attention:
        convolutions = len(saliency.read_network(run).convolutions)
        found, _ = saliency.look(model, pixels, logits.argmax(axis=1))
        maps = saliency.place(found, pixels.shape[1:3], convolutions)
    for picture, each, attention in zip(pixels, probabilities, maps, strict=True):
        highest = 0 if attention is None else attention.max()
        yield Prediction(Path(), picture, each, 0.0, attention / highest if highest else attention)


def draw_map(prediction: Prediction) -> Figure:
    """Show a picture as the network sees it, and beside it where it looks: bright where the attention is strong."""
    doubt = ", would rather abstain" if prediction.abstains else ""
    title = f"{_name(prediction.cell)}, {prediction.probability:.1%}{doubt}"
    attention = np.zeros(prediction.pixels.shape[:2]) if prediction.attention is None else prediction.attention
    plain, mapped = (Panel(title, prediction.pixels), Panel("what speaks for it", prediction.pixels, None, attention))
    return draw_panels([plain, mapped], columns=2)


def write_map(prediction: Prediction, target: Path) -> None:
    """Write `draw_map`, whole or not at all, to a .png or .svg file."""
    with paths.written_whole(target) as temporary:
        draw_map(prediction).savefig(temporary, format=target.suffix[1:].lower())


def map_paths(target: Path, pictures: Sequence[Path]) -> list[Path]:
    """Where the maps of pictures go: to `target` if it is a .png or .svg, else into the folder of that name.

    Raises
    ------
    UnknownNameError
        If one file is named for several pictures, or one that is a picture or of another kind.
    """
    ending = target.suffix.lower()
    if ending in {".png", ".svg"} and not target.is_dir():
        if len(pictures) > 1:
            raise UnknownNameError(f"{target} is one file for {len(pictures):,} maps; name a folder.")
        if any(target.resolve() == picture.resolve() for picture in pictures):
            raise UnknownNameError(f"{target} is the picture itself; name another file for its map.")
        return [target] * len(pictures)
    if ending in {*ENDINGS, ".pdf", ".gif"} or target.is_file():
        raise UnknownNameError(f"{target} is neither a .png nor an .svg; name such a file, or a folder.")
    names: dict[str, None] = {}
    for picture in pictures:
        name, n = f"{picture.stem}-map.png", 1
        while name in names:
            n += 1
            name = f"{picture.stem}-map-{n}.png"
        names[name] = None
    return [target / name for name in names]


def _name(cell: str) -> str:
    return nice(cell) if cell else "None of the four"


def _show(path: Path) -> str:
    # A file's name may hold what a terminal would obey.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(path))
