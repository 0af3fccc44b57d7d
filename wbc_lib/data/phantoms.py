"""A stand-in for the published data set, drawn from a seed, with the truth written beside it.

Drawings of smears take the place of the photos; everything after that (labels, boxes, split, augmentation, file
names) follows the published data set, so that whatever reads the real one reads this one too. Cells are drawn as
optical density (what the stain takes out of the light): overlapping ones darken each other as under a microscope.
"""

import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice, pairwise, product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data import dataset, splits
from wbc_lib.data.dataset import MAX_ROTATION, MAX_SHIFT, N_MARKS, SHEAR
from wbc_lib.data.images import AFFINE, OnProgress, shrink, warp
from wbc_lib.errors import BadDataError

#: Raise it whenever the same parameters give other bytes than before, so that cached sets are drawn anew.
FORMAT = 2
#: Rows of the published ``labels.csv``: one class, several cells, blank.
SINGLE = {"NEUTROPHIL": 207, "EOSINOPHIL": 88, "LYMPHOCYTE": 33, "MONOCYTE": 21, "BASOPHIL": 3}
MULTI = (
    *["NEUTROPHIL,NEUTROPHIL"] * 4 + ["NEUTROPHIL,EOSINOPHIL"] * 3 + ["EOSINOPHIL,EOSINOPHIL"] * 2,
    *["EOSINOPHIL,LYMPHOCYTE", "LYMPHOCYTE,LYMPHOCYTE", "MONOCYTE,LYMPHOCYTE"],
    *["NEUTROPHIL,BASOPHIL", "NEUTROPHIL,LYMPHOCYTE", "NEUTROPHIL,MONOCYTE"],
)
BLANK, WITHOUT_BOXES, QUALITY = 44, 3, [cv2.IMWRITE_JPEG_QUALITY, 95]
TRUTH_COLUMNS = ["image", "photo", "mirrored", *AFFINE]

WIDTH, HEIGHT = dataset.PHOTO_SIZE
BACKGROUND, RED_CELL, PLATELET = (205, 207, 204), (177, 142, 140), (146, 144, 206)
Range = tuple[float, float]
Colour = tuple[int, int, int]
Spot = tuple[int, int, float]  # where a cell lies: x, y and radius in pixels of the photo
MARGIN = 250  # cells are drawn so far beyond the edges of the photo


class Kind(NamedTuple):
    """How a class of white cell is drawn: colours in RGB, lengths in radii of the cell, ranges to draw from."""

    diameter: float  # mean, pixels of the photo
    nucleus: Colour
    cytoplasm: Colour
    lobes: tuple[int, int]  # of the nucleus, a chain of so many discs
    arc: Range  # degrees of the circle that they lie on
    reach: Range  # its radius
    size: Range  # radius of a disc
    bridge: float  # half the thickness of what joins two
    granules: Colour | None = None


# fmt: off
KINDS = {
    "NEUTROPHIL": Kind(194, (124, 88, 208), (183, 160, 196), (3, 5), (190, 300), (0.42, 0.52), (0.22, 0.32), 0.09),
    "EOSINOPHIL": Kind(190, (128, 95, 205), (184, 152, 182), (2, 2), (110, 175), (0.38, 0.48), (0.32, 0.43), 0.12,
                       granules=(192, 122, 128)),
    "MONOCYTE": Kind(226, (142, 108, 216), (166, 158, 200), (4, 5), (120, 215), (0.28, 0.40), (0.36, 0.46), 0.33),
    "LYMPHOCYTE": Kind(150, (116, 82, 200), (152, 154, 203), (1, 2), (20, 40), (0.03, 0.12), (0.68, 0.88), 0.65),
    "BASOPHIL": Kind(188, (146, 116, 214), (178, 152, 204), (2, 3), (120, 200), (0.26, 0.36), (0.40, 0.52), 0.30,
                     granules=(112, 74, 178)),
}
# fmt: on


class Box(NamedTuple):
    """A box around something drawn: WBC, RBC or Platelets, corners in pixels of the photo."""

    cell: str
    xmin: int
    ymin: int
    xmax: int
    ymax: int


class Photo(NamedTuple):
    """A drawn photo: ``image`` (480, 640, 3) uint8 RGB, and a box per cell."""

    image: NDArray[np.uint8]
    boxes: tuple[Box, ...]


