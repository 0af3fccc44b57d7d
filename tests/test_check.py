import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wbc_lib import check, photos


@pytest.fixture
def copy(phantom_set, tmp_path):
    shutil.copytree(phantom_set.root, tmp_path / "copy")
    return photos.open_folder(tmp_path / "copy")


def jpeg(shape=(240, 320, 3)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def huge_header(content: bytes) -> bytes:
    at = content.index(b"\xff\xc0") + 5
    return content[:at] + (20000).to_bytes(2) + (20000).to_bytes(2) + content[at + 4 :]


@pytest.mark.parametrize(
    "content, complaint",
    [
        (jpeg()[:4000], "ends too early"),
        (b"", "empty"),
        (b"GIF89a" + bytes(500), "no JPEG"),
        (jpeg((100, 100, 3)), "100x100"),
        (jpeg((240, 320)), "1 channels"),
        (huge_header(jpeg()), "20000x20000"),
        (jpeg() + bytes(3_000_000), "too large"),
        (b"\xff\xd8\xff\xd9", "no JPEG header"),
    ],
    ids=["truncated", "empty", "gif", "small", "grey", "huge", "fat", "headless"],
)
def test_a_bad_image_is_named_with_its_fault(copy, content, complaint):
    victim = copy.image_path(photos.list_images(copy).image[3])
    victim.write_bytes(content)
    outcome = check.check(copy)
    assert len(outcome.problems) == 1
    assert str(victim) in outcome.problems[0] and complaint in outcome.problems[0]
    assert outcome.manifest is None


def test_a_clean_set_has_no_problem_and_is_left_as_it_was(phantom_set):
    before = {p: p.stat().st_mtime_ns for p in phantom_set.root.rglob("*")}
    outcome = check.check(phantom_set)
    assert outcome.problems == []
    assert outcome.counts.loc["TRAIN"].tolist() == [40] * 4
    assert outcome.manifest is not None
    assert {p: p.stat().st_mtime_ns for p in phantom_set.root.rglob("*")} == before


def test_faults_of_the_tables_and_folders_are_all_listed(copy):
    shutil.rmtree(copy.augmented / "TEST" / "MONOCYTE")
    boxed = photos.list_annotations(copy)
    copy.annotation_path(boxed[0]).write_text("<annotation>")
    copy.annotation_path(boxed[1]).write_text("<annotation></annotation>")
    rows = copy.labels_path.read_text().splitlines()
    gone = next(r for r in rows[1:] if r.split(",")[1] == str(photos.list_photos(copy)[0]))
    rows.remove(gone)
    copy.labels_path.write_text("\n".join(rows) + "\n")
    text = "\n".join(check.check(copy).problems)
    assert "TEST/MONOCYTE: the folder is missing" in text
    assert f"{copy.annotation_path(boxed[0])} is not a readable box file" in text
    assert f"{copy.annotation_path(boxed[1])}: holds no box" in text
    assert f"{copy.photo_path(photos.list_photos(copy)[0])}: has no row" in text


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 3000), bit=st.integers(0, 7), cut=st.integers(1, 9000))
def test_any_damage_is_a_sentence_or_a_decodable_image(tmp_path_factory, at, bit, cut):
    content = bytearray(jpeg()[:cut])
    content[at % len(content)] ^= 1 << bit
    path: Path = tmp_path_factory.getbasetemp() / "damaged.jpeg"
    path.write_bytes(content)
    problem = check.check_jpeg(path, (320, 240))
    assert problem is None or problem.startswith(str(path))
