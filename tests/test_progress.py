import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from wbc_lib import paths, progress
from wbc_lib.progress import Step

TRAINING = """
import pandas as pd
from types import SimpleNamespace as Step
from wbc_lib.progress import training_bar
with training_bar("Tiny") as on_step:
    for n in range(1, {last} + 1):
        history = pd.DataFrame({{"epoch": range(1, n + 1), "accuracy": 0.5, "val_accuracy": 0.4, "seconds": 30.0}})
        on_step(Step(epoch=n, epochs=3, share=1.0, seconds=30.0, loss=0.5, accuracy=0.5, history=history))
    {then}
"""
FIRST = "on_step(Step(epoch=1, epochs=3, share=0.5, seconds=15.0, loss=1, accuracy=0, history=pd.DataFrame([])))"
LONG = """
import os, time
from wbc_lib.progress import bar
with bar("Working") as on_progress:
    on_progress(1, 4)
    time.sleep(0.6)
    on_progress(2, 4)
"""
NEVER = f"os.environ['{progress.NEVER_TRAIN}'] = '1'"


def test_in_a_notebook_a_training_shows_its_curve_and_its_time_and_says_if_it_was_stopped():
    sources = [
        TRAINING.format(last=3, then="pass"),
        TRAINING.format(last=2, then="raise KeyboardInterrupt"),
        TRAINING.format(last=0, then=f"{FIRST}; raise KeyboardInterrupt"),
        # What takes longer than a moment shows itself until it is done, but not on a page.
        LONG,
        LONG.replace("0.6", "0"),
        f"{NEVER}\n{LONG}",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3", allow_errors=True).execute()
    whole, stopped, first, long, short, page = (cell.outputs for cell in notebook.cells)
    assert len([o for o in whole if "image/png" in o.get("data", {})]) == 1  # one display, updated in place
    assert "Tiny: 3 of 3 epochs in 1 min 30 s" in whole[0].data["text/html"]
    assert "stopped" not in whole[0].data["text/html"]
    assert "Tiny: 2 of 3 epochs in 1 min 0 s; stopped" in stopped[0].data["text/html"]
    assert "Tiny: stopped in its first epoch" in first[0].data["text/html"]
    assert first[-1].ename == "KeyboardInterrupt"
    assert [o.data["text/html"] for o in long] == [""]
    assert short == page == []


def test_while_a_notebook_trains_it_shows_the_epoch_and_the_time_left():
    watched = "import time; time.sleep(0.6); on_step(Step(epoch=3, epochs=3, share=0.5, seconds=15.0, loss=0.25, "
    watched += "accuracy=0.75, history=history)); import os; os._exit(0)"  # no last word
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(TRAINING.format(last=2, then=watched))])
    with pytest.raises(DeadKernelError):
        NotebookClient(notebook, kernel_name="python3").execute()
    shown = [o.data["text/html"] for o in notebook.cells[0].outputs if "text/html" in o.get("data", {})]
    assert shown and "about 15 s left · epoch 3/3  loss 0.250  accuracy 0.750  validation 0.400" in shown[0]


@given(
    epochs=st.integers(1, 300),
    done=st.integers(0, 299),
    share=st.floats(0.01, 1),
    per_epoch=st.floats(0.001, 1e4),
)
def test_the_time_left_is_that_of_a_steady_training(epochs, done, share, per_epoch):
    done = min(done, epochs - 1)
    history = pd.DataFrame({"epoch": range(1, done + 1), "seconds": [per_epoch] * done, "val_accuracy": 0.5})
    step = Step(done + 1, epochs, share, share * per_epoch, 0.5, 0.5, history)
    whole, so_far = epochs * per_epoch, (done + share) * per_epoch
    assert progress.seconds_left(step) == pytest.approx(whole - so_far, abs=1e-6 * whole)


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min"), (7199.7, "2 h 0 min")],
)
def test_a_duration_has_two_units(seconds, words):
    assert progress.write_duration(seconds) == words


def test_without_a_terminal_a_bar_is_silent(capsys):
    with progress.bar("Working") as on_progress:
        on_progress(1, 2)
    assert capsys.readouterr() == ("", "")


def run_in_terminal(code: str) -> str:
    pty = pytest.importorskip("pty", reason="needs a terminal to draw on")
    reader, writer = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "CI"}}
    environment |= {"TERM": "xterm", "COLUMNS": "160"}
    process = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, stderr=writer, env=environment)
    os.close(writer)
    shown = b""
    try:
        while piece := os.read(reader, 4096):
            shown += piece
    except OSError:  # how Linux tells that the other end was closed
        pass
    finally:
        os.close(reader)
    assert process.wait() == 0
    return shown.decode()


def test_in_a_terminal_a_bar_reaches_the_end_and_a_training_tells_epoch_and_accuracies():
    shown = run_in_terminal(
        "import pandas as pd\n"
        "from types import SimpleNamespace as Step\n"
        "from wbc_lib.progress import bar, training_bar\n"
        "with bar('Working') as done: done(1, 4), done(4, 4)\n"
        "history = pd.DataFrame({'epoch': [1], 'accuracy': [0.5], 'val_accuracy': [0.4], 'seconds': [2.0]})\n"
        "step = Step(epoch=2, epochs=4, share=0.5, loss=0.25, accuracy=0.75, history=history)\n"
        "with training_bar('Tiny, seed 0') as on_step: on_step(step)\n"
    )
    assert "Working" in shown and "100%" in shown
    assert "Tiny, seed 0  epoch 2/4  loss 0.250  accuracy 0.750  validation 0.400" in shown
    assert "38%" in shown  # one epoch and a half of four
