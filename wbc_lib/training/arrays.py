"""The arrays that one experiment learns from and is scored on: pixels, or what a frozen base makes of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data import external, splits
from wbc_lib.data.dataset import CLASSES, LABELS, DataSet, index_photos, photo_number
from wbc_lib.data.external import SOURCES
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import RESIZING, OnProgress, load_images, read_image, shrink
from wbc_lib.data.picture_sets import TEST_IMAGES, TEST_PHOTOS, TRAIN_IMAGES, TRAIN_PHOTOS, PictureSet, open_set
from wbc_lib.errors import DataNotFoundError, UnknownNameError, WeightsError
from wbc_lib.provenance import overlaps, trace
from wbc_lib.provenance.boxes import cover_cells, white_cells
from wbc_lib.training import windows
from wbc_lib.training.experiments import N_FOLDS
from wbc_lib.training.plan import BARCELONA, WINDOWS, Experiment

#: Share of the white cell's box that is added on each side of a crop, so that its rim is in the picture.
_CROP_MARGIN = 0.1
#: In place of its photo's number, for an image that an experiment leaves out.
_UNUSED = -1
#: Images that go through a frozen base at a time.
_BASE_BATCH = 64

_Corners = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Examples:
    """What is learned from or scored."""

    inputs: NDArray  # uint8 (examples, height, width, RGB), or float32 features (examples, features)
    labels: NDArray[np.int32]  # 1 to 4; 0 for a cell of no class of ours
    names: NDArray[np.str_]  # of the image or photo that each came from

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


def gather(data: DataSet, experiment: Experiment, seed: int, on_progress: OnProgress | None = None) -> Material:
    """Put together the material of one experiment; the seed decides what is held back for validation.

    Raises `BadDataError` if an image cannot be read, and `WeightsError` if a base's weights, or the pictures from
    elsewhere that it is pretrained on, cannot be had.
    """
    if experiment.material in ("raw", "raw-undersampled", "raw-cropped"):
        known, scored = _raw(data, experiment, seed)
        if experiment.protocol != "random":
            raise UnknownNameError(f"There is no protocol {experiment.protocol!r} for raw photos; use 'random'.")
        split = splits.split_at_random(len(known), experiment.settings.validation_share, seed)
        return Material(known.take(split.training), known.take(split.validation), scored)
    if experiment.material in (WINDOWS, BARCELONA):
        return _gather_windows(data, experiment, seed, on_progress)
    if experiment.material not in ("augmented", "painted"):
        raise UnknownNameError(f"There is no material {experiment.material!r} to train on.")
    images, photo = _augmented(data, experiment, on_progress)
    train, test = (
        np.flatnonzero(np.char.startswith(images.names, part) & (photo != _UNUSED)) for part in ("TRAIN/", "TEST/")
    )
    if experiment.protocol == "test":
        return Material(images.take(train), images.take(test), images.take(test))
    if not experiment.protocol.startswith("fold-"):
        split = _hold_back(data, experiment, images.labels[train], photo[train], seed)
        return Material(images.take(train[split.training]), images.take(train[split.validation]), images.take(test))
    rows = np.concatenate([train, test])
    split = _part_by_fold(data, experiment, images.labels[rows], photo[rows], seed)
    learned, held_back = rows[split.training], rows[split.validation]
    photos, first = np.unique(photo[held_back], return_index=True)
    originals = _read_photos(data, photos, images.labels[held_back[first]], experiment.input_shape)
    share = experiment.settings.photo_share
    learned = learned[splits.choose_share(images.labels[learned], photo[learned], share, seed)]
    return Material(images.take(learned), images.take(held_back), originals)


def draw(examples: Examples, n: int, rng: np.random.Generator) -> Examples:
    """Draw so many examples of windows, as `windows.choose_rows` and `windows.vary` do."""
    # Where each comes from shows in its name.
    of_images = np.char.startswith(examples.names, "TRAIN/") | np.char.startswith(examples.names, "TEST/")
    of_barcelona = np.char.startswith(examples.names, f"{SOURCES['pbc'].folder}/")
    sources = np.select([of_images, of_barcelona], [windows.IMAGES, windows.BARCELONA], windows.PHOTOS)
    rows = windows.choose_rows(examples.labels, sources, n, rng)
    pixels = np.stack([windows.vary(examples.inputs[row], rng) for row in rows])
    return Examples(pixels, examples.labels[rows], examples.names[rows])


def load_features(data: DataSet, experiment: Experiment, on_progress: OnProgress | None = None) -> NDArray[np.float32]:
    """Features (images, features) of every augmented image on an experiment's frozen base, from the cache or computed.

    In the order of `dataset.list_images`; memory-mapped. Raises `WeightsError` if the base's weights cannot be had.
    """
    network, shape = experiment.network, experiment.input_shape
    name = f"{read_checksums(data).sha256[:16]}-{RESIZING}-{shape[0]}x{shape[1]}-{network.base}-{network.base_weights}"
    name += ".npy" if network.base_pooling == "flatten" else f"-{network.base_pooling}.npy"
    cached = paths.cache() / "features" / name
    if paths.read_array(cached) is None:
        from wbc_lib.training.networks import build_base

        base = build_base(network.base, network.base_weights, shape, network.base_pooling)
        pixels = load_images(data, shape).pixels
        with paths.new_array(cached, (len(pixels), base.output_shape[1]), np.float32) as features:
            for start in range(0, len(pixels), _BASE_BATCH):
                batch = np.asarray(pixels[start : start + _BASE_BATCH], np.float32)
                features[start : start + len(batch)] = base.predict_on_batch(batch)
                if on_progress:
                    on_progress(start + len(batch), len(pixels))
    return np.load(cached, mmap_mode="r", allow_pickle=False)


def _gather_windows(data: DataSet, experiment: Experiment, seed: int, on_progress: OnProgress | None) -> Material:
    # Learned from are windows with a margin, which can be turned; scored are their middles, which the network sees.
    try:
        elsewhere = open_set("pbc", elsewhere=external.find())
    except DataNotFoundError as error:
        raise WeightsError(f"Windows are learned from pictures from elsewhere as well. {error}") from error
    barcelona = _cut_windows(elsewhere, external.PBC_RED_CELL, on_progress)
    ours = {name: open_set(name, data) for name in (TRAIN_IMAGES, TEST_IMAGES, TRAIN_PHOTOS, TEST_PHOTOS)}
    cut = {name: _cut_windows(pictures, pictures.red_cell, on_progress) for name, pictures in ours.items()}
    if experiment.protocol == "test":
        learned, held_back, scored = [cut[TRAIN_IMAGES], cut[TRAIN_PHOTOS]], cut[TEST_IMAGES], cut[TEST_IMAGES]
    else:
        images, photos = _join(cut[TRAIN_IMAGES], cut[TEST_IMAGES]), _join(cut[TRAIN_PHOTOS], cut[TEST_PHOTOS])
        photo = trace.read(data, on_progress).set_index("image").photo.loc[images.names].to_numpy()
        split = _part_by_fold(data, experiment, images.labels, photo, seed)
        is_learned = np.isin([photo_number(name) for name in photos.names], photo[split.training])
        learned = [images.take(split.training), photos.take(np.flatnonzero(is_learned))]
        held_back, scored = images.take(split.validation), photos.take(np.flatnonzero(~is_learned))
    material = barcelona if experiment.material == BARCELONA else _join(*learned, barcelona)
    return Material(material, *(replace(p, inputs=windows.take_middle(p.inputs)) for p in (held_back, scored)))


def _cut_windows(pictures: PictureSet, red_cell: float, on_progress: OnProgress | None) -> Examples:
    labels = pictures.table.cell.map(LABELS).fillna(0).to_numpy(np.int32)
    names = pictures.table.picture.to_numpy(str)
    return Examples(windows.load_windows(pictures, red_cell, on_progress), labels, names)


def _join(*parts: Examples) -> Examples:
    return Examples(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("inputs", "labels", "names")))


def _part_by_fold(
    data: DataSet, experiment: Experiment, labels: NDArray[np.int32], photo: NDArray[np.int64], seed: int
) -> splits.Split:
    fold = int(experiment.protocol.removeprefix("fold-"))
    return splits.split_by_group(labels, overlaps.find_fields(photo, data), fold, N_FOLDS, seed)


def _hold_back(
    data: DataSet, experiment: Experiment, labels: NDArray[np.int32], photo: NDArray[np.int64], seed: int
) -> splits.Split:
    share = experiment.settings.validation_share
    if experiment.protocol == "random":
        return splits.split_at_random(len(labels), share, seed)
    if experiment.protocol == "by-photo":
        return splits.split_by_group(labels, overlaps.find_fields(photo, data), 1, round(1 / share), seed)
    raise UnknownNameError(f"There is no protocol {experiment.protocol!r} to hold images back by.")


def _augmented(
    data: DataSet, experiment: Experiment, on_progress: OnProgress | None
) -> tuple[Examples, NDArray[np.int64]]:
    # The images of all splits; and each one's photo, where it matters, or that it is not to be used.
    images = load_images(data, experiment.input_shape, on_progress)
    inputs: NDArray = images.pixels
    photo = np.zeros(len(images.pixels), np.int64)
    if experiment.network.base:
        inputs = load_features(data, experiment, on_progress)
    if experiment.material == "painted" or experiment.protocol not in ("random", "test"):
        table = trace.read(data, on_progress)
        photo = table.photo.to_numpy()
        if experiment.material == "painted":
            boxes = white_cells(data)
            inputs = cover_cells(inputs, table, boxes)
            photo = np.where(table.photo.isin(boxes.photo), photo, _UNUSED)
    return Examples(inputs, images.index.label.to_numpy(np.int32), images.index.image.to_numpy(str)), photo


def _raw(data: DataSet, experiment: Experiment, seed: int) -> tuple[Examples, Examples]:
    index = index_photos(data)
    index = index[index.has_photo & (index.kind == "single") & index.labels.isin(CLASSES)]
    known = index[index.split == "TRAIN"]
    if experiment.material == "raw-undersampled":
        # The rarest class is counted over all photos of the split that may be learned from.
        known = known.iloc[splits.undersample(known.labels.map(LABELS).to_numpy(), seed)]
    crops = _largest_cells(data) if experiment.material == "raw-cropped" else {}
    known_examples, test_examples = (
        _read_photos(data, part.index.to_numpy(), part.labels.map(LABELS).to_numpy(), experiment.input_shape, crops)
        for part in (known, index[index.split == "TEST"])
    )
    return known_examples, test_examples


def _largest_cells(data: DataSet) -> dict[int, _Corners]:
    # Of several boxes the largest is the labelled cell: the label names one.
    boxes = white_cells(data)
    area = (boxes.xmax - boxes.xmin) * (boxes.ymax - boxes.ymin)
    largest = boxes.loc[area.groupby(boxes.photo).idxmax()].set_index("photo")
    return {p: (b.xmin, b.ymin, b.xmax, b.ymax) for p, b in largest.iterrows()}


def _read_photos(
    data: DataSet,
    photos: NDArray[np.int64],
    labels: NDArray[np.integer],
    shape: tuple[int, int],
    crops: Mapping[int, _Corners] = MappingProxyType({}),
) -> Examples:
    pixels = np.stack([shrink(_cut(read_image(data.photo_path(p)), crops.get(p)), shape) for p in photos])
    return Examples(pixels, labels.astype(np.int32), np.array([data.photo_path(p).name for p in photos]))


def _cut(image: NDArray[np.uint8], crop: _Corners | None) -> NDArray[np.uint8]:
    if crop is None:
        return image
    xmin, ymin, xmax, ymax = crop
    dx, dy = round(_CROP_MARGIN * (xmax - xmin)), round(_CROP_MARGIN * (ymax - ymin))
    return image[max(ymin - dy, 0) : ymax + dy, max(xmin - dx, 0) : xmax + dx]
