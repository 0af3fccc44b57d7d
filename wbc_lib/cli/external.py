"""The commands of ``wbc external``: what models say of pictures from elsewhere, recorded for the book."""

from typing import TYPE_CHECKING, Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.errors import UnknownNameError

if TYPE_CHECKING:
    from wbc_lib.data.picture_sets import PictureSet
    from wbc_lib.prediction.travel import Seen

app = typer.Typer(
    help="Pictures from other microscopes, and of other things: what the recorded models say of them.",
    no_args_is_help=True,
)

Elsewhere = Annotated[
    str | None, typer.Option("--external", help="Folder of the pictures from elsewhere. Default: WBC_EXTERNAL.")
]
MODEL = "final"


@app.command("guard")
def external_guard(data: Data = None) -> None:
    """Fit what the paper's model refuses to the photos of TRAIN, and record it in the project's results/."""
    from wbc_lib.data import dataset
    from wbc_lib.data.picture_sets import TRAIN_PHOTOS, open_set
    from wbc_lib.prediction import refusal, travel
    from wbc_lib.provenance import overlaps

    paths.require_writable(refusal.recorded_path(MODEL).parent)
    found = dataset.find(data)
    pictures = open_set(TRAIN_PHOTOS, found)
    seen = _look(pictures, pictures.red_cell)
    rows = (seen.table.scaled == travel.BY_PICTURE) & (seen.table.cells > 0)
    photos = seen.table.picture[rows].map(dataset.photo_number)
    fields = overlaps.group(photos.tolist(), overlaps.read_pairs(found)).loc[photos].to_numpy()
    guard = refusal.fit_guard("TRAIN", seen.colours[rows], seen.table.nucleus[rows].to_numpy(), fields)
    progress.write_out(str(refusal.write_recorded(MODEL, guard)))


@app.command("predict")
def external_predict(
    names: Annotated[list[str] | None, typer.Argument(help="Sets of pictures. Default: all.")] = None,
    elsewhere: Elsewhere = None,
    data: Data = None,
    held_back: Annotated[
        bool, typer.Option("--held-back", help="Those pictures alone that are held back until everything is chosen.")
    ] = False,
) -> None:
    """Record what the runs of the paper's model say of each picture, and how unlike it is to what they learned from.

    A stopped command goes on where it was.
    """
    from dataclasses import replace

    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import NAMES, TRAIN_PHOTOS, open_set
    from wbc_lib.prediction import refusal, travel
    from wbc_lib.training.runs import Store
    from wbc_lib.training.study import open_study

    chosen = [_require_known(name, NAMES) for name in names or NAMES]
    paths.require_writable(travel.recorded_path(MODEL, chosen[0]).parent)
    guard = refusal.read_recorded(MODEL)
    found = dataset.find(data)
    runs = replace(open_study(found.root, "paper", may_train=False), store=Store(paths.results())).recorded(MODEL)
    for name in chosen:
        pictures = open_set(name, found, external.find(elsewhere) if name in external.SOURCES else None)
        scale = pictures.red_cell
        if name == "tecom":
            ours = open_set(TRAIN_PHOTOS, found)
            looked = _look(ours, ours.red_cell).table
            nucleus = float(looked.nucleus[looked.scaled == travel.BY_SET].median())
            scale = travel.scale_by_nuclei(external.find(elsewhere), pictures.table, nucleus)
        seen = _look(pictures, scale)
        wanted = (seen.table.held_back == held_back).to_numpy()
        if not wanted.any():
            continue
        table = travel.answer(seen.take(wanted), runs, guard)
        target = travel.recorded_path(MODEL, name, held_back=held_back)
        travel.write_recorded(table, target)
        progress.write_out(str(target))


def _look(pictures: "PictureSet", scale: float) -> "Seen":
    from wbc_lib.prediction import travel

    with progress.bar(f"{pictures.name}: red cells") as on_progress:
        measured = travel.measure(pictures, on_progress)
    with progress.bar(f"{pictures.name}: white cells") as on_progress:
        return travel.look_at(pictures, measured, scale or travel.set_scale(measured), on_progress)


def _require_known(name: str, names: tuple[str, ...]) -> str:
    if name not in names:
        raise UnknownNameError(f"There is no set {name!r} of pictures; choose one of: {', '.join(names)}.")
    return name
