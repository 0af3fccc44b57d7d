"""The arrays that one experiment learns from and is scored on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wbc_lib import splits
from wbc_lib.errors import UnknownNameError
from wbc_lib.experiments import Experiment
from wbc_lib.images import load_images, read_image, shrink
from wbc_lib.photos import CLASSES, LABELS, DataSet, index_photos, read_boxes

#: Share of the white cell's box that is added on each side of a crop, so that its rim is in the picture.
_CROP_MARGIN = 0.1


@dataclass(frozen=True)
class Examples:
    """Inputs with their labels.

    Attributes
    ----------
    inputs : ndarray, shape (examples, height, width, RGB) of uint8, or (examples, features) of float32
    labels : ndarray of int32, shape (examples,)
        1 to 4.
    names : ndarray of str, shape (examples,)
        Image or photo that each came from.
    """

    inputs: NDArray
    labels: NDArray[np.int32]
    names: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[np.integer]) -> "Examples":
        """The examples in the given rows."""
        return Examples(self.inputs[rows], self.labels[rows], self.names[rows])


@dataclass(frozen=True)
class Material:
    """What one run learns from, watches, and is scored on at the end."""

    training: Examples
    validation: Examples
    test: Examples


def gather(
    data: DataSet, experiment: Experiment, seed: int, on_progress: Callable[[int, int], None] | None = None
) -> Material:
    """Put together the material of one experiment.

    Parameters
    ----------
    data : DataSet
    experiment : Experiment
    seed : int
        Decides what is held back for validation.
    on_progress : callable, optional
        Called with (images done, images in all) while images or features are prepared.

    Raises
    ------
    BadDataError
        If an image cannot be read.
    WeightsError
        If a frozen base's weights cannot be had.
    """
    if experiment.material == "augmented":
        known, test = _augmented(data, experiment, on_progress)
    elif experiment.material in ("raw", "raw-undersampled", "raw-cropped"):
        known, test = _raw(data, experiment, seed)
    else:
        raise UnknownNameError(f"There is no material {experiment.material!r} to train on.")
    split = splits.split_at_random(len(known), experiment.settings.validation_share, seed)
    return Material(known.take(split.training), known.take(split.validation), test)


def _augmented(
    data: DataSet, experiment: Experiment, on_progress: Callable[[int, int], None] | None
) -> tuple[Examples, Examples]:
    images = load_images(data, experiment.input_shape, on_progress)
    inputs = images.pixels
    if experiment.network.base:
        from wbc_lib.features import load_features

        inputs = load_features(data, experiment, on_progress)
    labels, names = images.index.label.to_numpy(np.int32), images.index.image.to_numpy(str)
    everything = Examples(inputs, labels, names)
    rows = {s: np.flatnonzero(images.index.split == s) for s in ("TRAIN", "TEST")}
    return everything.take(rows["TRAIN"]), everything.take(rows["TEST"])


def _raw(data: DataSet, experiment: Experiment, seed: int) -> tuple[Examples, Examples]:
    index = index_photos(data).query(
        "has_photo and kind == 'single' and labels in @CLASSES", local_dict={"CLASSES": CLASSES}
    )
    known = index[index.split == "TRAIN"]
    if experiment.material == "raw-undersampled":
        # The rarest class is counted over all photos of the split that may be learned from.
        known = known.iloc[splits.undersample(known.labels.map(LABELS).to_numpy(), seed)]
    crops = _white_cells(data) if experiment.material == "raw-cropped" else {}
    return tuple(
        Examples(
            np.stack([_read_photo(data, p, experiment.input_shape, crops.get(p)) for p in part.index]),
            part.labels.map(LABELS).to_numpy(np.int32),
            np.array([data.photo_path(p).name for p in part.index]),
        )
        for part in (known, index[index.split == "TEST"])
    )


def _white_cells(data: DataSet) -> dict[int, tuple[int, int, int, int]]:
    # Of several boxes the largest is the labelled cell: the label names one.
    boxes = read_boxes(data).query("cell == 'WBC' and not is_degenerate")
    area = (boxes.xmax - boxes.xmin) * (boxes.ymax - boxes.ymin)
    largest = boxes.loc[area.groupby(boxes.photo).idxmax()].set_index("photo")
    return {p: (b.xmin, b.ymin, b.xmax, b.ymax) for p, b in largest.iterrows()}


def _read_photo(
    data: DataSet, photo: int, shape: tuple[int, int], crop: tuple[int, int, int, int] | None
) -> NDArray[np.uint8]:
    image = read_image(data.photo_path(photo))
    if crop is not None:
        xmin, ymin, xmax, ymax = crop
        dx, dy = round(_CROP_MARGIN * (xmax - xmin)), round(_CROP_MARGIN * (ymax - ymin))
        image = image[max(ymin - dy, 0) : ymax + dy, max(xmin - dx, 0) : xmax + dx]
    return shrink(image, shape)
