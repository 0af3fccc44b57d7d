"""From JPEG to array: decode, resize, move, normalise; the cached array of the whole data set."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import simplejpeg
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from wbc_lib import paths
from wbc_lib.data.dataset import IMAGE_SIZE, RESTORE, DataSet, list_images, read_file
from wbc_lib.data.hashes import read_checksums
from wbc_lib.errors import BadDataError, UnknownNameError

#: Height and width of the paper's network input.
INPUT_SHAPE = (60, 80)
#: How an image is decoded (at half size) and brought to the input size (by area). Part of every run's key.
RESIZING = "half-area"
#: Ways of bringing pixel values 0 to 255 to the network's scale.
NORMALISATIONS = ("[-1, 1]", "[0, 1]", "standardised")

# A photo of the published set has 0.3 megapixels, and is coded in one scan; a common progressive JPEG in about ten.
_MAX_PIXELS = 10_000_000
_MAX_SCANS = 100
_JPEG_START, _JPEG_SCAN = b"\xff\xd8\xff", b"\xff\xda"
# Pictures in a piece of work.
_CHUNK = 64

#: Columns of a table that hold affine maps from pixels (x, y, 1) of a photo reduced to 320x240 to those of an image.
AFFINE = ["a11", "a12", "a13", "a21", "a22", "a23"]

#: Called with how much is done, and how much there is to do.
OnProgress = Callable[[int, int], None]
#: Gives the outcome of a function for each task, in order: the built-in `map` does, and so does a cluster's.
MapTasks = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


@dataclass(frozen=True)
class Images:
    """The augmented images."""

    index: pd.DataFrame  # as `dataset.list_images` gives it
    pixels: NDArray[np.uint8]  # (images, height, width, RGB)

    def of(self, split: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Pixels and labels of one split."""
        rows = np.flatnonzero(self.index.split == split)
        # Splits lie one after the other, so that a slice (a view of the map, not a copy) will do.
        part = slice(rows[0], rows[-1] + 1)
        return self.pixels[part], self.index.label.to_numpy(np.int32)[part]


def jpeg_size(content: bytes, name: object) -> tuple[int, int, int]:
    """Width, height and channels (3, or 1 if it is grey) of a JPEG, by its header.

    Raises `BadDataError` if it is no JPEG in colour or grey, or would take too much time or memory to decode.
    """
    if not content.startswith(_JPEG_START):
        raise BadDataError(f"{name}: is no JPEG; {RESTORE}.")
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
    except ValueError as error:
        raise BadDataError(f"{name}: has no JPEG header that can be read; {RESTORE}.") from error
    channels = {"Gray": 1, "CMYK": 4, "YCCK": 4}.get(colours, 3)
    if channels == 4:
        raise BadDataError(f"{name}: is {width}x{height} with {channels} channels instead of 3; {RESTORE}.")
    if width * height > _MAX_PIXELS:
        raise BadDataError(f"{name}: is {width}x{height}, which is no size of a photo of cells; {RESTORE}.")
    if content.count(_JPEG_SCAN) > _MAX_SCANS:
        raise BadDataError(f"{name}: is coded in {content.count(_JPEG_SCAN)} scans; {RESTORE}.")
    return width, height, channels


def decode_jpeg(content: bytes, name: object, remedy: str, *, reduce: bool = False) -> NDArray[np.uint8]:
    """Decode a JPEG in colour or grey that is whole, turned as its EXIF data say; uint8 (height, width, RGB).

    With `reduce` it is decoded at half size, which libjpeg does in the frequency domain at less than half the cost.
    Raises `BadDataError`, which calls the file `name` and advises `remedy`, if a decoder notices damage.
    """
    try:
        # OpenCV lets libjpeg paint damage over. An eighth of the size is enough to meet all of the compressed data.
        simplejpeg.decode_jpeg(content, "GRAY", min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        reason = str(error).rstrip(".")
        what = f"{'is damaged inside' if 'Corrupt' in reason else 'cannot be decoded'} ({reason})"
        what = "ends too early" if reason.startswith("Premature end") else what
        raise BadDataError(f"{name}: {what}; {remedy}.") from error
    flags = cv2.IMREAD_REDUCED_COLOR_2 if reduce else cv2.IMREAD_COLOR_RGB
    try:
        image = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise BadDataError(f"{name}: cannot be decoded; {remedy}.")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if reduce else image, np.uint8)


