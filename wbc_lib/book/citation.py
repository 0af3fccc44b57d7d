"""How the book is cited, from ``CITATION.cff`` alone: a box for the front page, and tags on every page.

As an extension of Sphinx, named in ``_config.yml``, it writes Highwire's citation tags, which literature search reads
(https://scholar.google.com/intl/en/scholar/inclusion.html).
"""

from html import escape
from typing import Any

import yaml
from IPython.display import HTML

from wbc_lib import paths


def read_citation() -> dict[str, Any]:
    """The content of the citation file."""
    return yaml.safe_load((paths.ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def as_text(citation: dict[str, Any]) -> str:
    """Write a citation as a line for a list of references."""
    year = str(citation["date-released"])[:4]
    address = f" {citation['repository-code']}" if citation.get("repository-code") else ""
    return f"{'; '.join(_authors(citation))} ({year}). {citation['title']}, version {citation['version']}.{address}"


def as_bibtex(citation: dict[str, Any]) -> str:
    """Write a citation as an entry for BibTeX."""
    fields = {
        # In braces of its own: a name that BibTeX is not to take apart.
        "author": " and ".join(f"{{{name}}}" for name in _authors(citation)),
        "title": f"{{{citation['title']}}}",
        "year": str(citation["date-released"])[:4],
        "version": citation["version"],
        "url": citation.get("repository-code", ""),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@software{{whitebloodcells,\n{lines}}}"


def show_box() -> HTML:
    """Show how to cite the book, as text and for BibTeX, each to be copied."""
    citation = read_citation()
    boxes = [
        f'<div class="highlight-none notranslate"><div class="highlight"><pre>{escape(text)}</pre></div></div>'
        for text in (as_text(citation), as_bibtex(citation))
    ]
    return HTML(f'<div class="wbc-cite">{"".join(boxes)}</div>')


def _authors(citation: dict[str, Any]) -> list[str]:
    return [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in citation["authors"]]


def _add_tags(app: Any, _page: str, _template: str, context: dict[str, Any], _doctree: Any) -> None:
    citation = read_citation()
    tags = [("title", citation["title"]), ("publication_date", str(citation["date-released"]).replace("-", "/"))]
    tags += [("author", name) for name in _authors(citation)]
    lines = [f'<meta name="citation_{name}" content="{escape(value)}">' for name, value in tags]
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def setup(app: Any) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", _add_tags)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