def draw_photo(cells: tuple[str, ...], rng: np.random.Generator) -> Photo:
    """Draw a smear that shows the named white cells (keys of `KINDS`) among red cells and platelets."""
    sizes = np.clip(rng.normal(1, 0.14, len(cells)), 0.72, 1.28) * (1 if len(cells) < 2 else 0.85) / 2
    whites = _place([KINDS[cell].diameter * size for cell, size in zip(cells, sizes, strict=True)], [], 40, rng)
    boxes: list[Box] = []
    density = np.zeros((HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, 3), np.float32)
    for name, colour, radii in (
        ("RBC", RED_CELL, rng.uniform(46, 54, rng.integers(10, 19))),
        ("Platelets", PLATELET, rng.uniform(11, 21, rng.integers(0, 5))),
    ):
        stain = _stain(colour, 5, rng) * rng.normal(1.7, 0.1)
        for spot in _place(radii, whites, 5, rng):
            x, y, rim = _outline(spot[2], 0.05, rng, rng.uniform(0.7, 1))
            dish = 1 - rng.uniform(0, 0.85) * np.exp(-((np.hypot(x, y) / rng.uniform(0.35, 0.65)) ** 4))
            dish += 0.06 * _noise(rng, x.shape, 0.3 * spot[2]) + 0.22 * np.exp(-(((rim + 0.05) / 0.05) ** 2))
            cover = _fill(rim, spot[2])
            there, box = _lay(name, cover, spot)
            density[there] += (rng.uniform(0.7, 1.0) * cover * dish)[..., None] * stain
            boxes.append(box)
    density /= 1 + density  # stacked cells let more light through than their densities added would
    shade = rng.lognormal(0, 0.13) * rng.normal(1, 0.06, 3).astype(np.float32)
    for cell, spot in zip(cells, whites, strict=True):
        drawn, cover = _white_cell(KINDS[cell], spot[2], rng)
        there, box = _lay("WBC", cover, spot)  # pushes red cells aside; what lies under it shows through a little
        density[there] += cover[..., None] * (drawn * shade - 0.9 * density[there])
        boxes.append(box)
    seen = density[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return Photo(_expose(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.7, 1.7)), rng), tuple(boxes))


