"""How long work shows itself: a bar on standard error, in a notebook a growing curve as well, silence elsewhere."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from tqdm import tqdm

from wbc_lib import paths

if TYPE_CHECKING:
    import pandas as pd

#: Set by `wbc book`, which trains what is missing before it starts the chapters.
NEVER_TRAIN = "WBC_NEVER_TRAIN"
#: Seconds before a bar appears, and between two pictures of a curve.
_MOMENT = 0.5


def say(text: str) -> None:
    """Print a message to standard error, above the bars there, so that what a command was asked for can be piped."""
    tqdm.write(text, file=sys.stderr)


def write_out(text: str) -> None:
    """Print what a command was asked for to standard output."""
    with paths.named(paths.STANDARD_OUTPUT):
        print(text, flush=True)


def print_tables(*tables: Sequence[Mapping[str, Any]], as_json: bool = False) -> None:
    """Print tables, as what a command was asked for, to standard output: whole where that is no terminal.

    Rows are by the name of the column; the first column names the row and is never cut. As JSON: a list of rows, or a
    list of such lists if there are several tables.
    """
    if as_json:
        write_out(json.dumps(tables[0] if len(tables) == 1 else tables, indent=1))
        return
    # A file and a pipe have no width.
    output = Console() if sys.stdout.isatty() else Console(width=10_000)
    for rows in tables:
        first, *others = rows[0] if rows else ["nothing"]
        table = Table(Column(first, no_wrap=True), *others)
        for row in rows:
            table.add_row(*map(_show, row.values()))
        with paths.named(paths.STANDARD_OUTPUT):
            output.print(table)


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


@dataclass(frozen=True)
class Step:
    """Where a training is: reported several times an epoch."""

    epoch: int
    epochs: int
    share: float
    seconds: float
    loss: float
    accuracy: float
    history: "pd.DataFrame"


def is_live() -> bool:
    """Whether somebody looks on in a notebook, as nobody does while pages are built."""
    if "IPython" not in sys.modules or os.environ.get(NEVER_TRAIN):
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the body works, if that takes more than a moment; yields a callback for (done, total)."""
    with _bar(title, leave=False, delay=_MOMENT) as shown:

        def on_progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield on_progress


@contextmanager
def bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each stage of the body's work; yields a callback for (stage, done, total)."""
    with ExitStack() as stack:
        shown: dict[str, Callable[[int, int], None]] = {}

        def on_stage(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                stack.close()
                shown.clear()
                shown[stage] = stack.enter_context(bar(stage))
            shown[stage](done, total)

        yield on_stage


@contextmanager
def training_bar(title: str) -> Iterator[Callable[[Step], None]]:
    """Show a training: epoch, loss, accuracies and time left, in a notebook its curve too; yields a callback."""
    draw = _live_curve() if is_live() else None
    with _bar(title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}") as shown:

        def on_step(step: Step) -> None:
            shown.total = step.epochs
            shown.set_postfix_str(_describe(step), refresh=False)
            shown.update(step.epoch - 1 + step.share - shown.n)
            if draw:
                draw(step)

        yield on_step


def _bar(title: str, **options: Any) -> tqdm:
    # None: only where standard error is a terminal.
    return tqdm(desc=title, file=sys.stderr, disable=False if is_live() else None, dynamic_ncols=True, **options)


def _describe(step: Step) -> str:
    text = f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.3f}  accuracy {step.accuracy:.3f}"
    if len(step.history):
        text += f"  validation {step.history.val_accuracy.iloc[-1]:.3f}"
    return text


def _live_curve() -> Callable[[Step], None]:
    import matplotlib.pyplot as plt
    from IPython.display import display

    figure, axes = plt.subplots(figsize=(7, 2.6))
    plt.close(figure)  # else the notebook would show it a second time
    picture = display(figure, display_id=True)
    drawn, when = 0, 0.0

    def draw(step: Step) -> None:
        nonlocal drawn, when
        done, now = len(step.history), time.monotonic()
        # Epochs may be shorter than it takes to draw one.
        if done == drawn or (now - when < _MOMENT and done < step.epochs):
            return
        drawn, when = done, now
        axes.clear()
        for column, label in (("accuracy", "training"), ("val_accuracy", "validation")):
            axes.plot(step.history.epoch, step.history[column], marker=".", label=label)
        axes.set(xlim=(0.5, step.epochs + 0.5), ylim=(0, 1), xlabel="epoch", ylabel="accuracy")
        axes.legend(loc="best")
        picture.update(figure)

    return draw
