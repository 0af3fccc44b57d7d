import os
import shutil
from pathlib import Path

from wbc_lib import manifest, photos


def test_a_changed_byte_changes_the_hash_and_unpacking_otherwise_does_not(phantom_set, tmp_path):
    first = manifest.read_manifest(phantom_set)
    shutil.copytree(phantom_set.raw, tmp_path / "dataset-master")
    shutil.copytree(phantom_set.augmented, tmp_path / "images")
    data = photos.open_folder(tmp_path)
    assert manifest.read_manifest(data) == first
    victim = data.photo_path(photos.list_photos(data)[0])
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(1, 1))
    changed = manifest.read_manifest(data)
    assert changed.sha256 != first.sha256
    assert {k for k in first.files if first.files[k] != changed.files[k]} == {f"JPEGImages/{victim.name}"}


def test_files_are_hashed_once(phantom_set, monkeypatch):
    first = manifest.read_manifest(phantom_set)
    monkeypatch.setattr(manifest, "hash_files", lambda files: 1 / 0)
    assert manifest.read_manifest(phantom_set) == first


def test_a_hash_is_that_of_sha256sum(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert manifest.hash_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_the_real_photos_are_the_published_ones(real_set):
    assert manifest.read_manifest(real_set).is_published
