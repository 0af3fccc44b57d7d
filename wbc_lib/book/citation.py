"""How the book is cited, from ``CITATION.cff`` alone: a box for the front page, and what pages tell machines.

As an extension of Sphinx, named in ``_config.yml``, it gives every page Open Graph's properties and Highwire's citation
tags (https://ogp.me; https://scholar.google.com/intl/en/scholar/inclusion.html).
"""

from html import escape
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from IPython.display import HTML

from wbc_lib import paths

_LONGEST = 200  # characters of a description
_SHORTEST = 40  # less is no sentence about the page
_NOT_PROSE = (nodes.table, nodes.container, nodes.figure, nodes.raw)


def read_citation(path: Path = paths.ROOT / "CITATION.cff") -> dict[str, Any]:
    """The content of the citation file."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def as_text(citation: dict[str, Any]) -> str:
    """Write a citation as a line for a list of references."""
    year = str(citation["date-released"])[:4]
    where = f" {citation['repository-code']}" if citation.get("repository-code") else ""
    return f"{_write_authors(citation)} ({year}). {citation['title']}, version {citation['version']}.{where}"


def as_bibtex(citation: dict[str, Any]) -> str:
    """Write a citation as an entry for BibTeX."""
    fields = {
        # In braces of its own: a name that BibTeX is not to take apart.
        "author": " and ".join(f"{{{name}}}" for name in _list_authors(citation)),
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


def _list_authors(citation: dict[str, Any]) -> list[str]:
    return [a.get("name") or f"{a['family-names']}, {a['given-names']}" for a in citation["authors"]]


def _write_authors(citation: dict[str, Any]) -> str:
    return "; ".join(_list_authors(citation))


def describe_page(doctree: nodes.document) -> str:
    """The first paragraph of prose of a page in plain text, cut at a word after 200 characters; "" if there is none."""
    for paragraph in doctree.findall(nodes.paragraph):
        above = paragraph.parent
        while above is not None and not isinstance(above, _NOT_PROSE):
            above = above.parent
        text = " ".join(paragraph.astext().split())
        if above is None and len(text) >= _SHORTEST:
            return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rsplit(' ', 1)[0]}…"
    return ""


def add_tags(app: Any, pagename: str, templatename: str, context: dict[str, Any], doctree: Any) -> None:
    """Add a page's tags to its head; for Sphinx' ``html-page-context``."""
    if doctree is None:
        return
    citation, description = read_citation(), describe_page(doctree)
    title = app.env.titles[pagename].astext()
    properties = {"og:title": title, "og:type": "article", "og:site_name": citation["title"]}
    names = {"twitter:card": "summary", "citation_title": citation["title"]}
    names["citation_publication_date"] = str(citation["date-released"]).replace("-", "/")
    if description:
        properties["og:description"] = names["description"] = description
    if base := app.config.html_baseurl:
        properties["og:url"] = f"{base.rstrip('/')}/{app.builder.get_target_uri(pagename)}"
    tags = [f'<meta property="{k}" content="{escape(v)}">' for k, v in properties.items()]
    tags += [f'<meta name="{k}" content="{escape(v)}">' for k, v in names.items()]
    tags += [f'<meta name="citation_author" content="{escape(name)}">' for name in _list_authors(citation)]
    context["metatags"] = context.get("metatags", "") + "\n".join(tags)


def setup(app: Any) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("html-page-context", add_tags)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
