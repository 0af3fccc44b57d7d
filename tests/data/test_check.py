import io
import os
import shutil

import cv2
import numpy as np
import pytest
from hypothesis import given
from PIL import Image

from tests.damaging import damages, read_or_refuse
from wbc_lib.data import check, dataset, hashes, images
from wbc_lib.errors import BadDataError


def jpeg(shape=(240, 320, 3)) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    return cv2.imencode(".jpg", noise)[1].tobytes()


def turned() -> bytes:
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x112] = 6
    Image.new("RGB", dataset.IMAGE_SIZE).save(stream, "JPEG", exif=exif)
    return stream.getvalue()


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
        (turned(), "is to be shown turned"),
        (b"\xff\xd8\xff\xd9", "no JPEG header"),
    ],
    ids=["truncated", "empty", "gif", "small", "grey", "turned", "headless"],
)
def test_a_bad_image_is_named_with_its_fault(tmp_path, content, complaint):
    (tmp_path / "a.jpeg").write_bytes(content)
    assert complaint in check.check_jpeg(tmp_path / "a.jpeg", dataset.IMAGE_SIZE)


def test_what_is_too_large_is_neither_read_nor_decoded(tmp_path, monkeypatch):
    def fail(*args):
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", fail)
    (tmp_path / "bomb.jpeg").write_bytes(huge_header(jpeg()))
    assert "20000x20000" in check.check_jpeg(tmp_path / "bomb.jpeg", dataset.IMAGE_SIZE)
    with (tmp_path / "sparse.jpeg").open("wb") as file:
        os.truncate(file.fileno(), 10**12)  # a terabyte of nothing: reading it would exhaust the memory
    assert "too large" in check.check_jpeg(tmp_path / "sparse.jpeg", dataset.IMAGE_SIZE)


def test_a_file_that_is_no_image_is_named_where_images_are(phantom_copy):
    folder = phantom_copy.augmented / "TRAIN" / "MONOCYTE"
    first = dataset.list_images(phantom_copy).query("split == 'TRAIN' and cell == 'MONOCYTE'").image.iloc[0]
    image = phantom_copy.image_path(first)
    photo = phantom_copy.photo_path(dataset.list_photos(phantom_copy)[0])
    boxes = phantom_copy.annotation_path(dataset.list_annotations(phantom_copy)[0])
    before = check.check(phantom_copy)
    others = [
        folder / "notes.txt",
        image.with_name(f"{image.stem} (1).jpeg"),
        image.with_name("Thumbs.db"),
        image.with_suffix(".JPEG"),
        photo.with_name(f"{photo.stem} (1).jpg"),
        photo.with_name("BloodImage_1.jpg"),
        photo.with_suffix(".xml"),
        boxes.with_name(f"{boxes.stem} - Copy.xml"),
    ]
    for other in others:
        other.write_bytes(image.read_bytes())
    found = check.check(phantom_copy)
    for other in others:
        assert [str(other) in p and "remove it" in p for p in found.problems].count(True) == 1, other
    assert len(found.problems) == len(others) and before.problems == []
    assert found.counts.equals(before.counts) and found.n_photos == before.n_photos


@pytest.mark.parametrize("half", ["raw", "augmented"])
def test_boxes_and_folders_that_are_missing_or_files_are_named(phantom_copy, half):
    folder = phantom_copy.raw / "Annotations" if half == "raw" else phantom_copy.augmented / "TEST" / "MONOCYTE"
    shutil.move(folder, phantom_copy.root / "aside")
    assert [str(folder) in p and "is missing" in p for p in check.check(phantom_copy).problems] == [True]
    with pytest.raises(BadDataError, match="is missing"):
        hashes.read_checksums(phantom_copy)
    folder.write_text("")
    assert [str(folder) in p and "instead of a folder" in p for p in check.check(phantom_copy).problems] == [True]
    folder.unlink()
    shutil.move(phantom_copy.root / "aside", folder.with_name(folder.name.swapcase()))
    [problem] = check.check(phantom_copy).problems
    assert f"should be called {folder.name}; rename it" in problem


def test_what_claims_to_be_real_must_have_the_published_counts(phantom_copy):
    (phantom_copy.root / dataset.PHANTOM_MARK).unlink()
    problems = check.check(dataset.open_folder(phantom_copy.root)).problems
    assert len(problems) == 3 * 4 + 1 + 1
    assert any("TRAIN/MONOCYTE: holds 12 images instead of 2478" in p for p in problems)
    assert any("JPEGImages: holds" in p and "instead of 367" in p for p in problems)
    assert "files are not the published ones" in problems[-1]


