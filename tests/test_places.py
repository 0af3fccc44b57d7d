"""Places that cannot be used, commands in their own process, and what goes to which stream."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from wbc_lib import paths
from wbc_lib.book import build
from wbc_lib.cli import book, main
from wbc_lib.errors import PlaceError, RunError
from wbc_lib.training import study


def wbc(*arguments: object, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wbc_lib", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT), **variables}
    # From another folder, as the one that Python starts in goes before PYTHONPATH.
    folder = tempfile.gettempdir()
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, cwd=folder)


def test_tables_go_to_standard_output_whole_and_as_json(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    for command in (["experiments"], ["runs", "list"]):
        done = wbc(*command, WBC_RESULTS=str(paths.ROOT / "results"))
        assert done.stdout and "…" not in done.stdout, done.stderr
        rows = json.loads(wbc(*command, "--json", WBC_RESULTS=str(paths.ROOT / "results")).stdout)
        rows = rows if isinstance(rows[0], dict) else [row for table in rows for row in table]
        assert [row for row in rows if str(next(iter(row.values()))) not in done.stdout] == []


def test_a_full_standard_output_is_named():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wbc_lib", "experiments"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=paths.ROOT)
    assert done.returncode == 1 and "standard output" in done.stderr and "Traceback" not in done.stderr


def test_the_version_and_the_module_are_there():
    assert wbc("--version").stdout.split()[0] == "wbc"


def test_a_verification_of_nothing_fails(tmp_path, phantom_set):
    done = wbc("runs", "verify", "--all", "--data", phantom_set.root, WBC_RESULTS=str(tmp_path / "none"))
    assert done.returncode == 1 and "nothing to verify" in done.stderr and "WBC_RESULTS" in done.stderr


def test_the_library_without_its_project_says_so_before_any_work(tmp_path):
    shutil.copytree(paths.ROOT / "wbc_lib", tmp_path / "site" / "wbc_lib")
    for command in (["book"], ["train", "final", "--record"], ["lab"]):
        variables = {"PYTHONPATH": str(tmp_path / "site"), "WBC_CACHE": str(tmp_path / "cache"), "WBC_RESULTS": ""}
        done = wbc(*command, "--data", "phantoms", "--profile", "smoke", **variables)
        assert done.returncode == 1 and "pip install --editable" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"site"}


def test_runs_that_are_lacking_are_named_before_the_chapters(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    opened = study.open_study(phantom_set.root, "smoke")
    with pytest.raises(RunError, match="final.*say --train"):
        book._require_runs(opened)
    monkeypatch.setattr(study.Study, "recorded", lambda self, name: [name])
    book._require_runs(opened)


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


def test_a_site_for_which_there_is_no_room_is_one_sentence():
    failed = shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")] * 900)
    with pytest.raises(PlaceError) as caught, paths.place(Path("site"), "name another folder with --output"):
        raise failed
    assert str(caught.value).startswith("site cannot be used (No space left on device); make room there, or name")


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


def test_the_output_is_tried_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BUILD", tmp_path / "build")
    monkeypatch.setattr(build, "build_book", lambda *args, **options: tmp_path)
    (tmp_path / "file").write_text("")
    run = CliRunner().invoke(main.app, ["book", "--data", "phantoms", "--output", str(tmp_path / "file" / "site")])
    assert isinstance(run.exception, PlaceError) and "--output" in str(run.exception)


def test_make_passes_a_folder_with_spaces_on(tmp_path):
    log = tmp_path / "log"
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "wbc"
    script.write_text(f'#!/bin/sh\nfor a in "$@"; do echo "$a"; done > {log}\n')
    script.chmod(0o755)
    (tmp_path / "ready").write_text("")
    command = ["make", "-o", str(tmp_path / "ready"), "book", f"VENV={tmp_path}", "DATA=a \"b' c"]
    subprocess.run(command, cwd=paths.ROOT, check=True, capture_output=True)
    assert log.read_text().splitlines() == ["book", "--data", "a \"b' c"]
