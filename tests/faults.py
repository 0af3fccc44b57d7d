"""What a built site lacks: pages, and values, outputs, tables, figures and pictures on them.

``python -m tests.faults SITE`` says so of the folder of a front page; the chapters' sources tell what is to be there.
"""

import ast
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bs4 import BeautifulSoup

from wbc_lib import paths
from wbc_lib.book.build import read_toc

#: Calls that a cell may end with and that show nothing.
UNSEEN = {"glue_values", "holds"}
#: What a figure or table shows something by; a table may have no row.
SHOWN = "img, svg, canvas, th, div[class*=wbc-]"


def find_faults(site: Path, pages: Sequence[str], root: Path = paths.ROOT) -> list[str]:
    """Find faults, a sentence each."""
    return [f"{page}: {fault}" for page in pages for fault in _find_faults_on(site / f"{page}.html", root / page)]


def _find_faults_on(path: Path, source: Path) -> Iterator[str]:
    if not path.is_file():
        yield "there is no such page."
        return
    article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
    if article is None:
        yield "it is no page of the book."
        return
    pictures = [str(image["src"]) for image in article.find_all("img", src=True)]
    for picture in (p for p in pictures if not re.match(r"[a-z]+:|//", p)):
        file = path.parent / picture.partition("?")[0]
        if not file.is_file() or not file.stat().st_size:
            yield f"its picture {picture} is not there."
    chapter = source.with_name(f"{source.name}.ipynb")
    if not chapter.exists():
        return
    cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    for what, there, number in (
        ("values in its text", ".pasted-text", sum(len(re.findall(r"\{glue:\w+\}`", text)) for text in prose)),
        ("outputs of its cells", "div.cell_output", sum(_has_output("".join(cell["source"])) for cell in code)),
    ):
        if (n := len(article.select(there))) < number:
            yield f"it has {n} of {number} {what}."
    for name in filter(None, (c["metadata"].get("mystnb", {}).get("figure", {}).get("name") for c in code)):
        figure = article.find(id=name)
        if figure is None or not figure.select(SHOWN):
            yield f"the figure or table {name} is not there."


def _has_output(source: str) -> bool:
    # A cell shows what it ends with, and `open_chapter` what the page is built on.
    tree = ast.parse(source)
    if any(_called(node) == "open_chapter" for node in ast.walk(tree)):
        return True
    last = tree.body[-1] if tree.body else None
    return isinstance(last, ast.Expr) and _called(last.value) not in UNSEEN


def _called(node: ast.AST) -> str:
    return getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""


if __name__ == "__main__":
    sys.exit("\n".join(find_faults(Path(sys.argv[1]), read_toc())) or 0)
