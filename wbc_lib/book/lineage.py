"""What each figure and table of a chapter may rest on: all runs and recorded files read on its page up to it.

While the book is built every cell that reads some says so in an output that no reader sees; the executed notebook then
gets a folded note below each figure.
"""

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.display import HTML, display
from jinja2 import Template

from wbc_lib import paths
from wbc_lib.errors import UnknownNameError
from wbc_lib.training.experiments import find_experiment
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Run, Store

#: Type of the output in which a cell names the runs and files that it read.
MIME = "application/vnd.wbc.read+json"
#: The page that lists every run, beside the chapters, and what its anchors begin with.
PAGE, ANCHOR = "reproduce.html", "run-"
_NOTE = '<details class="wbc-trace">'
_FOLD = Template(
    _NOTE
    + """<summary>Where this comes from</summary>
{%- macro hashes(data) %}{% for sha256 in data %}<code>sha256 {{ sha256[:12] }}</code>{{ ", " if not loop.last }}
{%- endfor %}{% endmacro %}
{%- if runs %}<p>Recorded runs read on this page up to here: {{ runs | length }}, on the data {{ hashes(data) }}. Each \
link leads to a run's settings and to the command that repeats it.</p><ul>
{%- for title, epochs, group in groups %}<li>{{ title }}, {{ epochs }} epochs: seed{{ " " }}
{%- for run in group %}<a href="{{ page }}#{{ anchor }}{{ run.name }}">{{ run.seed }}</a>{{ ", " if not loop.last }}
{%- endfor %}</li>{% endfor %}</ul>
{%- else %}<p>No run was read on this page up to here. Data of this build: {{ hashes(data) }}.</p>{% endif %}
{%- if files %}<p>Recorded files read on it: \
{% for file in files %}<code>{{ file }}</code>{{ ", " if not loop.last }}{% endfor %}.</p>{% endif %}</details>""",
    autoescape=True,
)
_LIST = Template(
    """<table class="wbc-table wbc-runs"><thead><tr>
{%- for column in columns %}<th scope="col">{{ column }}</th>{% endfor %}</tr></thead><tbody>
{%- for title, runs in groups %}<tr><th colspan="{{ columns | length }}" scope="rowgroup">{{ title }}</th></tr>
{%- for run in runs %}<tr><td><code id="{{ anchor }}{{ run.name }}">{{ run.name }}</code></td>
{%- for value in (run.seed, run.epochs) %}<td>{{ value }}</td>{% endfor %}
{%- for share in (run.history.accuracy.iloc[-1], run.history.val_accuracy.iloc[-1], run.accuracy("test")) -%}
<td>{{ "{:.1%}".format(share) }}</td>{% endfor %}<td>{{ "%.1f" | format(run.record.seconds / 60) }}</td>
<td><details><summary>show</summary><p>Finished on {{ run.record.finished[:10] }}.</p><pre>
{{- dump(run.record.config) }}</pre></details></td></tr>{% endfor %}{% endfor %}</tbody></table>""",
    autoescape=True,
)
_COLUMNS = ("run", "seed", "epochs", "training", "validation", "TEST", "minutes", "settings")


class WatchedStore(Store):
    """A store that keeps in `read` every run that it hands out."""

    def __init__(self, store: Store):
        super().__init__(*store.roots)
        self.read: list[Run] = []

    def find(self, plan: Plan) -> Run | None:
        """As `Store.find`."""
        run = super().find(plan)
        self.read += [run] if run else []
        return run

    def read_all(self, beginning: str = "") -> list[Run]:
        """As `Store.read_all`."""
        runs = super().read_all(beginning)
        self.read += runs
        return runs


def watch(shell: InteractiveShell, store: Store) -> WatchedStore:
    """Have each cell of a kernel name what it read: runs of a store, and files of ``results/`` and ``benchmarks/``."""
    watched = WatchedStore(store)
    folders = (paths.results().resolve(), paths.ROOT / "results", paths.ROOT / "benchmarks")
    files: list[str] = []
    n_runs = 0

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(os.path.abspath(os.fspath(arguments[0])))  # noqa: PTH100 - resolving would look at the disk
            folder = next((f for f in folders if path.is_relative_to(f)), None)
            # A run's own files are in a folder with its record.
            if folder and path.name != "run.json" and not (path.parent / "run.json").exists():
                files.append(f"{folder.name}/{path.relative_to(folder).as_posix()}")

    def report(_: object) -> None:
        nonlocal n_runs
        runs = [describe(run) for run in watched.read[n_runs:]]
        if runs or files:
            display({MIME: {"runs": runs, "files": files.copy()}}, raw=True)
        n_runs = len(watched.read)
        files.clear()

    sys.addaudithook(note)
    shell.events.register("post_run_cell", report)
    return watched


def describe(run: Run) -> dict[str, Any]:
    """What a note tells of a run: ``name``, ``title``, ``epochs``, ``seed`` and ``data``, a hash."""
    title = run.record["experiment"]
    with contextlib.suppress(UnknownNameError):
        title = find_experiment(title).title
    data = run.record["config"]["data_sha256"]
    return {"name": run.name, "title": title, "epochs": run.epochs, "seed": run.seed, "data": data}


def attach(notebook: Any, data_sha256: str) -> None:
    """Put a note below each figure and table of a notebook that was executed with `watch`.

    `data_sha256` is that of the data which whatever rests on no run was made of.
    """
    from nbformat.v4 import new_markdown_cell

    runs: dict[str, dict[str, Any]] = {}
    files: set[str] = set()
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            read = output.get("data", {}).get(MIME, {})
            runs |= {run["name"]: run for run in read.get("runs", ())}
            files.update(read.get("files", ()))
        cell.outputs = [output for output in cell.outputs if MIME not in output.get("data", {})]
        if "figure" in cell.metadata.get("mystnb", {}):
            cells.append(new_markdown_cell(fold(list(runs.values()), sorted(files), data_sha256), id=f"{cell.id}-runs"))
    notebook.cells = cells


def is_note(source: str) -> bool:
    """Whether a cell's text is what `attach` put below a figure or table."""
    return source.startswith(_NOTE)


def fold(runs: Sequence[dict[str, Any]], files: Sequence[str], data_sha256: str) -> str:
    """Write a note, folded away: runs, as `describe` gives them, each a link; files; and where no run is, the data."""
    training = itemgetter("title", "epochs")
    grouped = groupby(sorted(runs, key=training), key=training)
    groups = [(title, epochs, list(group)) for (title, epochs), group in grouped]
    data = dict.fromkeys(run["data"] for run in runs) or [data_sha256]
    return _FOLD.render(runs=runs, files=files, groups=groups, data=list(data), page=PAGE, anchor=ANCHOR)


def list_runs(runs: Sequence[Run]) -> HTML:
    """List runs in a table, each with an anchor that `fold` links to: how it ended, how long it took, its settings."""
    ordered = sorted(runs, key=lambda run: (describe(run)["title"], run.epochs, run.seed))
    grouped = groupby(ordered, key=lambda run: describe(run)["title"])
    groups = [(title, list(group)) for title, group in grouped]
    return HTML(_LIST.render(columns=_COLUMNS, groups=groups, anchor=ANCHOR, dump=partial(json.dumps, indent=1)))
