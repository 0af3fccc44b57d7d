"""What every chapter starts with: the study, the look, and values for the prose."""

import html
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, display
from pandas.io.formats.style import Styler

from wbc_lib import figures
from wbc_lib.book import lineage, statements
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.evaluation.claims import DIFFERS, REPRODUCED, Claim, tabulate
from wbc_lib.progress import NEVER_TRAIN, is_live
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study, open_study

#: What MyST knows the output of a glued value by; its own function loads nbformat, which takes a second.
_GLUED = "application/papermill.record/"
_NO_BREAK = "; white-space: nowrap"
#: Letters of a cell of a table that is kept on one line if there is a figure in it.
_SHORT = 16
#: Letters of a row's name that is kept on one line.
_SHORT_NAME = 16


def open_chapter(data: str = "", profile: str = "quick") -> Study:
    """Open the study for a chapter (see `study.open_study`), set the look of its figures, say what it is built on."""
    figures.use_style()
    is_build = bool(os.environ.get(NEVER_TRAIN))
    study = open_study(data or None, profile, may_train=not is_build)
    display(HTML(f'<p class="wbc-basis">{describe_basis(study)}</p>'))
    read: list[Run] = []
    if is_build and (shell := get_ipython()):
        store = lineage.watch(shell, study.store)
        study, read = replace(study, store=store), store.read
    statements.begin(study, lambda: read)
    return study


def describe_basis(study: Study) -> str:
    """Say in one line of HTML what a page is built on: data, profile, seeds."""
    sha256 = study.data_sha256
    files = "the published files, bit for bit" if sha256 == PUBLISHED_SHA256 else "not the published files"
    data = f"<strong>{study.data.title}</strong>" if study.data.is_phantom else f"{study.data.title} ({files})"
    if study.results_of:
        data = f"the recorded results on the real photos; what needs the photos themselves is made of {data}"
    seeds = ", ".join(str(s) for s in study.profile.seeds)
    done = [str(run.seed) for run in study.recorded("final")]
    if not study.may_train and len(done) < len(study.profile.seeds):
        seeds += f" (of the final model, recorded so far: {', '.join(done) or 'none'})"
    return (
        f"Built on {data}, <code>sha256 {sha256[:12]}</code>. Profile <code>{study.profile.name}</code>: "
        f"{study.profile.title}; seeds {seeds}."
    )


def glue_values(**values: float | str) -> None:
    """Make values available to the prose of this chapter, as plain numbers and words.

    In Jupyter, where prose names them only, they are listed as well.
    """
    plain = {name: value if isinstance(value, str) else float(value) for name, value in values.items()}
    for name, value in plain.items():
        metadata = {"scrapbook": {"name": name, "mime_prefix": _GLUED}}
        display({f"{_GLUED}text/plain": repr(value)}, raw=True, metadata=metadata)
    if is_live():
        said = {name: value if isinstance(value, str) else f"{value:.6g}" for name, value in plain.items()}
        lines = (f"<li><code>{name}</code>: {html.escape(value)}</li>" for name, value in said.items())
        display(HTML(f"<details><summary>Values that the text names</summary><ul>{''.join(lines)}</ul></details>"))


def show_table(table: pd.DataFrame, formats: Mapping[str, Any] | None = None, *, missing: str = "–") -> Styler:
    """Format a table for the page: thousands separated, numbers to the right, blanks marked.

    `formats` are such as ``"{:.1%}"``, by column; integers and other columns have sensible ones.
    """
    chosen = {c: "{:,.0f}" for c in table if pd.api.types.is_integer_dtype(table[c])}
    chosen |= {c: "{:.3f}" for c in table if pd.api.types.is_float_dtype(table[c])}
    chosen |= dict(formats or {})
    styler = table.style.format(chosen, na_rep=missing).set_table_attributes('class="wbc-table"').hide(names=True)
    if isinstance(table.index, pd.RangeIndex):
        styler = styler.hide(axis="index")
    words = [c for c in table if not pd.api.types.is_numeric_dtype(table[c])]
    left = {
        c: [{"selector": "", "props": f"text-align: left{_NO_BREAK * _holds_figures(table[c], chosen.get(c))}"}]
        for c in words
    }
    styler = styler.set_table_styles(left, overwrite=False)
    names = (name for level in range(table.index.nlevels) for name in table.index.get_level_values(level))
    if max(map(len, map(str, names)), default=0) <= _SHORT_NAME:
        rows = [{"selector": "tbody th", "props": "white-space: nowrap"}]
        styler = styler.set_table_styles(rows, overwrite=False)
    return styler


def _holds_figures(values: pd.Series, form: str | Callable[[Any], str] | None) -> bool:
    # Such as an interval, which reads badly in two lines.
    write = form if callable(form) else form.format if form else str
    texts = [write(value) for value in values if not pd.api.types.is_scalar(value) or pd.notna(value)]
    return max(map(len, texts), default=0) <= _SHORT and any(c.isdigit() for text in texts for c in text)


def show_claims(claims: Sequence[Claim], *, is_cut: bool) -> Styler:
    """Format a table of claims: each experiment named once, each verdict in its colour, with links."""
    table = tabulate(claims, is_cut=is_cut).set_index(["experiment", "claim"])
    table["chapter"] = [f'<a href="{page}.html">{page.partition("-")[0]}</a>' for page in table.chapter]
    shade = {REPRODUCED: "color: var(--pst-color-success)", DIFFERS: "color: var(--pst-color-danger)"}
    return show_table(table).map(lambda verdict: shade.get(verdict, ""), subset=["verdict"])
