"""Which runs each figure and table of a chapter rests on: noted as its cells run, then followed back through names.

While the book is built, every cell that reads runs says so in an output that no reader sees. From the executed notebook
each figure is then followed back: to the statements that made the names it uses, to those that made theirs, and so on.
That names every run that was read on the way, also where a figure shows but some of them.
"""

import ast
import contextlib
import json
import symtable
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from IPython.display import HTML

from wbc_lib.errors import UnknownNameError
from wbc_lib.training.experiments import Plan, find_experiment
from wbc_lib.training.runs import Run, Store

#: Type of the output in which a cell names the runs that it read.
MIME = "application/vnd.wbc.runs+json"
#: The page that lists every run, beside the chapters, and what its anchors begin with.
PAGE, ANCHOR = "runs.html", "run-"
_CLASS = "wbc-trace"
#: Methods that change what they are called on, of lists, sets and mappings.
_CHANGING = {"add", "append", "extend", "insert", "pop", "remove", "setdefault", "sort", "update"}


class WatchedStore(Store):
    """A store that notes which runs it hands out."""

    def __init__(self, store: Store, names: dict[str, Any]):
        super().__init__(*store.roots)
        self._names = names  # the notebook's own: code with these globals stands in a cell
        self._noted: list[tuple[int, Run]] = []
        #: All runs that were handed out.
        self.read: list[Run] = []

    def find(self, plan: Plan) -> Run | None:
        """As `Store.find`."""
        run = super().find(plan)
        return run and self._note(run)

    def read_all(self, beginning: str = "") -> list[Run]:
        """As `Store.read_all`."""
        return [self._note(run) for run in super().read_all(beginning)]

    def take(self) -> list[tuple[int, Run]]:
        """What was handed out since this was asked last: the line of the cell, from 1, that asked, and the run."""
        noted, self._noted = self._noted, []
        return noted

    def _note(self, run: Run) -> Run:
        line, frame = 0, sys._getframe()
        while frame:
            line = frame.f_lineno if frame.f_globals is self._names else line
            frame = frame.f_back
        self._noted.append((line, run))
        self.read.append(run)
        return run


def tell_runs(store: WatchedStore) -> None:
    """Put out, unseen, the runs that the cell which has just ended read; for IPython's ``post_run_cell``."""
    from IPython.display import display

    if noted := store.take():
        display({MIME: [[line, describe(run)] for line, run in noted]}, raw=True)


def describe(run: Run) -> dict[str, Any]:
    """What a reader is told of a run, as plain values."""
    title = name = run.record["experiment"]
    with contextlib.suppress(UnknownNameError):
        title = find_experiment(name).title
    data = run.record["config"]["data_sha256"]
    return {"name": run.name, "title": title, "epochs": run.epochs, "seed": run.seed, "data": data}


