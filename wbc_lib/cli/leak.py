"""`wbc leak` and `wbc group`: pictures of several parts that were made from one source, and groups for a split."""

import base64
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.runs import AsJson
from wbc_lib.errors import UnknownNameError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from wbc_lib.data.images import MapTasks
    from wbc_lib.data.picture_sets import PictureFile
    from wbc_lib.provenance.siblings import Siblings

Csv = Annotated[Path | None, typer.Option("--csv", help="Write a table, a row for each picture.")]
Sources = Annotated[
    str | None,
    typer.Option(help="Folder or zip of the originals, where they are at hand: a group is then called by its source."),
]
Scheduler = Annotated[
    str, typer.Option(help="Address of a running dask scheduler whose workers share this machine's folders.")
]
#: Pairs that a page shows, more would make one that no browser opens gladly, and how high they are, in pixels.
_MOST, _HEIGHT = 200, 180
_TEMPLATE = Path(__file__).with_name("leak.html.jinja")
_CSV_REMEDY, _HTML_REMEDY = "name another file with --csv", "name another file with --html"


def leak(
    parts: Annotated[
        list[str],
        typer.Argument(
            help="A folder or zip for each part (such as train and val), or one table (.csv) with the columns picture "
            "and split.",
            show_default=False,
        ),
    ],
    csv: Csv = None,
    html: Annotated[Path | None, typer.Option(help="Write a page that shows the pairs side by side.")] = None,
    fail_above: Annotated[
        int | None, typer.Option(min=0, help="Exit 1 if more pictures than this have a sibling in another part.")
    ] = None,
    count_overlaps: Annotated[
        bool, typer.Option("--count-overlaps", help="Let photos of one field of view count for --fail-above too.")
    ] = False,
    sources: Sources = None,
    scheduler: Scheduler = "",
    as_json: AsJson = False,
) -> None:
    """Say how many pictures of one part were made from the same source as a picture of another part.

    Siblings are turned, mirrored, cropped, scaled, brightened or compressed copies of one picture; the originals need
    not be at hand. Overlaps are two photos of one field of view. Folders below a part are taken for classes. Pictures
    with too few features are counted as "cannot tell", never as clean. Exits 1 if a picture cannot be read. What was
    interrupted goes on where it stopped.
    """
    from wbc_lib.data.picture_sets import list_parts
    from wbc_lib.provenance.siblings import count_leaks, list_leaks

    listed = list_parts(parts)
    names = list(dict.fromkeys(file.part for file in listed.files))
    if len(names) < 2:
        raise UnknownNameError(
            f"There is but one part, {names[0]}, and a leak needs two; name another folder, or the folders within this "
            "one, or use `wbc group`."
        )
    for place, remedy in ((csv, _CSV_REMEDY), (html, _HTML_REMEDY)):
        _require_writable(place, remedy)
    found, source_names = _search(listed.files, sources, scheduler)
    table = list_leaks(listed.files, found)
    if source_names is not None:
        table["source"] = source_names
    counts = count_leaks(table)
    if csv:
        _write_csv(table.drop(columns="row_of_sibling"), csv)
    if html:
        with paths.place(html, _HTML_REMEDY):
            paths.write_text(html, write_page(listed.files, table, counts))
    problems = listed.problems + [problem for problem in found.table.problem if problem]
    if as_json:
        leaks = table[table.row_of_sibling >= 0].drop(columns="row_of_sibling").to_json(orient="records")
        report = {"counts": counts.to_dict("records"), "problems": problems, "leaks": json.loads(leaks)}
        progress.write_out(json.dumps(report, indent=1))
    else:
        progress.print_tables(counts.to_dict("records"))
        for part, verdicts in table.groupby("split", sort=False).verdict:
            n = int((verdicts == "sibling").sum())
            progress.write_out(f"{part}: {n:,} of {len(verdicts):,} pictures have a sibling in another part.")
    n_leaks = int(table.verdict.isin(["sibling", "overlap"] if count_overlaps else ["sibling"]).sum())
    if fail_above is not None and n_leaks > fail_above:
        problems.append(f"{n_leaks:,} pictures leak, and {fail_above:,} may (--fail-above).")
    _end(problems, listed.notes)


