"""The data set on disk: find it, list its images, read its labels and boxes as they really are."""

import csv
import io
import os
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import pandas as pd
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from wbc_lib import paths
from wbc_lib.data import archive
from wbc_lib.data.splits import published_split
from wbc_lib.errors import BadDataError, DataNotFoundError, printable

KAGGLE_NAME = "paultimothymooney/blood-cells"
CLASSES = ("NEUTROPHIL", "EOSINOPHIL", "MONOCYTE", "LYMPHOCYTE")
#: Label of each class, as in the published code; 0 is left unused, which is why networks have five outputs.
LABELS = {name: number for number, name in enumerate(CLASSES, start=1)}
N_OUTPUTS = len(CLASSES) + 1
SPLITS = ("TRAIN", "TEST", "TEST_SIMPLE")
PHOTO_SIZE = (640, 480)
IMAGE_SIZE = (320, 240)
#: Images per split and class in the published archive.
PUBLISHED_COUNTS = {
    "TRAIN": {"NEUTROPHIL": 2499, "EOSINOPHIL": 2497, "MONOCYTE": 2478, "LYMPHOCYTE": 2483},
    "TEST": {"NEUTROPHIL": 624, "EOSINOPHIL": 623, "MONOCYTE": 620, "LYMPHOCYTE": 620},
    "TEST_SIMPLE": {"NEUTROPHIL": 48, "EOSINOPHIL": 13, "MONOCYTE": 4, "LYMPHOCYTE": 6},
}
PUBLISHED_PHOTOS = 367
#: The recipe of the augmented images: largest rotation (degrees) and shift (share of the side), shear (Keras versions
#: read it in radians or in degrees), and how many random numbers a name can hold.
MAX_ROTATION, MAX_SHIFT, SHEAR, N_MARKS = 20.0, 0.1, 0.2, 10_000
PHANTOM_MARK = "PHANTOMS.txt"
#: What messages advise for a file of the set that is not as it was published.
RESTORE = "restore it from the archive"
#: No file of the published set reaches a tenth of this.
MAX_BYTES = 2_000_000

_IMAGE_NAME = re.compile(r"_\d+_\d+\.jpeg", re.ASCII)
_RAW_NAMES = {
    "JPEGImages": re.compile(r"BloodImage_\d{5}\.jpg", re.ASCII),
    "Annotations": re.compile(r"BloodImage_\d{5}\.xml", re.ASCII),
}
#: The folders of the set that hold files of one kind.
PLACES = (*(f"{split}/{cell}" for split in SPLITS for cell in CLASSES), *_RAW_NAMES)
#: Endings by which a file may be taken for a picture or for boxes of the set.
_ENDINGS = (".jpeg", ".jpg", ".jpe", ".jfif", ".xml")
#: Where the two halves lie in the archive, and where users put them.
_RAW = ("dataset-master/dataset-master", "dataset-master", ".")
_AUGMENTED = ("dataset2-master/dataset2-master/images", "dataset2-master/images", "images", ".")
_HOW_TO_GET = (
    "give its folder (or zip) with --data DIR or WBC_DATA (download: kaggle.com/datasets/" + KAGGLE_NAME + "), "
    "or draw a stand-in with `wbc data phantoms DIR`"
)


@dataclass(frozen=True)
class Contents:
    """What is in a folder, but for hidden files: names of files of the set, in order, and a sentence for all else."""

    names: list[str]
    doubtful: list[str]  # what ends like a file of the set but is not named like one, such as a copy
    foreign: list[str]


@dataclass(frozen=True)
class DataSet:
    """The folders of a data set in the published layout."""

    root: Path  # the folder that was asked for
    raw: Path  # holds JPEGImages, Annotations and labels.csv
    augmented: Path  # holds TRAIN, TEST and TEST_SIMPLE, each with a folder per class

    @cached_property
    def is_phantom(self) -> bool:
        """Whether the images were drawn by `wbc_lib.data.phantoms` and show no patient's cells."""
        return (self.root / PHANTOM_MARK).exists()

    @property
    def title(self) -> str:
        """What to call these pictures in front of a reader."""
        return "phantoms (drawn, not photographed)" if self.is_phantom else "the real photos"

    def photo_path(self, photo: int) -> Path:
        """Path of a source photo by its number."""
        return self.raw / "JPEGImages" / f"BloodImage_{photo:05d}.jpg"

    def annotation_path(self, photo: int) -> Path:
        """Path of a photo's box file by its number."""
        return self.raw / "Annotations" / f"BloodImage_{photo:05d}.xml"

    @property
    def labels_path(self) -> Path:
        """Path of ``labels.csv``."""
        return self.raw / "labels.csv"

    def image_path(self, image: str) -> Path:
        """Path of an augmented image by its name, ``SPLIT/CLASS/FILE``."""
        return self.augmented / image


