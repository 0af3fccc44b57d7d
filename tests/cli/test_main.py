import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.train_tiny import TINY_FINAL
from wbc_lib import paths
from wbc_lib.book import build
from wbc_lib.cli import book, main, train
from wbc_lib.errors import PlaceError, RunError, UnknownNameError
from wbc_lib.training import experiments, study

MISTAKES = {
    "train nope": "There is no experiment 'nope'; choose one of: raw-imbalanced",
    "data check --data /no/such/folder": "There is no folder",
    "train": "Name an experiment",
    "book --profile nope --data phantoms": "There is no profile 'nope'; choose one of: smoke, quick, paper",
    "runs show nope": "There is no run 'nope'",
    "runs verify": "There is no run ''",
    "train final --seeds a-b --data phantoms --profile smoke": "names no seeds",
    "runs chart chart.xyz --data phantoms --profile smoke": "is neither .png nor .svg",
}


def assert_one_sentence(done: subprocess.CompletedProcess, complaint: str) -> None:
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("arguments, complaint", MISTAKES.items(), ids=MISTAKES)
def test_what_a_user_can_mend_is_one_sentence(wbc, monkeypatch, arguments, complaint):
    monkeypatch.chdir(paths.ROOT)
    assert_one_sentence(wbc(*arguments.split()), complaint)


def test_the_sentence_comes_out_of_the_real_command_too_and_the_version_is_said(wbc):
    arguments, complaint = next(iter(MISTAKES.items()))
    command = [sys.executable, "-m", "wbc_lib", *arguments.split()]
    assert_one_sentence(subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=False), complaint)
    assert wbc("--version").stdout.split()[0] == "wbc"


def test_an_empty_folder_is_no_data_set(wbc, tmp_path):
    for command in (["data", "check"], ["data", "where"], ["train", "final"], ["book"], ["runs", "verify", "--all"]):
        done = wbc(*command, "--data", tmp_path)
        assert done.returncode == 1
        assert "holds no blood-cell data set" in done.stderr
        assert list(tmp_path.iterdir()) == []


def walk(command, path=()):
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk(child, (*path, name))


def test_help_has_a_word_on_every_command_and_on_every_option():
    for path, command in walk(typer.main.get_command(main.app)):
        assert command.help, path
        assert [p.name for p in command.params if not p.help] == [], path


def test_a_clean_data_set_passes_the_check_and_a_damaged_one_does_not(wbc, phantom_copy):
    done = wbc("data", "check", "--data", phantom_copy.root)
    assert done.returncode == 0 and "manifest sha256" in done.stdout, done.stderr
    victim = next(phantom_copy.root.rglob("TEST/MONOCYTE/*.jpeg"))
    victim.write_bytes(b"")
    done = wbc("data", "check", "--data", phantom_copy.root)
    assert done.returncode == 1
    assert f"{victim}: the file is empty" in done.stderr


def test_a_run_can_be_trained_listed_shown_drawn_verified_and_trained_again(wbc, tiny_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", TINY_FINAL)
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))  # where no other test has trained a run of this name
    data = ("--data", tiny_set.root)
    done = wbc("train", "final", *data, "--profile", "smoke", "--record")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Working with phantoms") and not done.stdout
    assert "final-e2-s0" in wbc("runs", "list").stdout
    (folder,) = (tmp_path / "results").glob("final-e2-s0-*")

    record = json.loads(wbc("runs", "show", "final-e2").stdout)
    assert record == {k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k != "sha256"}

    assert wbc("runs", "chart", tmp_path / "chart.png", *data, "--profile", "smoke").returncode == 0
    assert cv2.imread(str(tmp_path / "chart.png")).std() > 0

    done = wbc("runs", "verify", "--all", *data)
    assert done.returncode == 0, done.stderr
    assert "same class for 100.00%" in done.stdout
    before = {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")}
    done = wbc("runs", "retrain", "final-e2", *data)
    assert done.returncode == 0, done.stderr
    assert "logits differ by at most 0, same class for 100.00%" in done.stdout  # from nothing, to the bit
    assert {path: path.stat().st_mtime_ns for path in folder.parent.rglob("*")} == before

    (folder / "history.csv").write_text("epoch\n")
    for command in (
        ["runs", "list"],
        ["runs", "verify", "--all", *data],
        ["train", "final", *data, "--profile", "smoke"],
    ):
        done = wbc(*command)
        assert done.returncode == 1
        assert f"history.csv of run {folder.name} is not what was recorded" in done.stderr


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 9), st.integers(0, 9))
def test_seeds_are_read_as_they_are_written(single, first, extra):
    text = ",".join([*map(str, single), f"{first}-{first + extra}"])
    assert train.parse_seeds(text) == (*single, *range(first, first + extra + 1))


@pytest.mark.parametrize("text", ["a", "1-b", "1.5", "1-2-3", "-1", "0 1", " ", "5-2", ",", str(2**32)])
def test_what_names_no_seeds_is_said_and_does_not_mean_the_profiles(text):
    with pytest.raises(UnknownNameError, match="names no seeds"):
        train.parse_seeds(text)


# --- places that cannot be used, and what goes to which stream


def test_tables_go_to_standard_output_whole_and_as_json(wbc, tmp_path, monkeypatch):
    for folder in sorted((paths.ROOT / "results").glob("final-e*"))[:2]:
        (tmp_path / folder.name).symlink_to(folder)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    for command in (["experiments"], ["runs", "list"]):
        done = wbc(*command)
        assert done.stdout and "…" not in done.stdout, done.stderr
        rows = json.loads(wbc(*command, "--json").stdout)
        rows = rows if isinstance(rows[0], dict) else [row for table in rows for row in table]
        assert [row for row in rows if f" {next(iter(row.values()))} " not in done.stdout] == []


def test_a_full_standard_output_is_named():
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "wbc_lib", "experiments"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=paths.ROOT)
    assert done.returncode == 1 and "standard output" in done.stderr and "Traceback" not in done.stderr


def test_a_verification_of_nothing_fails(wbc, tmp_path, tiny_set, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "none"))
    done = wbc("runs", "verify", "--all", "--data", tiny_set.root)
    assert done.returncode == 1 and "nothing to verify" in done.stderr and "WBC_RESULTS" in done.stderr


@pytest.mark.parametrize("words", ["book", "train final --record", "lab"])
def test_the_library_without_its_project_says_so_before_any_work(wbc, tmp_path, monkeypatch, words):
    monkeypatch.setattr(paths, "BOOK", tmp_path / "book")
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WBC_RESULTS")
    done = wbc(*words.split(), "--data", "phantoms", "--profile", "smoke")
    assert_one_sentence(done, "pip install --editable")
    assert list(tmp_path.iterdir()) == []


def test_runs_that_are_lacking_are_named_before_the_chapters(tiny_set, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    opened = study.open_study(tiny_set.root, "smoke")
    with pytest.raises(RunError, match="final.*say --train"):
        book._require_runs(opened)
    monkeypatch.setattr(study.Study, "recorded", lambda self, name: [name])
    book._require_runs(opened)


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
