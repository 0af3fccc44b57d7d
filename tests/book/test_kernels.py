"""A kernel that is a copy has the libraries loaded, and is otherwise like one that was started."""

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

import nbformat
import psutil
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from wbc_lib.book import kernels

PARALLEL = "import joblib; print(joblib.Parallel(2)(joblib.delayed(abs)(n) for n in (-1, -2)))"

pytestmark = pytest.mark.skipif(not kernels.CAN_COPY, reason="kernels are copied on Linux alone")


def execute(folder: str, sources: tuple[str, ...]) -> list[str]:
    """What the cells of a notebook show."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return ["".join(o.get("text", str(o.get("data"))) for o in cell.outputs) for cell in notebook.cells]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(folder):
    """Execute notebooks in a process of its own, as a build does: what it copies is loaded once in a process."""
    with pytest.MonkeyPatch.context() as patch, ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        patch.setenv(kernels.PROVISIONER, kernels.COPIED)
        patch.delenv("MPLBACKEND", raising=False)
        yield lambda *sources: pool.submit(execute, str(folder), sources).result()


def test_a_copied_kernel_has_the_libraries_loaded_and_is_otherwise_like_any(run, folder):
    first = run(
        "import sys; kept = 1; 'seaborn' in sys.modules, __name__", "import os; os.getcwd()", "os.getpid()", PARALLEL
    )
    second = run("'kept' in dir()", "import os", "os.getpid()")
    assert "(True, '__main__')" in first[0] and str(folder) in first[1]
    assert "False" in second[0]
    assert first[2] != second[2]
    assert first[3].strip() == "[1, 2]"


def test_a_copied_kernel_takes_no_port_that_another_process_could_take_first(run, folder):
    app = "from ipykernel.kernelapp import IPKernelApp; print(IPKernelApp.instance().transport)"
    assert run(app)[0].strip() == "ipc"
    assert list(folder.iterdir()) == []


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