def open_folder(folder: str | Path) -> DataSet:
    """Recognise a data set in a folder, with or without the archive's doubled folder names, or in a zip of it.

    Raises `DataNotFoundError` if none is there or one half is lacking, `BadDataError` if a zip cannot be unpacked.
    """
    root = Path(folder)
    try:
        root = root.expanduser()
        is_folder, is_file = root.is_dir(), root.is_file()
    except (OSError, RuntimeError, ValueError):  # a name too long, the home of nobody, a NUL
        is_folder = is_file = False
    if is_file:
        root = archive.unpack(root)
    elif not is_folder:
        raise DataNotFoundError(f"There is no folder {str(root)!r:.300}; {_HOW_TO_GET}.")
    raw = next((root / c for c in _RAW if (root / c / "JPEGImages").is_dir()), None)
    augmented = next((root / c for c in _AUGMENTED if (root / c / "TRAIN").is_dir()), None)
    ways = [f"{c}/JPEGImages" for c in _RAW if raw is None] + [f"{c}/TRAIN" for c in _AUGMENTED if augmented is None]
    for way in ways:
        if misnamed := _find_other_case(root, way):
            wanted = next(part for part in way.split("/") if part.lower() == misnamed.name.lower())
            raise DataNotFoundError(f"{misnamed} should be called {wanted}; rename it.")
    if raw and augmented:
        return DataSet(root, raw, augmented)
    if raw or augmented:
        missing = "dataset2-master" if raw else "dataset-master"
        raise DataNotFoundError(f"{root} has one half of the data set but no {missing}; unpack that too.")
    raise DataNotFoundError(f"{root} holds no blood-cell data set; {_HOW_TO_GET}.")


def _find_other_case(root: Path, way: str) -> Path | None:
    # The folder on a way down from `root` that is there in another case alone, such as "Train" for "TRAIN".
    for part in way.split("/"):
        if not (root / part).is_dir():
            children = sorted(root.iterdir()) if root.is_dir() else []
            return next((p for p in children if p.is_dir() and p.name.lower() == part.lower()), None)
        root /= part
    return None


def find(data: str | Path | None = None) -> DataSet:
    """Find the data set: `data`, else ``WBC_DATA``, else the user cache, else a download of 110 MB (no account needed).

    Raises `DataNotFoundError` if there is none at the place named, or nowhere and it cannot be downloaded.
    """
    cached = paths.cache() / "blood-cells"
    if named := data or os.environ.get("WBC_DATA") or (cached if cached.is_dir() else None):
        return open_folder(named)
    import kagglehub

    try:
        downloaded = kagglehub.dataset_download(KAGGLE_NAME)
    except Exception as error:  # kagglehub documents no error types; whichever it is, the remedy is the same
        reason = type(error).__name__
        raise DataNotFoundError(f"The photos could not be downloaded ({reason}); {_HOW_TO_GET}.") from error
    return open_folder(downloaded)


def list_images(data: DataSet) -> pd.DataFrame:
    """List the augmented images in a fixed order: split, class, file name.

    A row per image: ``image`` (``SPLIT/CLASS/FILE``), ``split``, ``cell`` (class name), ``label`` (1 to 4). Raises
    `BadDataError` if a folder is missing or empty, or holds a picture that is not named like one of the set.
    """
    rows = []
    for split, cell in product(SPLITS, CLASSES):
        names = _list_names(data, f"{split}/{cell}")
        if not names:
            raise BadDataError(f"{data.augmented / split / cell} holds no image; unpack the archive again.")
        rows += [(f"{split}/{cell}/{name}", split, cell, LABELS[cell]) for name in names]
    return pd.DataFrame(rows, columns=["image", "split", "cell", "label"])


