"""Pictures that are not ours: white cells from other microscopes, as published, and pictures that are no smears.

Nothing of the former is part of this project; they are read from a folder that the user names. The latter are made:
crops of pictures that two packages ship, and drawn ones. Whoever asks a classifier about a portrait should not be told
which cell it shows.
"""

import csv
import hashlib
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, PHOTO_SIZE, read_file
from wbc_lib.data.hashes import combine, hash_files
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, DataNotFoundError, UnknownNameError

#: What a picture is called whose cell belongs to none of our classes.
NO_CLASS = ""
#: Numbers that Zheng et al. give their classes.
_ZHENG_CLASSES = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
#: Pictures of the Barcelona set that are used: of each of our classes, and of each other folder.
_MOST, _MOST_OTHERS = 1000, 250
#: Diameter of its red cells in pixels: the median of what `windows.measure_red_cell` finds, as recorded of the set.
PBC_RED_CELL = 73.06
_COPY = "take another copy of the published file"
#: Where masks of the white cell of each of our photos are published; and from which grey on a pixel is cell: in them
#: 155 is cytoplasm and 255 nucleus, and some were smoothed.
_MASKS = (
    "https://github.com/ParthaPratimBanik/An-Automatic-Nucleus-Segmentation-and-CNN-Model-based-Classification-"
    "Method-of-White-Blood-Cell (Banik et al. 2020; MIT)"
)
_CELL = 78

#: Of the pictures that are no smears, in place of a hash; raise it whenever others are made.
NOT_SMEARS_RECIPE = "not-smears-1"
# Height and width of each.
_SIZE = (240, 320)
# How many crops of scikit-learn's and of scikit-image's samples there are.
_N_LEARN, _N_IMAGE = 60, 85
# scikit-image 0.26.0's pictures; histology and a retina are among them. Grey ones are tinted as a nucleus is.
_IMAGE_FILES = (
    *("astronaut.png", "chelsea.png", "coffee.png", "color.png", "hubble_deep_field.jpg", "ihc.png"),
    *("motorcycle_left.png", "retina.jpg", "rocket.jpg", "cell.png", "coins.png", "gravel.png", "page.png", "moon.png"),
)
_IMAGE_SHA256 = "059cae26b98ce883fd41a8c08b2a4a31e94c3af57808f9bdcd94e353106604ad"
_LEARN_FILES = ("china.jpg", "flower.jpg")
_LEARN_SHA256 = "0245443ca53b580c5dcebbdaffc9dc471a7786a1055632c9e3d8f2fdc9a92ef0"
_REMEDY = "install the package again"


@dataclass(frozen=True)
class Source:
    """A published set."""

    name: str
    title: str  # for readers
    folder: str  # below the folder of the external pictures
    stain: str  # microscope or camera, and stain
    place: str  # where it is published, and under which terms
    pattern: str  # of the names of its pictures below `folder`
    sha256: str  # of its files, as `hashes.combine` computes it
    is_halved: bool  # whether half of it is held back until everything is chosen


_ZHENG = "https://github.com/zxaoyou/segmentation_WBC (Zheng et al. 2018; GPL-3)"
SOURCES = {
    s.name: s
    for s in (
        Source(
            "pbc",
            "Barcelona",
            "pbc",
            "CellaVision DM96; May Grünwald-Giemsa",
            "https://data.mendeley.com/datasets/snkd93bnjr (Acevedo et al. 2020; CC BY 4.0)",
            "*/*.jpg",
            "a1996f6aa5f25213dbe0a8abac72cf9ada54f4f4b8add1b0e515189c9c0e20a1",
            is_halved=False,
        ),
        Source(
            "cellavision",
            "CellaVision",
            "zheng/cellavision",
            "CellaVision",
            _ZHENG,
            "*.bmp",
            "f92999d96aac4a925b91572bb7534df05bc80d0f320c9d19f775ac1106aa11f1",
            is_halved=True,
        ),
        Source(
            "tecom",
            "Jiangxi Tecom",
            "zheng/tecom",
            "Motic Moticam Pro 252A; a rapid stain",
            _ZHENG,
            "*.bmp",
            "18298423f65ce2d2ac0cd9b794d49a0b23add4c6e9176251a67dfd360b812a6f",
            is_halved=True,
        ),
    )
}


@dataclass(frozen=True)
class External:
    """A folder with the published sets of pictures from elsewhere."""

    root: Path

    def read(self, picture: str) -> NDArray[np.uint8]:
        """Read a picture by its name, as `list_pictures` gives it; raises `BadDataError` if it cannot be read."""
        path = self.root / picture
        return decode_picture(read_file(path, remedy=_COPY), str(path))


