"""Sentences of the prose, checked by the build."""

from types import SimpleNamespace

import nbformat
import pytest

from wbc_lib import paths
from wbc_lib.book import build, statements
from wbc_lib.book.build import Chapter
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.errors import BookError

TEXT = """# Title

The final model gets {glue:text}`test:.1%` of TEST,
more than the paper's. It is not
fit for patients."""


def make_notebook(*outcomes):
    cell = nbformat.v4.new_code_cell("pass")
    for outcome in outcomes:
        data = {statements.MIME: outcome.__dict__}
        cell.outputs.append(nbformat.v4.new_output("display_data", data=data))
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(TEXT), cell])


def make_study(*, is_cut=False, is_phantom=False, data_sha256=PUBLISHED_SHA256):
    profile, data = SimpleNamespace(is_cut=is_cut), SimpleNamespace(is_phantom=is_phantom)
    return SimpleNamespace(data_sha256=data_sha256, profile=profile, data=data)


SOURCE = """
from wbc_lib.book import statements
from wbc_lib.book.statements import holds
statements.begin({study}, lambda: [])
holds("It is not fit for patients", False)
"""


def test_a_chapter_is_not_built_if_a_statement_does_not_hold(tmp_path):
    study = f"""__import__("types").SimpleNamespace(
        data_sha256="{PUBLISHED_SHA256}", profile=__import__("types").SimpleNamespace(is_cut=False),
        data=__import__("types").SimpleNamespace(is_phantom=False))"""
    cells = [nbformat.v4.new_markdown_cell(TEXT), nbformat.v4.new_code_cell(SOURCE.format(study=study))]
    source, target = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source)
    problem = build.execute(Chapter(source, target, {}, PUBLISHED_SHA256))
    assert "Chapter a" in problem and "It is not fit for patients" in problem
    assert not target.exists()


@pytest.mark.parametrize(
    ("study", "runs", "binds"),
    [
        (make_study(), [], True),
        (make_study(), [paths.ROOT / "results" / "a-run"], True),
        (make_study(), [paths.ROOT / "results" / "a-run", paths.ROOT / "_build" / "a-run"], False),
        (make_study(is_cut=True), [], False),
        (make_study(data_sha256="other"), [], False),
    ],
)
def test_what_rests_on_committed_runs_of_full_length_alone_binds(study, runs, binds):
    read = [SimpleNamespace(folder=folder) for folder in runs]
    assert statements.Statements(study, lambda: read).check("a", False).is_binding is binds


@pytest.mark.parametrize(
    ("condition", "outcome"),
    [
        (True, statements.HOLDS),
        (lambda: 2 > 1, statements.HOLDS),
        (False, statements.FAILS),
        (lambda: {}["a run that is not recorded"], statements.OPEN),
        (None, statements.OPEN),
        (float("nan"), statements.OPEN),
    ],
)
def test_a_missing_value_is_neither_true_nor_false(condition, outcome):
    assert statements.Statements(make_study(), list).check("a", condition).outcome == outcome


def test_what_is_wrong_in_itself_is_no_missing_value_and_pictures_are_not_judged_on_phantoms():
    with pytest.raises(ZeroDivisionError):
        statements.Statements(make_study(), list).check("a", lambda: 1 / 0)
    statement = statements.Statements(make_study(is_phantom=True), list).check("a", False, of_photos=True)
    assert (statement.outcome, statement.is_binding) == (statements.OPEN, False)


def test_elsewhere_the_sentence_is_marked_whatever_its_line_breaks_and_values():
    notebook = make_notebook(
        statements.Statement("The final model gets … more than the paper's", statements.FAILS, False),
        statements.Statement("It is not fit for patients", statements.OPEN, False),
    )
    statements.mark(notebook)
    text, note = notebook.cells[0].source, notebook.cells[1].source
    assert "[The final model gets {glue:text}`test:.1%` of TEST,\nmore than the paper's]{.wbc-fails" in text
    assert "[It is not\nfit for patients]{.wbc-open" in text
    assert "2 checked" in note
    assert "1 do not hold" in note
    named = make_notebook(statements.Statement("model gets … test", statements.FAILS, False))
    named.cells[0].source = "The model gets {glue:text}`n_test:.0f` of a test."
    statements.mark(named)  # the name of a value is no text
    assert named.cells[0].source.startswith("The [model gets {glue:text}`n_test:.0f` of a test]{.wbc-fails")
    whole = make_notebook(statements.Statement("It is not fit", statements.HOLDS, True))
    statements.mark(whole)
    assert [cell.source for cell in whole.cells] == [TEXT, "pass"]  # where all hold the page stays as it is


@pytest.mark.parametrize(
    ("sentence", "outcome", "complaint"),
    [
        ("It is not fit", statements.FAILS, "It is not fit"),
        ("It is not fit", statements.OPEN, "It is not fit"),
        ("It is fit for patients", statements.HOLDS, "no text says"),
        ("It is right for …", statements.HOLDS, "leave the … there out"),
    ],
)
def test_a_binding_statement_must_hold_and_stand_in_the_text(sentence, outcome, complaint):
    with pytest.raises(BookError, match=complaint):
        statements.mark(make_notebook(statements.Statement(sentence, outcome, True)))
