"""Which photo each augmented image was made from, and how it was moved.

An image is compared with all single-label photos of its class, whatever their split (see `registration.find_source`).
"""

import shutil
from contextlib import closing
from functools import partial
from pathlib import Path

import cv2
import pandas as pd
from filelock import FileLock

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, DataSet, index_photos, list_images
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import AFFINE, OnProgress, map_in_threads, read_image, require_size, to_grey
from wbc_lib.provenance.registration import SourceIndex, find_source, index_sources, read_source

#: Raise it whenever the same images may give another table than before, so that cached tables are made anew.
METHOD = 1

_DECIMALS = dict.fromkeys(AFFINE, 7) | {"a13": 4, "a23": 4, "gain": 4, "residual": 3, "confidence": 3}
_COLUMNS = {
    "image": str,
    "photo": int,
    "mirrored": bool,
    **dict.fromkeys(AFFINE, float),
    "inliers": int,
    "matches": int,
    "gain": float,
    "residual": float,
    "runner_up": int,
    "runner_up_inliers": int,
    "confidence": float,
}
#: The table of the published images, as `trace` gives it.
RECORDED = paths.RecordedTable(("provenance", "images.csv.gz"), _COLUMNS, "provenance")
read_recorded, write_recorded = RECORDED.read, RECORDED.write
#: Images in a piece of work.
_CHUNK = 32


def trace(data: DataSet, on_progress: OnProgress | None = None) -> pd.DataFrame:
    """Find the photo each augmented image was made from: a row per image, in the order of `dataset.list_images`.

    - ``photo``: number of the likeliest photo, -1 if not one could be laid over the image;
    - ``mirrored``: whether the map changes left and right hand;
    - ``a11`` to ``a23``: the map as of `images.AFFINE`, NaN without a photo;
    - ``inliers``, ``matches``: features that agree with the map, and that were matched;
    - ``gain``, ``residual``: by what factor the image is brighter than the photo, and the mean absolute difference of
      the two, the photo moved and brightened, in grey levels;
    - ``runner_up``, ``runner_up_inliers``: the other photo that came closest, -1 and 0 if none;
    - ``confidence``: 0 if the photo is a guess: the map has fewer than `registration.MIN_INLIERS` inliers or a residual
      above `registration.MAX_RESIDUAL`, or is none that the recipe can make. Else one minus the runner-up's inliers or,
      if that leaves more, the residual, each as a share of what the other one has.

    Work is kept in the user cache as it is done: interrupted, it goes on where it stopped; finished, it is read back.
    Raises `BadDataError` if a photo or an image cannot be read, or an image is not 320x240.
    """
    name = f"{read_checksums(data).sha256[:16]}-method{METHOD}-opencv{cv2.__version__}"
    folder = paths.cache() / "provenance" / name
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # whoever comes second waits, and reads what the first has traced
        return _trace_missing(data, folder, on_progress)


def _trace_missing(data: DataSet, folder: Path, on_progress: OnProgress | None) -> pd.DataFrame:
    finished = folder / "images.csv"
    if finished.exists():
        return _read_table(finished)
    images = list_images(data)
    pieces = [images.iloc[start : start + _CHUNK] for start in range(0, len(images), _CHUNK)]
    chunks = {folder / "chunks" / f"{piece.index[0]}-{piece.index[-1]}.csv": piece for piece in pieces}
    missing = {path: chunk for path, chunk in chunks.items() if not path.exists()}
    done = len(images) - sum(map(len, missing.values()))
    if on_progress:
        on_progress(done, len(images))
    photos = _read_sources(data) if missing else {}
    traced = map_in_threads(partial(_trace_chunk, data, photos), missing.values())
    with closing(traced):  # at once if the caller's callback raises
        for path, result in zip(missing, traced, strict=True):
            paths.write_table(path, result)
            done += len(missing[path])
            if on_progress:
                on_progress(done, len(images))
    table = pd.concat([_read_table(path) for path in chunks], ignore_index=True)
    paths.write_table(finished, table)
    shutil.rmtree(folder / "chunks", ignore_errors=True)
    return table


def read(data: DataSet, on_progress: OnProgress | None = None) -> pd.DataFrame:
    """The table of any data set: as recorded if these are the published files, else traced here (see `trace`)."""
    if read_checksums(data).is_published and RECORDED.path.exists():
        return read_recorded()
    return trace(data, on_progress)


def _read_table(path: Path) -> pd.DataFrame:
    return paths.read_table(path, _COLUMNS, RECORDED.what, "remove it and trace the images again")


def _read_sources(data: DataSet) -> dict[str, SourceIndex]:
    index = index_photos(data)
    single = index[(index.kind == "single") & index.has_photo]
    of_class = {cell: single.index[single.labels == cell] for cell in CLASSES}
    return {c: index_sources(list(map_in_threads(partial(read_source, data), of_class[c]))) for c in CLASSES}


def _trace_chunk(data: DataSet, photos: dict[str, SourceIndex], chunk: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for image, cell in zip(chunk.image, chunk.cell, strict=True):
        path = data.image_path(image)
        picture = read_image(path)
        require_size(picture.shape[1], picture.shape[0], path)
        match = find_source(to_grey(picture), photos[cell])
        affine = dict(zip(AFFINE, match.affine.ravel(), strict=True))
        rows.append({"image": image, "mirrored": match.mirrored, **affine, **vars(match)})
    return pd.DataFrame(rows).round(_DECIMALS)[list(_COLUMNS)]
