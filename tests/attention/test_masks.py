import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from wbc_lib.attention import masks, saliency
from wbc_lib.data import external
from wbc_lib.data.dataset import LABELS, photo_number
from wbc_lib.data.external import External
from wbc_lib.data.images import INPUT_SHAPE
from wbc_lib.data.picture_sets import TEST_PHOTOS, open_set
from wbc_lib.data.windows import CLOSE, WHOLE_PHOTO, find_cells


@pytest.fixture(scope="module")
def photos(phantom_set):
    return open_set(TEST_PHOTOS, phantom_set)


@pytest.fixture(scope="module")
def drawn(photos, tmp_path_factory):
    """Masks that are discs about the middle of the largest nucleus."""
    root = tmp_path_factory.mktemp("elsewhere")
    (root / "banik-masks").mkdir()
    for picture in photos.table.picture:
        mask = np.zeros((480, 640), np.uint8)
        for cell in find_cells(photos.read(picture), photos.red_cell)[:1]:
            cv2.circle(mask, (round(cell.x), round(cell.y)), 60, 255, -1)
        cv2.imwrite(str(root / "banik-masks" / f"BloodImage_Mask_{photo_number(picture):05d}.png"), mask)
    return External(root)


def test_the_share_of_a_map_on_a_cell_is_the_one_that_was_drawn():
    drawn = np.zeros((2, 10, 10))
    drawn[0, :5], drawn[1, :, :2] = 1, 0.5  # half of the picture; a fifth of it, half of each pixel
    maps = np.stack([np.ones((10, 10)), np.eye(10), np.zeros((10, 10))])
    maps[1, :5] *= 3
    shares = masks.share_on_cells(maps, drawn)
    np.testing.assert_allclose(shares[:, :2], [[0.5, 0.75], [0.1, 0.15]])
    assert np.isnan(shares[:, 2]).all()


@pytest.mark.parametrize("window", [WHOLE_PHOTO, CLOSE])
def test_a_mask_is_cut_as_the_photo_is(photos, drawn, window):
    seen = masks.look(photos, drawn, window)
    assert seen.windows.shape == (*seen.masks.shape, 3) and 0 < len(seen.table) <= len(photos.table)
    height, width = window.shape
    per_pixel = np.pi * 60**2 / (window.field[0] * photos.red_cell / width) ** 2
    for mask in seen.masks:
        rows, columns = np.nonzero(mask > 0.5)
        assert mask.sum() <= 1.03 * per_pixel and mask.max() < 1 + 1e-5
        assert mask[height // 2, width // 2] > 0.999  # but for the photo's edge it is a disc about the middle
        assert np.abs([rows.mean() - height / 2, columns.mean() - width / 2]).max() < 0.2 * height


def test_shares_of_a_run_are_those_of_its_maps_one_by_one(run, photos, drawn):
    seen = masks.look(photos, drawn, WHOLE_PHOTO)
    table = masks.measure_shares(run, seen)
    assert set(table.model) == {"tiny"} and table.photo.tolist() == seen.table.photo.tolist()
    model, network = saliency.rebuild(run), run.plan.experiment.network
    predicted = model(seen.windows.astype(np.float32)).numpy().argmax(axis=1)
    assert (table.right == (predicted == table.cell.map(LABELS))).all()
    for i, mask in enumerate(seen.masks):
        cell = (
            cv2.filter2D((mask > 0).astype(np.float32), -1, np.ones((5, 5)), borderType=cv2.BORDER_CONSTANT) > 0.5
        )  # 2 % of 80 pixels to each side
        for where, column in ((cell, "right_covered"), (~cell, "right_alone")):
            painted = seen.windows[i].copy()
            painted[where] = seen.backgrounds[i]
            answer = model(painted[None].astype(np.float32)).numpy().argmax() == LABELS[table.cell[i]]
            assert table[column][i] == answer
    maps = saliency.map_attention(model, network, seen.windows, predicted)
    even = saliency.map_evenly(network, INPUT_SHAPE)
    for i, row in enumerate(table.itertuples()):
        assert row.even == pytest.approx((even * seen.masks[i]).sum() / even.sum())
        of_all = np.array([(m * seen.masks[i]).sum() / m.sum() if m.any() else np.nan for m in maps])
        assert row.share == pytest.approx(of_all[i], nan_ok=True)
        assert row.share_swapped == pytest.approx(np.nanmean(np.delete(of_all, i)), nan_ok=True)


def test_of_shares_on_masks_each_photo_counts_once():
    columns = {
        "model": "a",
        "seed": [0, 1, 0, 1, 0, 1],
        "photo": [1, 1, 2, 2, 3, 3],
        "even": [0.1, 0.1, 0.2, 0.2, 0.3, 0.3],
    }
    columns |= {"share": [0.2, 0.4, 0.6, 0.2, 0.6, 0.8], "share_swapped": [0.2, 0.2, 0.2, 0.2, 0.3, 0.3]}
    (row,) = masks.tabulate_masks(pd.DataFrame(columns)).itertuples()
    assert (row.Index, row.even) == ("a", pytest.approx(0.2))
    assert row.share.estimate == pytest.approx((0.3 + 0.4 + 0.7) / 3)
    spread = stats.t.ppf(0.975, 2) * np.std([0.3, 0.4, 0.7], ddof=1) / np.sqrt(3)
    assert row.share.high - row.share.estimate == pytest.approx(spread)  # three photos tell little
    assert row.more.estimate == pytest.approx((0.1 + 0.2 + 0.4) / 3)


def test_what_is_recorded_is_of_all_photos_and_holds_together():
    table = masks.read_recorded()
    assert (table.groupby(["model", "seed"]).size() == 71).all()
    assert set(table.model) == {"final", "stronger"}
    assert table[["even", "share", "share_swapped"]].stack().between(0, 1).all()


def test_masks_of_the_photos_cover_the_nucleus_that_is_found(real_set, external_set):
    photos = open_set(TEST_PHOTOS, real_set)
    for picture in photos.table.picture[::7]:
        mask = external.read_cell(external_set, photo_number(picture))
        left, top, right, bottom = find_cells(photos.read(picture), photos.red_cell)[0].box
        box = mask[top:bottom, left:right]
        assert box.mean() > 0.6 and box.sum() > 0.25 * mask.sum()
