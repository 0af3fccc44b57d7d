"""The command ``wbc predict``."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.runs import AsJson, find_one_run
from wbc_lib.errors import BadDataError, RunError

if TYPE_CHECKING:
    from wbc_lib.prediction.answers import Answer


def predict(
    images: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or patterns such as 'smears/*.png'.")],
    model: Annotated[
        Literal["stronger", "final"], typer.Option(help="Model to ask: the stronger one, or the paper's final model.")
    ] = "stronger",
    run: Annotated[str, typer.Option(help="Run to ask, by its name, in place of a model's first.")] = "",
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=1, help="Of validation images it does not abstain on, this share is right.")
    ] = 0.99,
    red_cell: Annotated[
        float,
        typer.Option(min=0, metavar="PIXELS", help="Diameter of the red cells. Default: measured in each picture."),
    ] = 0.0,
    as_is: Annotated[
        bool, typer.Option("--as-is", help="Ask about pictures as they are: no cell is sought, nothing is refused.")
    ] = False,
    as_json: AsJson = False,
    csv: Annotated[Path | None, typer.Option(help="Write a table with a row for each white cell.")] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="Draw a box around each nucleus: a .png file to write, or a folder.")
    ] = None,
    map_to: Annotated[
        Path | None,
        typer.Option("--map", help="Show where it looks, for the largest cell: a .png or .svg to write, or a folder."),
    ] = None,
) -> None:
    """Say which white cells pictures show, how surely, or why that cannot be said.

    Pictures (JPEG, PNG, TIFF, BMP, WebP) are brought to the scale of the photos by their red cells, and each white cell
    is asked about by itself, in a window of 7 x 5 red cells. What is unlike the photos that the model learned from is
    refused. A picture of 320x240 is taken for an image of the data set. Exits 1 if a picture cannot be read.
    """
    from wbc_lib.data.pictures import find_pictures
    from wbc_lib.prediction import answers, picture
    from wbc_lib.training.runs import Store

    found = find_pictures(images)
    pictures, problems = found.pictures, list(found.problems)
    maps = picture.drawing_paths(map_to, pictures) if map_to else []
    drawings = picture.drawing_paths(boxes, pictures, "boxes", (".png",)) if boxes else []
    report: dict[str, object] = {"passed_over": list(map(str, found.passed_over))}
    said: list[Answer] = []
    if pictures:
        store = Store(paths.results(), paths.cache() / "runs")
        asked = find_one_run(run) if run else picture.find_run(store, model=model)
        if asked is None:
            raise RunError(
                f"No run of the model {model} on the published photos is recorded; name another with --model or --run."
            )
        folds = picture.find_folds(asked, store)
        threshold = picture.choose_threshold(asked, accuracy, folds)
        typer.echo(picture.describe_basis(asked, threshold, accuracy, folds), err=True)
        report |= {"run": asked.name, "accuracy": accuracy, "threshold": threshold}
        guard = None if as_is else answers.find_guard(asked)
        with progress.bar("Looking") if len(pictures) > 20 else nullcontext() as on_progress:
            outcomes = answers.answer(
                asked,
                guard,
                pictures,
                threshold,
                red_cell=red_cell,
                as_is=as_is,
                with_attention=bool(maps),
                on_progress=on_progress,
            )
            for i, outcome in enumerate(outcomes):
                if isinstance(outcome, BadDataError):
                    problems.append(str(outcome))
                    continue
                said.append(outcome)
                _draw(outcome, maps[i] if maps else None, drawings[i] if drawings else None)
    _report(said, report, problems, csv, as_json=as_json)
    for sentence in filter(None, (*problems, found.describe_passed_over())):
        typer.echo(sentence, err=True)
    if problems:
        raise typer.Exit(1)


def _draw(answer: "Answer", map_at: Path | None, boxes_at: Path | None) -> None:
    from wbc_lib.prediction import answers, picture

    if map_at and isinstance(answer.cells[0], picture.Prediction):
        with paths.place(map_at, "name another file or folder with --map"):
            picture.write_map(answer.cells[0], map_at)
    if boxes_at:
        with paths.place(boxes_at, "name another file or folder with --boxes"):
            answers.write_boxes(answer, boxes_at)


def _report(
    said: list["Answer"], report: dict[str, object], problems: list[str], csv: Path | None, *, as_json: bool
) -> None:
    # Not before the bar is through, which would take it for its own.
    from wbc_lib.prediction import answers

    if csv:
        with paths.place(csv, "name another file with --csv"):
            paths.write_table(csv, answers.tabulate(said))
    count = answers.count_cells(said)
    if as_json:
        cells = [cell for answer in said for cell in answer.as_plain()]
        progress.write_out(json.dumps({"images": cells, "count": count, "problems": problems, **report}, indent=1))
    elif said:
        progress.write_out("\n".join(line for answer in said for line in answer.describe()))
        if count and any(len(answer.cells) > 1 for answer in said):
            progress.print_tables(count)
