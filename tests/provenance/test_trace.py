import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pandas as pd
import pytest

from tests.drawn import draw_reduced
from wbc_lib.data import dataset, phantoms
from wbc_lib.data.images import AFFINE
from wbc_lib.provenance import evidence, registration, trace


@pytest.fixture(scope="module")
def few_images(tiny_set, tmp_path_factory):
    """The smallest phantoms with two images in each folder, which are traced again and again."""
    data = dataset.open_folder(shutil.copytree(tiny_set.root, tmp_path_factory.mktemp("few") / "set"))
    for folder in data.augmented.glob("*/*"):
        for image in sorted(folder.iterdir())[2:]:
            image.unlink()
    return data


@pytest.fixture(scope="module")
def few_traced(few_images):
    return trace.trace(few_images)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(trace, "_CHUNK", 4)
    return tmp_path / "cache"


def assert_true(table, data):
    found = evidence.compare_with_truth(table, phantoms.read_truth(data))
    assert found.photo_is_right.all() and found.mirrored_is_right.all() and found.miss.max() < 2


def test_every_phantom_is_traced_to_its_photo(phantom_set, table):
    assert list(table.image) == list(dataset.list_images(phantom_set).image)
    assert_true(table, phantom_set)
    assert table.confidence.min() > 0.8
    assert table.residual.max() < 2 and table.gain.between(0.99, 1.01).all()
    assert (table.runner_up != table.photo).all()
    assert (table.inliers >= registration.MIN_INLIERS).all() and (table.inliers <= table.matches).all()


def test_interrupted_work_is_taken_up_and_finished_work_read_back(few_images, few_traced, cache, monkeypatch):
    assert_true(few_traced, few_images)

    def interrupt(done, total):
        if done >= 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trace.trace(few_images, interrupt)
    kept = {path: path.stat().st_mtime_ns for path in cache.rglob("chunks/*.csv")}
    assert len(kept) == 2
    progress = []

    def look(done, total):
        progress.append(done)
        assert all(path.stat().st_mtime_ns == time for path, time in kept.items())

    table = trace.trace(few_images, look)
    assert progress[0] == 8 and progress[-1] == len(table) and progress == sorted(progress)
    pd.testing.assert_frame_equal(table, few_traced)
    assert not list(cache.rglob("chunks"))
    monkeypatch.setattr(trace, "find_source", None)
    pd.testing.assert_frame_equal(trace.trace(few_images), few_traced)


def test_two_that_trace_at_once_do_not_disturb_each_other(few_images, few_traced, cache):
    has_begun = threading.Event()

    def let_the_other_begin(done, total):
        if 0 < done < total:
            has_begun.wait(0.2)  # it does not, while this one is at work

    with ThreadPoolExecutor() as pool:
        first = pool.submit(trace.trace, few_images, let_the_other_begin)
        while not list(cache.rglob("chunks/*.csv")):
            time.sleep(0.01)
        second = pool.submit(trace.trace, few_images, lambda *_: has_begun.set())
    pd.testing.assert_frame_equal(first.result(), few_traced)
    pd.testing.assert_frame_equal(second.result(), few_traced)


def test_images_of_no_photo_are_in_the_table_too(few_images, few_traced, cache, tmp_path):
    shutil.copytree(few_images.root, tmp_path / "copy")
    data = dataset.open_folder(tmp_path / "copy")
    blank, stranger = few_traced.image[:2]
    cv2.imwrite(str(data.image_path(blank)), np.zeros((240, 320, 3), np.uint8))
    cv2.imwrite(str(data.image_path(stranger)), draw_reduced("LYMPHOCYTE", 77))
    table = trace.trace(data)
    assert table.photo[0] == table.runner_up[0] == -1
    assert list(table.confidence[:2]) == [0, 0] and table[AFFINE].isna().all(axis=1).sum() == 1
    pd.testing.assert_frame_equal(table[2:], few_traced[2:])
    trace.write_recorded(table)
    pd.testing.assert_frame_equal(trace.read_recorded(), table)