def find(folder: str | Path | None = None) -> External:
    """Find the external pictures: in `folder`, else in the one that ``WBC_EXTERNAL`` names."""
    named = folder or os.environ.get("WBC_EXTERNAL")
    if named and Path(named).expanduser().is_dir():
        return External(Path(named).expanduser())
    where = "; ".join(f"{s.folder}: {s.place}" for s in SOURCES.values())
    what = f"There is no folder {str(named)!r}" if named else "The pictures from other microscopes are not named"
    raise DataNotFoundError(f"{what}; name their folder with --external DIR or WBC_EXTERNAL ({where}).")


def list_pictures(external: External, name: str) -> pd.DataFrame:
    """List the pictures of one of `SOURCES`, and make sure that they are those that were published.

    A row per picture: ``picture`` (its path below the root), ``kind`` (the published class), ``cell`` (the class of
    ours, or `NO_CLASS`), ``held_back``. Raises `DataNotFoundError` if there is none, `BadDataError` if it is another.
    """
    if name not in SOURCES:
        raise UnknownNameError(f"There is no set {name!r} of pictures; choose one of: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    folder = external.root / source.folder
    found = sorted(p.relative_to(folder).as_posix() for p in folder.glob(source.pattern))
    if not found:
        raise DataNotFoundError(f"{folder} holds none of the pictures of {source.title}; get them from {source.place}.")
    # Both sets of Zheng et al. are halved; they have a table of classes and masks beside the pictures.
    is_zheng = source.is_halved
    beside = [external.root / f"{source.folder}.csv", *sorted(folder.glob("*.png"))] if is_zheng else []
    hashes = dict(zip(found, hash_files(folder / picture for picture in found), strict=True))
    hashes = hashes if is_zheng else _choose_lowest(hashes)
    whole = hashes | dict(zip([path.name for path in beside], hash_files(beside), strict=True))
    if combine(whole).sha256 != source.sha256:
        raise BadDataError(f"{folder} is not the set as it was taken from {source.place}; {_COPY}.")
    kinds = _read_zheng(beside[0]) if is_zheng else {picture: Path(picture).parent.name for picture in hashes}
    pictures = [f"{source.folder}/{picture}" for picture in hashes]
    table = tabulate(pictures, [kinds[picture] for picture in hashes])
    return table.assign(held_back=hold_back(pictures)) if is_zheng else table


def tabulate(pictures: list[str], kinds: list[str]) -> pd.DataFrame:
    """Make a table as `list_pictures` gives it, of which nothing is held back."""
    cells = [kind.upper() if kind.upper() in CLASSES else NO_CLASS for kind in kinds]
    return pd.DataFrame({"picture": pictures, "kind": kinds, "cell": cells, "held_back": False})


def hold_back(names: list[str]) -> NDArray[np.bool_]:
    """Choose half of some pictures by the sha256 of their names: those whose hashes are the lower half."""
    order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names])
    chosen = np.zeros(len(names), bool)
    chosen[order[: len(names) // 2]] = True
    return chosen


def read_nucleus(external: External, picture: str) -> NDArray[np.bool_]:
    """Where the nucleus is in a picture of Zheng et al.: their mask, shape (height, width)."""
    return external.read(str(Path(picture).with_suffix(".png")))[..., 0] == 255


def read_cell(external: External, photo: int) -> NDArray[np.bool_]:
    """Where the white cell is in one of our photos: the mask of Banik et al. (2020), shape (480, 640)."""
    path = external.root / "banik-masks" / f"BloodImage_Mask_{photo:05d}.png"
    mask = decode_picture(read_file(path, remedy=f"get it from {_MASKS}"), str(path))
    if mask.shape[1::-1] != PHOTO_SIZE:
        raise BadDataError(f"{path} is not as large as a photo; {_COPY}.")
    return mask[..., 0] >= _CELL


def _choose_lowest(hashes: dict[str, str]) -> dict[str, str]:
    # Of the whole Barcelona set the pictures that are used: in each folder those of the lowest hashes, no double.
    chosen: dict[str, str] = {}
    for kind in sorted({Path(picture).parent.name for picture in hashes}):
        mine = {digest: picture for picture, digest in sorted(hashes.items(), reverse=True) if picture.startswith(kind)}
        most = _MOST if kind.upper() in CLASSES else _MOST_OTHERS
        chosen |= {mine[digest]: digest for digest in sorted(mine)[:most]}
    return dict(sorted(chosen.items()))


def _read_zheng(table: Path) -> dict[str, str]:
    rows = list(csv.reader(read_file(table, remedy=_COPY).decode("utf-8-sig").splitlines()))[1:]
    return {f"{int(number):03d}.bmp": _ZHENG_CLASSES[int(kind)] for number, kind in rows}


@dataclass(frozen=True)
class NotSmear:
    """A picture that is no smear."""

    name: str
    kind: str  # "photo" (a crop of scikit-learn's), "sample" (of scikit-image's), or what was drawn
    picture: NDArray[np.uint8]  # shape (240, 320, RGB)


def make_not_smears() -> list[NotSmear]:
    """Make all pictures that are no smears, the same every time.

    Raises `DataNotFoundError` without scikit-image, and `BadDataError` if a package ships other pictures.
    """
    rng = np.random.default_rng(0)
    learn = _read_samples("sklearn", "datasets/images", _LEARN_FILES, _LEARN_SHA256)
    image = _read_samples("skimage", "data", _IMAGE_FILES, _IMAGE_SHA256)
    made = []
    for kind, samples, n in (("photo", learn, _N_LEARN), ("sample", image, _N_IMAGE)):
        for i in range(n):
            stem = sorted(samples)[i % len(samples)]
            made.append(NotSmear(f"{kind}-{i:02d}-{Path(stem).stem}", kind, _crop(samples[stem], rng)))
    return made + draw_not_smears()


def draw_not_smears() -> list[NotSmear]:
    """Draw those pictures that need no package: five of each kind in `_DRAWN`."""
    rng = np.random.default_rng([0, 1])
    return [NotSmear(f"{kind}-{i}", kind, drawing(rng)) for kind, drawing in _DRAWN.items() for i in range(5)]


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
    top = int(rng.integers(0, picture.shape[0] - height + 1))
    left = int(rng.integers(0, picture.shape[1] - width + 1))
    how = cv2.INTER_AREA if height > _SIZE[0] else cv2.INTER_LINEAR
    return _resize(picture[top : top + height, left : left + width], how)


def _resize(picture: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, _SIZE[::-1], interpolation=how), np.uint8)


def _colour(rng: np.random.Generator, low: int = 0, high: int = 255) -> tuple[int, ...]:
    return tuple(rng.integers(low, high + 1, 3).tolist())


def _plain(colour: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.full((*_SIZE, 3), colour, np.uint8)


def _place(rng: np.random.Generator) -> tuple[int, int]:
    return int(rng.integers(40, _SIZE[1] - 40)), int(rng.integers(40, _SIZE[0] - 40))


def _noise(rng: np.random.Generator) -> NDArray[np.uint8]:
    coarse = rng.integers(0, 256, (int(rng.integers(6, _SIZE[0])), int(rng.integers(8, _SIZE[1])), 3)).astype(np.uint8)
    return _resize(coarse, cv2.INTER_CUBIC)


def _ramp(rng: np.random.Generator) -> NDArray[np.uint8]:
    ends = np.array([[_colour(rng), _colour(rng)], [_colour(rng), _colour(rng)]], np.uint8)
    return _resize(ends, cv2.INTER_LINEAR)


def _text(rng: np.random.Generator) -> NDArray[np.uint8]:
    picture = _plain(_colour(rng, 200))
    ink = _colour(rng, 0, 120)
    for row in range(30, _SIZE[0], int(rng.integers(22, 34))):
        letters = "".join(chr(c) for c in rng.integers(97, 123, 24))
        cv2.putText(picture, letters, (8, row), cv2.FONT_HERSHEY_SIMPLEX, 0.7, ink, 2, cv2.LINE_AA)
    return picture


def _purple_disc(rng: np.random.Generator) -> NDArray[np.uint8]:
    # A disc in a nucleus' purple on a smear's ground, and nothing else.
    picture = _plain(tuple(rng.integers((190, 195, 190), (225, 230, 226)).tolist()))
    purple = tuple(rng.integers((80, 50, 140), (140, 100, 210)).tolist())
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
    skin, (x, y) = tuple(rng.integers((150, 100, 80), (240, 200, 180)).tolist()), (_SIZE[1] // 2, _SIZE[0] // 2)
    cv2.ellipse(picture, (x, _SIZE[0] + 20), (110, 90), 0, 0, 360, _colour(rng), -1, cv2.LINE_AA)
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
    ground = cv2.resize(rng.normal(0, 1, (12, 16)), _SIZE[::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    picture = np.clip(np.array([225, 160, 195]) + 18 * ground, 0, 255).astype(np.uint8)
    for _ in range(120):
        axes, angle = (int(rng.integers(4, 9)), int(rng.integers(6, 13))), float(rng.uniform(0, 180))
        purple = tuple(rng.integers((90, 50, 130), (140, 100, 180)).tolist())
        place = int(rng.integers(0, _SIZE[1])), int(rng.integers(0, _SIZE[0]))
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
    wide = np.add.outer(np.arange(_SIZE[0]) * int(rng.integers(0, 2)), np.arange(_SIZE[1])) // period % 2
    return np.where(wide[..., None] == 0, np.array(one, np.uint8), np.array(other, np.uint8))


# What can be drawn, and how.
_DRAWN: dict[str, Callable[[np.random.Generator], NDArray[np.uint8]]] = {
    "blank": lambda rng: _plain(_colour(rng)),
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
