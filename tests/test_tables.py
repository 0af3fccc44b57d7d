import csv
import io
import shutil

import numpy as np
import pandas as pd
import pytest

from wbc_lib import paths
from wbc_lib.book.chapter import show_table

LONG = pd.DataFrame(
    {
        "n": [12, 1200, 3, 45678, 5, 60, 7, 8, 9, 10],
        "share": [0.5, np.nan, 0.25, 0.125, 1.0, 0.75, 0.0, 0.9, 0.8, 0.1],
        "word": ['a "b"', "b, c", "C", "d", "é", "f", "g", "h", "i", "j"],
        "interval": [f"{i} (1 to 20)" for i in (3, 10, 2, 1, 9, 8, 7, 6, 5, 4)],
    },
    index=list("qwertyuiop"),
)
SHORT = LONG.head(3).set_index(["word", "n"])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for name in ("tables", "reach"):
        shutil.copytree(paths.BOOK / "_static" / name, folder / name)
    head = '<script src="tables/tables.js"></script><script src="reach/reach.js"></script><title>.</title>'
    long, short = (show_table(table, {"share": "{:.1%}"}).to_html() for table in (LONG, SHORT))
    (folder / "results.html").write_text(
        f'<!doctype html><html lang=en><meta charset=utf-8>{head}<article class="bd-article"><figure id="tab-long">'
        f'<div class="output" style="overflow-x: auto; width: 120px">{long}</div>'
        f'<figcaption><span class="caption-number">Fig. 7 </span></figcaption></figure>'
        f'<div class="output">{short}</div></article>'
    )
    return folder / "results.html"


@pytest.fixture
def do(open_page, page):
    with open_page(page, accept_downloads=True) as do:
        yield do


def download(do, number):
    def act(tab):
        with tab.expect_download() as waiting:
            tab.locator("button.wbc-csv").nth(number).click()
        return waiting.value.suggested_filename, waiting.value.path().read_bytes()

    name, content = do(act)
    assert content.startswith(b"\xef\xbb\xbf")  # so that spreadsheets read it as UTF-8
    return name, list(csv.reader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_the_csv_is_the_table(do):
    name, rows = download(do, 0)
    assert name == "results-tab-long.csv"
    assert rows[0] == ["", *LONG.columns]
    expected = [
        [i, f"{n:,}", "–" if np.isnan(share) else f"{share:.1%}", word, interval]
        for i, n, share, word, interval in LONG.itertuples()
    ]
    assert rows[1:] == expected


def test_cells_that_span_rows_are_repeated(do):
    name, rows = download(do, 1)
    assert name == "results-table-2.csv"
    assert [row[:2] for row in rows[-3:]] == [[word, str(n)] for word, n in SHORT.index]


@pytest.mark.parametrize("column", range(4))
def test_a_long_table_sorts_as_pandas_does_what_is_missing_last(do, column):
    def act(tab):
        cell = tab.locator("table").first.locator("thead th").nth(column)
        orders = []
        for _ in range(2):
            cell.locator("button").press("Enter")
            orders.append(
                (cell.get_attribute("aria-sort"), tab.locator("table").first.locator("tbody th").all_inner_texts())
            )
        return orders

    key = {"interval": lambda s: s.str.split().str[0].astype(int), "word": lambda s: s.str.lower().str.normalize("NFD")}
    name = LONG.columns[column]
    for direction, order in do(act):
        rises = direction == "ascending"
        expected = LONG.sort_values(name, ascending=rises, key=key.get(name), kind="stable", na_position="last")
        assert order == list(expected.index)
    assert {d for d, _ in do(act)} == {"ascending", "descending"}


def test_a_short_table_keeps_its_order(do):
    assert do(lambda tab: tab.locator("table").nth(1).locator("button").count()) == 0


def test_what_scrolls_is_within_reach_of_the_keyboard(do):
    boxes = do(
        lambda tab: [[b.get_attribute(n) for n in ("tabindex", "aria-label")] for b in tab.locator(".output").all()]
    )
    assert boxes == [["0", "Fig. 7, scrolls sideways"], [None, None]]


def test_the_corner_of_a_table_is_no_heading(do):
    assert do(lambda tab: [h for h in tab.locator("th").all_text_contents() if not h.strip()]) == []
    assert do(lambda tab: [len(row.locator("th, td").all()) for row in tab.locator("tr").all()[:2]]) == [5, 5]
