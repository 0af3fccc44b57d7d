"""The `wbc` command.

Modules of commands load what they need when they are called, so that each starts at once.
"""

import sys
from typing import Annotated

import typer

from wbc_lib import paths, progress, stopping
from wbc_lib.cli import book, data, external, leak, predict, runs, score, train
from wbc_lib.errors import WbcError

_BOOK, _YOURS, _RESULTS = "The book", "Your pictures and predictions", "Behind the book: data and trainings"

app = typer.Typer(
    help="White blood cells, classified again: the book, its data and trainings, and tools for your own.",
    no_args_is_help=True,
)
app.command("book", rich_help_panel=_BOOK)(book.book)
app.command("lab", rich_help_panel=_BOOK)(book.lab)
app.command("predict", rich_help_panel=_YOURS)(predict.predict)
app.command("score", rich_help_panel=_YOURS)(score.score)
app.command("leak", rich_help_panel=_YOURS)(leak.leak)
app.command("group", rich_help_panel=_YOURS)(leak.group)
app.add_typer(data.app, name="data", rich_help_panel=_RESULTS)
app.command("train", rich_help_panel=_RESULTS)(train.train)
app.add_typer(runs.app, name="runs", rich_help_panel=_RESULTS)
app.add_typer(external.app, name="external", rich_help_panel=_RESULTS)
app.command("experiments", rich_help_panel=_RESULTS)(train.experiments)


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib import metadata

        progress.write_out(f"wbc {metadata.version('wbc')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; what a user can mend is told in one sentence."""
    paths.settle_home()
    paths.make_absolute()
    with stopping.heeded():
        _run()


def _run() -> None:
    try:
        app(prog_name="wbc")
    except WbcError as error:
        sentence = str(error)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in ("", "wbc_lib"):
            raise
        sentence = (
            f"This needs {name}, which is not installed; run `pip install '.[book,train]'` in the project's folder."
        )
    except OSError as error:
        sentence = paths.explain(error)
    else:
        return
    typer.secho(sentence, fg="red", err=True)
    sys.exit(1)