def list_photos(data: DataSet) -> list[int]:
    """Numbers of the source photos on disk, ascending."""
    return [photo_number(name) for name in _list_names(data, "JPEGImages")]


def list_annotations(data: DataSet) -> list[int]:
    """Numbers of the photos that have a box file, ascending."""
    return [photo_number(name) for name in _list_names(data, "Annotations")]


def photo_number(name: str) -> int:
    """Number of the photo that a file of ``JPEGImages`` or ``Annotations`` is, or belongs to."""
    return int(Path(name).stem.removeprefix("BloodImage_"))


def look_into(data: DataSet, place: str) -> Contents:
    """Tell the files of the set in one of its folders (of `PLACES`) from all else, by their names."""
    folder = (data.raw if place in _RAW_NAMES else data.augmented) / place
    pattern = _RAW_NAMES.get(place, _IMAGE_NAME)
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith("."))
    except FileNotFoundError as error:
        if other := _find_other_case(folder.parent, folder.name):
            raise BadDataError(f"{other} should be called {folder.name}; rename it.") from error
        raise BadDataError(f"{folder}: the folder is missing; unpack the archive again.") from error
    except NotADirectoryError as error:
        raise BadDataError(f"{folder} is a file instead of a folder; unpack the archive again.") from error
    except OSError as error:
        raise BadDataError(f"{folder} cannot be listed ({error.strerror}); take another copy.") from error
    contents = Contents([], [], [])
    for name in names:
        if pattern.fullmatch(name):
            contents.names.append(name)
            continue
        # Hashes, tables and runs are written by names, and a terminal obeys some of their letters.
        shown = folder / (name if name.isascii() and name.isprintable() else f"{name!a:.200}")
        if name.lower().endswith(_ENDINGS):
            contents.doubtful.append(f"{shown}: has no name of this set; remove it, or give it the published name.")
        else:
            contents.foreign.append(f"{shown}: is no file of this set; remove it.")
    return contents


def _list_names(data: DataSet, place: str) -> list[str]:
    contents = look_into(data, place)
    if contents.doubtful:
        raise BadDataError(contents.doubtful[0])
    return contents.names


def read_file(path: Path, limit: int = MAX_BYTES, remedy: str = RESTORE) -> bytes:
    """Read a plain file of at most `limit` bytes; anything else raises a `BadDataError` that advises `remedy`."""
    name = printable(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a named pipe would wait for ever
            raise BadDataError(f"{name}: cannot be read (it is no plain file); {remedy}.")
        if status.st_size == 0:
            raise BadDataError(f"{name}: the file is empty; {remedy}.")
        if status.st_size > limit:
            raise BadDataError(f"{name}: {status.st_size:,} bytes is too large for a picture of cells; {remedy}.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadDataError(f"{name}: is missing; {remedy}.") from error
    except (OSError, ValueError) as error:  # a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadDataError(f"{name}: cannot be read ({reason}); {remedy}.") from error


def parse_labels(text: str) -> dict[int, tuple[str, ...]]:
    """Read the text of ``labels.csv`` as it really is: quoted lists, blanks, rows without a photo.

    Gives the classes named for each photo, by its number, in the file's order; ``()`` where the label is blank. Raises
    `BadDataError`, which names the line, if one is not as the published file has them.
    """
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=None), strict=True)
    known = {*CLASSES, "BASOPHIL"}
    labels: dict[int, tuple[str, ...]] = {}
    try:
        header = next(reader, [])
        if [h.strip() for h in header] != ["", "Image", "Category"]:
            raise BadDataError("labels.csv, line 1: expected the header ',Image,Category'; restore the published file.")
        for row in reader:
            if not row:
                continue
            where = f"labels.csv, line {reader.line_num}"
            if len(row) != 3 or row[0].strip() or not re.fullmatch(r"[0-9]{1,5}", row[1].strip()):
                raise BadDataError(f"{where}: expected ',NUMBER,CATEGORY', found {row!r:.60}; restore the line.")
            names = tuple(name.strip() for name in row[2].split(",") if name.strip())
            if unknown := [name for name in names if name not in known]:
                raise BadDataError(f"{where}: unknown class {unknown[0]!r:.40}; one of {sorted(known)} is meant.")
            number = int(row[1])
            if number in labels:
                raise BadDataError(f"{where}: photo {number} is labelled twice; remove one of the two lines.")
            labels[number] = names
    except csv.Error as error:
        raise BadDataError(f"labels.csv, line {reader.line_num}: {error}; restore the published file.") from error
    return labels


