"""The command ``wbc lab``: the chapters, opened to be changed and run again."""

import os
from pathlib import Path
from typing import Annotated

import typer

from wbc_lib.cli.data import Data


def open_lab(
    chapter: Annotated[str, typer.Argument(help="Such as 7b, or 7b-transfer. Default: the front page.")] = "index",
    options: Annotated[
        list[str] | None, typer.Argument(help="Passed on to JupyterLab, after --: -- --port=9000 --allow-root")
    ] = None,
    data: Data = None,
    profile: Annotated[
        str,
        typer.Option("--profile", help="smoke, quick or paper. Default: paper if its runs are recorded, else quick."),
    ] = "",
    folder: Annotated[Path, typer.Option(help="Where the chapters are copied to; what you change there stays.")] = Path(
        "wbc-chapters"
    ),
    browser: Annotated[bool, typer.Option(help="Open a browser, or only say the address.")] = True,
) -> None:
    """Open JupyterLab on the chapters, with the kernel and the photos in place."""
    from wbc_lib.book import lab  # loads what builds the book, which other commands need not wait for
    from wbc_lib.training.study import open_study, prefer_recorded

    passed_on = list(options or [])
    if chapter.startswith("-"):  # all that was said are JupyterLab's options
        passed_on, chapter = [chapter, *passed_on], "index"
    if not browser:
        passed_on.append("--no-browser")
    command = lab.command(folder, lab.find_chapter(chapter), passed_on)
    study = open_study(data, profile or "paper")
    if not profile:
        study = prefer_recorded(study)
    laid_out = lab.lay_out(folder, study.profile.name)
    said = [f"Chapters: {folder.resolve()}; data: {study.data.title}; profile: {study.profile.name}"]
    if study.results_of:
        said += [
            "There are no photos: results are those recorded on the published ones, and nothing can be trained.",
            "To train, name their folder with --data, or say --data phantoms.",
        ]
    if laid_out.kept:
        said.append(f"Kept as they are, for they were changed here: {', '.join(laid_out.kept)}.")
    if laid_out.outdated:
        said.append(
            f"Of these, older than the library and perhaps no longer running with it: {', '.join(laid_out.outdated)}. "
            "Rename yours and run this again to have the new ones beside them."
        )
    if laid_out.gone:
        said.append(f"No longer in the book, and left as they are: {', '.join(laid_out.gone)}; see CHANGELOG.md.")
    typer.echo("\n".join(said), err=True)
    kernels = lab.kernel_folder()
    lab.write_kernel(kernels)
    os.execve(command[0], command, lab.environment(study.named, kernels))
