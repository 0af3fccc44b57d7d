"""The whole book on one page, for paper: assembled from the pages of a finished site."""

import posixpath
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from bs4 import BeautifulSoup, Tag

from wbc_lib import paths

#: The page, in the site's root.
PAGE = "print.html"
#: What paper has no use for, folded code among it; figures that answer to a hand leave their still picture.
_DROPPED = (
    "script, style, link, button, details.hide, .headerlink, .wbc-trace, .wbc-plot-live, .wbc-controls, .copybtn, "
    ".prev-next-area, template, noscript, input"
)
#: What works on a screen only, and what is said in its place.
_ON_SCREEN = ".wbc-try, .wbc-gallery"
_INSTEAD = "<p><em>What stands here on the screen answers to a hand; the book's site has it.</em></p>"
_STYLES = ("_static/pygments.css", "_static/print/print.css")


def write(site: Path, pages: Sequence[str], title: str, kept: Path) -> Path:
    """Put the pages of a site one after the other, with a title page and a table of contents; gives the page.

    Links between the pages, which come in reading order, lead within it; pictures are the site's own. In `kept` pages
    are kept as they were taken over: only those that have changed since are taken over anew.
    """
    slugs = {page: page.rsplit("/", 1)[-1] for page in pages}
    sections = [_take_over(site, page, slugs, kept / f"{slug}.html") for page, slug in slugs.items()]
    contents = "".join(
        f'<li><a href="#{slug}">{_TITLE.findall(section)[0]}</a></li>'
        for slug, section in zip(slugs.values(), sections, strict=True)
    )
    basis = _BASIS.search(sections[0])
    styles = "".join(f'<link rel="stylesheet" href="{style}">' for style in _STYLES)
    content = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: all pages</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="robots" content="noindex">{styles}</head><body>'
        f'<header><p class="title">{escape(title)}</p>{basis.group() if basis else ""}'
        f'<nav aria-label="Contents"><ol>{contents}</ol></nav></header>'
        f"<main>{''.join(sections)}</main></body></html>\n"
    )
    target = site / PAGE
    if not target.exists() or target.read_text(encoding="utf-8") != content:
        paths.write_text(target, content)
    return target


_TITLE = re.compile(r"<h1>(.*?)</h1>", re.S)
_BASIS = re.compile(r'<p class="wbc-basis">.*?</p>', re.S)


def _take_over(site: Path, page: str, slugs: dict[str, str], kept: Path) -> str:
    source = site / f"{page}.html"
    names = f"<!-- {' '.join(slugs.values())} -->"  # which links stay within depends on which pages there are
    if kept.exists() and kept.stat().st_mtime_ns > source.stat().st_mtime_ns:
        section = kept.read_text(encoding="utf-8")
        if section.startswith(names):
            return section
    (article,) = BeautifulSoup(source.read_text(encoding="utf-8"), "html.parser").select("article.bd-article")
    _strip(article)
    _move(article, page, slugs)
    section = f'{names}<section class="page" id="{slugs[page]}">{article.decode_contents()}</section>'
    paths.write_text(kept, section)
    return section


def _strip(article: Tag) -> None:
    for part in article.select(_ON_SCREEN):
        part.replace_with(BeautifulSoup(_INSTEAD, "html.parser"))
    for part in article.select(_DROPPED):
        part.decompose()
    for part in article.find_all("details"):
        part["open"] = ""


def _move(article: Tag, page: str, slugs: dict[str, str]) -> None:
    # Anchors are told apart by the page they come from, and every reference follows.
    slug, folder = slugs[page], posixpath.dirname(page)
    for part in article.find_all(id=True):
        part["id"] = f"{slug}--{part['id']}"
    for part in article.select("[aria-describedby], [aria-labelledby], [headers], [for]"):
        for name in ("aria-describedby", "aria-labelledby", "headers", "for"):
            if name in part.attrs:
                del part[name]
    for part in article.find_all(src=True):
        part["src"] = _resolve(folder, str(part["src"]))
    for link in article.find_all("a", href=True):
        address = str(link["href"])
        target, _, anchor = address.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        page_of = _resolve(folder, target).removesuffix(".html") if target else page
        if page_of in slugs:
            link["href"] = f"#{slugs[page_of]}--{anchor}" if anchor else f"#{slugs[page_of]}"
        elif target:
            link["href"] = _resolve(folder, address)


def _resolve(folder: str, target: str) -> str:
    return target if re.match(r"[a-z]+:|/", target) else posixpath.normpath(posixpath.join(folder, target))
