import json

import nbformat
import pytest
from nbclient import NotebookClient

from tests.train_tiny import TINY
from wbc_lib.book import chapter, lineage
from wbc_lib.book.lineage import read_statements, trace_back
from wbc_lib.training import experiments
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

A, B = ({"name": n, "title": t, "epochs": 3, "seed": s, "data": "d" * 64} for n, t, s in (("a", "T", 0), ("b", "T", 1)))


def names_behind(source, noted):
    return [run["name"] for run in trace_back(read_statements(source, noted))]


@pytest.mark.parametrize(
    ("source", "behind"),
    [
        ("x = read()\ny = read()\ndraw(x)", ["a"]),
        ("x = read()\ny = read()\nz = [y, 1]\ndraw(x, z)", ["b", "a"]),
        ("x = read()\nx = read()\ndraw(x)", ["b"]),  # bound anew: the first is forgotten
        ("x = read()\nx.extend(read())\ndraw(x)", ["b", "a"]),
        ("x = read()\nx['key'] = read()\ndraw(x)", ["b", "a"]),
        ("x = read()\nx += read()\ndraw(x)", ["b", "a"]),
        ("r = read()\nq = read()\ndraw([r for r in range(3)])", []),  # a comprehension's variable is its own
        ("r = read()\nq = read()\ndraw([s + r for s in range(3)])", ["a"]),
        ("r = read()\nq = read()\ndraw(lambda r: r, lambda: q)", ["b"]),
        ("def f(): return read()\nx = read()\ndraw(x)", ["b"]),
        ("x = read()\ny = read()\nfor i in y:\n    t = i + x\ndraw(t)", ["b", "a"]),
        ("read()\nread()", ["b"]),  # what is shown is the last statement
        ("this is no Python", []),
    ],
)
def test_runs_are_followed_back_through_names(source, behind):
    assert names_behind(source, [(1, A), (2, B)]) == behind


def test_a_cell_tells_which_runs_it_read_and_its_figure_carries_them(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    study = Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path / "runs"))
    runs = [study.run("tiny", seed) for seed in (0, 1)]
    monkeypatch.setenv(chapter.NEVER_TRAIN, "1")
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "A."}}}
    cells = [
        "from tests.train_tiny import TINY\nfrom wbc_lib.training import experiments\n"
        "from wbc_lib.book.chapter import open_chapter\n"
        "experiments.EXPERIMENTS['tiny'] = TINY",
        f"study = open_chapter({str(phantom_set.root)!r}, 'smoke')",
        "runs = [study.run('tiny', seed) for seed in (0, 1)]\nfirst = study.run('tiny', 0)",
        nbformat.v4.new_code_cell("len(runs)", metadata=figure),
        nbformat.v4.new_code_cell("first.seed", metadata=figure),
        nbformat.v4.new_code_cell("1 + 1", metadata=figure),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) if isinstance(c, str) else c for c in cells]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    assert any(lineage.MIME in o.get("data", {}) for o in notebook.cells[2].outputs)
    lineage.attach(notebook, "e" * 64)
    assert lineage.MIME not in json.dumps(notebook)
    folds = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    assert [[run.name in fold for run in runs] for fold in folds] == [[True, True], [True, False], [False, False]]
    assert "No run" in folds[2] and "eeeeeeeeeeee" in folds[2]
    assert [c.cell_type for c in notebook.cells[3:]] == ["code", "markdown"] * 3
    nbformat.validate(notebook)


def test_a_figure_that_says_itself_where_it_comes_from_is_left_alone():
    output = nbformat.v4.new_output("display_data", {"text/html": '<details class="wbc-trace"></details>'})
    cell = nbformat.v4.new_code_cell("1", metadata={"mystnb": {"figure": {"name": "f"}}}, outputs=[output])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    lineage.attach(notebook, "")
    assert len(notebook.cells) == 1


def test_a_fold_groups_seeds_and_links_each_run_once():
    html = lineage.fold([A, B, A | {"name": "c<", "title": "<U>"}], "")
    assert html.count("<li>") == 2
    assert f'<a href="{lineage.PAGE}#{lineage.ANCHOR}a">0</a>, <a href="{lineage.PAGE}#{lineage.ANCHOR}b">1</a>' in html
    assert "&lt;U&gt;" in html and "c&lt;" in html and "<U>" not in html


def test_every_link_of_a_fold_has_its_anchor_in_the_list(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    study = Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path))
    run = study.run("tiny")
    table = lineage.list_runs(study.store.read_all()).data
    assert f'id="{lineage.ANCHOR}{run.name}"' in table
    assert f"#{lineage.ANCHOR}{run.name}" in lineage.fold([lineage.describe(run)], "")
    assert f"{run.accuracy('test'):.1%}" in table and study.checksums.sha256 in table
