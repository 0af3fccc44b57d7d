import gzip
import hashlib
import os
import shutil
from pathlib import Path

import pytest

from wbc_lib import paths
from wbc_lib.data import dataset, hashes
from wbc_lib.errors import BadDataError


def flip_byte(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])


def test_a_changed_byte_changes_the_hash_and_unpacking_otherwise_does_not(phantom_set, tmp_path):
    first = hashes.read_checksums(phantom_set)
    shutil.copytree(phantom_set.raw, tmp_path / "dataset-master")
    shutil.copytree(phantom_set.augmented, tmp_path / "images")
    data = dataset.open_folder(tmp_path)
    assert hashes.read_checksums(data) == first
    victim = data.photo_path(dataset.list_photos(data)[0])
    flip_byte(victim)
    os.utime(victim, ns=(1, 1))
    changed = hashes.read_checksums(data)
    assert changed.sha256 != first.sha256
    assert {k for k in first.files if first.files[k] != changed.files[k]} == {f"JPEGImages/{victim.name}"}


def test_files_of_unchanged_size_and_time_are_not_read_again(phantom_copy):
    first = hashes.read_checksums(phantom_copy)
    victim = phantom_copy.image_path(dataset.list_images(phantom_copy).image[0])
    time = victim.stat().st_mtime_ns
    flip_byte(victim)
    os.utime(victim, ns=(time, time))
    # The price of not reading 13,000 files every time: a change that hides its time is not seen.
    assert hashes.read_checksums(phantom_copy) == first
    assert hashes.read_checksums(phantom_copy, anew=True) != first
    os.utime(victim, ns=(time, time + 1))
    assert hashes.read_checksums(phantom_copy) != first


def test_every_file_of_the_set_is_in_it_once(phantom_set):
    on_disk = [p for p in phantom_set.root.rglob("*") if p.suffix in {".jpeg", ".jpg", ".xml"}]
    expected = sorted(hashlib.sha256(p.read_bytes()).hexdigest() for p in [*on_disk, phantom_set.labels_path])
    assert sorted(hashes.read_checksums(phantom_set).files.values()) == expected


def test_the_whole_is_hashed_in_the_order_of_the_names():
    files = {"b": "01", "a": "02", "é": "03"}
    lines = "a 02\nb 01\né 03\n"
    assert hashes.combine(files).sha256 == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("damage", ["a folder", "a broken link", "a named pipe"])
def test_a_file_that_cannot_be_read_is_named(phantom_copy, damage):
    victim = phantom_copy.photo_path(dataset.list_photos(phantom_copy)[0])
    victim.unlink()
    if damage == "a folder":
        victim.mkdir()
    elif damage == "a named pipe":
        os.mkfifo(victim)
    else:
        victim.symlink_to(phantom_copy.root / "nowhere")
    with pytest.raises(BadDataError, match=f"{victim.name} cannot be read.*unpack"):
        hashes.read_checksums(phantom_copy)


@pytest.mark.parametrize("content", ["", '{"labels.csv": "ab', "[]", "null", "{}"])
def test_damaged_hashes_in_the_cache_are_made_again(phantom_copy, monkeypatch, tmp_path, content):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    first = hashes.read_checksums(phantom_copy)
    (cached,) = (paths.cache() / "checksums").iterdir()
    cached.write_text(content)
    assert hashes.read_checksums(phantom_copy) == first


@pytest.mark.parametrize("damage", ["gone", "cut", "edited"])
def test_the_recorded_hashes_are_those_that_were_recorded(monkeypatch, tmp_path, damage):
    published = hashes.read_published()
    assert published.is_published and len(published.files) == 12_515 + 367 + 364 + 1
    copy = tmp_path / "published.sha256.gz"
    content = hashes.PUBLISHED_FILES.read_bytes()
    monkeypatch.setattr(hashes, "PUBLISHED_FILES", copy)
    if damage == "cut":
        copy.write_bytes(content[:9999])
    elif damage == "edited":
        copy.write_bytes(gzip.compress(gzip.decompress(content).replace(b"_0_", b"_1_", 1)))
    with pytest.raises(BadDataError, match="restore it from the repository"):
        hashes.read_published()


def test_the_real_photos_are_the_published_ones(real_set):
    assert hashes.read_checksums(real_set).is_published
