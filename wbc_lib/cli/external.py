"""The commands of ``wbc external``: what models say of pictures from elsewhere, recorded for the book."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.errors import UnknownNameError

if TYPE_CHECKING:
    from wbc_lib.data.dataset import DataSet
    from wbc_lib.data.external import External
    from wbc_lib.data.windows import Window
    from wbc_lib.prediction.travel import Seen
    from wbc_lib.training.runs import Run

app = typer.Typer(
    help="Pictures from other microscopes, and of other things: what the recorded models say of them.",
    no_args_is_help=True,
)

Elsewhere = Annotated[
    str | None, typer.Option("--external", help="Folder of the pictures from elsewhere. Default: WBC_EXTERNAL.")
]
Model = Annotated[Literal["final", "stronger"], typer.Option(help="The model: the paper's, or the stronger one.")]


@app.command("guard")
def external_guard(model: Model = "final", elsewhere: Elsewhere = None, data: Data = None) -> None:
    """Fit what a model refuses to what it learned from, and record it in the project's results/."""
    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import TRAIN_IMAGES, TRAIN_PHOTOS
    from wbc_lib.prediction import refusal, travel

    paths.require_writable(refusal.recorded_path(model).parent)
    found = dataset.find(data)
    others = None if model == "final" else _look("pbc", found, external.find(elsewhere))
    guard = travel.fit_guard(_look(TRAIN_PHOTOS, found), _look(TRAIN_IMAGES, found), found, others)
    progress.write_out(str(refusal.write_recorded(model, guard)))


@app.command("predict")
def external_predict(
    names: Annotated[list[str] | None, typer.Argument(help="Sets of pictures. Default: all.")] = None,
    model: Model = "final",
    elsewhere: Elsewhere = None,
    data: Data = None,
    held_back: Annotated[
        bool, typer.Option("--held-back", help="Those pictures alone that are held back until everything is chosen.")
    ] = False,
) -> None:
    """Record what the runs of a model say of each picture, and how unlike it is to what they learned from.

    A stopped command goes on where it was.
    """
    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import NAMES
    from wbc_lib.data.windows import CLOSE, WHOLE_PHOTO
    from wbc_lib.prediction import refusal, travel

    chosen = names or NAMES
    for name in set(chosen) - set(NAMES):
        raise UnknownNameError(f"There is no set {name!r} of pictures; choose one of: {', '.join(NAMES)}.")
    paths.require_writable(travel.recorded_path(model, chosen[0]).parent)
    guard = refusal.read_recorded(model)
    found = dataset.find(data)
    runs, window = _find_runs(found, model), WHOLE_PHOTO if model == "final" else CLOSE
    for name in chosen:
        others = external.find(elsewhere) if name in external.SOURCES else None
        seen = _look(name, found, others, window)
        seen = seen.take(seen.table.held_back == held_back)
        if seen.table.empty:
            continue
        table = travel.answer(travel.join(seen, travel.match_colours(seen, guard.references[0])), runs, guard)
        target = travel.recorded_path(model, name, held_back=held_back)
        progress.write_out(str(travel.write_recorded(table, target)))


@app.command("features")
def external_features(elsewhere: Elsewhere = None, data: Data = None) -> None:
    """Record how far each picture lies from the photos of TRAIN in what networks compute of it.

    The networks are those of the paper's model, and one that learned from ImageNet.
    """
    import pandas as pd

    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import NOT_SMEARS, TEST_PHOTOS, TRAIN_PHOTOS
    from wbc_lib.prediction import feature_distance, refusal, travel

    target = travel.recorded_path("final", "features")
    paths.require_writable(target.parent)
    found, others, guard = dataset.find(data), external.find(elsewhere), refusal.read_recorded("final")
    seen = []
    for name in (TRAIN_PHOTOS, TEST_PHOTOS, *external.SOURCES, NOT_SMEARS):
        shown = _look_at_shown(name, found, others)
        seen.append(travel.join(shown, travel.match_colours(shown, guard.references[0])))
    usual = seen[0].windows[seen[0].table.scaled == travel.BY_SET]
    asked = travel.join(*seen[1:])
    with progress.bar("Comparing with the photos of TRAIN") as on_progress:
        distances = feature_distance.measure_distances(_find_runs(found, "final"), usual, asked.windows, on_progress)
    progress.write_out(str(travel.write_recorded(pd.concat([asked.table, distances], axis=1), target)))