def _white_cell(kind: Kind, radius: float, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    # Density (n, n, 3) on a square around the cell, and how much of each pixel is cell (n, n).
    x, y, body = _outline(radius, 0.045, rng)
    bent = [side + 0.04 * _noise(rng, x.shape, 0.32 * radius) for side in (x, y)]  # no disc stays a disc
    nucleus = np.maximum(_nucleus(bent[0], bent[1], kind, rng), body + 0.05)
    texture = 0.8 + 0.2 * _noise(rng, x.shape, 5) + 0.12 * _noise(rng, x.shape, 0.4 * radius) - 0.2 * body
    density = texture.clip(0.1)[..., None] * _stain(kind.cytoplasm, 7, rng)
    if kind.granules:
        grains = np.clip(0.5 + 1.5 * _noise(rng, x.shape, 0.07 * radius), 0, 1)
        density += rng.uniform(0.6, 0.95) * grains[..., None] * (_stain(kind.granules, 10, rng) - density)
    chromatin = (1 + 0.15 * _noise(rng, x.shape, 0.09 * radius))[..., None] * _stain(kind.nucleus, 8, rng)
    density += 0.96 * _fill(nucleus, radius)[..., None] * (chromatin - density)
    return density, _fill(body, radius)


def _nucleus(x: NDArray, y: NDArray, kind: Kind, rng: np.random.Generator) -> NDArray:
    # Signed distance to a chain of discs and what joins them.
    lobes, span = int(rng.integers(*kind.lobes, endpoint=True)), np.radians(rng.uniform(*kind.arc))
    angles = rng.uniform(0, 2 * np.pi) + np.linspace(-span / 2, span / 2, lobes) + rng.normal(0, 0.08, lobes)
    arc = rng.uniform(*kind.reach) * rng.normal(1, 0.12, lobes)
    middles = np.stack([arc * np.cos(angles), arc * np.sin(angles)], axis=1)
    middles += rng.normal(0, 0.05, 2) - 0.6 * middles.mean(axis=0)  # most of the way to the middle of the cell
    parts = [_rod(x, y, m, m + rng.normal(0, 0.09, 2), rng.uniform(*kind.size)) for m in middles]
    return np.minimum.reduce(parts + [_rod(x, y, a, b, kind.bridge) for a, b in pairwise(middles)])


def _rod(x: NDArray, y: NDArray, a: NDArray, b: NDArray, thickness: float) -> NDArray:
    along = b - a
    part = np.clip(((x - a[0]) * along[0] + (y - a[1]) * along[1]) / max(float(along @ along), 1e-9), 0, 1)
    return np.hypot(x - a[0] - part * along[0], y - a[1] - part * along[1]) - thickness


def _expose(density: NDArray, rng: np.random.Generator) -> NDArray[np.uint8]:
    across, down = np.meshgrid(*(np.linspace(-1, 1, side, dtype=np.float32) for side in (WIDTH, HEIGHT)))
    tilt = rng.normal(0, 0.025, 2)
    light = 1 + tilt[0] * across + tilt[1] * down - rng.uniform(0, 0.07) * (across**2 + down**2)
    image = np.exp(-density) * light[..., None] * BACKGROUND * rng.normal(1.005, 0.016) * rng.normal(1, 0.009, 3)
    image += rng.uniform(0.8, 2.0) * rng.standard_normal(image.shape, dtype=np.float32)
    image += 1.5 * _noise(rng, (HEIGHT, WIDTH), 2.5)[..., None]
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def _stain(colour: Colour, by: float, rng: np.random.Generator) -> NDArray:
    # Optical density per channel that turns the background into about `colour`.
    return -np.log((np.asarray(colour) + rng.normal(0, by, 3)) / BACKGROUND).astype(np.float32)


def _noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> NDArray:
    # Smooth noise, about unit variance, whose bumps are `scale` pixels apart.
    coarse = [int(np.ceil(side / scale)) + 3 for side in shape]
    points = rng.standard_normal(coarse, dtype=np.float32)
    return 1.3 * cv2.resize(points, shape[::-1], interpolation=cv2.INTER_CUBIC)


def _fill(distance: NDArray, radius: float) -> NDArray:
    return np.clip(0.5 - distance * radius / 2, 0, 1)  # coverage from signed distance, negative inside


def _outline(radius: float, bumps: float, rng: np.random.Generator, flat: float = 1) -> tuple[NDArray, ...]:
    # A square around a cell, in radii: x, y, and the signed distance to its rim, whose narrower bumps are smaller.
    half = int(np.ceil(1.35 * radius))
    x, y = np.meshgrid(*[np.arange(-half, half + 1, dtype=np.float32) / np.float32(radius)] * 2)
    turn = rng.uniform(0, np.pi)
    long, short = x * np.cos(turn) + y * np.sin(turn), (y * np.cos(turn) - x * np.sin(turn)) / flat
    angle, edge = np.arctan2(short, long), np.ones_like(x)
    for k in range(2, 7):
        edge += bumps * rng.normal() * 2 / k * np.cos(k * angle + rng.uniform(0, 2 * np.pi), dtype=np.float32)
    return x, y, np.hypot(long, short) - np.clip(edge, 0.78, 1.22)


def _place(radii: Iterable[float], taken: list[Spot], tries: int, rng: np.random.Generator) -> list[Spot]:
    # Each where, of so many tries, it is furthest from the rims of the others; the photo's edge may cut it.
    spots = list(taken)
    for radius in radii:
        x, y = (rng.uniform(0.62 * radius, side - 0.62 * radius, tries).astype(int) for side in (WIDTH, HEIGHT))
        gaps = [np.hypot(x - other[0], y - other[1]) - other[2] for other in spots]
        best = np.min(gaps, axis=0).argmax() if gaps else 0
        spots.append((int(x[best]), int(y[best]), float(radius)))
    return spots[len(taken) :]


def _lay(cell: str, cover: NDArray, spot: Spot) -> tuple[tuple[slice, slice], Box]:
    # Where a square drawing falls on what is drawn, and the box of what of it lies on the photo.
    half = cover.shape[0] // 2
    y, x = (at + MARGIN - half for at in (spot[1], spot[0]))
    rows, columns = (np.flatnonzero((cover > 0.5).any(axis=axis))[[0, -1]] + (0, 1) for axis in (1, 0))
    xmin, xmax = np.clip(columns + spot[0] - half, 0, WIDTH).tolist()
    ymin, ymax = np.clip(rows + spot[1] - half, 0, HEIGHT).tolist()
    return (slice(y, y + 2 * half + 1), slice(x, x + 2 * half + 1)), Box(cell, xmin, ymin, xmax, ymax)


def cached(
    scale: float = 1.0, copies: int = 2500, seed: int = 0, on_progress: OnProgress | None = None
) -> dataset.DataSet:
    """`write_phantoms` into the user cache, unless they are there already."""
    folder = paths.cache() / "phantoms" / f"v{FORMAT}-seed{seed}-scale{float(scale)}-copies{copies}"
    return write_phantoms(folder, seed, scale, copies, on_progress)


def write_phantoms(
    folder: Path, seed: int, scale: float, copies: int, on_progress: OnProgress | None = None
) -> dataset.DataSet:
    """Draw a data set into `folder`, whole or not at all; the same seed gives the same bytes.

    A `scale` of 1 gives as many photos of each class as were published; less gives fewer, but enough for the published
    split to leave one in TEST and two in TRAIN. There are `copies` augmented TRAIN images per class, a quarter of it in
    TEST. Where `folder` holds the very set asked for, nothing is done; raises `BadDataError` if it holds anything else.
    """
    if not (0 < scale <= 100 and 1 <= copies <= 100_000 and seed >= 0):
        raise ValueError(f"need 0 < scale <= 100, 1 <= copies <= 100000, seed >= 0; got {scale}, {copies}, {seed}")
    note = (
        "These pictures are drawings made by a program, not photographs: they show no patient's cells.\n"
        "truth.csv says which photo each image was made from.\n\n"
        f"format: {FORMAT}\nseed: {seed}\nscale: {float(scale)}\ncopies: {copies}\n"
    )
    if not os.path.lexists(folder):
        with paths.named(folder), paths.temporary_folder(folder) as temporary:
            _write(temporary, seed, scale, copies, on_progress)
            paths.write_text(temporary / dataset.PHANTOM_MARK, note)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.exists():
                    raise  # else someone else was quicker: judge what they wrote
    mark = folder / dataset.PHANTOM_MARK
    if not mark.is_file():
        raise BadDataError(f"{folder} exists and is not a phantom data set; name a folder that does not exist yet.")
    if mark.read_text(encoding="utf-8", errors="replace") != note:
        raise BadDataError(f"{folder} holds phantoms drawn otherwise; remove it or name another folder.")
    return dataset.open_folder(folder)


def read_truth(data: dataset.DataSet) -> pd.DataFrame:
    """Read where each image of a phantom set came from, sorted by name; the maps are those of `images.AFFINE`.

    Raises `BadDataError` if the set has no truth (the real photos have none) or the file is not what was written.
    """
    path = data.root / "truth.csv"
    try:
        truth = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise BadDataError(f"{path} is not a readable table, which only phantoms have; draw them again.") from error
    if list(truth.columns) != TRUTH_COLUMNS or truth.isna().any(axis=None):
        raise BadDataError(f"{path} lacks a column or a value; draw the phantoms again.")
    return truth.astype({"photo": int, "mirrored": bool})


def plan_labels(scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """Decide which photos there will be, in an order that the published split can cut; as `dataset.index_photos`.

    As in the published set, a monocyte has no photo, a photo has no label, and some photos have no boxes.
    """

    def scaled(count: int, least: int) -> int:
        return max(least, round(count * scale))

    rows = []
    for cell, count in SINGLE.items():
        rows += [(cell, "single", True, True)] * scaled(count, 1 if cell == "BASOPHIL" else 4)
    for i in range(scaled(WITHOUT_BOXES, 1)):
        rows[i] = (*rows[i][:3], False)
    rows[rows.index(("MONOCYTE", "single", True, True))] = ("MONOCYTE", "single", False, False)
    multi = islice(cycle(rng.permutation(len(MULTI))), scaled(len(MULTI), 2))
    rows += [(MULTI[i], "multi", True, True) for i in multi]
    rows += [("", "unlabelled", False, False)] * (scaled(BLANK, 3) - 1) + [("", "unlabelled", True, True)]
    plan = pd.DataFrame(rows, columns=["labels", "kind", "has_photo", "has_boxes"])
    while True:
        plan = plan.sample(frac=1, random_state=rng).reset_index(drop=True).rename_axis("photo")
        plan["split"] = splits.published_split(plan)
        sizes = plan.groupby(["labels", "split"]).size()
        if all(sizes.get((c, "TEST"), 0) >= 1 and sizes.get((c, "TRAIN"), 0) >= 2 for c in dataset.CLASSES):
            return plan


def plan_images(plan: pd.DataFrame, copies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Name the augmented images (``SPLIT/CLASS/FILE``) and deal them out to photos, as an image generator does.

    Each epoch is a new shuffle of a class's photos; the number in a name is the position in it, and tells no photo.
    """
    rows = []
    for split, cell in product(dataset.SPLITS, dataset.CLASSES):
        of_class = plan.index[(plan.split == split.removesuffix("_SIMPLE")) & (plan.labels == cell)]
        n = len(of_class)
        wanted = {"TRAIN": copies, "TEST": max(1, copies // 4), "TEST_SIMPLE": n}[split]
        epochs = math.ceil(wanted / n)
        # Drawn without replacement: the published set lost a few images to names drawn twice.
        marks = [rng.choice(max(N_MARKS, epochs), epochs, replace=False) for _ in of_class]
        order = np.concatenate([rng.permutation(of_class) for _ in range(epochs)])[:wanted]
        rows += [(f"{split}/{cell}/_{i % n}_{marks[i % n][i // n]}.jpeg", photo) for i, photo in enumerate(order)]
    return pd.DataFrame(rows, columns=["image", "photo"])


def draw_affine(rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw an augmentation by the published recipe, (2, 3): from pixels (x, y, 1) of the reduced photo to the image's.

    Rotation, shift and shear (here in degrees, as Keras takes it) are even, flips by chance.
    """
    turn = np.radians(rng.uniform(-MAX_ROTATION, MAX_ROTATION))
    shear = np.radians(rng.uniform(-SHEAR, SHEAR))
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    shift = rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * dataset.IMAGE_SIZE
    # The recipe's matrix says where each pixel is taken from; the inverse says where it goes. Both about the middle.
    taken = rotate @ [[1, -np.sin(shear)], [0, np.cos(shear)]]
    goes = np.diag(rng.choice([-1, 1], 2)) @ np.linalg.inv(taken)
    middle = (np.array(dataset.IMAGE_SIZE) - 1) / 2
    return np.column_stack([goes, middle - goes @ (middle + rotate @ shift)])


def boxes_xml(boxes: tuple[Box, ...]) -> str:
    """Write the boxes of a photo as Pascal VOC has them."""
    objects = (
        f"<object><name>{box.cell}</name><bndbox><xmin>{box.xmin}</xmin><ymin>{box.ymin}</ymin>"
        f"<xmax>{box.xmax}</xmax><ymax>{box.ymax}</ymax></bndbox></object>\n"
        for box in boxes
    )
    return f"<annotation>\n{''.join(objects)}</annotation>\n"


def _encode(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    # As JPEG; the channels in OpenCV's order, BGR.
    return np.asarray(cv2.imencode(".jpeg", image, QUALITY)[1], np.uint8)


def _write(root: Path, seed: int, scale: float, copies: int, on_progress: OnProgress | None) -> None:
    data = dataset.DataSet(
        root, root / "dataset-master/dataset-master", root / "dataset2-master/dataset2-master/images"
    )
    label_seed, image_seed, photo_seed = np.random.SeedSequence(seed).spawn(3)
    plan = plan_labels(scale, np.random.default_rng(label_seed))
    images = plan_images(plan, copies, np.random.default_rng(image_seed))
    names = images.groupby("photo").image.apply(list).to_dict()
    images_in = [data.augmented / split / cell for split, cell in product(dataset.SPLITS, dataset.CLASSES)]
    for path in (data.raw / "JPEGImages", data.raw / "Annotations", *images_in):
        path.mkdir(parents=True)
    labels = pd.DataFrame({"": "", "Image": plan.index, "Category": plan.labels.str.replace(",", ", ")})
    labels.to_csv(data.labels_path, index=False, lineterminator="\r\n")
    seeds = photo_seed.spawn(len(plan))  # a seed per photo: it does not matter which thread draws it, nor when

    def write_photo(photo: int) -> list[tuple]:
        rng = np.random.default_rng(seeds[photo])
        drawn = draw_photo(tuple(filter(None, plan.labels[photo].split(","))), rng)
        encoded = _encode(drawn.image[..., ::-1])
        data.photo_path(photo).write_bytes(encoded.tobytes())
        if plan.has_boxes[photo]:
            data.annotation_path(photo).write_text(boxes_xml(drawn.boxes), encoding="utf-8")
        # From the file, as anyone else would have to.
        reduced = shrink(np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8), dataset.IMAGE_SIZE[::-1])
        rows = []
        for name in names.get(photo, []):
            affine = np.eye(2, 3) if name.startswith("TEST_SIMPLE/") else draw_affine(rng)
            data.image_path(name).write_bytes(_encode(warp(reduced, affine)).tobytes())
            rows.append((name, photo, bool(np.linalg.det(affine[:, :2]) < 0), *affine.ravel()))
        return rows

    drawn = plan.index[plan.has_photo]
    truth: list[tuple] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, rows in enumerate(pool.map(write_photo, drawn), start=1):
            truth += rows
            if on_progress:
                on_progress(done + len(truth), len(drawn) + len(images))
    table = pd.DataFrame(truth, columns=TRUTH_COLUMNS).sort_values("image")
    table.to_csv(data.root / "truth.csv", index=False, float_format="%.9f", lineterminator="\n")
