import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from typer.testing import CliRunner

from wbc_lib import paths
from wbc_lib.book import downloads, lab
from wbc_lib.book.build import read_toc
from wbc_lib.cli import main
from wbc_lib.errors import LabError, UnknownNameError
from wbc_lib.progress import NEVER_TRAIN


def sources() -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in paths.BOOK.glob("*.ipynb")}


def test_chapters_are_laid_out_with_the_profile_and_the_book_is_left_alone(tmp_path):
    before = sources()
    laid_out = lab.lay_out(tmp_path / "work", "smoke")
    assert laid_out.written == tuple(lab.list_chapters()) and not laid_out.kept
    assert {p.name for p in (tmp_path / "work").glob("*.ipynb")} == set(before)
    for path in (tmp_path / "work").glob("*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        [first] = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
        assert 'PROFILE = "smoke"' in first.source, path.name
        # Of the code nothing else differs from the book.
        source = nbformat.reads(before[path.name].decode(), as_version=4)
        mine, its = ([c.source for c in n.cells if c.cell_type == "code"] for n in (notebook, source))
        assert [downloads.set_profile(c, "quick") for c in mine] == its, path.name
    assert sources() == before


def test_what_the_user_changed_is_never_written_over(tmp_path):
    lab.lay_out(tmp_path, "quick")
    mine = tmp_path / "8-results.ipynb"
    mine.write_text(mine.read_text().replace("study.runs", "study.recorded"))
    (tmp_path / "9-discussion.ipynb").unlink()
    changed = mine.read_bytes()
    laid_out = lab.lay_out(tmp_path, "paper")
    assert laid_out.kept == ("8-results",) and laid_out.outdated == ()
    assert mine.read_bytes() == changed
    assert set(laid_out.written) == set(lab.list_chapters()) - {"8-results"}
    assert 'PROFILE = \\"paper\\"' in (tmp_path / "7-regularising.ipynb").read_text()


def test_chapters_older_than_the_book_are_named(tmp_path, monkeypatch):
    book = shutil.copytree(paths.BOOK, tmp_path / "book", ignore=shutil.ignore_patterns("_static"))
    monkeypatch.setattr(paths, "BOOK", book)
    work = tmp_path / "work"
    lab.lay_out(work, "quick")
    for name in ("8-results", "6-overfitting"):
        (work / f"{name}.ipynb").write_text("mine")
    for name in ("8-results", "5-baseline"):
        (book / f"{name}.ipynb").write_text((book / f"{name}.ipynb").read_text().replace("accuracy", "precision"))
    monkeypatch.setattr(lab, "read_toc", lambda: [page for page in read_toc() if not page.endswith("travel")])
    laid_out = lab.lay_out(work, "quick")
    assert laid_out.kept == ("6-overfitting", "8-results")
    assert laid_out.outdated == ("8-results",)
    assert laid_out.gone == lab.lay_out(work, "quick").gone == ("travel",)
    assert "precision" in (work / "5-baseline.ipynb").read_text()


@pytest.mark.parametrize("record", ["", "{", "[]", '{"8-results": 1}'])
def test_without_a_record_of_what_was_laid_out_everything_there_is_the_users(tmp_path, record):
    lab.lay_out(tmp_path, "quick")
    mine = tmp_path / "8-results.ipynb"
    mine.write_text("mine")
    (tmp_path / ".wbc-lab.json").write_text(record)
    assert set(lab.lay_out(tmp_path, "paper").kept) == set(lab.list_chapters())
    assert mine.read_text() == "mine"


def test_the_books_own_folder_and_a_file_are_no_place_to_work_in(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (paths.BOOK, paths.BOOK / "mine", tmp_path / "file" / "work"):
        with pytest.raises(LabError, match="--folder"):
            lab.lay_out(folder, "quick")
    assert not (paths.BOOK / "mine").exists()


def test_a_chapter_may_be_named_shortly_and_one_that_is_not_there_is_told_with_those_that_are():
    for name in ("7b", "7B-transfer", "7b-transfer.ipynb", "book/7b-transfer.ipynb"):
        assert lab.find_chapter(name) == "7b-transfer"
    assert [lab.find_chapter(c) for c in lab.list_chapters()] == lab.list_chapters()
    with pytest.raises(UnknownNameError, match=r"'7x'.*7b-transfer"):
        lab.find_chapter("7x")


def test_the_kernel_of_this_environment_goes_before_every_other_finds_data_and_may_train(tmp_path, monkeypatch):
    other = tmp_path / "other" / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["/no/python"], "display_name": "x", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "other"))
    monkeypatch.setenv(NEVER_TRAIN, "1")
    variables = lab.environment("/photos")
    assert variables["WBC_DATA"] == "/photos"
    assert NEVER_TRAIN not in variables
    monkeypatch.setenv("JUPYTER_PATH", variables["JUPYTER_PATH"])
    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == sys.executable


