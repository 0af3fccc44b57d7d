import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from wbc_lib import paths
from wbc_lib.cli import main, train
from wbc_lib.errors import UnknownNameError
from wbc_lib.training.experiments import EXPERIMENTS


def wbc_alone(*arguments: object) -> subprocess.CompletedProcess:
    """Run the command as a user does, in a process of its own."""
    command = [sys.executable, "-m", "wbc_lib.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, check=False)


@pytest.fixture
def wbc(monkeypatch, capfd):
    """Run the command in this process, which has TensorFlow loaded already."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["wbc", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            main.main()
        output, errors = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, done.value.code, output, errors)

    return run


MISTAKES = {
    "train nope": "There is no experiment 'nope'; choose one of: raw-imbalanced",
    "data check --data /no/such/folder": "There is no folder",
    "train": "Name an experiment",
    "book --profile nope --data phantoms": "There is no profile 'nope'; choose one of: smoke, quick, paper",
    "train final --data tests": "holds no blood-cell data set",
    "runs show nope": "There is no run 'nope'",
    "runs verify": "There is no run ''",
    "train final --seeds a-b --data phantoms --profile smoke": "names no seeds",
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


def test_the_sentence_and_the_help_come_out_of_the_real_command_too():
    arguments, complaint = next(iter(MISTAKES.items()))
    assert_one_sentence(wbc_alone(*arguments.split()), complaint)
    done = wbc_alone("--help")
    assert done.returncode == 0
    assert "experiments" in done.stdout and "Usage" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "raw-imbalanced", "--data", "phantoms", "--profile", "smoke", "--seeds", 2**32],
        ["runs", "chart", "chart.xyz", "--data", "phantoms", "--profile", "smoke"],
        ["data", "phantoms", "nowhere", "--seed", -1],
    ],
    ids=lambda arguments: " ".join(map(str, arguments)),
)
def test_what_is_out_of_range_is_a_sentence_too(wbc, phantom_set, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    assert wbc(*arguments).returncode in {1, 2}


@pytest.mark.parametrize("command", [["data", "where"], ["data", "check"]], ids=" ".join)
def test_the_word_phantoms_is_understood_wherever_help_says_so(wbc, phantom_set, command):
    is_said = "'phantoms'" in CliRunner().invoke(main.app, [*command, "--help"], env={"COLUMNS": "200"}).output
    done = wbc(*command, "--data", "phantoms")
    assert is_said == (done.returncode == 0), done.stderr


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


COMMANDS = dict(walk(typer.main.get_command(main.app)))


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: " ".join(("wbc", *path)))
def test_help_tells_every_sub_command_and_every_option_with_a_word_on_it(path):
    done = CliRunner().invoke(main.app, [*path, "--help"], env={"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"})
    assert done.exit_code == 0
    command = COMMANDS[path]
    names = list(getattr(command, "commands", {}))
    if path:
        names += [option for parameter in command.params for option in parameter.opts]
    assert [name for name in names if name not in done.output] == []
    assert command.help and command.help.splitlines()[0] in done.output
    assert [p.name for p in command.params if not p.help] == []


@pytest.mark.parametrize("width", [160, 80])
def test_every_experiment_is_listed_by_the_name_to_ask_for(monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    done = wbc_alone("experiments")
    assert done.returncode == 0
    assert [name for name in EXPERIMENTS if f" {name} " not in done.stderr + done.stdout] == []


def interrupted(folder: Path) -> subprocess.CompletedProcess:
    """Draw a large set of phantoms and press Ctrl-C in the midst of it."""
    # Where tests run in the background, a child would inherit that it is deaf to Ctrl-C.
    code = (
        "import signal, sys; from wbc_lib.cli.main import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler);"
        f"sys.argv = ['wbc', 'data', 'phantoms', {str(folder / 'set')!r}]; main()"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=paths.ROOT)
    while not any(folder.rglob("*.jpg")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def test_an_interrupted_command_leaves_nothing_half_done(tmp_path):
    done = interrupted(tmp_path)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_says_so(tmp_path):
    assert "Stopped; what had finished is kept." in interrupted(tmp_path).stderr


def test_a_clean_data_set_passes_the_check_and_a_damaged_one_does_not(wbc, phantom_set, tmp_path):
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


def test_a_run_can_be_trained_listed_shown_drawn_verified_and_trained_again(wbc, phantom_set, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))  # where no other test has trained the same run
    data = ("--data", phantom_set.root)
    done = wbc("train", "final", *data, "--profile", "smoke", "--record")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Working with phantoms") and not done.stdout
    assert "final-e2-s0" in wbc("runs", "list").stdout
    (folder,) = (tmp_path / "results").glob("final-e2-s0-*")

    record = json.loads(wbc("runs", "show", "final-e2").stdout)
    assert record == {k: v for k, v in json.loads((folder / "run.json").read_text()).items() if k != "sha256"}
    assert record["parameters"] == 423_237

    assert wbc("runs", "chart", tmp_path / "chart.png", *data, "--profile", "smoke").returncode == 0
    assert cv2.imread(str(tmp_path / "chart.png")).std() > 0

    done = wbc("runs", "verify", "--all", *data)
    assert done.returncode == 0, done.stderr
    assert "same class for 100.00%" in done.stdout
    done = wbc("runs", "retrain", "final-e2", *data)
    assert done.returncode == 0, done.stderr
    assert "logits differ by at most 0," in done.stdout

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


@pytest.mark.parametrize("text", ["a", "1-b", "1.5", "1-2-3", "-1", "0 1", " "])
def test_what_names_no_seeds_is_said(text):
    with pytest.raises(UnknownNameError, match="names no seeds"):
        train.parse_seeds(text)


@pytest.mark.parametrize("text", ["5-2", ","])
def test_seeds_that_are_none_do_not_mean_the_profiles(text):
    with pytest.raises(UnknownNameError, match="names no seeds"):
        train.parse_seeds(text)
