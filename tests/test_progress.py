import os
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from wbc_lib import paths, progress
from wbc_lib.progress import Step

HISTORY = pd.DataFrame({"epoch": [1], "accuracy": [0.5], "val_accuracy": [0.4], "seconds": [2.0]})


TRAINING = """
import pandas as pd
from types import SimpleNamespace as Step
from wbc_lib.progress import training_bar
with training_bar("Tiny") as on_step:
    for n in range(1, 4):
        history = pd.DataFrame({"epoch": range(1, n + 1), "accuracy": 0.5, "val_accuracy": 0.4, "seconds": 30.0})
        on_step(Step(epoch=n, epochs=3, share=1.0, seconds=30.0, loss=0.5, accuracy=0.5, history=history))
"""
LONG = """
import time
from wbc_lib.progress import bar
with bar("Working") as on_progress:
    on_progress(1, 4)
    time.sleep(0.6)
    on_progress(2, 4)
    on_progress(4, 4)
"""


def outputs(code: str, **environment: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    variables = {k: v for k, v in os.environ.items() if k != progress.NEVER_TRAIN} | environment
    NotebookClient(notebook, kernel_name="python3").execute(env=variables)
    return notebook.cells[0].outputs


def test_in_a_notebook_a_training_leaves_its_whole_curve_and_where_it_ended():
    shown = outputs(TRAINING)
    assert len([o for o in shown if "image/png" in o.get("data", {})]) == 1  # one display, updated in place
    text = "".join(o.text for o in shown if o.output_type == "stream")
    assert "Tiny: 100%" in text and "epoch 3/3  loss 0.500  accuracy 0.500  validation 0.400" in text


def test_in_a_notebook_what_takes_longer_shows_itself_but_not_on_a_page():
    assert "Working:  50%" in "".join(o.text for o in outputs(LONG))
    assert outputs(LONG.replace("0.6", "0")) == []
    assert outputs(LONG, **{progress.NEVER_TRAIN: "1"}) == []


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


def test_in_a_terminal_a_bar_shows_how_far_it_is():
    shown = run_in_terminal(LONG)
    assert "Working:  50%" in shown


def test_in_a_terminal_a_training_tells_epoch_and_accuracies():
    shown = run_in_terminal(
        "import pandas as pd\n"
        "from types import SimpleNamespace as Step\n"
        "from wbc_lib.progress import training_bar\n"
        "history = pd.DataFrame({'epoch': [1], 'accuracy': [0.5], 'val_accuracy': [0.4], 'seconds': [2.0]})\n"
        "step = Step(epoch=2, epochs=4, share=0.5, loss=0.25, accuracy=0.75, history=history)\n"
        "with training_bar('Tiny, seed 0') as on_step: on_step(step)\n"
    )
    assert "Tiny, seed 0: " in shown and "epoch 2/4  loss 0.250  accuracy 0.750  validation 0.400" in shown
    assert "38%" in shown  # one epoch and a half of four
