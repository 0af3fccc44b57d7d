import dataclasses
import json

import nbformat
import papermill
import pytest

from wbc_lib import paths
from wbc_lib.book import build
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


def make_chapter(folder, *sources: str, **parameters: str) -> build.Chapter:
    """A chapter of these cells of code, the first of them that of its parameters."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    cells[0].metadata.tags = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "a.ipynb")
    (folder / "out").mkdir()
    return build.Chapter(folder / "a.ipynb", folder / "out" / "a.ipynb", parameters, "")


def test_a_chapter_is_executed_anew_once_anything_changes_that_it_may_read_and_only_then(
    phantom_set, tmp_path, monkeypatch
):
    results = tmp_path / "results"
    monkeypatch.setenv("WBC_RESULTS", str(results))
    # Of the checkout nothing changes here, and hashing it takes long.
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in (
        "CITATION.cff",
        "requirements.lock",
        "results/a.json",
        "results/final-e1-s0-0/run.json",
        "results/b.csv",
    ):
        paths.write_text(tmp_path / name, "1")
    study = Study(phantom_set, PROFILES["smoke"], Store(tmp_path / "runs", results))
    hashes = [build._hash_surroundings(study)]
    for change in (
        lambda: (results / "a.json").write_text("2"),
        (results / "b.csv").unlink,
        lambda: (results / "final-e1-s0-0/run.json").write_text("2"),
        lambda: (results / "a.json").rename(results / "c.json"),
        lambda: paths.write_text(tmp_path / "runs" / "file", "1"),
        lambda: paths.write_text(tmp_path / "wbc_lib" / "deep" / "module.py", "1"),
        lambda: paths.write_text(tmp_path / "benchmarks" / "record.json", "1"),
    ):
        change()
        hashes.append(build._hash_surroundings(study))
    assert len(set(hashes)) == len(hashes)
    paths.write_text(results / ".unfinished" / "state.npz", "1")
    paths.write_text(results / ".c.json.abcd1234.wbc.tmp", "1")
    assert build._hash_surroundings(study) == hashes[-1]


def test_what_changes_while_a_chapter_is_executed_makes_it_be_executed_again(tmp_path):
    chapter = dataclasses.replace(make_chapter(tmp_path, ""), key="key at the start")
    chapter.target.write_text("executed")
    assert not build._is_current(chapter)
    build._mark_current(chapter)
    assert build._is_current(chapter)
    assert not build._is_current(dataclasses.replace(chapter, key="key now"))


def test_all_code_is_folded_and_what_shows_nothing_is_known_by_it():
    tags = [[], ["hide-input"], ["remove-input"], ["parameters"]]
    cells = [nbformat.v4.new_code_cell("1", metadata={"tags": some} if some else {}) for some in tags]
    build.fold_code(notebook := nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_markdown_cell("# A")]))
    folded = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    assert folded == [{"hide-input"}, {"hide-input"}, {"hide-input", "quiet"}, {"hide-input", "parameters"}, set()]


def test_a_failing_chapter_is_named_and_leaves_nothing(tmp_path):
    chapter = make_chapter(tmp_path, "1 / 0")
    problem = build.execute(chapter)
    assert "Chapter a, " in problem and "ZeroDivisionError" in problem
    assert list(chapter.target.parent.iterdir()) == []


def test_a_kernel_that_does_not_start_is_started_again_and_what_is_not_for_readers_is_dropped(tmp_path, monkeypatch):
    really, failures = papermill.execute_notebook, [True, True]

    def execute(*args, **kwargs):
        if failures and failures.pop():
            raise RuntimeError("Kernel died before replying to kernel_info")
        return really(*args, **kwargs)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    chapter = make_chapter(tmp_path, "DATA = ''\nPROFILE = \"quick\"  # which", "DATA", DATA="given", PROFILE="smoke")
    assert build.execute(chapter) is None
    # What is not for readers was dropped: the parameter is in the cell's output, but not the cell that carried it.
    text = chapter.target.read_text()
    assert "given" in text and "injected-parameters" not in text and "papermill" not in text
    # The profile that a reader sees is the one that the page was made with.
    assert json.loads(text)["cells"][0]["source"] == ["DATA = ''\n", 'PROFILE = "smoke"  # which']
    failures += [True] * 9
    assert "does not start" in build.execute(chapter)
    failures.clear()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("other")))
    with pytest.raises(RuntimeError, match="other"):
        build.execute(chapter)
