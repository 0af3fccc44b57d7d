"""Statements of the prose, each checked by the build: ``holds("sentence", condition)`` beside the sentence itself.

A sentence stands in the chapter's Markdown, where it can be read and mended; `holds` names it again and says when it is
true. Where all runs are the committed ones a sentence that is not true fails the build. Elsewhere it is marked.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from IPython.display import HTML, display

from wbc_lib import paths
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.errors import BookError
from wbc_lib.progress import is_live
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Type of the output in which a cell hands its statements to the build.
MIME = "application/vnd.wbc.statement+json"
HOLDS, FAILS, OPEN = "holds", "fails", "not evaluated"
#: What a condition raises where a value that it needs is not there.
_ABSENT = (KeyError, IndexError)
#: What "…" stands for: anything within a paragraph; a glued value is taken whole, for its name is no text.
_GLUED = r"\s*(?:\{glue:text\}`[^`]*`|(?!\n\n|\{glue:text\}).){0,160}?\s*"
_MARKS = {FAILS: ("wbc-fails", "does not hold in this build"), OPEN: ("wbc-open", "not evaluated in this build")}


@dataclass(frozen=True)
class Statement:
    """What a chapter asserts, and what came of it."""

    sentence: str  # as it stands in the Markdown; "…" stands for glued values
    outcome: str  # `HOLDS`, `FAILS` or `OPEN`
    is_binding: bool  # whether the build must fail unless it holds


@dataclass(frozen=True)
class Statements:
    """The statements of one chapter."""

    study: Study
    read: Callable[[], list[Run]]  # gives the runs that were read so far

    def check(self, sentence: str, condition: Any, of_photos: bool = False) -> Statement:
        """Evaluate one; see `holds`."""
        is_lent = of_photos and self.study.data.is_phantom
        outcome = OPEN if is_lent else _evaluate(condition)
        return Statement(sentence, outcome, self.is_published and not is_lent)

    @property
    def is_published(self) -> bool:
        """Whether all that was read so far is what is committed, at full length."""
        committed = paths.ROOT / "results"
        return (
            self.study.data_sha256 == PUBLISHED_SHA256
            and not self.study.profile.is_cut
            and all(run.folder.is_relative_to(committed) for run in self.read())
        )


_current: Statements | None = None


def begin(study: Study, read: Callable[[], list[Run]]) -> None:
    """Take down the statements of a chapter that begins."""
    global _current  # noqa: PLW0603 - a notebook is one chapter
    _current = Statements(study, read)


def holds(sentence: str, condition: Any, *, of_photos: bool = False) -> None:
    """Check what a sentence of this chapter asserts.

    `sentence` is the sentence, or the part that asserts something, word by word as in the Markdown; "…" stands for
    glued values. `condition` says when it is true: ``None``, NaN, and a function that meets a key or an item that is
    not there, mean "not evaluated". `of_photos`: it is about the pictures themselves, and not evaluated on phantoms.
    """
    if _current is None:
        raise BookError("A statement is checked before the chapter is opened; call open_chapter first.")
    statement = _current.check(sentence, condition, of_photos)
    display({MIME: statement.__dict__}, raw=True)
    if is_live() and statement.outcome != HOLDS:
        display(HTML(f"<p>{_MARKS[statement.outcome][1].capitalize()}: {html.escape(sentence)}</p>"))


def _evaluate(condition: Any) -> str:
    if callable(condition):
        try:
            condition = condition()
        except _ABSENT:
            return OPEN
    # NaN is the one value that is not equal to itself.
    if condition is None or bool(condition != condition):  # noqa: PLR0124
        return OPEN
    return HOLDS if bool(condition) else FAILS


def take(notebook: Any) -> list[Statement]:
    """Take the statements out of an executed notebook's outputs, in their order."""
    statements = []
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        statements += [Statement(**o.data[MIME]) for o in cell.outputs if MIME in o.get("data", {})]
        cell.outputs = [output for output in cell.outputs if MIME not in output.get("data", {})]
    return statements


def mark(notebook: Any) -> None:
    """Mark each sentence of an executed chapter that does not hold, and say at its top how many there are.

    Raises `BookError` if a binding statement does not hold, or a sentence is nowhere in the Markdown.
    """
    statements = take(notebook)
    for statement in statements:
        if statement.is_binding and statement.outcome != HOLDS:
            reason = "does not hold" if statement.outcome == FAILS else "could not be evaluated"
            raise BookError(f"the sentence “{statement.sentence}” {reason} on the recorded runs; mend the page.")
        _mark_one(notebook, statement)
    counts = {outcome: sum(s.outcome == outcome for s in statements) for outcome in (FAILS, OPEN)}
    if any(counts.values()):
        _insert_note(notebook, len(statements), counts)


def _mark_one(notebook: Any, statement: Statement) -> None:
    parts = [r"\s+".join(map(re.escape, part.split())) for part in statement.sentence.split("…")]
    if not parts[0] or not parts[-1]:  # the mark would end within the role of a value
        raise BookError(f"“{statement.sentence}” begins or ends with a glued value; leave the … there out.")
    pattern = re.compile(_GLUED.join(parts), re.DOTALL)
    for cell in notebook.cells:
        match = cell.cell_type == "markdown" and pattern.search(cell.source)
        if not match:
            continue
        if statement.outcome != HOLDS:
            name, title = _MARKS[statement.outcome]
            marked = f'[{match[0].strip()}]{{.{name} title="{title}"}}'
            start, end = match.span()
            cell.source = f"{cell.source[:start]}{marked}{cell.source[end:]}"
        return
    raise BookError(f"no text says “{statement.sentence}”; let the check and the page say the same.")


def _insert_note(notebook: Any, number: int, counts: dict[str, int]) -> None:
    from nbformat.v4 import new_markdown_cell

    words = {FAILS: "do not hold in this build", OPEN: "could not be evaluated in it"}
    clauses = [f"{counts[outcome]} {said}" for outcome, said in words.items() if counts[outcome]]
    text = (
        f"Of the {number} checked statements on this page, written for the published data at full length, "
        f"{' and '.join(clauses)}; each is marked."
    )
    note = new_markdown_cell(f":::{{note}}\n:class: wbc-statements\n{text}\n:::", id="statements")
    first = next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown")
    notebook.cells.insert(first + 1, note)
