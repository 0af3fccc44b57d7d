"""A synthetic stand-in data set in the published layout, drawn from a seed, with the truth written beside it.

Drawings of smears take the place of the photos; everything after that (labels, boxes, split, augmentation, file
names) follows the published data set, so that whatever reads the real one reads this one too.
"""

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from wbc_lib import paths, photos
from wbc_lib.errors import BadDataError
from wbc_lib.smears import Box, Photo, draw_photo

__all__ = [
    "Box",
    "Photo",
    "augment",
    "boxes_xml",
    "cached",
    "draw_affine",
    "draw_photo",
    "plan_images",
    "plan_labels",
    "read_truth",
    "write_phantoms",
]

#: Raise it whenever the same parameters give other bytes than before, so that cached sets are drawn anew.
FORMAT = 1
#: Rows of the published ``labels.csv``: one class, several cells, blank.
SINGLE = {"NEUTROPHIL": 207, "EOSINOPHIL": 88, "LYMPHOCYTE": 33, "MONOCYTE": 21, "BASOPHIL": 3}
MULTI = (
    *[("NEUTROPHIL", "NEUTROPHIL")] * 4,
    *[("NEUTROPHIL", "EOSINOPHIL")] * 3,
    *[("EOSINOPHIL", "EOSINOPHIL")] * 2,
    ("EOSINOPHIL", "LYMPHOCYTE"),
    ("LYMPHOCYTE", "LYMPHOCYTE"),
    ("MONOCYTE", "LYMPHOCYTE"),
    ("NEUTROPHIL", "BASOPHIL"),
    ("NEUTROPHIL", "LYMPHOCYTE"),
    ("NEUTROPHIL", "MONOCYTE"),
)
BLANK = 44
WITHOUT_BOXES = 3
JPEG_QUALITY = 95
AFFINE = ["a11", "a12", "a13", "a21", "a22", "a23"]
TRUTH_COLUMNS = ["image", "photo", "mirrored", *AFFINE]


