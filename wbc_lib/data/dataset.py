"""The data set on disk: find it, list its images, read its labels and boxes as they really are."""

import csv
import io
import os
import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException

from wbc_lib import paths
from wbc_lib.data import archive, folders
from wbc_lib.errors import BadDataError, DataNotFoundError

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
#: The recipe of the augmented images (Keras's image generator): the largest rotation in degrees and shift as a share
#: of the side, the shear, which versions of Keras read in radians or in degrees, and how many random numbers a name
#: can hold.
MAX_ROTATION, MAX_SHIFT, SHEAR, N_MARKS = 20.0, 0.1, 0.2, 10_000
PHANTOM_MARK = "PHANTOMS.txt"
#: What messages advise for a file of the set that is not as it was published.
RESTORE = "restore it from the archive"
#: No file of the published set reaches a tenth of this.
MAX_BYTES = 2_000_000

_PHOTO_NAME = re.compile(r"BloodImage_(\d{5})\.jpg", re.ASCII)
_BOXES_NAME = re.compile(r"BloodImage_(\d{5})\.xml", re.ASCII)
_IMAGE_NAME = re.compile(r"_\d+_\d+\.jpeg", re.ASCII)
#: Where the two halves lie in the archive, and where users put them.
_RAW = ("dataset-master/dataset-master", "dataset-master", ".")
_AUGMENTED = ("dataset2-master/dataset2-master/images", "dataset2-master/images", "images", ".")
_HOW_TO_GET = (
    "give its folder (or zip) with --data DIR or WBC_DATA (download: kaggle.com/datasets/" + KAGGLE_NAME + "), "
    "or draw a stand-in with `wbc data phantoms DIR`"
)


