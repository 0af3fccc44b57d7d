"""``wbc score``: anyone's predictions on the published images, scored as this book scores its own."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wbc_lib import paths, progress

if TYPE_CHECKING:
    from wbc_lib.evaluation.submission_report import Report

_TEMPLATE = Path(__file__).with_name("score.html.jinja")


def score(
    predictions: Annotated[
        Path,
        typer.Argument(
            metavar="PREDICTIONS",
            help="CSV with `image` and either `predicted` or a column of probabilities per class, or an .npz of "
            "arrays of these names.",
        ),
    ],
    protocol: Annotated[
        Literal["test", "test-simple", "folds"],
        typer.Option(
            help="test: the 2,487 images of TEST; test-simple: its 71 unaltered images; folds: all 348 photos, or all "
            "12,444 images, each predicted by a model that had not seen it."
        ),
    ] = "test",
    repeat: Annotated[
        Literal["s0", "s1", "s2"], typer.Option(help="For folds: which column of splits.csv, fold_s0 to fold_s2.")
    ] = "s0",
    json_to: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")] = None,
    html_to: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write the report as one page.")
    ] = None,
) -> None:
    """Score predictions on the published images: by image and by photo, with intervals, against recorded models.

    Needs neither the photos nor the project. `wbc data splits` writes the list of images. Exits 1, with a sentence for
    each row that is wrong, if anything is.
    """
    from wbc_lib.evaluation.submission import read
    from wbc_lib.evaluation.submission_report import report, write_tables

    found = report(read(predictions, protocol, repeat))
    progress.write_out(title(found))
    progress.write_out(found.note)
    for name, table in write_tables(found).items():
        progress.write_out(f"\n{name}")
        progress.print_tables(table.to_dict("records"))
    for target, write in ((json_to, _write_json), (html_to, _write_html)):
        if target:
            with paths.place(target, "name another file"):
                paths.write_text(target, write(found))


def title(found: "Report") -> str:
    """What was scored, in a line."""
    of = f"protocol {found.protocol}" + (f", repeat {found.repeat}" if found.repeat else "")
    return f"{found.pictures:,} pictures of {found.photos} photos, {of}"


def _write_json(found: "Report") -> str:
    return json.dumps(found.as_plain(), indent=1, default=lambda value: value.item()) + "\n"


def _write_html(found: "Report") -> str:
    from importlib import metadata

    import jinja2

    from wbc_lib.evaluation.submission_report import write_tables

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    tables = {name: table.to_dict("split") for name, table in write_tables(found).items()}
    return template.render(title=title(found), note=found.note, tables=tables, version=metadata.version("wbc"))
