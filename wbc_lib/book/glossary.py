"""Words of the glossary become links in the prose of all other pages: an extension of Sphinx, named in ``_config.yml``.

A link's title is the definition, which browsers show by themselves; ``book/_static/glossary`` shows it better.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from docutils import nodes
from sphinx import addnodes

#: The page that holds the definitions.
PAGE = "book/glossary"
#: Of the links.
CLASS = "wbc-term"
#: Too common in other senses, or on every page: they stand in the glossary and are linked nowhere.
NOT_LINKED = frozenset({"run", "claim", "profile", "seed"})
_NOT_PROSE = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.caption, nodes.table, nodes.math,
    nodes.math_block, nodes.raw, nodes.target, nodes.FixedTextElement, nodes.figure, nodes.topic, nodes.container,
    nodes.footnote, nodes.citation, addnodes.glossary, addnodes.pending_xref, nodes.term, nodes.field_list,
)  # fmt: skip


def read_definitions(glossary: nodes.document) -> dict[str, tuple[str, str]]:
    """The anchor and the definition of every term, by the term, from the glossary's page."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        definition = " ".join(item[-1].astext().split())
        for term in item.findall(nodes.term):
            if term["ids"]:
                found[term.astext()] = (term["ids"][0], definition)
    return found


def compile_terms(terms: Iterable[str]) -> re.Pattern[str]:
    """A pattern of all terms, a group each, singular or plural; case counts only where a term has capitals.

    The longest come first, so that a word is the longest term that it can be.
    """
    groups = []
    for term in _sort(terms):
        words = re.escape(term).replace(r"\ ", r"\s+")
        groups.append(f"({words})" if term != term.lower() else f"((?i:{words}))")
    return re.compile(rf"(?<![\w-])(?:{'|'.join(groups)})(?:s|es)?(?![\w-])")


def _sort(terms: Iterable[str]) -> list[str]:
    return sorted(terms, key=len, reverse=True)


def split_text(
    text: str, pattern: re.Pattern[str], terms: Mapping[str, tuple[str, str]], linked: set[str]
) -> list[tuple[str, str]]:
    """Cut a text into pieces, each with the term that it is or "", where a term's anchor is not `linked` yet.

    The anchors found are added. `pattern` and `terms` are as `compile_terms` and `read_definitions` give them.
    """
    pieces, done, ordered = [], 0, _sort(terms)
    for match in pattern.finditer(text):
        term = ordered[(match.lastindex or 1) - 1]
        if terms[term][0] in linked:
            continue
        linked.add(terms[term][0])
        pieces += [(text[done : match.start()], ""), (match.group(), term)]
        done = match.end()
    return [piece for piece in [*pieces, (text[done:], "")] if piece[0]]


def _find_prose(doctree: nodes.document) -> Iterator[nodes.Text]:
    for text in list(doctree.findall(nodes.Text)):
        above, is_prose = text.parent, False
        while above is not None and not isinstance(above, _NOT_PROSE):
            is_prose = is_prose or isinstance(above, nodes.paragraph)
            above = above.parent
        if is_prose and above is None:
            yield text


def link_terms(app: Any, doctree: nodes.document, docname: str) -> None:
    """Link the first of each term on a page; for Sphinx' ``doctree-resolved``."""
    if docname == PAGE or PAGE not in app.env.found_docs:
        return
    terms = {t: d for t, d in read_definitions(app.env.get_doctree(PAGE)).items() if t not in NOT_LINKED}
    pattern = compile_terms(terms)
    linked: set[str] = set()
    page = app.builder.get_relative_uri(docname, PAGE)
    for text in _find_prose(doctree):
        pieces = split_text(text.astext(), pattern, terms, linked)
        if len(pieces) == 1 and not pieces[0][1]:
            continue
        made = []
        for words, term in pieces:
            if not term:
                made.append(nodes.Text(words))
                continue
            anchor, definition = terms[term]
            uri = f"{page.split('#')[0]}#{anchor}"
            made.append(nodes.reference("", words, internal=True, refuri=uri, reftitle=definition, classes=[CLASS]))
        text.parent.replace(text, made)


def find_outdated(app: Any, env: Any, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """All pages are outdated once the glossary has changed; for Sphinx' ``env-get-outdated``."""
    return sorted(env.found_docs - {PAGE}) if PAGE in added | changed | removed else []


def setup(app: Any) -> dict[str, Any]:
    """Register the extension with Sphinx."""
    app.connect("doctree-resolved", link_terms)
    app.connect("env-get-outdated", find_outdated)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
