import cv2
import numpy as np
import pytest

from tests.drawn import GROUND, VIOLET, draw_field
from wbc_lib.data import windows
from wbc_lib.data.dataset import PHOTO_SIZE, list_photos, read_boxes
from wbc_lib.data.images import read_image, shrink


@pytest.mark.parametrize("red_cell", [24, 40, 90])
def test_red_cells_are_measured_whatever_the_scale(red_cell):
    measured = windows.measure_red_cell(draw_field(red_cell, [(300, 240)]))
    assert measured == pytest.approx(red_cell, rel=0.06)


def test_a_picture_is_measured_the_same_wherever_in_memory_its_edges_lie():
    drawn, taken, measured = draw_field(40, [(300, 240)]), [], set()
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 3, drawn.shape), (0, 0), 1)
    picture = np.clip(drawn + 2 * noise, 0, 255).astype(np.uint8)
    sizes = np.random.default_rng(0)
    for _ in range(40):
        measured.add(windows.measure_red_cell(picture))
        taken = [*taken[-10:], np.empty(sizes.integers(1, 100_000), np.uint8)]
    assert len(measured) == 1


def test_where_no_red_cells_are_none_is_measured():
    assert windows.measure_red_cell(np.full((200, 300, 3), 200, np.uint8)) is None
    alone = np.full((300, 300, 3), GROUND, np.uint8)
    cv2.circle(alone, (150, 150), 50, VIOLET, -1)
    assert windows.measure_red_cell(alone) is None
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    assert windows.measure_red_cell(noise) is None


@pytest.mark.parametrize("lobes", [1, 2])
def test_each_white_cell_is_found_once_lobes_or_not(lobes):
    places = [(150, 150), (460, 330)]
    cells = windows.find_cells(draw_field(80, places, lobes=lobes), 80)
    assert sorted((round(c.x, -1), round(c.y, -1)) for c in cells) == places
    for cell in cells:
        left, top, right, bottom = cell.box
        assert left < cell.x < right and top < cell.y < bottom
        assert cell.diameter(80) == pytest.approx(1.2 if lobes == 1 else 0.93, abs=0.08)


def test_what_is_smaller_than_a_nucleus_is_none_but_may_be_what_is_most_like_one():
    picture = draw_field(80, [(300, 240)])
    cv2.circle(picture, (80, 80), 12, VIOLET, -1)  # a platelet
    assert len(windows.find_cells(picture, 80)) == 1
    assert windows.find_cells(draw_field(80, []), 80) == []
    alone = draw_field(80, [])
    cv2.circle(alone, (580, 60), 12, VIOLET, -1)
    assert windows.find_most_violet(alone, 80) == pytest.approx((580, 60), abs=6)


def test_the_background_is_the_light_between_the_cells_even_where_black_corners_came_in():
    picture = draw_field(90, [(300, 240)])
    turned = cv2.warpAffine(picture, cv2.getRotationMatrix2D((320, 240), 20, 1), PHOTO_SIZE)
    for each in (picture, turned):
        assert np.abs(windows.background_colour(each).astype(int) - GROUND).max() <= 2


def test_a_window_of_a_whole_photo_is_the_photo_as_a_network_sees_it():
    picture = draw_field(90, [(300, 240)])
    window = windows.WHOLE_PHOTO.cut(picture, (319.5, 239.5), windows.RED_CELL)
    assert np.array_equal(window, shrink(picture))


def test_a_window_is_centred_scaled_and_filled_outside():
    picture = draw_field(40, [(200, 100)], size=(200, 260))
    window = windows.Window((6, 6), (120, 120)).cut(picture, (200, 100), 40)
    (cell,) = windows.find_cells(window, 20)
    assert (cell.x, cell.y) == pytest.approx((59.5, 59.5), abs=1.5)
    inside = slice(round(60 + (260 - 200) * 0.5) + 1, None)
    assert np.array_equal(np.unique(window[:, inside].reshape(-1, 3), axis=0), [windows.background_colour(picture)])
    assert np.array_equal(window[:9, 0], np.broadcast_to(windows.background_colour(picture), (9, 3)))
    larger = windows.Window((2, 2), (160, 160)).cut(picture, (200, 100), 40)
    assert windows.find_cells(larger, 80)[0].diameter(80) == pytest.approx(1.2, abs=0.1)


def test_a_mask_is_cut_where_the_picture_is_and_nothing_outside_is_marked():
    picture = draw_field(40, [(200, 100)], size=(200, 260))
    violet = np.abs(picture.astype(int) - VIOLET).max(axis=2) < 30
    for window in (windows.Window((6, 6), (120, 120)), windows.Window((2, 2), (160, 160))):
        seen = window.cut(picture, (200, 100), 40)
        mask = window.cut_mask(violet, (200, 100), 40)
        assert mask.shape == seen.shape[:2] and mask.min() == 0 and mask.max() == 1
        is_violet = np.abs(seen.astype(int) - VIOLET).max(axis=2) < 30
        assert (is_violet != (mask > 0.9)).mean() < 0.01
    whole = windows.Window((6, 6), (120, 120)).cut_mask(np.ones((200, 260), bool), (200, 100), 40)
    assert whole[12:108, :88].min() == 1 and whole[:, 91:].max() == 0  # the picture ends there


def test_black_corners_are_filled():
    picture = np.full((120, 160, 3), GROUND, np.uint8)
    picture[:40, :30] = 0
    picture[60:70, 60:70] = 0  # not joined to an edge: it belongs to the picture
    window = windows.Window((8, 6), (120, 160)).cut(picture, (79.5, 59.5), 20)
    assert (window[:40, :30] == GROUND).all()
    assert (window[62:68, 62:68] == 0).all()


def test_the_red_cells_of_the_published_photos_are_as_large_as_is_said(real_set):
    photos = list_photos(real_set)[::12]
    found = [windows.measure_red_cell(read_image(real_set.photo_path(p))) for p in photos]
    diameters = np.array([f for f in found if f])
    assert len(diameters) > 0.9 * len(photos)
    assert np.median(diameters) == pytest.approx(windows.RED_CELL, rel=0.03)
    assert np.mean(np.abs(np.log(diameters / windows.RED_CELL)) < 0.2) > 0.9


def test_the_white_cells_of_the_published_photos_are_found_in_their_boxes(real_set):
    boxes = read_boxes(real_set).query("cell == 'WBC' and not is_degenerate")
    hits = []
    for photo in list_photos(real_set)[::12]:
        cells = windows.find_cells(read_image(real_set.photo_path(photo)), windows.RED_CELL)
        mine = boxes[boxes.photo == photo]
        hits += [((mine.xmin < c.x) & (c.x < mine.xmax) & (mine.ymin < c.y) & (c.y < mine.ymax)).any() for c in cells]
        assert cells
    assert np.mean(hits) > 0.9