def read_labels(data: DataSet) -> dict[int, tuple[str, ...]]:
    """`parse_labels` of the data set's file."""
    try:
        return parse_labels(read_file(data.labels_path).decode("utf-8"))
    except UnicodeDecodeError as error:
        raise BadDataError(f"{data.labels_path} is not UTF-8 text; restore it from the archive.") from error


def parse_boxes(text: str | bytes, name: str) -> pd.DataFrame:
    """Read the boxes of one Pascal VOC file, which messages call `name`; entities and references are refused.

    A row per box: ``cell`` (WBC, RBC, Platelets), ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels of the 640x480
    photo, and ``is_degenerate``: narrower or lower than two pixels (the published files have two). Raises
    `BadDataError` if the XML is broken or a box is inside out or outside the photo.
    """
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError) as error:
        kind = type(error).__name__
        raise BadDataError(f"{name} is not a readable box file ({kind}); restore it from the archive.") from error
    width, height = PHOTO_SIZE
    rows = []
    for i, item in enumerate(root.iter("object"), start=1):
        texts = [item.findtext(f"bndbox/{c}", "").strip() for c in ("xmin", "ymin", "xmax", "ymax")]
        if not all(re.fullmatch("-?[0-9]{1,9}", text) for text in texts):
            raise BadDataError(f"{name}, box {i}: a corner is missing or no whole number; restore the file.")
        xmin, ymin, xmax, ymax = corner = [int(text) for text in texts]
        if not (0 <= xmin <= xmax <= width and 0 <= ymin <= ymax <= height):
            raise BadDataError(f"{name}, box {i}: {corner} does not lie in {width}x{height}; restore the file.")
        cell = (item.findtext("name") or "").strip()
        if cell not in {"WBC", "RBC", "Platelets"}:
            raise BadDataError(f"{name}, box {i}: unknown object {cell!r:.40}; restore the file.")
        rows.append((cell, *corner, xmax - xmin < 2 or ymax - ymin < 2))
    return pd.DataFrame(rows, columns=["cell", "xmin", "ymin", "xmax", "ymax", "is_degenerate"])


def read_boxes(data: DataSet) -> pd.DataFrame:
    """All boxes of the data set: `parse_boxes` of each file with the column ``photo`` in front."""
    files = {photo: data.annotation_path(photo) for photo in list_annotations(data)}
    if not files:
        raise BadDataError(f"{data.raw / 'Annotations'} holds no box file; unpack the archive again.")
    frames = {photo: parse_boxes(read_file(path), path.name) for photo, path in files.items()}
    return pd.concat(frames, names=["photo"]).reset_index("photo").reset_index(drop=True)


def index_photos(data: DataSet) -> pd.DataFrame:
    """One row per photo or label row: what is known of it, and the split its copies went to.

    Indexed by ``photo``: ``labels`` (comma-separated class names, "" if blank), ``kind`` (single, multi, unlabelled),
    ``has_photo``, ``has_boxes``, ``n_wbc`` (boxed white cells), and ``split`` (TRAIN, TEST, or "" for photos of
    which no augmented image was made).
    """
    labels, on_disk, boxed = read_labels(data), list_photos(data), list_annotations(data)
    boxes = read_boxes(data)
    index = pd.DataFrame(index=pd.Index(sorted({*on_disk, *labels}), name="photo"))
    index["labels"] = [",".join(labels.get(p, ())) for p in index.index]
    index["kind"] = [("unlabelled", "single", "multi")[min(len(labels.get(p, ())), 2)] for p in index.index]
    index["has_photo"] = index.index.isin(on_disk)
    index["has_boxes"] = index.index.isin(boxed)
    if ((index.kind == "single") & index.has_photo).sum() < 2:
        raise BadDataError(f"{data.labels_path} names the class of fewer than two photos; restore the published table.")
    index["n_wbc"] = boxes.photo[boxes.cell == "WBC"].value_counts().reindex(index.index, fill_value=0)
    index["split"] = published_split(index)
    return index
