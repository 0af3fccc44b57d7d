"""Pictures that are no smears, made from a seed: crops of pictures that two packages ship, and drawn ones.

Whoever asks a classifier about a portrait should not be told which cell it shows.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import read_file
from wbc_lib.data.hashes import combine, hash_files
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, DataNotFoundError

#: How many pictures of each kind there are: crops of scikit-learn's and of scikit-image's samples, and drawn ones.
N_LEARN, N_IMAGE = 60, 85
#: Height and width of each.
SIZE = (240, 320)
#: scikit-image 0.26.0's pictures; histology and a retina are among them. Grey ones are tinted as a nucleus is.
_IMAGE_FILES = (
    *("astronaut.png", "chelsea.png", "coffee.png", "color.png", "hubble_deep_field.jpg", "ihc.png"),
    *("motorcycle_left.png", "retina.jpg", "rocket.jpg", "cell.png", "coins.png", "gravel.png", "page.png", "moon.png"),
)
_IMAGE_SHA256 = "059cae26b98ce883fd41a8c08b2a4a31e94c3af57808f9bdcd94e353106604ad"
#: Of these pictures in place of a hash; raise it whenever a seed gives others.
RECIPE = "not-smears-1"
_LEARN_FILES = ("china.jpg", "flower.jpg")
_LEARN_SHA256 = "0245443ca53b580c5dcebbdaffc9dc471a7786a1055632c9e3d8f2fdc9a92ef0"
_REMEDY = "install the package again"


@dataclass(frozen=True)
class NotSmear:
    """A picture that is no smear."""

    name: str
    kind: str  # "photo" (a crop of scikit-learn's), "sample" (of scikit-image's), or what was drawn
    picture: NDArray[np.uint8]  # shape (240, 320, RGB)


def make(seed: int = 0) -> list[NotSmear]:
    """Make all pictures that are no smears.

    Raises `DataNotFoundError` if scikit-image is not installed, and `BadDataError` if a package's pictures are not
    those of the versions that were recorded with.
    """
    rng = np.random.default_rng(seed)
    learn = _read_samples("sklearn", "datasets/images", _LEARN_FILES, _LEARN_SHA256)
    image = _read_samples("skimage", "data", _IMAGE_FILES, _IMAGE_SHA256)
    made = []
    for kind, samples, n in (("photo", learn, N_LEARN), ("sample", image, N_IMAGE)):
        for i in range(n):
            stem = sorted(samples)[i % len(samples)]
            made.append(NotSmear(f"{kind}-{i:02d}-{Path(stem).stem}", kind, _crop(samples[stem], rng)))
    return made + draw(seed)


def draw(seed: int = 0) -> list[NotSmear]:
    """Draw those pictures that need no package: five of each kind in `DRAWN`."""
    rng = np.random.default_rng([seed, 1])
    return [NotSmear(f"{kind}-{i}", kind, drawing(rng)) for kind, drawing in DRAWN.items() for i in range(5)]


def _read_samples(package: str, folder: str, files: tuple[str, ...], sha256: str) -> dict[str, NDArray[np.uint8]]:
    found = importlib.util.find_spec(package)
    places = [Path(p) / folder for p in (found.submodule_search_locations or ())] if found else []
    at = next((p for p in places if (p / files[0]).is_file()), None)
    if at is None:
        raise DataNotFoundError(
            "The pictures that are no smears are made of those of scikit-image 0.26.0; "
            "install it with `pip install scikit-image==0.26.0`."
        )
    hashes = dict(zip(files, hash_files(at / name for name in files), strict=True))
    if combine(hashes).sha256 != sha256:
        raise BadDataError(f"{at} does not hold the pictures of the version that was recorded with; {_REMEDY}.")
    return {name: decode_picture(read_file(at / name, remedy=_REMEDY), name) for name in files}


def _crop(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    # From a third of the picture's height to all of it, at 4:3.
    if np.array_equal(picture[..., 0], picture[..., 1]):
        tint = rng.uniform([0.5, 0.3, 0.6], [1, 0.7, 1])
        picture = (255 - (255 - picture) * (1 - tint)).astype(np.uint8)
    most = min(picture.shape[0], picture.shape[1] * 3 // 4)
    height = int(rng.integers(most // 3, most + 1))
    width = height * 4 // 3
    top, left = (
        int(rng.integers(0, whole - part + 1)) for whole, part in zip(picture.shape[:2], (height, width), strict=True)
    )
    return _resize(picture[top : top + height, left : left + width])


def _resize(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    how = cv2.INTER_AREA if picture.shape[0] > SIZE[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, SIZE[::-1], interpolation=how), np.uint8)


def _colour(rng: np.random.Generator, low: int = 0, high: int = 255) -> tuple[int, ...]:
    return tuple(int(c) for c in rng.integers(low, high + 1, 3))


def _plain(colour: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.full((*SIZE, 3), colour, np.uint8)


def _place(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(40, SIZE[1] - 40)), int(rng.integers(40, SIZE[0] - 40))


def _blank(rng: np.random.Generator) -> NDArray[np.uint8]:
    return _plain(_colour(rng))


def _noise(rng: np.random.Generator) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (int(rng.integers(6, SIZE[0])), int(rng.integers(8, SIZE[1])), 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    ends = np.array([[_colour(rng), _colour(rng)], [_colour(rng), _colour(rng)]], np.uint8)
    return np.asarray(cv2.resize(ends, SIZE[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def _text(rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = _plain(_colour(rng, 200))
    ink = _colour(rng, 0, 120)
    for row in range(30, SIZE[0], int(rng.integers(22, 34))):
        letters = "".join(chr(c) for c in rng.integers(97, 123, 24))
        cv2.putText(picture, letters, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, ink, 2, cv2.LINE_AA)
    return picture


def _purple_disc(rng: np.random.Generator) -> NDArray[np.uint8]:
    # A disc in a nucleus' purple on a smear's ground, and nothing else.
    picture = _plain(tuple(int(c) for c in rng.integers((190, 195, 190), (225, 230, 226))))
    purple = tuple(int(c) for c in rng.integers((80, 50, 140), (140, 100, 210)))
    cv2.circle(picture, _place(rng), int(rng.integers(18, 45)), purple, -1, cv2.LINE_AA)
    return picture


def _discs(rng: np.random.Generator) -> NDArray[np.uint8]:
    # As many discs as a smear has cells, in any colours.
    picture = _plain(_colour(rng))
    for _ in range(25):
        cv2.circle(picture, _place(rng), int(rng.integers(12, 30)), _colour(rng), -1, cv2.LINE_AA)
    return picture


def _portrait(rng: np.random.Generator) -> NDArray[np.uint8]:
    # Hair, a face and shoulders, as a camera frames them.
    picture = _plain(_colour(rng))
    skin, (x, y) = tuple(int(c) for c in rng.integers((150, 100, 80), (240, 200, 180))), (SIZE[1] // 2, SIZE[0] // 2)
    cv2.ellipse(picture, (x, SIZE[0] + 20), (110, 90), 0, 0, 360, _colour(rng), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (x, y - 25), (62, 75), 0, 0, 360, _colour(rng, 0, 120), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (x, y - 5), (50, 65), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(picture, (x + 20 * side, y - 15), 6, _colour(rng, 0, 110), -1, cv2.LINE_AA)
    cv2.ellipse(picture, (x, y + 28), (18, 7), 0, 0, 180, (150, 60, 70), 3, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8)


def _thumbnails(rng: np.random.Generator) -> NDArray[np.uint8]:
    # A sheet of small pictures.
    picture = _plain((255, 255, 255))
    drawings = (_ramp, _noise, _discs, _portrait)
    for row in range(3):
        for column in range(4):
            small = cv2.resize(drawings[int(rng.integers(4))](rng), (68, 64), interpolation=cv2.INTER_AREA)
            picture[12 + 76 * row :, 8 + 78 * column :][:64, :68] = small
    return picture


def _tissue(rng: np.random.Generator) -> NDArray[np.uint8]:
    # Pink and purple as of haematoxylin and eosin, with nuclei everywhere and no red cells.
    ground = cv2.resize(rng.normal(0, 1, (12, 16)), SIZE[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    picture = np.clip(np.array([225, 160, 195]) + 18 * ground, 0, 255).astype(np.uint8)
    for _ in range(120):
        axes, angle = (int(rng.integers(4, 9)), int(rng.integers(6, 13))), float(rng.uniform(0, 180))
        purple = tuple(int(c) for c in rng.integers((90, 50, 130), (140, 100, 180)))
        place = int(rng.integers(0, SIZE[1])), int(rng.integers(0, SIZE[0]))
        cv2.ellipse(picture, place, axes, angle, 0, 360, purple, -1, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.2), np.uint8)


def _chart(rng: np.random.Generator) -> NDArray[np.uint8]:
    # Bars on white.
    picture = _plain((255, 255, 255))
    for i in range(8):
        top = int(rng.integers(30, 200))
        cv2.rectangle(picture, (20 + 36 * i, top), (44 + 36 * i, 220), _colour(rng), -1)
    cv2.line(picture, (12, 220), (310, 220), (0, 0, 0), 2)
    return picture


def _stripes(rng: np.random.Generator) -> NDArray[np.uint8]:
    period, (one, other) = int(rng.integers(6, 60)), (_colour(rng), _colour(rng))
    wide = np.add.outer(np.arange(SIZE[0]) * int(rng.integers(0, 2)), np.arange(SIZE[1])) // period % 2
    return np.where(wide[..., None] == 0, np.array(one, np.uint8), np.array(other, np.uint8))


#: What can be drawn, and how.
DRAWN: dict[str, Callable[[np.random.Generator], NDArray[np.uint8]]] = {
    "blank": _blank,
    "noise": _noise,
    "ramp": _ramp,
    "text": _text,
    "purple disc": _purple_disc,
    "discs": _discs,
    "portrait": _portrait,
    "thumbnails": _thumbnails,
    "tissue": _tissue,
    "chart": _chart,
    "stripes": _stripes,
}
