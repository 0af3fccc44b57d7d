import json
import subprocess
import sys

import nbformat
import pytest

from wbc_lib import book_contenders, paths
from wbc_lib.book_contenders import change_chapter, copy_project, weigh
from wbc_lib.turns import Contender, race

COMMAND = (sys.executable, "-m", "wbc_lib.book_contenders")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("copy") / "project"
    results = folder.parent / "elsewhere"
    results.mkdir()
    copy_project(paths.ROOT, results, folder)
    return folder


def test_a_copy_has_what_the_book_is_built_from_and_none_of_what_was_built(project):
    for name in ("_config.yml", "_toc.yml", "wbc_lib/book.py", "book/index.ipynb", "book/_static/wbc.css"):
        assert (project / name).read_bytes() == (paths.ROOT / name).read_bytes()
    assert not any((project / name).exists() for name in ("_build", ".git", ".venv", "tests"))
    assert (project / "results").resolve() == project.parent / "elsewhere"
    code = "from wbc_lib import paths; print(paths.ROOT, paths.BUILD)"
    done = subprocess.run([sys.executable, "-c", code], cwd=project, env={"PYTHONPATH": str(project)},
                          capture_output=True, text=True, check=True)  # fmt: skip
    assert done.stdout.split() == [str(project), str(project / "_build")]


def test_another_chapter_is_changed_each_time_and_stays_a_notebook(project):
    before = {path: path.read_bytes() for path in (project / "book").glob("*.ipynb")}
    names = [change_chapter(project, count) for count in range(5)]
    assert len(set(names)) == 5
    changed = [path for path, content in before.items() if path.read_bytes() != content]
    assert {path.stem for path in changed} == set(names)
    for path in changed:
        nbformat.validate(nbformat.read(path, as_version=4))
        old, new = (json.loads(text) for text in (before[path], path.read_bytes()))
        differ = [b for a, b in zip(old["cells"], new["cells"], strict=True)
                  if "".join(a["source"]) != "".join(b["source"])]  # fmt: skip
        assert [cell["cell_type"] for cell in differ] == ["markdown"]
    assert (paths.ROOT / "book" / f"{names[0]}.ipynb").read_bytes() == before[project / "book" / f"{names[0]}.ipynb"]


def test_a_page_weighs_what_it_loads_and_most_others_do_not(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "theme.css").write_bytes(b"x" * 5000)
    (tmp_path / "own.png").write_bytes(b"x" * 300)
    (tmp_path / "_static" / "macros.html").write_text("<img src='../own.png'>")
    common = "<link rel=stylesheet href='theme.css?v=1'>"
    pages = {
        "a": f"{common}<img src='own.png?x'><img src='own.png'><a href='theme.css'>",
        "b": f"{common}<img src='missing.png'>",
        "c": f"{common}<script src='https://far.away/x.js'></script>",
        "search": "y" * 9000,
    }
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text)
    largest, page, site = weigh(tmp_path)
    assert (largest, page) == ("a", len(pages["a"]) + 300)
    assert site == 5300 + sum(map(len, pages.values())) + len("<img src='../own.png'>")


def test_rooms_are_imported_in_a_fresh_process_each_time():
    (series,) = race([Contender("a", COMMAND, "import_room", {"room": "study"}, is_fresh=True)], 2).series
    assert len(series.values) == 2
    assert min(series.values) > 0.01  # a room that is there already takes microseconds


@pytest.mark.slow
def test_a_book_is_built_afresh_and_again(tmp_path, monkeypatch):
    from wbc_lib import bench
    from wbc_lib.study import open_study

    study = open_study("phantoms", "smoke")
    study.run("final")
    found = bench.measure("book", study, repeats=2, sizes=bench.SMALL)
    medians = {name: found.largest(name).median for name in bench.BUILDS.values()}
    fresh, changed, same = (medians[bench.BUILDS[state]] for state in (book_contenders.FRESH, "changed", "same"))
    assert fresh > changed > same
    assert found.largest(bench.BUILDS["fresh"], "bytes of the site").median > 1e6
    assert found.outcome.about[bench.BUILDS["fresh"]]["largest_page"].startswith("book/")
