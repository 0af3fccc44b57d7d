"""`wbc score` and `wbc data splits`, as a user calls them."""

import json
import re
import subprocess
import sys

import pandas as pd
import pytest
from typer.testing import CliRunner

from wbc_lib import paths
from wbc_lib.cli import main
from wbc_lib.data.splits import read_splits
from wbc_lib.errors import SubmissionError


@pytest.fixture(scope="module")
def predictions(tmp_path_factory):
    path = tmp_path_factory.mktemp("score") / "p.csv"
    test = read_splits().query("split == 'TEST'")
    pd.DataFrame({"image": test.image, "predicted": test["class"].where(test.photo != 110, "neutrophil")}).to_csv(path)
    return path


def invoke(*arguments):
    return CliRunner().invoke(main.app, [str(argument) for argument in arguments])


def test_the_score_is_printed_and_written_as_json_and_as_a_page_of_its_own(predictions, tmp_path):
    done = invoke("score", predictions, "--json", tmp_path / "s.json", "--html", tmp_path / "s.html")
    assert done.exit_code == 0, done.output
    assert "93.77 %" in done.stdout and "100.00 %" in done.stdout
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["accuracy"][0]["accuracy"] == pytest.approx(1 - 155 / 2487)
    assert {row["model"] for row in found["comparison"]} >= {"final", "overfitting"}
    page = (tmp_path / "s.html").read_text()
    assert "93.77 %" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_a_fault_is_handed_up_to_be_said_and_nothing_is_written(predictions, tmp_path):
    cut = pd.read_csv(predictions).head(5)
    cut.to_csv(tmp_path / "cut.csv", index=False)
    done = invoke("score", tmp_path / "cut.csv", "--json", tmp_path / "s.json")
    assert isinstance(done.exception, SubmissionError) and "2,482 images are missing" in str(done.exception)
    assert not (tmp_path / "s.json").exists()


def test_commands_start_without_what_only_the_book_and_trainings_need():
    heavy = ("tensorflow", "matplotlib", "sklearn", "cv2", "pandas", "numpy", "scipy", "IPython", "distributed")
    code = f"import sys; from wbc_lib.cli import main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=paths.ROOT, check=True)
    assert done.stdout.strip() == "[]"
