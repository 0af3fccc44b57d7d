"""How long work shows itself: a bar in a terminal, a growing curve in a notebook, silence elsewhere."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from wbc_lib.training import Step

#: Messages and bars go to standard error, so that what a command prints can be piped.
console = Console(stderr=True)


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while the body works; yields a callback for (done, total)."""
    with _progress() as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def training_bar(title: str) -> Iterator[Callable[["Step"], None]]:
    """Show a training: epoch, loss, accuracies and time left; yields a callback for `training.Step`."""
    with _live_curve(title) if _in_notebook() else _training_bar(title) as on_step:
        yield on_step


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


@contextmanager
def _live_curve(title: str) -> Iterator[Callable[["Step"], None]]:
    import matplotlib.pyplot as plt
    from IPython.display import display

    figure, axes = plt.subplots(figsize=(7, 2.6))
    plt.close(figure)  # else the notebook would show it a second time
    handle = display(figure, display_id=True)
    drawn = 0

    def on_step(step: "Step") -> None:
        nonlocal drawn
        if len(step.history) <= drawn:
            return
        drawn = len(step.history)
        left = step.history.seconds.mean() * (step.epochs - drawn)
        axes.clear()
        axes.plot(step.history.epoch, step.history.accuracy, label="training")
        axes.plot(step.history.epoch, step.history.val_accuracy, label="validation")
        axes.set(xlim=(1, step.epochs), ylim=(0, 1), xlabel="epoch", ylabel="accuracy")
        axes.set_title(f"{title}: epoch {drawn} of {step.epochs}, about {left:.0f} s left", fontsize=9)
        axes.legend(loc="lower right")
        handle.update(figure)

    yield on_step


def _in_notebook() -> bool:
    if "IPython" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")
