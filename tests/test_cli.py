import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import cli, paths


def wbc(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wbc_lib.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=False)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        (["data", "check", "--data", "/no/such/folder"], "There is no folder"),
        (["train", "nope"], "There is no experiment 'nope'"),
        (["train"], "Name an experiment"),
        (["book", "--profile", "nope", "--data", "phantoms"], "There is no profile 'nope'"),
        (["train", "final", "--data", "tests"], "holds no blood-cell data set"),
        (["runs", "show", "nope"], "There is no run 'nope'"),
        (["train", "final", "--seeds", "a-b", "--data", "phantoms", "--profile", "smoke"], "names no seeds"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_user_can_mend_is_one_sentence(arguments, complaint):
    done = wbc(*arguments)
    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_an_empty_folder_is_no_data_set(tmp_path: Path):
    done = wbc("data", "check", "--data", tmp_path)
    assert done.returncode == 1
    assert "holds no blood-cell data set" in done.stderr


def test_help_tells_what_there_is():
    assert "experiments" in wbc("--help").stdout
    for command in (["book"], ["train"], ["data", "check"], ["data", "phantoms"], ["runs", "verify"], ["runs", "list"]):
        done = wbc(*command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout


def test_a_clean_data_set_passes_the_check_and_a_damaged_one_does_not(phantom_set, tmp_path):
    done = wbc("data", "check", "--data", phantom_set.root)
    assert done.returncode == 0, done.stderr
    assert "manifest sha256" in done.stdout
    copy = tmp_path / "copy"
    assert wbc("data", "phantoms", copy, "--scale", 0.1, "--copies", 8).returncode == 0
    victim = next(copy.rglob("TEST/MONOCYTE/*.jpeg"))
    victim.write_bytes(b"")
    done = wbc("data", "check", "--data", copy)
    assert done.returncode == 1
    assert f"{victim}: the file is empty" in done.stderr


def test_a_run_can_be_trained_listed_verified_and_trained_again(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    data = ("--data", phantom_set.root)
    done = wbc("train", "final", *data, "--profile", "smoke", "--record")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Working with phantoms")
    assert "final-e2-s0" in wbc("runs", "list").stderr
    done = wbc("runs", "verify", "--all", *data)
    assert done.returncode == 0, done.stderr
    assert "same class for 100.00%" in done.stdout
    done = wbc("runs", "retrain", "final-e2", *data)
    assert done.returncode == 0, done.stderr
    assert "logits differ by at most 0," in done.stdout


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(0, 9), st.integers(0, 9))
def test_seeds_are_read_as_they_are_written(single, first, extra):
    text = ",".join([*map(str, single), f"{first}-{first + extra}"])
    assert cli.parse_seeds(text) == (*single, *range(first, first + extra + 1))
