"""Ways of reading the images and of finding their photos, to be timed against each other, each in its own process."""

import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from wbc_lib import paths
from wbc_lib.crowds import enlarge, read_crowd
from wbc_lib.images import INPUT_SHAPE, load_images, one_thread, read_image
from wbc_lib.lineup import identify, line_up, read_source, to_grey
from wbc_lib.manifest import read_manifest
from wbc_lib.photos import CLASSES, DataSet, index_photos, list_images, open_folder
from wbc_lib.registration import build_index, vote
from wbc_lib.turns import Measured, Turn, serve

_PAGE = 4096
_SHORTLIST = 3  # as in `lineup`


def link_some(data: DataSet, folder: Path, share: float) -> DataSet:
    """Make a smaller data set of links into a larger one: all photos, and a share of the images of every class.

    Parameters
    ----------
    data : DataSet
    folder : Path
        Empty or not there yet.
    share : float
        Of the images, 0 to 1; at least one of each class and split stays.
    """
    images = list_images(data)
    kept = images.groupby(["split", "cell"], group_keys=False).image.apply(
        lambda i: i.head(max(1, round(share * len(i))))
    )
    (folder / "dataset-master").mkdir(parents=True)
    (folder / "dataset-master" / "dataset-master").symlink_to(data.raw.resolve(), target_is_directory=True)
    for image in kept:
        target = folder / "dataset2-master" / "images" / image
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(data.image_path(image).resolve())
    return open_folder(folder)


def read_cold(turn: Turn, data: str) -> None:
    """Read all images as `load_images` does when its cache is empty: hash, decode, shrink, keep, map."""
    turn()
    paths.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.cache()) as cache:
        os.environ["WBC_CACHE"] = cache
        held, started = _memory("VmRSS"), time.perf_counter()
        found = open_folder(data)
        pixels = load_images(found).pixels
        pixels.reshape(-1)[::_PAGE].max()
        seconds, peak = time.perf_counter() - started, _memory("VmHWM")
        images, array = len(pixels), pixels.nbytes
        del pixels  # a file that is mapped cannot be removed everywhere
        started = time.perf_counter()
        read_manifest(found, anew=True)
        hashing = time.perf_counter() - started
        for file in (paths.cache() / "arrays").iterdir():
            file.unlink()
        started = time.perf_counter()
        load_images(found)
        decoding = time.perf_counter() - started
    turn(
        ("seconds", images, seconds),
        ("seconds of hashing", images, hashing),
        ("seconds of decoding", images, decoding),
        *_times_the_array(images, peak, held, array),
    )


def read_in_usual_loop(turn: Turn, data: str) -> None:
    """Read all images the usual way: imread, resize, append; then make an array of the list."""
    turn()
    found = open_folder(data)
    files = [str(found.image_path(image)) for image in list_images(found).image]
    held, started = _memory("VmRSS"), time.perf_counter()
    pictures = []
    for file in files:
        pictures.append(cv2.resize(cv2.imread(file), INPUT_SHAPE[::-1]))  # noqa: PERF401 - the usual way
    pixels = np.array(pictures)
    seconds, peak = time.perf_counter() - started, _memory("VmHWM")
    turn(("seconds", len(pixels), seconds), *_times_the_array(len(pixels), peak, held, pixels.nbytes))


def read_warm(turn: Turn, data: str, cache: str) -> None:
    """Read all images as `load_images` does when they are cached; every page of the map is touched."""
    os.environ["WBC_CACHE"] = cache
    turn()
    started = time.perf_counter()
    pixels = load_images(open_folder(data)).pixels
    pixels.reshape(-1)[::_PAGE].max()
    turn(("seconds", len(pixels), time.perf_counter() - started))


def _times_the_array(images: int, peak: float | None, held: float | None, array: int) -> list[Measured]:
    if peak is None or held is None:
        return []
    return [("peak memory / array", images, (peak - held) / array)]


def _memory(field: str) -> float | None:
    # Bytes; of this process alone, which getrusage's peak is not: that starts with the parent's.
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), None)


def trace_images(turn: Turn, data: str, images: int) -> None:
    """Find the photos of images, other ones each turn, in one process on one core."""
    found, listed = open_folder(data), list_images(open_folder(data))
    index = index_photos(found)
    single = index[(index.kind == "single") & index.has_photo]
    with one_thread():
        started = time.perf_counter()
        lineups = {
            cell: line_up([read_source(found, photo) for photo in single.index[single.labels == cell]])
            for cell in CLASSES
        }
        turn(("seconds to line the photos up", len(single), time.perf_counter() - started))
        rng = np.random.default_rng(0)
        while True:
            chosen = listed.iloc[rng.permutation(len(listed))[:images]]
            started = time.perf_counter()
            for image, cell in zip(chosen.image, chosen.cell, strict=True):
                identify(to_grey(read_image(found.image_path(image))), lineups[cell])
            turn(("seconds per image", None, (time.perf_counter() - started) / len(chosen)))


def search_by_index(turn: Turn, crowd: str, photos: int, per_view: int) -> None:
    """Let images vote for the photos they come from, by one search over all of them; on one core."""
    drawn = read_crowd(Path(crowd))
    whole = enlarge(drawn, photos, per_view)
    started = time.perf_counter()
    index = build_index(whole.photos)
    built = time.perf_counter() - started

    def rank(i: int) -> bool:
        votes = vote(index, whole.images[i]).reshape(-1, 2).max(axis=1)
        return i in np.argsort(-votes, kind="stable")[:_SHORTLIST]

    with one_thread():
        found = np.mean([rank(i) for i in range(len(whole.images))])
        turn(("seconds to index", photos, built), ("share found", photos, float(found)))
        while True:
            started = time.perf_counter()
            for i in range(len(whole.images)):
                rank(i)
            turn(("seconds per image", photos, (time.perf_counter() - started) / len(whole.images)))


def search_one_by_one(turn: Turn, crowd: str, photos: int, per_view: int, images: int) -> None:
    """Compare images with every photo in turn, as one would without an index; on one core."""
    drawn = read_crowd(Path(crowd))
    whole = enlarge(drawn, photos, per_view)
    views = [view.descriptors.astype(np.float32) for view in whole.photos]
    asked = [image.descriptors.astype(np.float32) for image in whole.images[:images]]
    matcher = cv2.BFMatcher()
    with one_thread():
        matcher.knnMatch(asked[0], views[0], 2)
        turn()
        while True:
            started = time.perf_counter()
            for wanted in asked:
                for view in views:
                    matcher.knnMatch(wanted, view, 2)
            turn(("seconds per image", photos, (time.perf_counter() - started) / len(asked)))


if __name__ == "__main__":
    ways = (read_cold, read_in_usual_loop, read_warm, trace_images, search_by_index, search_one_by_one)
    serve({way.__name__: way for way in ways})
