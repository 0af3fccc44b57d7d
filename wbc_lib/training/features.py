"""What a frozen base sees: its features are a function of the image alone, so they are computed once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.dataset import DataSet
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import RESIZING, load_images
from wbc_lib.training.experiments import Experiment

_BATCH = 64


def load_features(
    data: DataSet, experiment: Experiment, on_progress: Callable[[int, int], None] | None = None
) -> NDArray[np.float32]:
    """Features of every augmented image on a frozen base, from the cache if they are there.

    Parameters
    ----------
    data : DataSet
    experiment : Experiment
        Names the base, its weights and the input size.
    on_progress : callable, optional
        Called with (images done, images in all).

    Returns
    -------
    ndarray of float32, shape (images, features)
        In the order of `dataset.list_images`; memory-mapped, read-only.

    Raises
    ------
    WeightsError
        If the base's weights cannot be had.
    """
    network, shape = experiment.network, experiment.input_shape
    sha256 = read_checksums(data).sha256[:16]
    name = f"{sha256}-{RESIZING}-{shape[0]}x{shape[1]}-{network.base}-{network.base_weights}"
    name += ".npy" if network.base_pooling == "flatten" else f"-{network.base_pooling}.npy"
    cached = paths.cache() / "features" / name
    if paths.read_array(cached) is None:
        from wbc_lib.training.networks import build_base

        base = build_base(network.base, network.base_weights, shape, network.base_pooling)
        pixels = load_images(data, shape).pixels
        with paths.new_array(cached, (len(pixels), base.output_shape[1]), np.float32) as features:
            for start in range(0, len(pixels), _BATCH):
                batch = np.asarray(pixels[start : start + _BATCH], np.float32)
                features[start : start + len(batch)] = base.predict_on_batch(batch)
                if on_progress:
                    on_progress(start + len(batch), len(pixels))
    return np.load(cached, mmap_mode="r", allow_pickle=False)
