import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from wbc_lib import paths
from wbc_lib.attention import masks
from wbc_lib.errors import BadDataError, PlaceError
from wbc_lib.evaluation import cell_features
from wbc_lib.provenance import overlaps, smears, trace


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "folder" / "file"
    paths.write_text(target, "old")

    def fail():
        with paths.written_whole(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def leave(path, days: float):
    """What a killed process leaves behind."""
    path.write_text("half")
    then = time.time() - days * 24 * 60 * 60
    os.utime(path, (then, then))
    return path


def test_what_a_killed_process_left_of_a_file_goes_when_the_file_is_written_a_day_later(tmp_path):
    old = leave(tmp_path / ".file.abcd1234.wbc.tmp", 2)
    kept = [
        leave(tmp_path / ".file.efgh5678.wbc.tmp", 0.5),  # perhaps still being written
        leave(tmp_path / ".other.abcd1234.wbc.tmp", 2),
        leave(tmp_path / ".file.abcd1234.tmp", 2),  # another program's
        leave(tmp_path / ".file.mine.wbc.tmp", 2),
        leave(tmp_path / ".file.old.abcd1234.wbc.tmp", 2),
        leave(tmp_path / "file.tmp", 2),
        leave(tmp_path / ".file.txt", 2),
    ]
    paths.write_text(tmp_path / "file", "new")
    assert not old.exists()
    assert set(tmp_path.iterdir()) == {*kept, tmp_path / "file"}


def test_the_names_that_are_swept_are_those_that_temporary_files_have(tmp_path):
    with paths.temporary_folder(tmp_path / "a"), paths.written_whole(tmp_path / "b") as file:
        file.write_text("b")
        for path in tmp_path.iterdir():
            os.utime(path, (0, 0))
        for name in "ab":
            paths.sweep(tmp_path / name)
        assert list(tmp_path.iterdir()) == []
        file.write_text("again")


def test_a_temporary_folder_is_gone_whatever_happens_and_what_was_renamed_stays(tmp_path):
    target = tmp_path / "sub" / "a"
    with paths.temporary_folder(target) as folder:
        (folder / "file").write_text("whole")
        folder.rename(target)
    with pytest.raises(KeyboardInterrupt), paths.temporary_folder(target) as folder:
        (folder / "file").write_text("half")
        raise KeyboardInterrupt
    assert [p.read_text() for p in target.parent.rglob("*") if p.is_file()] == ["whole"]


def test_folders_are_swept_with_what_is_in_them_but_nothing_that_a_link_leads_to(tmp_path):
    (tmp_path / "mine").mkdir()
    leave(tmp_path / "mine" / "file", 2)
    old, link = (tmp_path / f".run.abcd123{n}.wbc.tmp" for n in (1, 2))
    old.mkdir()
    leave(old / "file", 2)
    link.symlink_to(tmp_path / "mine")
    then = time.time() - 2 * 24 * 60 * 60
    os.utime(old, (then, then))
    os.utime(link, (then, then), follow_symlinks=False)
    paths.sweep(tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "file").exists()


def test_an_array_appears_whole(tmp_path):
    with paths.new_array(tmp_path / "a.npy", (3, 2), np.float32) as array:
        array[:] = 7
        assert not (tmp_path / "a.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.full((3, 2), 7, np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_an_array_for_which_there_is_no_room_is_an_error_and_no_crash(tmp_path):
    code = (
        "import resource, signal, sys, numpy as np; from pathlib import Path; from wbc_lib import paths\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    with paths.new_array(Path({str(tmp_path / 'a.npy')!r}), (10**6,), np.uint8) as a: a[:] = 1\n"
        "except OSError: sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, env=os.environ)
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_environment_mean_the_same_from_anywhere(monkeypatch, tmp_path):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    monkeypatch.setenv("WBC_CACHE", "../c")
    monkeypatch.setenv("WBC_RESULTS", "r")
    monkeypatch.setenv("WBC_WEIGHTS", "")
    paths.make_absolute()
    monkeypatch.chdir("/")
    assert (paths.cache(), paths.results()) == (tmp_path / "c", tmp_path / "there" / "r")
    assert os.environ["WBC_WEIGHTS"] == ""


@pytest.mark.parametrize("variable", ["WBC_CACHE", "WBC_RESULTS"])
def test_the_variable_that_is_advised_moves_what_could_not_be_written(tmp_path, monkeypatch, variable):
    (tmp_path / "file").write_text("")
    place = {"WBC_CACHE": paths.cache, "WBC_RESULTS": paths.results}[variable]
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(PlaceError, match=f"a file is where a folder should be.*{variable}"):
        paths.require_writable(place() / "a")
    monkeypatch.setenv(variable, str(tmp_path / "a folder"))
    paths.require_writable(place() / "a")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
def test_every_reason_is_said_with_its_place(tmp_path, monkeypatch, number):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    with pytest.raises(OSError) as caught, paths.written_whole(tmp_path / "x y" / "file"):
        raise OSError(number, os.strerror(number))
    sentence = paths.explain(caught.value)
    assert str(tmp_path / "x y" / "file") in sentence and os.strerror(number) in sentence and "WBC_CACHE" in sentence
    assert ("make room" in sentence) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_user_without_a_home_is_given_one_that_is_only_theirs(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: (_ for _ in ()).throw(RuntimeError("none"))))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    paths.settle_home()
    home = Path(os.environ["HOME"])
    assert home.parent == tmp_path and home.stat().st_mode & 0o077 == 0
    home.rmdir()
    home.symlink_to(tmp_path / "elsewhere")  # as somebody else may have left it
    monkeypatch.delenv("HOME")
    paths.settle_home()
    assert Path(os.environ["HOME"]) != home


RECORDED = [module.RECORDED for module in (cell_features, masks, overlaps, smears, trace)]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: recorded.what)
def test_a_recorded_table_is_read_as_it_was_written_and_damage_is_named(recorded, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "mine"))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    with pytest.raises(BadDataError, match=f"{recorded.parts[-1]} is missing; restore it"):
        recorded.read()
    values = {bool: [True, False], float: [0.1 + 0.2, np.nan], int: [1, -1], str: ["a", "b, c"]}
    table = pd.DataFrame({name: values[kind] for name, kind in recorded.columns.items()})
    path = recorded.write(table.assign(more=1))
    assert path == tmp_path.joinpath("mine", *recorded.parts)
    pd.testing.assert_frame_equal(recorded.read(), table)
    content = path.read_bytes()
    assert recorded.write(recorded.read()).read_bytes() == content
    damages = [b"", b"no table", content.replace(b"photo", b"image")]
    if path.suffix == ".gz":
        damages = [content[:-8], b"no gzip", content[:50] + b"xxxx" + content[54:]]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(BadDataError, match=f"is damaged, or no table of {recorded.what}; restore it"):
            recorded.read()
    recorded.write(table.assign(photo=None))
    with pytest.raises(BadDataError, match="is damaged"):
        recorded.read()


def test_what_is_recorded_of_published_pictures_is_read_from_the_project_where_results_are_new(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    mine, projects = (paths.RecordedTable(("a.csv",), {"n": int}, "n", of_project=of) for of in (False, True))
    mine.write(pd.DataFrame({"n": [1]}))
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "new"))
    assert projects.read().n.tolist() == [1]
    with pytest.raises(BadDataError, match="missing"):
        mine.read()
