import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.damaging import damages, read_or_refuse
from wbc_lib import paths
from wbc_lib.data import archive, dataset, hashes
from wbc_lib.errors import BadDataError


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))


def unpacked() -> set[Path]:
    return set((paths.cache() / "archives").glob("*"))


def write(file: Path, **members: str | bytes) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return file


@pytest.mark.parametrize("packed", [".", ".."], ids=["what is in the folder", "the folder"])
def test_a_data_set_in_a_zip_is_the_data_set(tiny_set, tmp_path, packed):
    shutil.copytree(tiny_set.root, tmp_path / "outer" / "set")
    file = Path(shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path / "outer" / "set" / packed))
    data = dataset.open_folder(file)
    assert data.is_phantom
    assert hashes.read_checksums(data) == hashes.read_checksums(tiny_set)
    assert data.root.is_relative_to(paths.cache())
    assert dataset.find(file) == data


def test_a_zip_is_unpacked_once_and_again_if_a_file_is_gone_or_cut(tmp_path):
    folder = archive.unpack(write(tmp_path / "a.zip", **{"x/a": "content", "b": "more"}))
    before = folder.stat().st_ino
    renamed = shutil.move(tmp_path / "a.zip", tmp_path / "renamed.zip")
    assert archive.unpack(renamed) == folder
    assert folder.stat().st_ino == before
    for damage in ((folder / "b").unlink, lambda: (folder / "x/a").write_text("con")):
        damage()
        assert archive.unpack(renamed) == folder
        assert ((folder / "x/a").read_text(), (folder / "b").read_text()) == ("content", "more")
    assert unpacked() == {folder}
    # Another zip of the same name is another folder.
    assert (archive.unpack(write(renamed, b="other")) / "b").read_text() == "other"
    assert (folder / "b").read_text() == "more"


@pytest.mark.parametrize(
    "name, mode, complaint",
    [
        ("../x", 0, "leads out of its folder"),
        ("a/../../x", 0, "leads out of its folder"),
        ("/etc/x", 0, "leads out of its folder"),
        ("C:\\x", 0, "has a name that no data set has"),
        ("link", stat.S_IFLNK | 0o777, "is a link or a device"),
        ("x" * 61, 0, "has a name that no data set has"),
    ],
)
def test_what_no_data_set_holds_is_named_and_nothing_is_written(tmp_path, name, mode, complaint):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as out:
        out.writestr("good", "good")
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        out.writestr(info, "/etc/passwd")
    with pytest.raises(BadDataError, match=f"a.zip: .*{complaint}; download the archive again"):
        archive.unpack(tmp_path / "a.zip")
    assert unpacked() == set()
    assert {p.name for p in tmp_path.iterdir()} <= {"a.zip", "cache"}


@pytest.mark.parametrize(
    "limit, value, complaint",
    [
        ("MAX_MEMBERS", 2, "3 members"),
        ("MAX_MEMBER_BYTES", 999, "'n1' would unpack to 1,000 bytes"),
        ("MAX_RATIO", 3, "would unpack to 3,000 bytes"),
        ("MAX_BYTES", 2000, "would unpack to 3,000 bytes"),
        ("MAX_BYTES", 100, "is larger than 100 bytes"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, limit, value, complaint):
    write(tmp_path / "a.zip", **{f"n{n}": bytes(1000) for n in (1, 2, 3)})
    assert len(list(archive.unpack(tmp_path / "a.zip").iterdir())) == 3
    shutil.rmtree(paths.cache())
    monkeypatch.setattr(archive, limit, value)
    with pytest.raises(BadDataError, match=complaint):
        archive.unpack(tmp_path / "a.zip")
    assert unpacked() == set()


def test_a_member_locked_with_a_password_is_named(tmp_path):
    content = bytearray(write(tmp_path / "a.zip", secret="x").read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(BadDataError, match="'secret' is locked with a password"):
        archive.unpack(tmp_path / "a.zip")


@pytest.mark.parametrize("ending", ["tar", "gztar"])
def test_an_archive_of_another_kind_is_said_to_be_none(tmp_path, ending):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("x")
    file = shutil.make_archive(str(tmp_path / "a"), ending, tmp_path / "folder")
    with pytest.raises(BadDataError, match="not a zip.*tar -xf"):
        dataset.open_folder(file)


@given(damage=damages(), name=st.sampled_from(["photo.txt", "../outside", "/absolute", "a/../../b", "C:x"]))
@settings(max_examples=50)
def test_a_damaged_archive_is_refused_or_unpacked_inside(damage, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    file = write(folder / "set.zip", **{name: b"content" * 100, "second.txt": b"more"})
    file.write_bytes(damage(file.read_bytes()))
    read_or_refuse(archive.unpack, file)
    assert not list(folder.parent.glob("outside")) and not list(folder.parent.glob("b"))
