import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from wbc_lib import paths, progress
from wbc_lib.training import Step

HISTORY = pd.DataFrame({"epoch": [1], "accuracy": [0.5], "val_accuracy": [0.4], "seconds": [2.0]})


def test_in_a_notebook_a_training_shows_a_growing_curve_and_the_time_left():
    code = (
        "import pandas as pd\n"
        "from types import SimpleNamespace as Step\n"
        "from wbc_lib.progress import training_bar\n"
        "with training_bar('Tiny') as on_step:\n"
        "    for n in (1, 2, 3):\n"
        "        history = pd.DataFrame({'epoch': range(1, n + 1), 'accuracy': 0.5, 'val_accuracy': 0.4})\n"
        "        history['seconds'] = 2.0\n"
        "        on_step(Step(epoch=n, epochs=3, share=1.0, history=history))\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    pictures = [o for o in notebook.cells[0].outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 1  # one display, updated in place


def test_a_line_tells_epoch_loss_and_both_accuracies():
    text = progress.describe(Step(2, 10, 0.5, 1.0, 0.25, 0.75, HISTORY))
    assert text == "epoch 2/10  loss 0.250  accuracy 0.750  validation 0.400"
    first = progress.describe(Step(1, 10, 0.5, 1.0, 0.25, 0.75, HISTORY.iloc[:0]))
    assert "validation" not in first


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


def test_in_a_terminal_a_bar_reaches_the_end():
    shown = run_in_terminal("from wbc_lib.progress import bar\nwith bar('Working') as done: done(1, 4), done(4, 4)")
    assert "Working" in shown and "100%" in shown


def test_in_a_terminal_a_training_tells_epoch_and_accuracies():
    shown = run_in_terminal(
        "import pandas as pd\n"
        "from types import SimpleNamespace as Step\n"
        "from wbc_lib.progress import training_bar\n"
        "history = pd.DataFrame({'epoch': [1], 'accuracy': [0.5], 'val_accuracy': [0.4], 'seconds': [2.0]})\n"
        "step = Step(epoch=2, epochs=4, share=0.5, loss=0.25, accuracy=0.75, history=history)\n"
        "with training_bar('Tiny, seed 0') as on_step: on_step(step)\n"
    )
    assert "Tiny, seed 0  epoch 2/4  loss 0.250  accuracy 0.750  validation 0.400" in shown
    assert "38%" in shown  # one epoch and a half of four