def test_what_is_not_installed_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LabError, match="pip install jupyterlab"):
        lab.command(tmp_path, "6-overfitting")


@pytest.fixture
def started(monkeypatch):
    """What the command would have started: a list of (command, environment)."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda path, command, variables: calls.append((command, variables)))
    return calls


def test_the_command_lays_out_and_starts_with_the_data_named(started, phantom_set, tmp_path):
    options = ["--data", str(phantom_set.root), "--profile", "smoke", "--folder", str(tmp_path / "work")]
    done = CliRunner().invoke(main.app, ["lab", "b2", *options, "--no-browser", "--", "--port=9000"])
    assert done.exit_code == 0, done.output
    [(command, variables)] = started
    assert command[0] == sys.executable and f"--ServerApp.root_dir={tmp_path / 'work'}" in command
    assert "--LabApp.default_url=/lab/tree/b2-leakage.ipynb" in command
    assert command[-2:] == ["--port=9000", "--no-browser"]
    assert variables["WBC_DATA"] == str(phantom_set.root)
    (tmp_path / "work" / "b2-leakage.ipynb").write_text("mine")
    done = CliRunner().invoke(main.app, ["lab", *options, "--", "--allow-root"])
    assert "changed here: b2-leakage." in done.output
    assert "--LabApp.default_url=/lab/tree/index.ipynb" in started[1][0] and started[1][0][-1] == "--allow-root"
    done = CliRunner().invoke(main.app, ["lab", "--data", "recorded", "--folder", str(tmp_path / "recorded")])
    assert "nothing can be trained" in done.output and started[2][1]["WBC_DATA"] == "recorded"


def test_a_mistake_starts_nothing_and_leaves_nothing(started, tmp_path):
    for arguments in (["lab", "nope"], ["lab", "--data", "/no/such/folder"], ["lab", "--profile", "nope"]):
        done = CliRunner().invoke(main.app, [*arguments, "--folder", str(tmp_path / "work")])
        assert done.exit_code == 1 and not started
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_jupyterlab_answers_with_a_kernel_that_reads_the_named_data(phantom_set, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, token = free.getsockname()[1], "for-this-test"
    command = [sys.executable, "-m", "wbc_lib", "lab", "2", "--no-browser", "--profile", "smoke"]
    command += ["--data", str(phantom_set.root), "--folder", str(tmp_path / "work"), "--"]
    command += ["--allow-root", f"--port={port}", f"--IdentityProvider.token={token}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=paths.ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        specs = _ask(f"http://127.0.0.1:{port}/api/kernelspecs?token={token}")
        assert specs["default"] == "python3"
        assert specs["kernelspecs"]["python3"]["spec"]["argv"][0] == sys.executable
        listed = _ask(f"http://127.0.0.1:{port}/api/contents?token={token}")["content"]
        assert {e["name"] for e in listed} == {f"{c}.ipynb" for c in lab.list_chapters()}
    finally:
        server.terminate()
        server.wait(30)


def _ask(url: str) -> dict:
    for _ in range(120):
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"no answer from {url}")