def attach(notebook: Any, data_sha256: str) -> None:
    """Put below each figure and table of an executed notebook where it comes from.

    Parameters
    ----------
    notebook : NotebookNode
        Executed with `tell_runs`; changed in place.
    data_sha256 : str
        Of the data that whatever rests on no run was made of.
    """
    statements: list[Statement] = []
    below = {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        statements += read_statements(cell.source, _take_notes(cell))
        told = any(_CLASS in str(output.get("data", {}).get("text/html", "")) for output in cell.outputs)
        if "figure" in cell.metadata.get("mystnb", {}) and not told:
            below[cell.id] = fold(trace_back(statements), data_sha256)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.id in below:
            cells.append(_make_markdown(below[cell.id], f"{cell.id}-runs"))
    notebook.cells = cells


def is_note(source: str) -> bool:
    """Whether a cell's text is what `attach` put below a figure or table."""
    return source.startswith(f'<details class="{_CLASS}">')


def _take_notes(cell: Any) -> list[tuple[int, dict[str, Any]]]:
    notes = [output for output in cell.outputs if MIME in output.get("data", {})]
    cell.outputs = [output for output in cell.outputs if MIME not in output.get("data", {})]
    return [(line, run) for output in notes for line, run in output.data[MIME]]


def _make_markdown(text: str, name: str) -> Any:
    from nbformat.v4 import new_markdown_cell

    return new_markdown_cell(text, id=name)


def fold(runs: Sequence[dict[str, Any]], data_sha256: str) -> str:
    """Write, folded away, which runs something comes from, each a link to what is known of it.

    Parameters
    ----------
    runs : sequence of dict
        As `describe` gives them.
    data_sha256 : str
        Named where there is no run.
    """
    if not runs:
        body = f"<p>No run is behind this. Data of this build: <code>sha256 {escape(data_sha256[:12])}</code>.</p>"
    else:
        data = ", ".join(
            f"<code>sha256 {escape(sha256[:12])}</code>" for sha256 in dict.fromkeys(r["data"] for r in runs)
        )
        items = []
        for (title, epochs), group in groupby(sorted(runs, key=_group), key=_group):
            seeds = [f'<a href="{PAGE}#{ANCHOR}{escape(r["name"])}">{r["seed"]}</a>' for r in group]
            items.append(f"<li>{escape(title)}, {epochs} epochs: seed {', '.join(seeds)}</li>")
        what = "a recorded run" if len(runs) == 1 else f"{len(runs)} recorded runs"
        told = f"From {what} on the data {data}. Each link leads to its settings and to the command that repeats it."
        body = f"<p>{told}</p><ul>{''.join(items)}</ul>"
    return f'<details class="{_CLASS}"><summary>Where this comes from</summary>{body}</details>'


def _group(run: dict[str, Any]) -> tuple[str, int]:
    return run["title"], run["epochs"]


def list_runs(runs: Sequence[Run]) -> HTML:
    """List runs in a table, each with an anchor that `fold` links to: how it ended, how long it took, its settings."""
    rows = []
    for title, group in groupby(sorted(runs, key=_order), key=lambda run: describe(run)["title"]):
        rows.append(f'<tr><th colspan="{len(_COLUMNS)}" scope="rowgroup">{escape(title)}</th></tr>')
        rows += [_write_row(run) for run in group]
    head = "".join(f'<th scope="col">{column}</th>' for column in _COLUMNS)
    body = "".join(rows)
    return HTML(f'<table class="wbc-table wbc-runs"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


_COLUMNS = ("run", "seed", "epochs", "training", "validation", "TEST", "minutes", "settings")


def _order(run: Run) -> tuple[str, int, int]:
    return describe(run)["title"], run.epochs, run.seed


def _write_row(run: Run) -> str:
    last, name = run.history.iloc[-1], escape(run.name)
    cells = [
        f'<code id="{ANCHOR}{name}">{name}</code>',
        *(str(n) for n in (run.seed, run.epochs)),
        *(f"{share:.1%}" for share in (last.accuracy, last.val_accuracy, run.accuracy("test"))),
        f"{run.record['seconds'] / 60:.1f}",
        f"<details><summary>show</summary><p>Finished on {escape(run.record['finished'][:10])}.</p>"
        f"<pre>{escape(json.dumps(run.record['config'], indent=1))}</pre></details>",
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


@dataclass(frozen=True)
class Statement:
    """What a statement of a cell does.

    Attributes
    ----------
    sets : frozenset of str
        Names that it binds anew.
    changes : frozenset of str
        Names of things that it may change in place: an item, an attribute, or by a method such as ``append``.
    uses : frozenset of str
        Names that it reads.
    runs : tuple of dict
        Read by it, as `describe` gives them.
    """

    sets: frozenset[str]
    changes: frozenset[str]
    uses: frozenset[str]
    runs: tuple[dict[str, Any], ...] = ()


def read_statements(source: str, noted: Sequence[tuple[int, dict[str, Any]]] = ()) -> list[Statement]:
    """Read off a cell's source what its statements do to names; nothing if it is no plain Python.

    Parameters
    ----------
    source : str
    noted : sequence of (int, dict)
        The line, from 1, that a run was read at, and the run, as `describe` gives it.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    found = []
    for node in tree.body:
        runs = tuple(run for line, run in noted if node.lineno <= line <= node.end_lineno)
        scope = symtable.symtable(ast.unparse(node), "cell", "exec")
        changes = _find_changes(node)
        sets = {s.get_name() for s in scope.get_symbols() if s.is_assigned() or s.is_imported()}
        uses = _find_uses(scope) | changes
        found.append(Statement(frozenset(sets - changes), frozenset(changes), frozenset(uses), runs))
    return found


def _find_changes(statement: ast.AST) -> set[str]:
    changes = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.Subscript | ast.Attribute) and not isinstance(node.ctx, ast.Load):
            changes |= _root(node)
        elif isinstance(node, ast.AugAssign):
            changes |= _root(node.target)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            changes |= _root(node.func.value)
    return changes


def _root(node: ast.AST) -> set[str]:
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Starred):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _find_uses(scope: symtable.SymbolTable, is_inner: bool = False) -> set[str]:
    # An inner scope's own names, such as a comprehension's variable, are nobody else's.
    symbols = [s for s in scope.get_symbols() if s.is_referenced() and (s.is_global() or not is_inner)]
    return {s.get_name() for s in symbols}.union(*(_find_uses(inner, True) for inner in scope.get_children()))


def trace_back(statements: Sequence[Statement]) -> list[dict[str, Any]]:
    """Runs that the last of some statements rests on, each once.

    Parameters
    ----------
    statements : sequence of Statement
        In the order they ran.
    """
    runs: dict[str, dict[str, Any]] = {}
    wanted: frozenset[str] = frozenset()
    for number, statement in enumerate(reversed(statements)):
        if number and not wanted & (statement.sets | statement.changes):
            continue
        runs |= {run["name"]: run for run in statement.runs}
        # What it binds anew owes nothing to what had the name before.
        wanted = wanted - statement.sets | statement.uses
    return list(runs.values())