def read_image(path: Path, *, reduce: bool = False) -> NDArray[np.uint8]:
    """Decode a JPEG file of the data set as `decode_jpeg` does, unless it is larger than any photo of cells."""
    content = read_file(path)
    jpeg_size(content, path)
    return decode_jpeg(content, path, RESTORE, reduce=reduce)


def shrink(image: NDArray[np.uint8], shape: tuple[int, int] = INPUT_SHAPE) -> NDArray[np.uint8]:
    """Resize to `shape` (height, width) by averaging areas, so that nothing aliases."""
    return np.asarray(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)


def read_reduced(data: DataSet, photo: int) -> NDArray[np.uint8]:
    """Read a photo as the images were made from it: reduced to 320x240; shape (240, 320, RGB)."""
    return shrink(read_image(data.photo_path(photo)), IMAGE_SIZE[::-1])


def to_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the colour: shape (height, width, RGB) to (height, width)."""
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8)


def to_lab(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """From sRGB to CIE Lab (1976, D65): L from 0 to 100, a and b around 0; the same shape."""
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2Lab), np.float32)


def from_lab(lab: NDArray[np.floating]) -> NDArray[np.uint8]:
    """From CIE Lab to sRGB; what no screen can show is cut off."""
    rgb = cv2.cvtColor(np.asarray(lab, np.float32), cv2.COLOR_Lab2RGB)
    return np.rint(255 * np.clip(rgb, 0, 1)).astype(np.uint8)


def match_lab(
    picture: NDArray[np.uint8], mean: ArrayLike, sd: ArrayLike, to_mean: ArrayLike, to_sd: ArrayLike
) -> NDArray[np.uint8]:
    """Give a picture whose L, a and b have this mean and standard deviation others (Reinhard et al. 2001).

    There the colours are those of another space (l alpha beta), whose axes are much like Lab's.
    """
    factor = np.asarray(to_sd, float) / np.maximum(np.asarray(sd, float), 1e-6)
    return from_lab((to_lab(picture) - np.asarray(mean, float)) * factor + np.asarray(to_mean, float))


def warp(reduced: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Move a picture of 320x240, grey or in colour, by an affine map, shape (2, 3); black comes in from outside."""
    return np.asarray(cv2.warpAffine(reduced, affine, IMAGE_SIZE, flags=cv2.INTER_LINEAR), np.uint8)


def affine_maps(table: pd.DataFrame) -> NDArray[np.float64]:
    """Affine maps of a table with the columns `AFFINE`, shape (rows, 2, 3)."""
    return table[AFFINE].to_numpy(float).reshape(-1, 2, 3)


def read_small(path: Path, shape: tuple[int, int] = INPUT_SHAPE) -> NDArray[np.uint8]:
    """Read an image of 320x240 at the network's size, (height, width, RGB)."""
    half = read_image(path, reduce=True)
    require_size(2 * half.shape[1], 2 * half.shape[0], path)
    return shrink(half, shape)


def require_size(width: int, height: int, path: Path) -> None:
    """Make sure that an image has the size of all images of the set, 320x240."""
    if (width, height) != IMAGE_SIZE:
        wanted = f"{IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}"
        raise BadDataError(f"{path} is not {wanted}; run `wbc data check` and unpack the archive again.")


@dataclass(frozen=True)
class Scale:
    """What a network's first layer does to a pixel: ``pixel * factor + offset``, a value per RGB channel."""

    factor: tuple[float, ...]
    offset: tuple[float, ...]


