"""A kernel that is a copy has the libraries loaded, and is otherwise like one that was started."""

import os
import time

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from wbc_lib.book import kernels

PARALLEL = "import joblib; print(joblib.Parallel(2)(joblib.delayed(abs)(n) for n in (-1, -2)))"

pytestmark = pytest.mark.skipif(not kernels.CAN_COPY, reason="kernels are copied on Linux alone")


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(*sources: str) -> list[str]:
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        notebook = nbformat.v4.new_notebook(cells=cells)
        resources = {"metadata": {"path": str(tmp_path)}}
        NotebookClient(notebook, kernel_name="python3", resources=resources).execute(env=dict(os.environ))
        return ["".join(o.get("text", str(o.get("data"))) for o in cell.outputs) for cell in notebook.cells]

    monkeypatch.setenv(kernels.PROVISIONER, kernels.COPIED)
    monkeypatch.setenv("MPLBACKEND", "")
    return run


def test_a_copied_kernel_has_the_libraries_loaded_and_is_otherwise_like_any(run, tmp_path, monkeypatch):
    first = run(
        "import sys; kept = 1; 'seaborn' in sys.modules, __name__", "import os; os.getcwd()", "os.getpid()", PARALLEL
    )
    monkeypatch.setenv("WBC_DATA", "set since")
    second = run("'kept' in dir()", "import os; os.environ['WBC_DATA']", "os.getpid()")
    assert "(True, '__main__')" in first[0] and str(tmp_path) in first[1]
    assert "False" in second[0]
    assert "set since" in second[1]
    assert first[2] != second[2]
    assert first[3].strip() == "[1, 2]"


def test_figures_are_shown_and_errors_name_their_cell(run):
    (shown,) = run("import matplotlib.pyplot as plt; plt.plot([1, 2]);")
    assert "image/png" in shown
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        run("1 / 0")


def test_a_copied_kernel_ends_with_its_notebook(run):
    (pid,) = run("import os; print(os.getpid())")
    ends = time.monotonic() + 10
    while psutil.pid_exists(int(pid)) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(pid))
