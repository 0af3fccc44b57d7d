import json

import nbformat
import numpy as np
from nbclient import NotebookClient

from tests.drawn_runs import record_drawn
from tests.train_tiny import TINY
from wbc_lib.book import chapter, lineage
from wbc_lib.training import experiments
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

A, B = ({"name": n, "title": t, "epochs": 3, "seed": s, "data": "d" * 64} for n, t, s in (("a", "T", 0), ("b", "T", 1)))


def test_a_cell_tells_which_runs_it_read_and_its_figure_carries_them(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    study = Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path / "runs"))
    runs = [record_drawn(study, "tiny", seed, np.random.default_rng(seed)) for seed in (0, 1)]
    monkeypatch.setenv(chapter.NEVER_TRAIN, "1")
    figure = {"mystnb": {"figure": {"name": "fig-a", "caption": "A."}}}
    cells = [
        "from tests.train_tiny import TINY\nfrom wbc_lib.training import experiments\n"
        "from wbc_lib.book.chapter import open_chapter\n"
        "experiments.EXPERIMENTS['tiny'] = TINY",
        f"study = open_chapter({str(phantom_set.root)!r}, 'smoke')",
        nbformat.v4.new_code_cell("1 + 1", metadata=figure),
        "from wbc_lib import paths\nrun = study.run('tiny', 0)",
        nbformat.v4.new_code_cell("(paths.ROOT / 'benchmarks/record.json').read_text()[:1]", metadata=figure),
        nbformat.v4.new_code_cell("study.run('tiny', 1).seed", metadata=figure),
    ]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(c) if isinstance(c, str) else c for c in cells]
    )
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    lineage.attach(notebook, "e" * 64)
    assert lineage.MIME not in json.dumps(notebook)
    folds = [c.source for c in notebook.cells if c.cell_type == "markdown"]
    assert [[run.name in fold for run in runs] for fold in folds] == [[False, False], [True, False], [True, True]]
    assert "No run" in folds[0] and "eeeeeeeeeeee" in folds[0]
    assert ["benchmarks/record.json" in fold for fold in folds] == [False, True, True]
    assert not any("run.json" in fold for fold in folds)
    assert [c.cell_type for c in notebook.cells[2:]] == ["code", "markdown", "code"] + ["code", "markdown"] * 2
    nbformat.validate(notebook)


def test_a_fold_groups_seeds_and_links_each_run_once():
    html = lineage.fold([A, B, A | {"name": "c<", "title": "<U>"}], ["results/x.csv"], "")
    assert html.count("<li>") == 2
    assert f'<a href="{lineage.PAGE}#{lineage.ANCHOR}a">0</a>, <a href="{lineage.PAGE}#{lineage.ANCHOR}b">1</a>' in html
    assert "&lt;U&gt;" in html and "c&lt;" in html and "<U>" not in html


def test_every_link_of_a_fold_has_its_anchor_in_the_list(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    study = Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path))
    run = record_drawn(study, "tiny", 0, np.random.default_rng(0))
    table = lineage.list_runs(study.store.read_all()).data
    assert f'id="{lineage.ANCHOR}{run.name}"' in table
    assert f"#{lineage.ANCHOR}{run.name}" in lineage.fold([lineage.describe(run)], [], "")
    assert f"{run.accuracy('test'):.1%}" in table and study.checksums.sha256 in table