@dataclass(frozen=True)
class DataSet:
    """The folders of a data set in the published layout.

    Attributes
    ----------
    root : Path
        The folder that was asked for.
    raw : Path
        Holds ``JPEGImages``, ``Annotations`` and ``labels.csv``.
    augmented : Path
        Holds ``TRAIN``, ``TEST`` and ``TEST_SIMPLE``, each with a folder per class.
    """

    root: Path
    raw: Path
    augmented: Path

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
    """Recognise a data set in `folder`, with or without the archive's doubled folder names.

    Parameters
    ----------
    folder : path
        A folder, or a zip as Kaggle's website gives it, which is unpacked into the user cache (see
        `archive.unpack`).

    Raises
    ------
    DataNotFoundError
        If the folder does not exist or lacks one of the two halves of the data set.
    BadDataError
        If it is a file that cannot be unpacked.
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
    raw, augmented = _first_with(root, "JPEGImages", _RAW), _first_with(root, "TRAIN", _AUGMENTED)
    ways = [f"{c}/JPEGImages" for c in _RAW if raw is None] + [f"{c}/TRAIN" for c in _AUGMENTED if augmented is None]
    for way in ways:
        if misnamed := folders.find_other_case(root, way):
            wanted = next(part for part in way.split("/") if part.lower() == misnamed.name.lower())
            raise DataNotFoundError(f"{misnamed} should be called {wanted}; rename it.")
    if raw is None and augmented is None:
        raise DataNotFoundError(f"{root} holds no blood-cell data set; {_HOW_TO_GET}.")
    if raw is None:
        raise DataNotFoundError(f"{root} has the augmented images but no dataset-master; unpack that too.")
    if augmented is None:
        raise DataNotFoundError(f"{root} has the source photos but no dataset2-master; unpack that too.")
    return DataSet(root, raw, augmented)


def _first_with(root: Path, child: str, candidates: tuple[str, ...]) -> Path | None:
    return next((root / c for c in candidates if (root / c / child).is_dir()), None)


def find(data: str | Path | None = None, *, download: bool = True) -> DataSet:
    """Find the data set: `data`, else ``WBC_DATA``, else the user cache, else a download.

    Parameters
    ----------
    data : path, optional
        A folder in the published layout, or a zip of one. If given (or set in ``WBC_DATA``) nothing else is tried.
    download : bool
        Whether kagglehub may fetch the archive (about 110 MB, no account needed).

    Raises
    ------
    DataNotFoundError
        If there is none at the place named, or nowhere and it cannot be downloaded.
    """
    named = data or os.environ.get("WBC_DATA")
    if named:
        return open_folder(named)
    cached = paths.cache() / "blood-cells"
    if cached.is_dir():
        return open_folder(cached)
    if not download:
        raise DataNotFoundError(f"The blood-cell photos are not on this machine; {_HOW_TO_GET}.")
    return open_folder(_download())


def _download() -> Path:
    import kagglehub

    try:
        return Path(kagglehub.dataset_download(KAGGLE_NAME))
    except Exception as error:  # kagglehub documents no error types; whichever it is, the remedy is the same
        reason = type(error).__name__
        raise DataNotFoundError(f"The photos could not be downloaded ({reason}); {_HOW_TO_GET}.") from error


def list_images(data: DataSet) -> pd.DataFrame:
    """List the augmented images in a fixed order: split, class, file name.

    Returns
    -------
    DataFrame
        A row per image: ``image`` (``SPLIT/CLASS/FILE``), ``split``, ``cell`` (class name),
        ``label`` (1 to 4).

    Raises
    ------
    BadDataError
        If a class folder is missing or empty, or holds a picture that is not named like one of the set.
    """
    rows = []
    for split in SPLITS:
        for cell in CLASSES:
            folder = data.augmented / split / cell
            names = folders.list_names(folder, _IMAGE_NAME)
            if not names:
                raise BadDataError(f"{folder} holds no image; unpack the archive again.")
            rows += [(f"{split}/{cell}/{name}", split, cell, LABELS[cell]) for name in names]
    return pd.DataFrame(rows, columns=["image", "split", "cell", "label"])


def list_photos(data: DataSet) -> list[int]:
    """Numbers of the source photos on disk, ascending; raises `BadDataError` like `list_images`."""
    return [photo_number(Path(name)) for name in folders.list_names(data.raw / "JPEGImages", _PHOTO_NAME)]


def list_annotations(data: DataSet) -> list[int]:
    """Numbers of the photos that have a box file, ascending; raises `BadDataError` like `list_images`."""
    return [photo_number(Path(name)) for name in folders.list_names(data.raw / "Annotations", _BOXES_NAME)]


def photo_number(path: Path) -> int:
    """Number of the photo that a file of ``JPEGImages`` or ``Annotations`` is, or belongs to."""
    return int(path.stem.removeprefix("BloodImage_"))


def look_through(data: DataSet) -> tuple[dict[str, folders.Contents], list[str]]:
    """Look into every folder of a data set, whatever is in it.

    Returns
    -------
    contents : dict
        By the folder: ``TRAIN/MONOCYTE`` and so on, ``JPEGImages``, ``Annotations``. One that is missing has no names.
    problems : list of str
        A sentence for each folder that is missing or empty, and for each entry that is no file of the set.
    """
    places = {f"{split}/{cell}": (data.augmented, _IMAGE_NAME) for split in SPLITS for cell in CLASSES}
    places |= {"JPEGImages": (data.raw, _PHOTO_NAME), "Annotations": (data.raw, _BOXES_NAME)}
    found, problems = {}, []
    for place, (root, pattern) in places.items():
        try:
            found[place] = folders.look_into(root / place, pattern)
        except BadDataError as error:
            found[place] = folders.Contents([], [], [])
            problems.append(str(error))
            continue
        if not found[place].names:
            problems.append(f"{root / place}: the folder is empty; unpack the archive again.")
        problems += found[place].doubtful + found[place].foreign
    return found, problems


def read_file(path: Path) -> bytes:
    """Read one file of the data set, if it is a plain file of a plausible size.

    Raises
    ------
    BadDataError
        If it is missing, empty, larger than ``MAX_BYTES``, no plain file, or unreadable.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a named pipe would wait for ever
            raise BadDataError(f"{path}: cannot be read (it is no plain file); {RESTORE}.")
        if found.st_size == 0:
            raise BadDataError(f"{path}: the file is empty; {RESTORE}.")
        if found.st_size > MAX_BYTES:
            raise BadDataError(f"{path}: {found.st_size:,} bytes is too large for a file of this set; {RESTORE}.")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise BadDataError(f"{path}: is missing; {RESTORE}.") from error
    except OSError as error:
        raise BadDataError(f"{path}: cannot be read ({error.strerror}); {RESTORE}.") from error


