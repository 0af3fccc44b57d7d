import sys

import numpy as np
import pytest

from wbc_lib.crowds import draw_crowd, write_crowd
from wbc_lib.data_contenders import link_some
from wbc_lib.images import load_images
from wbc_lib.photos import list_images, list_photos, open_folder
from wbc_lib.turns import Contender, race

COMMAND = (sys.executable, "-m", "wbc_lib.data_contenders")


def test_a_smaller_set_has_all_photos_and_a_share_of_every_class(phantom_set, tmp_path):
    small = link_some(phantom_set, tmp_path / "small", 0.5)
    whole, some = list_images(phantom_set), list_images(small)
    counts = whole.groupby(["split", "cell"]).size()
    assert (some.groupby(["split", "cell"]).size() - counts * 0.5).abs().max() <= 0.5
    assert set(some.image) <= set(whole.image)
    assert list_photos(small) == list_photos(phantom_set)
    first = some.image[0]
    assert small.image_path(first).read_bytes() == phantom_set.image_path(first).read_bytes()


def test_a_tiny_share_leaves_an_image_of_each_class(phantom_set, tmp_path):
    small = list_images(link_some(phantom_set, tmp_path / "small", 1e-6))
    assert (small.groupby(["split", "cell"]).size() == 1).all()


def test_reading_is_timed_cold_the_usual_way_and_warm(phantom_set, tmp_path):
    data = str(phantom_set.root)
    ways = [
        Contender("cold", COMMAND, "read_cold", {"data": data}, is_fresh=True),
        Contender("usual", COMMAND, "read_in_usual_loop", {"data": data}, is_fresh=True),
        Contender("warm", COMMAND, "read_warm", {"data": data, "cache": str(tmp_path / "cache")}, is_fresh=True),
    ]
    found = {(s.contender, s.quantity): s for s in race(ways, 2).series}
    n = len(list_images(phantom_set))
    for way in ("cold", "usual", "warm"):
        assert found[way, "seconds"].size == n and len(found[way, "seconds"].values) == 2
    # The first of the warm ones found its cache empty.
    assert found["warm", "seconds"].values[1] < found["warm", "seconds"].values[0]
    for part in ("hashing", "decoding"):
        assert 0 < found["cold", f"seconds of {part}"].median < found["cold", "seconds"].median
    assert found["usual", "peak memory / array"].median > 1.5  # a list of pictures, and then the array besides
    assert open_folder(data).root == phantom_set.root
    (kept,) = (tmp_path / "cache" / "arrays").glob("*.npy")
    assert np.array_equal(np.load(kept), load_images(phantom_set).pixels)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    path = tmp_path_factory.mktemp("crowd") / "crowd.npz"
    write_crowd(draw_crowd(8, 3, 16), path)
    return str(path)


def test_tracing_and_searching_are_timed_per_image(phantom_set, crowd):
    options = {"crowd": crowd, "photos": 20, "per_view": 16}
    ways = [
        Contender("trace", COMMAND, "trace_images", {"data": str(phantom_set.root), "images": 2}),
        Contender("index", COMMAND, "search_by_index", options),
        Contender("each", COMMAND, "search_one_by_one", options | {"images": 1}),
    ]
    found = {(s.contender, s.quantity): s for s in race(ways, 2).series}
    for way, size in (("trace", None), ("index", 20), ("each", 20)):
        series = found[way, "seconds per image"]
        assert series.size == size and len(series.values) == 2 and min(series.values) > 0
    assert found["index", "share found"].values == (1.0,)
    assert len(found["index", "seconds to index"].values) == 1
