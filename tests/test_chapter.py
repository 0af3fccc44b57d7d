import pandas as pd

from wbc_lib import chapter, experiments
from wbc_lib.claims import DIFFERS, Claim
from wbc_lib.runs import Store
from wbc_lib.study import Study


def test_the_line_under_a_title_names_data_profile_and_seeds(phantom_set, tmp_path):
    study = Study(phantom_set, experiments.PROFILES["quick"], Store(tmp_path))
    text = chapter.describe_basis(study)
    assert "<strong>phantoms (drawn, not photographed)</strong>" in text
    assert study.manifest.sha256[:12] in text
    assert "<code>quick</code>" in text
    assert "seeds 0." in text


def test_a_table_separates_thousands_marks_blanks_and_sets_words_to_the_left():
    table = pd.DataFrame({"n": [12345, 2], "share": [0.5, None], "word": ["a", "b"]}, index=["x", "y"])
    html = chapter.show_table(table, {"share": "{:.1%}"}).to_html()
    assert "12,345" in html and "50.0%" in html and "–" in html
    assert html.count("text-align: left") == 1


def test_a_claim_that_differs_is_coloured_by_a_theme_variable():
    html = chapter.show_claims([Claim("x", "y", "accuracy", 0.9, [0.1])], is_cut=False).to_html()
    assert DIFFERS in html
    assert "var(--pst-color-danger)" in html