def parse_labels(text: str) -> dict[int, tuple[str, ...]]:
    """Read ``labels.csv`` as it really is: trailing quoted lists, blanks, rows without a photo.

    Parameters
    ----------
    text : str
        The file's content. Columns: an empty one, ``Image``, ``Category``.

    Returns
    -------
    dict
        Photo number to the classes named for it, in the file's order; ``()`` where the label is blank.

    Raises
    ------
    BadDataError
        If the header, a number or a class name is not what the published file has; names the line.
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
            unknown = [name for name in names if name not in known]
            if unknown:
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
    """Read the boxes of one Pascal VOC file.

    Parameters
    ----------
    text : str or bytes
        The XML. Entities and external references are refused.
    name : str
        The file's name, for messages.

    Returns
    -------
    DataFrame
        A row per box: ``cell`` (WBC, RBC, Platelets), ``xmin``, ``ymin``, ``xmax``, ``ymax`` in pixels of
        the 640x480 photo, and ``is_degenerate``: narrower or lower than two pixels (the published files have two).

    Raises
    ------
    BadDataError
        If the XML is broken or a box is inside out or outside the photo.
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
        corner = [int(text) for text in texts]
        xmin, ymin, xmax, ymax = corner
        if not (0 <= xmin <= xmax <= width and 0 <= ymin <= ymax <= height):
            raise BadDataError(f"{name}, box {i}: {corner} does not lie in {width}x{height}; restore the file.")
        cell = (item.findtext("name") or "").strip()
        if cell not in {"WBC", "RBC", "Platelets"}:
            raise BadDataError(f"{name}, box {i}: unknown object {cell!r:.40}; restore the file.")
        rows.append((cell, *corner, xmax - xmin < 2 or ymax - ymin < 2))
    columns = ["cell", "xmin", "ymin", "xmax", "ymax", "is_degenerate"]
    return pd.DataFrame(rows, columns=columns)


def read_boxes(data: DataSet) -> pd.DataFrame:
    """All boxes of the data set: `parse_boxes` of each file with the column ``photo`` in front."""
    frames = {}
    for photo in list_annotations(data):
        path = data.annotation_path(photo)
        frames[photo] = parse_boxes(read_file(path), path.name)
    if not frames:
        raise BadDataError(f"{data.raw / 'Annotations'} holds no box file; unpack the archive again.")
    return pd.concat(frames, names=["photo"]).reset_index("photo").reset_index(drop=True)


def index_photos(data: DataSet) -> pd.DataFrame:
    """One tidy row per photo or label row: what is known of it, and the split its copies went to.

    Returns
    -------
    DataFrame
        Indexed by ``photo``: ``labels`` (comma-separated class names, "" if blank), ``kind`` (single, multi,
        unlabelled), ``has_photo``, ``has_boxes``, ``n_wbc``, ``n_rbc``, ``n_platelets``, and ``split``
        (TRAIN, TEST, or "" for photos of which no augmented image was made).

    Raises
    ------
    BadDataError
        If a label or box file is not as it should be, or there are not two photos with a single label to be split.
    """
    labels = read_labels(data)
    on_disk, boxed = set(list_photos(data)), set(list_annotations(data))
    counts = read_boxes(data).groupby(["photo", "cell"]).size().unstack(fill_value=0)
    index = pd.DataFrame(index=pd.Index(sorted(on_disk | set(labels)), name="photo"))
    index["labels"] = [",".join(labels.get(p, ())) for p in index.index]
    sizes = [len(labels.get(p, ())) for p in index.index]
    index["kind"] = ["unlabelled" if n == 0 else "single" if n == 1 else "multi" for n in sizes]
    index["has_photo"] = index.index.isin(on_disk)
    index["has_boxes"] = index.index.isin(boxed)
    if ((index.kind == "single") & index.has_photo).sum() < 2:
        raise BadDataError(
            f"{data.labels_path} names the class of fewer than two photos in {data.raw / 'JPEGImages'}; restore the "
            "published table."
        )
    for cell, column in {"WBC": "n_wbc", "RBC": "n_rbc", "Platelets": "n_platelets"}.items():
        found = counts[cell] if cell in counts else pd.Series(dtype=int)
        index[column] = found.reindex(index.index, fill_value=0).astype(int)
    index["split"] = published_split(index)
    return index


def published_split(index: pd.DataFrame) -> pd.Series:
    """Tell which split each photo's copies went to, by the recipe that gives the published class counts.

    Single-label photos in the label file's order, basophils counted in, and scikit-learn's split with these very
    arguments.

    Parameters
    ----------
    index : DataFrame
        Indexed by ``photo``, with ``kind``, ``has_photo`` and ``labels`` as in `index_photos`.

    Returns
    -------
    Series of str
        TRAIN, TEST or "" (no augmented image was made of it), by photo.
    """
    from sklearn.model_selection import train_test_split

    eligible = index.index[(index.kind == "single") & index.has_photo]
    train, test = train_test_split(eligible, test_size=0.2, random_state=10)
    split = pd.Series("", index=index.index)
    split[train], split[test] = "TRAIN", "TEST"
    split[index.labels == "BASOPHIL"] = ""
    return split
