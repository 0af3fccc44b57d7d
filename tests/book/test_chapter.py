import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

from tests.train_tiny import TINY
from wbc_lib.book import chapter
from wbc_lib.errors import RunError
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.training import experiments
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


def test_the_line_under_a_title_names_data_profile_and_seeds(phantom_set, tmp_path):
    study = Study(phantom_set, experiments.PROFILES["quick"], Store(tmp_path))
    text = chapter.describe_basis(study)
    assert "<strong>phantoms (drawn, not photographed)</strong>" in text
    assert study.checksums.sha256[:12] in text
    assert "<code>quick</code>" in text
    assert "seeds 0." in text


def test_a_table_separates_thousands_marks_blanks_and_sets_words_to_the_left():
    table = pd.DataFrame({"n": [12345, 2], "share": [0.5, None], "word": ["a", "b"]}, index=["x", "y"])
    html = chapter.show_table(table, {"share": "{:.1%}"}).to_html()
    assert "12,345" in html and "50.0%" in html and "–" in html
    assert html.count("text-align: left") == 1


@pytest.mark.parametrize(
    ("cell", "form", "is_whole"),
    [
        ("84.6% to 87.4%", None, True),
        (Interval(0.836, 0.796, 0.874), lambda interval: f"{interval.estimate:.1%}", True),
        ("83.6% (79.6% to 87.4%)", None, False),
        ("mean over 3 seeds with their standard deviation", None, False),
        (None, None, False),
    ],
)
def test_short_figures_are_kept_on_one_line(cell, form, is_whole):
    table = pd.DataFrame({"a": pd.Series([cell, "–"] if form is None else [cell], dtype=object)})
    html = chapter.show_table(table, {"a": form} if form else None).to_html()
    assert ("text-align: left;\n  white-space: nowrap" in html) == is_whole


@pytest.mark.parametrize(
    ("claim", "is_whole"), [("accuracy", True), ("neutrophils are recognised worst of all", False)]
)
def test_names_of_rows_are_kept_on_one_line_if_those_of_all_levels_are_short(claim, is_whole):
    rows = pd.MultiIndex.from_tuples([("final model", claim)])
    html = chapter.show_table(pd.DataFrame({"a": [1]}, index=rows)).to_html()
    assert ("tbody th {\n  white-space: nowrap" in html) == is_whole


def test_while_the_book_is_built_a_chapter_never_trains(phantom_set, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    monkeypatch.setenv(chapter.NEVER_TRAIN, "1")
    with pytest.raises(RunError, match="wbc train"):
        chapter.open_chapter(str(phantom_set.root), "smoke").run("tiny")
    monkeypatch.delenv(chapter.NEVER_TRAIN)
    study = chapter.open_chapter(str(phantom_set.root), "smoke")
    assert study.may_train and study.data == phantom_set and study.profile.name == "smoke"


def test_values_reach_the_prose_as_plain_numbers_and_words():
    code = (
        "import numpy as np\n"
        "from wbc_lib.book.chapter import glue_values\n"
        "glue_values(share=np.float32(0.25), count=np.int64(3), word='three')\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, kernel_name="python3").execute()
    *made, listed = notebook.cells[0].outputs
    (kind,) = {kind for o in made for kind in o.data if kind.endswith("text/plain")}
    glued = {o.metadata["scrapbook"]["name"].split("/")[-1]: o.data[kind] for o in made}
    assert glued == {"share": "0.25", "count": "3.0", "word": "'three'"}
    # Jupyter fills no prose in: it shows them in a list.
    assert "<code>count</code>: 3</li><li><code>word</code>: three" in listed.data["text/html"]
