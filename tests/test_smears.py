import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wbc_lib.smears import HEIGHT, KINDS, WIDTH, draw_cell, draw_photo

SEEDS = range(12)
CELLS = st.lists(st.sampled_from(sorted(KINDS)), max_size=2).map(tuple)


def cells(kind, radius=70):
    return [draw_cell(KINDS[kind], radius, np.random.default_rng(seed)) for seed in SEEDS]


def share_of_nucleus(cell):
    return cell.nucleus.sum() / cell.cover.sum()


def cytoplasm(cell):
    # Mean optical density (red, green, blue) of what is cell but not nucleus.
    return cell.density[(cell.cover > 0.99) & (cell.nucleus < 0.01)].mean(axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nucleus_is_one_joined_piece_inside_the_cell(kind):
    for cell in cells(kind):
        nucleus = (cell.nucleus > 0.5).astype(np.uint8)
        assert (cell.cover[nucleus > 0] > 0.5).all()
        assert not cell.cover[0].any() and not cell.cover[:, -1].any()  # the square holds the whole cell
        pieces = cv2.connectedComponentsWithStats(nucleus)[2][1:, cv2.CC_STAT_AREA]
        assert pieces.max() > 0.95 * pieces.sum()


def test_classes_differ_as_in_a_textbook():
    share = {kind: np.mean([share_of_nucleus(c) for c in cells(kind)]) for kind in KINDS}
    assert share["LYMPHOCYTE"] > 0.5 > max(share["NEUTROPHIL"], share["EOSINOPHIL"])
    stain = {kind: np.mean([cytoplasm(c) for c in cells(kind)], axis=0) for kind in KINDS}
    red, blue = (stain["EOSINOPHIL"], stain["MONOCYTE"])
    assert red[0] < blue[0] and red[2] > blue[2]  # eosinophils take out blue light, monocytes red
    sizes = {kind: KINDS[kind].diameter[0] for kind in KINDS}
    assert max(sizes, key=sizes.get) == "MONOCYTE" and min(sizes, key=sizes.get) == "LYMPHOCYTE"


def test_neutrophils_have_more_lobes_than_eosinophils():
    def narrow_places(cell):
        # How much of the nucleus goes when it is opened by a disc: bridges and small lobes go, big lobes stay.
        nucleus = (cell.nucleus > 0.5).astype(np.uint8)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (41, 41))
        return 1 - cv2.morphologyEx(nucleus, cv2.MORPH_OPEN, disc).sum() / nucleus.sum()

    shares = {k: np.mean([narrow_places(c) for c in cells(k)]) for k in ("NEUTROPHIL", "EOSINOPHIL", "LYMPHOCYTE")}
    assert shares["NEUTROPHIL"] > 1.5 * shares["EOSINOPHIL"] > 1.5 * shares["LYMPHOCYTE"]


@pytest.mark.parametrize("kind", KINDS)
def test_white_box_holds_the_darkest_part_of_the_photo(kind):
    for seed in range(3):
        photo = draw_photo((kind,), np.random.default_rng(seed))
        red_light = cv2.GaussianBlur(photo.image[..., 0], (0, 0), 14)  # too wide for a platelet to show
        y, x = np.unravel_index(red_light.argmin(), red_light.shape)
        box = next(b for b in photo.boxes if b.cell == "WBC")
        assert box.xmin <= x < box.xmax and box.ymin <= y < box.ymax


@settings(max_examples=12, deadline=None)
@given(CELLS, st.integers(0, 2**32))
def test_photo_has_a_box_for_each_white_cell_and_all_lie_in_it(cells, seed):
    photo = draw_photo(cells, np.random.default_rng(seed))
    assert photo.image.shape == (HEIGHT, WIDTH, 3) and photo.image.dtype == np.uint8
    names = [box.cell for box in photo.boxes]
    assert names.count("WBC") == len(cells)
    assert 5 <= names.count("RBC") <= 19
    for box in photo.boxes:
        assert 0 <= box.xmin < box.xmax <= WIDTH and 0 <= box.ymin < box.ymax <= HEIGHT


def test_two_white_cells_do_not_cover_each_other():
    for seed in SEEDS:
        photo = draw_photo(("MONOCYTE", "MONOCYTE"), np.random.default_rng(seed))
        a, b = (box for box in photo.boxes if box.cell == "WBC")
        wide = min(a.xmax, b.xmax) - max(a.xmin, b.xmin)
        high = min(a.ymax, b.ymax) - max(a.ymin, b.ymin)
        smaller = min((box.xmax - box.xmin) * (box.ymax - box.ymin) for box in (a, b))
        assert max(wide, 0) * max(high, 0) < 0.1 * smaller


def test_same_state_same_photo_other_state_another():
    first, again, other = (draw_photo(("EOSINOPHIL",), np.random.default_rng(s)) for s in (3, 3, 4))
    assert (first.image == again.image).all() and first.boxes == again.boxes
    assert (first.image != other.image).mean() > 0.5