def cached(
    scale: float = 1.0,
    copies: int = 2500,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> photos.DataSet:
    """`write_phantoms` into the user cache, unless they are there already."""
    name = f"v{FORMAT}-seed{seed}-scale{float(scale)}-copies{copies}"
    folder = paths.cache() / "phantoms" / name
    return write_phantoms(folder, seed=seed, scale=scale, copies=copies, on_progress=on_progress)


def write_phantoms(
    folder: Path,
    *,
    seed: int = 0,
    scale: float = 1.0,
    copies: int = 2500,
    on_progress: Callable[[int, int], None] | None = None,
) -> photos.DataSet:
    """Draw a data set into `folder`, whole or not at all.

    Parameters
    ----------
    folder : Path
        A folder that does not exist yet, or that holds the very set asked for (then nothing is done).
    seed : int
        The same seed gives the same bytes.
    scale : float
        1 gives as many photos of each class as were published; less gives fewer, but enough of each class for
        the published split to leave one in TEST and two in TRAIN.
    copies : int
        Augmented TRAIN images per class; a quarter of it in TEST.
    on_progress : callable, optional
        Called from this thread with the number of pictures written and the number there will be.

    Raises
    ------
    BadDataError
        If `folder` exists and holds anything else; nothing there is touched.
    ValueError
        If a parameter is out of range.
    """
    if not (0 < scale <= 100 and 1 <= copies <= 100_000 and seed >= 0):
        raise ValueError(f"need 0 < scale <= 100, 1 <= copies <= 100000, seed >= 0; got {scale}, {copies}, {seed}")
    folder, note = Path(folder), _note(seed, scale, copies)
    if os.path.lexists(folder):
        return _open_existing(folder, note)
    with paths.named(folder), paths.temporary_folder(folder) as temporary:
        _write(_layout(temporary), seed, scale, copies, on_progress)
        paths.write_text(temporary / photos.PHANTOM_MARK, note)
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.exists():
                raise  # else someone else was quicker: judge what they wrote
    return _open_existing(folder, note)


def read_truth(data: photos.DataSet) -> pd.DataFrame:
    """Read where each image of a phantom set came from.

    Returns
    -------
    DataFrame
        A row per image, sorted by name: ``image`` (``SPLIT/CLASS/FILE``), ``photo``, ``mirrored``, and ``a11`` to
        ``a23``, the affine map from pixel coordinates (x, y, 1) of the photo reduced to 320x240 to the image's.

    Raises
    ------
    BadDataError
        If the set has no truth (the real photos have none) or the file is not what was written.
    """
    path = data.root / "truth.csv"
    try:
        truth = pd.read_csv(path)
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is missing; only phantoms have it: draw them again.") from error
    except ValueError as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise BadDataError(f"{path} is not a readable table; draw the phantoms again.") from error
    if list(truth.columns) != TRUTH_COLUMNS or truth.isna().any(axis=None):
        raise BadDataError(f"{path} lacks a column or a value; draw the phantoms again.")
    return truth.astype({"photo": int, "mirrored": bool})


def plan_labels(scale: float, rng: np.random.Generator) -> pd.DataFrame:
    """Decide which photos there will be, in an order that the published split can cut.

    Returns
    -------
    DataFrame
        Indexed by ``photo``, with the columns ``labels``, ``kind``, ``has_photo``, ``has_boxes`` and ``split``
        of `photos.index_photos`. As in the published set, a monocyte is labelled without a photo, a photo is
        left without a label, and some photos have no boxes.
    """
    rows = []
    for cell, count in SINGLE.items():
        rows += [(cell, "single", True, True)] * _scaled(count, scale, 1 if cell == "BASOPHIL" else 4)
    for i in range(_scaled(WITHOUT_BOXES, scale, 1)):
        rows[i] = (*rows[i][:3], False)
    rows[rows.index(("MONOCYTE", "single", True, True))] = ("MONOCYTE", "single", False, False)
    multi = islice(cycle(rng.permutation(len(MULTI))), _scaled(len(MULTI), scale, 2))
    rows += [(",".join(MULTI[i]), "multi", True, True) for i in multi]
    rows += [("", "unlabelled", False, False)] * (_scaled(BLANK, scale, 3) - 1) + [("", "unlabelled", True, True)]
    plan = pd.DataFrame(rows, columns=["labels", "kind", "has_photo", "has_boxes"])
    for _ in range(1000):
        plan = plan.sample(frac=1, random_state=rng).reset_index(drop=True).rename_axis("photo")
        plan["split"] = photos.published_split(plan)
        sizes = plan.groupby(["labels", "split"]).size()
        if all(sizes.get((c, "TEST"), 0) >= 1 and sizes.get((c, "TRAIN"), 0) >= 2 for c in photos.CLASSES):
            return plan
    raise AssertionError("no order of the labels leaves every class in both splits")


def plan_images(plan: pd.DataFrame, copies: int, rng: np.random.Generator) -> pd.DataFrame:
    """Name the augmented images and deal them out to the photos, as an image generator does.

    Each epoch is a new shuffle of a class's photos, and the number in a file's name is the position in it, so it
    says nothing about the photo.

    Returns
    -------
    DataFrame
        ``image`` (``SPLIT/CLASS/FILE``) and ``photo``. No two images share a name.
    """
    rows = []
    for split, cell in ((s, c) for s in photos.SPLITS for c in photos.CLASSES):
        of_class = plan.index[(plan.split == split.removesuffix("_SIMPLE")) & (plan.labels == cell)]
        wanted = {"TRAIN": copies, "TEST": max(1, copies // 4), "TEST_SIMPLE": len(of_class)}[split]
        epochs = math.ceil(wanted / len(of_class))
        # Drawn without replacement: the published set lost a few images to names drawn twice.
        marks = [rng.choice(max(10_000, epochs), epochs, replace=False) for _ in of_class]
        names = [
            (f"{split}/{cell}/_{i}_{marks[i][epoch]}.jpeg", photo)
            for epoch in range(epochs)
            for i, photo in enumerate(rng.permutation(of_class))
        ]
        rows += names[:wanted]
    return pd.DataFrame(rows, columns=["image", "photo"])


def draw_affine(rng: np.random.Generator) -> np.ndarray:
    """Draw an augmentation by the published recipe.

    Rotation by up to 20°, shift by up to 10 %, shear by up to 0.2 (which Keras takes for degrees), and either flip
    with probability one half.

    Returns
    -------
    ndarray
        (2, 3): maps pixel coordinates (x, y, 1) of the reduced photo to those of the image.
    """
    width, height = photos.IMAGE_SIZE
    turn, shear = np.radians(rng.uniform(-20, 20)), np.radians(rng.uniform(-0.2, 0.2))
    rotate = [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]]
    shift = [[1, 0, rng.uniform(-0.1, 0.1) * width], [0, 1, rng.uniform(-0.1, 0.1) * height], [0, 0, 1]]
    slant = [[1, -np.sin(shear), 0], [0, np.cos(shear), 0], [0, 0, 1]]
    flip = np.diag([*rng.choice([-1, 1], 2), 1])
    to_middle = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
    # The recipe's matrix says where each pixel is taken from; the inverse says where it goes.
    goes = np.linalg.inv(np.array(rotate) @ shift @ slant)
    return (np.linalg.inv(to_middle) @ flip @ goes @ to_middle)[:2]


def augment(reduced: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Move a photo of 320x240 by `affine`; black comes in from outside."""
    return cv2.warpAffine(reduced, affine, photos.IMAGE_SIZE, flags=cv2.INTER_LINEAR)


def boxes_xml(photo: int, boxes: tuple[Box, ...]) -> str:
    """Write the boxes of a photo as the published Pascal VOC files have them."""
    width, height = photos.PHOTO_SIZE
    name = f"BloodImage_{photo:05d}.jpg"
    lines = [
        "<annotation>",
        "\t<folder>JPEGImages</folder>",
        f"\t<filename>{name}</filename>",
        f"\t<path>JPEGImages/{name}</path>",
        "\t<source>\n\t\t<database>Unknown</database>\n\t</source>",
        f"\t<size>\n\t\t<width>{width}</width>\n\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>",
        "\t<segmented>0</segmented>",
    ]
    for box in boxes:
        cut = box.xmin <= 0 or box.ymin <= 0 or box.xmax >= width or box.ymax >= height
        lines += [
            f"\t<object>\n\t\t<name>{box.cell}</name>\n\t\t<pose>Unspecified</pose>",
            f"\t\t<truncated>{int(cut)}</truncated>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>",
            *(f"\t\t\t<{c}>{getattr(box, c)}</{c}>" for c in ("xmin", "ymin", "xmax", "ymax")),
            "\t\t</bndbox>\n\t</object>",
        ]
    return "\n".join([*lines, "</annotation>\n"])


def _scaled(count: int, scale: float, least: int) -> int:
    return max(least, round(count * scale))


def _note(seed: int, scale: float, copies: int) -> str:
    return (
        "These pictures are drawings made by a program, not photographs: they show no patient's cells.\n"
        "truth.csv says which photo each image was made from.\n\n"
        f"format: {FORMAT}\nseed: {seed}\nscale: {float(scale)}\ncopies: {copies}\n"
    )


def _layout(root: Path) -> photos.DataSet:
    raw, augmented = root / "dataset-master/dataset-master", root / "dataset2-master/dataset2-master/images"
    return photos.DataSet(root, raw, augmented)


def _open_existing(folder: Path, note: str) -> photos.DataSet:
    mark = folder / photos.PHANTOM_MARK
    if not mark.is_file():
        raise BadDataError(f"{folder} exists and is not a phantom data set; name a folder that does not exist yet.")
    if mark.read_text(encoding="utf-8", errors="replace") != note:
        raise BadDataError(f"{folder} holds phantoms drawn otherwise; remove it or name another folder.")
    return photos.open_folder(folder)


def _write(
    data: photos.DataSet, seed: int, scale: float, copies: int, on_progress: Callable[[int, int], None] | None
) -> None:
    label_seed, image_seed, photo_seed = np.random.SeedSequence(seed).spawn(3)
    plan = plan_labels(scale, np.random.default_rng(label_seed))
    images = plan_images(plan, copies, np.random.default_rng(image_seed))
    names = images.groupby("photo").image.apply(list).to_dict()
    for folder in (data.raw / "JPEGImages", data.raw / "Annotations"):
        folder.mkdir(parents=True)
    for split, cell in ((s, c) for s in photos.SPLITS for c in photos.CLASSES):
        (data.augmented / split / cell).mkdir(parents=True)
    _write_labels(data, plan)

    seeds = photo_seed.spawn(len(plan))
    drawn = plan[plan.has_photo]
    pool = ThreadPoolExecutor(os.cpu_count())
    truth: list[tuple] = []
    try:
        # A seed per photo: it does not matter which thread draws it, nor when.
        jobs = [
            pool.submit(
                _write_photo, data, row.Index, row.labels, row.has_boxes, names.get(row.Index, []), seeds[row.Index]
            )
            for row in drawn.itertuples()
        ]
        for done, job in enumerate(jobs, start=1):
            truth += job.result()
            if on_progress:
                on_progress(done + len(truth), len(drawn) + len(images))
    finally:
        pool.shutdown(cancel_futures=True)
    table = pd.DataFrame(truth, columns=TRUTH_COLUMNS).sort_values("image")
    table.to_csv(data.root / "truth.csv", index=False, float_format="%.9f", lineterminator="\n")


def _write_labels(data: photos.DataSet, plan: pd.DataFrame) -> None:
    lines = [",Image,Category"]
    for photo, labels in plan.labels.items():
        category = f'"{labels.replace(",", ", ")}"' if "," in labels else labels
        lines.append(f",{photo},{category}")
    data.labels_path.write_bytes("\r\n".join(lines).encode())


def _write_photo(
    data: photos.DataSet, photo: int, labels: str, has_boxes: bool, names: list[str], seed: np.random.SeedSequence
) -> list[tuple]:
    # One photo with its boxes and all images made from it; returns their rows of the truth.
    rng = np.random.default_rng(seed)
    drawn = draw_photo(tuple(filter(None, labels.split(","))), rng)
    encoded = _encode(cv2.cvtColor(drawn.image, cv2.COLOR_RGB2BGR))
    data.photo_path(photo).write_bytes(encoded)
    if has_boxes:
        data.annotation_path(photo).write_text(boxes_xml(photo, drawn.boxes), encoding="utf-8")
    # From the file, as anyone else would have to.
    reduced = cv2.resize(cv2.imdecode(encoded, cv2.IMREAD_COLOR), photos.IMAGE_SIZE, interpolation=cv2.INTER_AREA)
    rows = []
    for name in names:
        affine = np.eye(2, 3) if name.startswith("TEST_SIMPLE/") else draw_affine(rng)
        data.image_path(name).write_bytes(_encode(augment(reduced, affine)))
        rows.append((name, photo, bool(np.linalg.det(affine[:, :2]) < 0), *affine.ravel()))
    return rows


def _encode(image: np.ndarray) -> np.ndarray:
    worked, encoded = cv2.imencode(".jpeg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert worked
    return encoded