def choose_scale(normalisation: str, pixels: NDArray[np.uint8]) -> Scale:
    """Find the scale that a normalisation means: "[-1, 1]", "[0, 1]", or "standardised" for these pixels.

    Only "standardised" (mean 0 and standard deviation 1 in every channel) looks at the pixels (images, height, width,
    RGB): give training images alone. Raises `UnknownNameError` if there is no such normalisation.
    """
    if normalisation == "[-1, 1]":
        return Scale((1 / 127.5,) * 3, (-1.0,) * 3)
    if normalisation == "[0, 1]":
        return Scale((1 / 255,) * 3, (0.0,) * 3)
    if normalisation == "standardised":
        # Counting the 256 values is exact, and needs no floating copy of the array.
        counts = [np.bincount(pixels[..., c].ravel(), minlength=256) for c in range(3)]
        means = np.array([np.average(np.arange(256), weights=n) for n in counts])
        sds = np.sqrt([np.average((np.arange(256) - m) ** 2, weights=n) for m, n in zip(means, counts, strict=True)])
        return Scale(tuple((1 / sds).tolist()), tuple((-means / sds).tolist()))
    raise UnknownNameError(f"There is no normalisation {normalisation!r}; choose one of: {', '.join(NORMALISATIONS)}.")


def normalise(pixels: NDArray[np.uint8], scale: Scale) -> NDArray[np.float32]:
    """Bring pixel values to the network's scale, as the network's own first layer does."""
    return pixels.astype(np.float32) * np.asarray(scale.factor, np.float32) + np.asarray(scale.offset, np.float32)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep OpenCV to one thread in the body, so that threads or processes side by side do not fight over the cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def map_ahead(
    submit: Callable[[Callable[[Any], Any], Any], Any], n: int, function: Callable[[Any], Any], tasks: Iterable[Any]
) -> Iterator[Any]:
    """Hand tasks to `submit`, which gives futures, `n` of them ahead of the outcomes; these come in order."""
    waiting: deque[Any] = deque()
    for task in tasks:
        waiting.append(submit(function, task))
        if len(waiting) > n:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def map_in_threads(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Generator[Any, None, None]:
    """Do tasks on all cores, where nearly all of the work is OpenCV's, which runs beside Python."""
    # Threads of NumPy's that wait for each other on a busy machine would burn more than they do.
    with one_thread(), threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from map_ahead(pool.submit, 2 * (os.cpu_count() or 1), function, tasks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def load_images(data: DataSet, shape: tuple[int, int] = INPUT_SHAPE, on_progress: OnProgress | None = None) -> Images:
    """Read the whole augmented data set at the network's size, from the cache if it is there."""
    index = list_images(data)
    name = f"{read_checksums(data).sha256[:16]}-opencv{cv2.__version__}-{RESIZING}-{shape[0]}x{shape[1]}.npy"
    cached = paths.cache() / "arrays" / name

    def read(image: str) -> NDArray[np.uint8]:
        return read_small(data.image_path(image), shape)

    return Images(index, load_pictures(cached, index.image.tolist(), shape, read, on_progress))


def load_pictures(
    cached: Path,
    names: Sequence[str],
    shape: tuple[int, int],
    make: Callable[[str], NDArray[np.uint8]],
    on_progress: OnProgress | None = None,
) -> NDArray[np.uint8]:
    """Map an array of pictures of a shape (height, width), read-only; if it is not there, `make` gives each by name."""
    found = paths.read_array(cached)
    if found is not None:
        return found
    with paths.new_array(cached, (len(names), *shape, 3), np.uint8) as pictures:

        def fill(rows: range) -> int:
            for row in rows:
                pictures[row] = make(names[row])
            return rows.stop

        parts = [range(i, min(i + _CHUNK, len(names))) for i in range(0, len(names), _CHUNK)]
        for done in map_in_threads(fill, parts):
            if on_progress:
                on_progress(done, len(names))
    return np.load(cached, mmap_mode="r", allow_pickle=False)