def group(
    places: Annotated[
        list[str],
        typer.Argument(
            help="Folders or zips of pictures, or one table (.csv) with the column picture.", show_default=False
        ),
    ],
    csv: Csv = None,
    sources: Sources = None,
    scheduler: Scheduler = "",
    as_json: AsJson = False,
) -> None:
    """Give each picture the number of its source, as groups for a clean split.

    The table has the columns picture, class, group, field (groups that overlap, because they show one field of view,
    share it: the safer choice for a split) and cannot_tell. In Python: `wbc_lib.provenance.siblings.find_groups`.
    """
    import pandas as pd

    from wbc_lib.data.picture_sets import list_parts

    listed = list_parts(places, needs_parts=False)
    _require_writable(csv, _CSV_REMEDY)
    found, source_names = _search(listed.files, sources, scheduler)
    table = pd.DataFrame({"picture": [f.name for f in listed.files], "class": [f.cell for f in listed.files]})
    table["group"], table["field"] = found.table.group, found.table.field
    if source_names is not None:
        table["group"] = [name or f"unknown-{number}" for name, number in zip(source_names, table.group, strict=True)]
    table["cannot_tell"] = found.cannot_tell
    if csv:
        _write_csv(table, csv)
    summary = {
        "pictures": len(table),
        "groups": int(table.group.nunique()),
        "fields": int(table.field.nunique()),
        "cannot tell": int(table.cannot_tell.sum()),
    }
    problems = listed.problems + [problem for problem in found.table.problem if problem]
    if as_json:
        progress.write_out(
            json.dumps(summary | {"groups_of": table.to_dict("records"), "problems": problems}, indent=1)
        )
    else:
        progress.print_tables([summary])
    _end(problems, listed.notes)


def write_page(files: Sequence["PictureFile"], table: "pd.DataFrame", counts: "pd.DataFrame") -> str:
    """A page that needs no other file, of a table as `leaks.list_leaks` gives it: pairs of pictures side by side."""
    import jinja2
    import pandas as pd

    leaks = table[table.row_of_sibling >= 0]
    # Each pair once, siblings first.
    pairs = [frozenset(pair) for pair in zip(leaks.index, leaks.row_of_sibling, strict=True)]
    leaks = leaks[~pd.Series(pairs, leaks.index).duplicated()].sort_values("verdict", ascending=False, kind="stable")
    shown = [
        _draw_pair(files[index], files[row["row_of_sibling"]], row)
        for index, row in leaks.head(_MOST).to_dict("index").items()
    ]
    template = jinja2.Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    return template.render(counts=counts, pairs=shown, shown=len(shown), total=len(leaks))


def _draw_pair(file: "PictureFile", sibling: "PictureFile", row: dict[str, Any]) -> dict[str, object]:
    import pandas as pd

    from wbc_lib.data.pictures import decode_picture
    from wbc_lib.provenance.siblings import lay_over

    first, second = (decode_picture(each.read(), each.name) for each in (file, sibling))
    return {
        **{name: row[name] for name in ("picture", "sibling", "split", "verdict")},
        "inliers": "" if pd.isna(row["inliers"]) else row["inliers"],
        "first": _as_uri(first),
        "second": _as_uri(second),
        "overlay": _as_uri(lay_over(first, second, row["transform"])) if row["transform"] else "",
    }


def _as_uri(picture: "NDArray[np.uint8]") -> str:
    import cv2

    size = (max(1, round(picture.shape[1] * _HEIGHT / picture.shape[0])), _HEIGHT)
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _search(files: Sequence["PictureFile"], sources: str | None, scheduler: str) -> tuple["Siblings", list[str] | None]:
    from wbc_lib.data.images import map_in_threads
    from wbc_lib.data.picture_sets import list_parts
    from wbc_lib.provenance.siblings import find_siblings, find_sources

    originals = list_parts([sources], needs_parts=False).files if sources else []
    with ExitStack() as stack:
        map_tasks: MapTasks = map_in_threads
        if scheduler:
            from wbc_lib.training import cluster

            map_tasks = cluster.map_on(stack.enter_context(cluster.connect(cluster.Cluster(scheduler=scheduler))))
        on_stage = stack.enter_context(progress.bars())
        search = partial(find_siblings, map_tasks=map_tasks, cache=paths.cache() / "siblings", on_stage=on_stage)
        found = search(files)
        if not originals:
            return found, None
        matches = find_sources(found, search(originals), partial(on_stage, "Matching"))
    names = [original.name.removeprefix(f"{original.part}/") for original in originals]
    return found, [names[row] if row >= 0 else "" for row, _ in matches]


def _require_writable(target: Path | None, remedy: str) -> None:
    # Before long work.
    if target:
        paths.require_writable(target.absolute().parent, remedy)


def _write_csv(table: "pd.DataFrame", target: Path) -> None:
    with paths.place(target, _CSV_REMEDY):
        paths.write_table(target, table)


def _end(problems: Sequence[str], notes: Sequence[str]) -> None:
    for sentence in (*notes, *problems):
        typer.echo(sentence, err=True)
    if problems:
        raise typer.Exit(1)
