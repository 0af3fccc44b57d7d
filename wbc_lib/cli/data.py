"""The commands of ``wbc data``: find the photos, check them, list their splits, draw a stand-in."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from wbc_lib import paths, progress

app = typer.Typer(
    help="The photos: find them, check them, list their splits, or draw a stand-in.", no_args_is_help=True
)

Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="Folder or zip of the photos, or 'phantoms'. Default: WBC_DATA, the cache, a download."
    ),
]
Folder = Annotated[str | None, typer.Option("--data", help="Folder of the photos.")]


@app.command("where")
def data_where(data: Folder = None) -> None:
    """Print the folder of the photos that would be used."""
    from wbc_lib.data import dataset

    progress.write_out(str(dataset.find(data).root))


@app.command("check")
def data_check(data: Folder = None) -> None:
    """Check every file of the data set; exits 1 and names each that is not as it should be."""
    from wbc_lib.data import dataset
    from wbc_lib.data.check import check

    found = dataset.find(data)
    with progress.bar("Checking") as on_progress:
        outcome = check(found, on_progress)
    counts = outcome.counts.assign(**{"in all": outcome.counts.sum(axis=1)}).rename_axis("split").reset_index()
    progress.print_tables(counts.to_dict("records"))
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    if outcome.checksums:
        same = "the published files, bit for bit" if outcome.checksums.is_published else "not the published files"
        progress.write_out(f"manifest sha256 {outcome.checksums.sha256} ({same})")
    if outcome.problems:
        raise typer.Exit(1)
    progress.write_out(
        f"{found.root}: {outcome.counts.to_numpy().sum():,} images and {outcome.n_photos} photos, all readable"
    )


@app.command("phantoms")
def data_phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to draw into; it must not exist yet.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pictures.")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Share of the real number of photos.")] = 1.0,
    copies: Annotated[int, typer.Option(min=8, help="TRAIN images per class.")] = 2500,
) -> None:
    """Draw a synthetic stand-in for the data set, in the same layout."""
    from wbc_lib.data.phantoms import write_phantoms

    with paths.place(folder, "name another folder"), progress.bar("Drawing phantoms") as on_progress:
        write_phantoms(folder, seed=seed, scale=scale, copies=copies, on_progress=on_progress)
    typer.echo(f"Phantoms are in {folder}; use them with --data {shlex.quote(str(folder))}", err=True)


@app.command("splits")
def data_splits(
    file: Annotated[Path, typer.Argument(help="CSV to write.")] = Path("splits.csv"),
    record: Annotated[
        bool, typer.Option(help="Make the library's own tables anew from results/, to be committed; writes no FILE.")
    ] = False,
) -> None:
    """Write what each published image is: photo, class, split, field of view, and its fold in three repeats.

    Copies of one photo, and photos of one field of view, are in one fold.
    """
    if record:
        from wbc_lib.evaluation.submission_report import make_files

        paths.require_project("`wbc data splits --record`")
        for path, text in make_files().items():
            paths.write_text(path, text)
            progress.write_out(str(path))
        return
    from wbc_lib.data.splits import SPLITS_PATH

    with paths.place(file, "name another file"):
        paths.write_text(file, SPLITS_PATH.read_text(encoding="utf-8"))


@app.command("smears")
def data_smears(
    file: Annotated[Path, typer.Argument(help="CSV to write.")] = Path("smears.csv"),
    data: Data = None,
    record: Annotated[
        bool, typer.Option(help="Make the project's own table in results/ anew, to be committed; writes no FILE.")
    ] = False,
) -> None:
    """Write which smear each photo is of, by the colours of its background and stain, whatever its label."""
    from wbc_lib.data import dataset
    from wbc_lib.provenance import smears

    if record:
        paths.require_project("`wbc data smears --record`")
    table = smears.find_smears(dataset.find(data))
    if record:
        progress.write_out(str(smears.write_recorded(table)))
        return
    with paths.place(file, "name another file"):
        paths.write_table(file, table)


@app.command("features")
def data_features(
    data: Data = None,
    record: Annotated[
        bool, typer.Option(help="Make the project's own table in results/ anew, to be committed.")
    ] = False,
) -> None:
    """Answer about every photo out of fold by measured features of its cell, and print how many are right."""
    from wbc_lib.data import dataset
    from wbc_lib.data.splits import read_splits
    from wbc_lib.evaluation import cell_features

    if record:
        paths.require_project("`wbc data features --record`")
    answers = cell_features.answer_published(dataset.find(data))
    cells = read_splits().drop_duplicates("photo").set_index("photo")["class"]
    right = answers[list(dataset.CLASSES)].idxmax(axis=1) == answers.photo.map(cells)
    for repeat, share in right.groupby(answers.repeat).mean().items():
        progress.write_out(f"repeat {repeat}: {share:.1%} of the photos are right")
    if record:
        progress.write_out(str(cell_features.write_recorded(answers)))