def published_as(monkeypatch, data) -> dataset.DataSet:
    """Let these phantoms pass for the published set."""
    found = hashes.read_checksums(data)
    monkeypatch.setattr(check, "read_published", lambda: found)
    monkeypatch.setattr(hashes, "PUBLISHED_SHA256", found.sha256)
    monkeypatch.setattr(check, "PUBLISHED_PHOTOS", len(dataset.list_photos(data)))
    counts = dataset.list_images(data).groupby(["split", "cell"]).size().unstack().to_dict("index")
    monkeypatch.setattr(check, "PUBLISHED_COUNTS", counts)
    (data.root / dataset.PHANTOM_MARK).unlink()
    return dataset.open_folder(data.root)


def test_a_file_that_is_not_the_published_one_is_named_though_it_reads_well(phantom_copy, monkeypatch):
    data = published_as(monkeypatch, phantom_copy)
    assert check.check(data).problems == []
    image = data.image_path(dataset.list_images(data).image[5])
    time = image.stat().st_mtime_ns
    content = bytearray(image.read_bytes())
    content[content.index(b"JFIF") + 7] ^= 1  # pixels per inch: no reader minds
    image.write_bytes(content)
    os.utime(image, ns=(time, time))  # as a disk that loses a bit does
    boxes = data.annotation_path(dataset.list_annotations(data)[0])
    boxes.unlink()
    labels = data.labels_path
    labels.write_bytes(labels.read_bytes().replace(b"\r\n", b"\n"))
    damaged = data.photo_path(dataset.list_photos(data)[0])
    damaged.write_bytes(b"")
    problems = check.check(data).problems
    assert sorted(problems) == sorted(
        [
            f"{damaged}: the file is empty; restore it from the archive.",
            f"{image}: is not the published file; restore it from the archive.",
            f"{labels}: is not the published file; restore it from the archive.",
            f"{data.root / 'Annotations' / boxes.name}: is missing; restore it from the archive.",
        ]
    )


def test_a_clean_set_has_no_problem_and_is_left_as_it_was(tiny_set):
    before = {p: p.stat().st_mtime_ns for p in tiny_set.root.rglob("*")}
    outcome = check.check(tiny_set)
    assert outcome.problems == []
    assert outcome.counts.loc["TRAIN"].tolist() == [12] * 4
    assert outcome.checksums is not None
    assert {p: p.stat().st_mtime_ns for p in tiny_set.root.rglob("*")} == before


def test_faults_of_the_tables_and_folders_are_all_listed(phantom_copy):
    shutil.rmtree(phantom_copy.augmented / "TEST" / "MONOCYTE")
    boxed = dataset.list_annotations(phantom_copy)
    phantom_copy.annotation_path(boxed[0]).write_text("<annotation>")
    phantom_copy.annotation_path(boxed[1]).write_text("<annotation></annotation>")
    rows = phantom_copy.labels_path.read_text().splitlines()
    gone = next(r for r in rows[1:] if r.split(",")[1] == str(dataset.list_photos(phantom_copy)[0]))
    rows.remove(gone)
    phantom_copy.labels_path.write_text("\n".join(rows) + "\n")
    empty = phantom_copy.augmented / "TEST" / "LYMPHOCYTE"
    shutil.rmtree(empty)
    empty.mkdir()
    photo = phantom_copy.photo_path(dataset.list_photos(phantom_copy)[1])
    photo.write_bytes(jpeg())
    outcome = check.check(phantom_copy)
    assert outcome.checksums is None
    text = "\n".join(outcome.problems)
    assert "TEST/MONOCYTE: the folder is missing" in text and f"{empty}: the folder is empty" in text
    assert f"{photo}: is 320x240 instead of 640x480" in text
    assert f"{phantom_copy.annotation_path(boxed[0])} is not a readable box file" in text
    assert f"{phantom_copy.annotation_path(boxed[1])}: holds no box" in text
    assert f"{phantom_copy.photo_path(dataset.list_photos(phantom_copy)[0])}: has no row" in text
    with phantom_copy.labels_path.open("a") as file:
        file.write(",7777,NEUTROFIL\n")
    assert any("labels.csv, line" in p and "NEUTROFIL" in p for p in check.check(phantom_copy).problems)


@given(damage=damages())
def test_a_damaged_jpeg_is_refused_or_read(damage, phantom_set, tmp_path_factory):
    path = phantom_set.image_path(dataset.list_images(phantom_set).image[0])
    damaged = tmp_path_factory.mktemp("jpeg") / path.name
    damaged.write_bytes(damage(path.read_bytes()))
    pixels = read_or_refuse(images.read_image, damaged)
    assert pixels is None or (pixels.shape[2:] == (3,) and pixels.dtype == "uint8")
    problem = check.check_jpeg(damaged, dataset.IMAGE_SIZE)
    assert pixels is not None or problem
