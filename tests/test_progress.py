import os
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from wbc_lib import paths, progress

TRAINING = """
import pandas as pd
from types import SimpleNamespace as Step
from wbc_lib.progress import training_bar
with training_bar("Tiny") as on_step:
    for n in range(1, 4):
        history = pd.DataFrame({"epoch": range(1, n + 1), "accuracy": 0.5, "val_accuracy": 0.4, "seconds": 30.0})
        on_step(Step(epoch=n, epochs=4, share=0.5, seconds=30.0, loss=0.25, accuracy=0.75, history=history))
"""
LONG = """
import os, time
from wbc_lib.progress import bar
with bar("Working") as on_progress:
    on_progress(1, 4)
    time.sleep(0.6)
    on_progress(2, 4)
    on_progress(4, 4)
"""
STEP = "epoch 3/4  loss 0.250  accuracy 0.750  validation 0.400"


def test_in_a_notebook_a_training_shows_its_curve_and_what_takes_long_a_bar_but_not_on_a_page():
    sources = [TRAINING, LONG, LONG.replace("0.6", "0"), f"os.environ['{progress.NEVER_TRAIN}'] = '1'\n{LONG}"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    NotebookClient(notebook, kernel_name="python3").execute()
    training, long, short, page = (cell.outputs for cell in notebook.cells)
    assert len([o for o in training if "image/png" in o.get("data", {})]) == 1  # one display, updated in place
    assert STEP in "".join(o.text for o in training if o.output_type == "stream")
    assert "Working:  50%" in "".join(o.text for o in long)
    assert short == page == []


def test_without_a_terminal_a_bar_is_silent(capsys):
    with progress.bar("Working") as on_progress:
        on_progress(1, 2)
    assert capsys.readouterr() == ("", "")


def test_in_a_terminal_a_bar_shows_how_far_it_is_and_a_training_tells_epoch_and_accuracies():
    pty, termios = (pytest.importorskip(name, reason="needs a terminal to draw on") for name in ("pty", "termios"))
    reader, writer = pty.openpty()
    termios.tcsetwinsize(writer, (24, 160))
    code = f"{LONG}\n{TRAINING}"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, stderr=writer)
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
    assert "Working:  50%" in shown.decode()
    assert "Tiny:  62%" in shown.decode() and STEP in shown.decode()  # two epochs and a half of four
