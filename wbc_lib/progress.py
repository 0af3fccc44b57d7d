"""How long work shows itself: a bar in a terminal, a growing curve in a notebook, silence elsewhere."""

import html
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from wbc_lib import paths

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

#: Set by `wbc book`, which trains what is missing before it starts the chapters.
NEVER_TRAIN = "WBC_NEVER_TRAIN"
#: Seconds between two changes of what a notebook shows.
_MOMENT = 0.5
#: Messages and bars go to standard error, so that what a command prints can be piped.
console = Console(stderr=True)


def write_out(text: str) -> None:
    """Print what a command was asked for to standard output."""
    with paths.named(paths.STANDARD_OUTPUT):
        print(text, flush=True)


def print_tables(*tables: Sequence[Mapping[str, Any]], as_json: bool = False) -> None:
    """Print tables, as what a command was asked for, to standard output: whole where that is no terminal.

    Parameters
    ----------
    *tables
        Rows by the name of the column; the first column names the row and is never cut.
    as_json : bool
        Whether to print JSON: a list of rows, or a list of such lists if there are several tables.
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
    return _in_notebook() and not os.environ.get(NEVER_TRAIN)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the body works; yields a callback for (done, total)."""
    with _notebook_bar(title) if is_live() else _terminal_bar(title) as on_progress:
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
def training_bar(title: str) -> Iterator[Callable[["Step"], None]]:
    """Show a training: epoch, loss, accuracies and time left; yields a callback for `Step`."""
    with _live_curve(title) if _in_notebook() else _training_bar(title) as on_step:
        yield on_step


@contextmanager
def _terminal_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    with _progress() as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("·"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


@contextmanager
def _training_bar(title: str) -> Iterator[Callable[["Step"], None]]:
    with _progress() as progress:
        task = progress.add_task(title, total=None)

        def on_step(step: "Step") -> None:
            progress.update(
                task,
                completed=step.epoch - 1 + step.share,
                total=step.epochs,
                description=f"{title}  {describe(step)}",
            )

        yield on_step


def describe(step: "Step") -> str:
    """One line about where a training is."""
    text = f"epoch {step.epoch}/{step.epochs}  loss {step.loss:.3f}  accuracy {step.accuracy:.3f}"
    if len(step.history):
        text += f"  validation {step.history.val_accuracy.iloc[-1]:.3f}"
    return text


def seconds_left(step: "Step") -> float:
    """How long a training has to go on, from the mean of its epochs so far, or from its first one's share."""
    per_epoch = step.history.seconds.mean() if len(step.history) else step.seconds / step.share
    return float(per_epoch * (step.epochs - (step.epoch - 1 + step.share)))


def write_duration(seconds: float) -> str:
    """A duration in the two units that matter, such as "40 s", "3 min 20 s" or "1 h 5 min"."""
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


@contextmanager
def _notebook_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    from IPython.display import HTML, display

    started = time.monotonic()
    handle, shown = None, started

    def on_progress(done: int, total: int) -> None:
        nonlocal handle, shown
        now = time.monotonic()
        if now - shown < _MOMENT:  # what is done in a moment shows nothing
            return
        shown = now
        left = (now - started) * (total - done) / done if done else 0.0
        words = f"{title}: {done:,} of {total:,}" + (f", about {write_duration(left)} left" if done else "")
        content = HTML(_write_bar(done / total if total else 0.0, words))
        if handle is None:
            handle = display(content, display_id=True)
        else:
            handle.update(content)

    try:
        yield on_progress
    finally:
        if handle is not None:
            handle.update(HTML(""))


@contextmanager
def _live_curve(title: str) -> Iterator[Callable[["Step"], None]]:
    import matplotlib.pyplot as plt
    from IPython.display import HTML, display

    words = display(HTML(_write_bar(0.0, title)), display_id=True)
    figure, axes = plt.subplots(figsize=(7, 2.6))
    plt.close(figure)  # else the notebook would show it a second time
    picture = display(figure, display_id=True)
    last, drawn = None, (0.0, 0)

    def on_step(step: "Step") -> None:
        nonlocal last, drawn
        last, now = step, time.monotonic()
        share = (step.epoch - 1 + step.share) / step.epochs
        line = f"{title}: about {write_duration(seconds_left(step))} left · {describe(step)}"
        # Epochs may be shorter than it takes to draw one.
        if now - drawn[0] >= _MOMENT:
            words.update(HTML(_write_bar(share, line)))
            if len(step.history) > drawn[1]:
                _draw_curve(axes, step)
                picture.update(figure)
            drawn = now, len(step.history)

    try:
        yield on_step
    finally:
        if last is not None and len(last.history):
            done = len(last.history)
            whole = f"{title}: {done} of {last.epochs} epochs in {write_duration(last.history.seconds.sum())}"
            stopped = "; stopped, and if asked again it goes on from there" if done < last.epochs else ""
            words.update(HTML(_write_bar(done / last.epochs, whole + stopped)))
            _draw_curve(axes, last)
            picture.update(figure)
        elif last is not None:
            words.update(HTML(_write_bar(0.0, f"{title}: stopped in its first epoch")))


def _draw_curve(axes: "Axes", step: "Step") -> None:
    axes.clear()
    for column, label in (("accuracy", "training"), ("val_accuracy", "validation")):
        axes.plot(step.history.epoch, step.history[column], marker=".", label=label)
    axes.set(xlim=(0.5, step.epochs + 0.5), ylim=(0, 1), xlabel="epoch", ylabel="accuracy")
    axes.legend(loc="best")


def _write_bar(share: float, words: str) -> str:
    bar_itself = f'<progress max="1" value="{share:.4f}"></progress>'
    return f'<div>{bar_itself} <span style="white-space: pre-wrap">{html.escape(words)}</span></div>'


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
