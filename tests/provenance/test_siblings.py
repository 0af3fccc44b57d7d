import cv2
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from tests.drawn import draw_discs
from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.errors import BadDataError
from wbc_lib.provenance import candidates, features, siblings
from wbc_lib.provenance.features import _MIRROR, describe, find_best_link

COPIES = 4


def augment(picture, rng):
    """What a stranger's script would do, with Pillow."""
    image = Image.fromarray(picture).rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)
    image = ImageOps.mirror(image) if rng.random() < 0.5 else image
    width, height = image.size
    left, top = rng.integers(0, width // 8), rng.integers(0, height // 8)
    image = image.crop((left, top, left + width * 7 // 8, top + height * 7 // 8))
    image = ImageEnhance.Contrast(ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))).enhance(1.2)
    scale = rng.uniform(0.7, 1.5)
    return image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def augmented(tmp_path_factory):
    """A folder of augmented pictures of several sources, in several formats; and the sources, by file."""
    folder, rng, sources = tmp_path_factory.mktemp("stranger"), np.random.default_rng(3), {}
    for source in range(6):
        for copy in range(COPIES):
            path = folder / f"{source}-{copy}{('.jpg', '.png', '.webp', '.bmp')[copy]}"
            augment(draw_discs(source), rng).save(path, quality=60)
            sources[path] = source
    return sources


def test_augmented_pictures_of_another_library_are_grouped_by_source(augmented):
    groups = siblings.find_groups(list(augmented))
    pairs = {(group, source) for group, source in zip(groups, augmented.values(), strict=True)}
    assert len(pairs) == len(set(augmented.values())) == len(set(groups))


def test_an_interrupted_search_goes_on_and_gives_the_same(augmented, tmp_path, monkeypatch):
    files = [PictureFile(path, path.name) for path in augmented]
    first = siblings.find_siblings(files, map_tasks=map, cache=tmp_path)
    for module, name in ((features, "describe"), (candidates, "_rank"), (siblings, "find_link")):
        monkeypatch.setattr(module, name, None)  # nothing is done again
    again = siblings.find_siblings(files, map_tasks=map, cache=tmp_path)
    assert again.table.equals(first.table)
    for kept in tmp_path.iterdir():
        kept.write_bytes(kept.read_bytes()[:-40])
    monkeypatch.undo()
    assert siblings.find_siblings(files, map_tasks=map, cache=tmp_path).table.equals(first.table)


def test_two_photos_of_one_field_overlap_but_are_no_siblings():
    rng = np.random.default_rng(0)
    field = draw_discs(20, 340, 240)
    # Another focus, another light, sensor noise, and the stage moved.
    others = cv2.GaussianBlur(field[:, 80:], (0, 0), 1.6) * 0.85
    photos = [field[:, :260], np.clip(others + rng.normal(0, 4, others.shape), 0, 255).astype(np.uint8)]
    pictures = [np.array(augment(photo, rng)) for photo in photos for _ in range(COPIES)]
    table = siblings.find_siblings(pictures).table
    assert table.group.nunique() == 2
    assert table.field.nunique() == 1


def test_what_shows_too_little_is_not_called_clean():
    pictures = [np.full((80, 80), 200, np.uint8), np.full((80, 80), 201, np.uint8), draw_discs(1)]
    found = siblings.find_siblings(pictures)
    assert found.cannot_tell.tolist() == [True, True, False]
    assert found.table.group.nunique() == 3


def test_exact_copies_are_one_group_however_little_they_show():
    flat = np.full((80, 80), 200, np.uint8)
    assert siblings.find_groups([flat, flat.copy(), np.full((80, 80), 9, np.uint8)]).tolist() == [0, 0, 1]


def test_the_map_between_two_pictures_is_in_pixels_of_the_whole_pictures():
    source = draw_discs(4, 900, 700)
    turned = cv2.warpAffine(source, np.array([[0.0, -1, 699], [1, 0, 0]]), (700, 900))[:, ::-1]
    link = find_best_link(describe(source), describe(np.ascontiguousarray(turned)))
    np.testing.assert_allclose(link.affine[:, :2], [[0, 1], [1, 0]], atol=0.01)
    np.testing.assert_allclose(link.affine[:, 2], 0, atol=3)  # of 900 pixels


def test_descriptors_of_the_mirrored_picture_follow_from_those_of_the_picture():
    grey = cv2.cvtColor(draw_discs(5), cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT.create(0, 3, 0.01, 10, 1.6, cv2.CV_8U)
    points, plain = sift.detectAndCompute(grey, None)
    mirrored = [
        cv2.KeyPoint(grey.shape[1] - 1 - p.pt[0], p.pt[1], p.size, (180 - p.angle) % 360, p.response, p.octave)
        for p in points
    ]
    _, expected = sift.compute(np.ascontiguousarray(grey[:, ::-1]), mirrored)
    as_permuted, as_they_are = (
        np.median(np.linalg.norm(d.astype(float) - expected, axis=1)) for d in (plain[:, _MIRROR], plain)
    )
    assert 8 * as_permuted < as_they_are


def test_each_picture_finds_its_original(augmented):
    originals = siblings.find_siblings([draw_discs(source) for source in range(6)])
    matches = siblings.find_sources(siblings.find_siblings(list(augmented)), originals)
    assert [row for row, _ in matches] == list(augmented.values())


def test_a_file_that_is_no_picture_is_named(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"no picture")
    with pytest.raises(BadDataError, match=r"a\.png"):
        siblings.find_groups([path])