@app.command("changes")
def external_changes(elsewhere: Elsewhere = None, data: Data = None) -> None:
    """Record what the runs of the paper's model say of the photos of TEST, made like those from elsewhere step by step.

    One property is changed at a time: stain, background, field, scale, sharpness.
    """
    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import TEST_PHOTOS, open_set
    from wbc_lib.prediction import refusal, travel

    target = travel.recorded_path("final", "changes")
    paths.require_writable(target.parent)
    guard, found, others = refusal.read_recorded("final"), dataset.find(data), external.find(elsewhere)
    sets = {name: open_set(name, elsewhere=others) for name in external.SOURCES}
    targets = [travel.read_target(sets[name], _look_at_shown(name, found, others)) for name in sets]
    with progress.bar("Changing photos") as on_progress:
        seen = travel.look_changed(open_set(TEST_PHOTOS, found), targets, on_progress)
    answers = travel.answer(seen, _find_runs(found, "final"), guard)
    progress.write_out(str(travel.write_recorded(answers, target)))


@app.command("border")
def external_border(elsewhere: Elsewhere = None, data: Data = None) -> None:
    """Record how well the colour of a picture's border alone tells its class, in each set."""
    import pandas as pd

    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import TEST_PHOTOS, TRAIN_PHOTOS, open_set
    from wbc_lib.prediction import travel

    paths.require_writable(travel.BORDER.path.parent)
    found, others = dataset.find(data), external.find(elsewhere)
    sets = [[open_set(TRAIN_PHOTOS, found), open_set(TEST_PHOTOS, found)]]
    sets += [[open_set(name, elsewhere=others)] for name in external.SOURCES]
    rows = []
    for parts in sets:
        with progress.bar(parts[0].name) as on_progress:
            rows.append(travel.score_border(parts, found, on_progress))
    progress.write_out(str(travel.BORDER.write(pd.DataFrame(rows).round(4))))


@app.command("attention")
def external_attention(elsewhere: Elsewhere = None, data: Data = None) -> None:
    """Record how much of what the models look at in the photos of TEST lies on the white cell, by its mask.

    The masks are those of Banik et al. (2020).
    """
    import pandas as pd

    from wbc_lib.attention import masks
    from wbc_lib.data import dataset, external
    from wbc_lib.data.picture_sets import TEST_PHOTOS, open_set
    from wbc_lib.prediction.picture import find_window
    from wbc_lib.training.experiments import MODELS

    paths.require_writable(masks.RECORDED.path.parent)
    found, others = dataset.find(data), external.find(elsewhere)
    photos = open_set(TEST_PHOTOS, found)
    runs = [run for model in sorted(MODELS) for run in _find_runs(found, model)]
    seen = {window: masks.look(photos, others, window) for window in dict.fromkeys(map(find_window, runs))}
    with progress.bar("Where models look") as on_progress:
        tables = []
        for run in runs:
            tables.append(masks.measure_shares(run, seen[find_window(run)]))
            on_progress(len(tables), len(runs))
    progress.write_out(str(masks.write_recorded(pd.concat(tables, ignore_index=True))))


def _find_runs(data: "DataSet", model: str) -> list["Run"]:
    from dataclasses import replace

    from wbc_lib.training.runs import Store
    from wbc_lib.training.study import open_study

    return replace(open_study(data.root, "paper", may_train=False), store=Store(paths.results())).recorded(model)


def _look(name: str, data: "DataSet", others: "External | None" = None, window: "Window | None" = None) -> "Seen":
    from wbc_lib.data.picture_sets import TRAIN_PHOTOS, open_set
    from wbc_lib.data.windows import WHOLE_PHOTO
    from wbc_lib.prediction import travel

    pictures = open_set(name, data, others)
    scale = pictures.red_cell
    if name == "tecom" and others:
        # Few red cells show: nuclei are taken for as large as ours.
        ours = _look(TRAIN_PHOTOS, data)
        nucleus = float(ours.table.nucleus[ours.table.scaled == travel.BY_SET].median())
        scale = travel.scale_by_nuclei(others, pictures.table, nucleus)
    with progress.bar(f"{name}: red cells") as on_progress:
        measured = travel.measure(pictures, on_progress)
    with progress.bar(f"{name}: white cells") as on_progress:
        return travel.look_at(pictures, measured, scale, window or WHOLE_PHOTO, on_progress)


def _look_at_shown(name: str, data: "DataSet", others: "External") -> "Seen":
    # What is not held back, at the scale of its set.
    from wbc_lib.prediction import travel

    seen = _look(name, data, others)
    return seen.take((seen.table.scaled == travel.BY_SET) & ~seen.table.held_back)
