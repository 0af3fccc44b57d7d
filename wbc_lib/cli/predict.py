"""The command ``wbc predict``."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.runs import AsJson, find_one_run
from wbc_lib.errors import RunError, WbcError


def predict(
    images: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or patterns such as 'smears/*.png'.")],
    run: Annotated[
        str, typer.Option(help="Run to ask, by its name. Default: the final model that was trained longest.")
    ] = "",
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=1, help="Of validation images it does not abstain on, this share is right.")
    ] = 0.99,
    as_json: AsJson = False,
    map_to: Annotated[
        Path | None, typer.Option("--map", help="Show where it looks: a .png or .svg file to write, or a folder.")
    ] = None,
) -> None:
    """Say which cell pictures show, how surely, and whether the model would rather abstain.

    It looks at 80x60 pixels. A JPEG of 320x240, as the data set has, is brought to that as for a training: decoded at
    half size, then averaged. Of any other picture (JPEG, PNG, TIFF, BMP, WebP) the middle, cut to 4:3, is averaged; it
    should show one white cell in a field about six red cells wide. Exits 1 if a picture cannot be read.
    """
    from wbc_lib.data.pictures import find_pictures
    from wbc_lib.prediction import picture
    from wbc_lib.training.runs import Store

    found = find_pictures(images)
    pictures, problems = found.pictures, list(found.problems)
    maps = picture.map_paths(map_to, pictures) if map_to else []
    report: dict[str, object] = {"images": (said := []), "passed_over": list(map(str, found.passed_over))}
    lines = []
    if pictures:
        asked = find_one_run(run) if run else picture.find_run(Store(paths.results(), paths.cache() / "runs"))
        if asked is None:
            raise RunError("No run of the final model on the published photos is recorded; name another with --run.")
        threshold = picture.choose_threshold(asked, accuracy)
        typer.echo(picture.describe_basis(asked, threshold, accuracy), err=True)
        report |= {"run": asked.name, "accuracy": accuracy, "threshold": threshold}
        with progress.bar("Looking") if len(pictures) > 20 else nullcontext() as on_progress:
            answers = picture.classify(asked, pictures, threshold, with_attention=bool(maps), on_progress=on_progress)
            for i, answer in enumerate(answers):
                if isinstance(answer, WbcError):
                    problems.append(str(answer))
                    continue
                said.append(answer.as_plain())
                lines.append(answer.describe())
                if maps:
                    with paths.place(maps[i], "name another file or folder with --map"):
                        picture.write_map(answer, maps[i])
                    said[-1]["map"] = str(maps[i])
    # Not before the bar is through, which would take it for its own.
    if as_json or lines:
        progress.write_out(json.dumps(report | {"problems": problems}, indent=1) if as_json else "\n".join(lines))
    for sentence in filter(None, (*problems, found.describe_passed_over())):
        typer.echo(sentence, err=True)
    if problems:
        raise typer.Exit(1)
