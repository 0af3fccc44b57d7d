"""Build the book: execute the chapters with papermill into a staging folder, then make the pages from there."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import yaml
from sphinx_external_toc.parsing import parse_toc_yaml

from wbc_lib import paths, stopping
from wbc_lib.book import downloads, kernels, lineage, print_version, site, statements
from wbc_lib.data.hashes import hash_file
from wbc_lib.errors import BookError
from wbc_lib.prediction import browser
from wbc_lib.progress import NEVER_TRAIN
from wbc_lib.training.study import Study

#: Pages are made from here; nothing in ``book/`` is ever written to.
STAGING = paths.BUILD / "executed"
#: Where Jupyter Book makes them.
PAGES = paths.BUILD / "pages" / "_build" / "html"
_SOURCES = (".md", ".bib", ".css", ".js", ".svg", ".png", ".txt")
_MEMORY = "most often for lack of memory; close other programs or build with --jobs 1. What had finished is kept."
#: Times that a kernel is started before it is given up.
_STARTS = 3
_CONFIG, _TOC = "_config.yml", "_toc.yml"
#: Tables of the published data that the card of the data offers for download.
_TABLES = (paths.LIBRARY / "data" / "splits.csv", paths.ROOT / "results" / "provenance" / "images.csv.gz")


@dataclass(frozen=True)
class Chapter:
    """A notebook of the book and what it is to be executed with."""

    source: Path
    target: Path
    parameters: dict[str, str]
    data_sha256: str
    #: Hash of all that its outcome depends on.
    key: str = ""

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.source.stem


def read_toc() -> list[str]:
    """Names of all pages in reading order, as ``_toc.yml`` lists them, without endings."""
    return list(parse_toc_yaml(paths.ROOT / _TOC))


def build_book(study: Study, output: Path, *, jobs: int, on_chapter: Callable[[str, int, int], None]) -> Path:
    """Execute every chapter and build the pages; gives the front page.

    All runs that can be had should be recorded already. `output` is the folder for the finished site, as `site.claim`
    gives it; `jobs` chapters are executed at a time; `on_chapter` is told the name of the chapter that has finished,
    the chapters done, and those in all. Raises `BookError`, which names the chapter, if one fails or a page cannot be
    built without a warning.
    """
    chapters = _stage(study)
    stale = [c for c in chapters if not _is_current(c)]
    done = len(chapters) - len(stale)
    os.environ[NEVER_TRAIN] = "1"
    if kernels.CAN_COPY:
        os.environ[kernels.PROVISIONER] = kernels.COPIED
        # What a killed process held is taken off the system by Python's tracker, which need not speak of it.
        os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    if jobs > 1:  # chapters share the cores: threads of linear algebra within each would only wait for one another
        os.environ |= {name: os.environ.get(name, "1") for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")}
    # The longest first, as far as their text tells: one that takes long is not to be left over at the end.
    stale.sort(key=lambda c: c.source.stat().st_size, reverse=True)
    # Each chapter's own kernel does the work; a process of its own keeps papermill's event loops apart.
    with closing(stopping.work_in_processes(execute, stale, jobs)) as results:
        for chapter, problem in results:
            if problem:
                raise BookError(problem)
            _mark_current(chapter)
            done += 1
            on_chapter(chapter.name, done, len(chapters))
    return _make_pages(output)


def _stage(study: Study) -> list[Chapter]:
    (STAGING / "book").mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((paths.ROOT / _CONFIG).read_text(encoding="utf-8"))
    announcement = announce(study)
    if announcement:
        theme = config["sphinx"]["config"].setdefault("html_theme_options", {})
        theme["announcement"] = announcement
    surroundings = _hash_surroundings(study)
    # No page uses it, but once it changes Sphinx makes all of them anew.
    config["sphinx"]["config"].setdefault("html_context", {})["made_of"] = surroundings
    config = downloads.with_launch_buttons(config, downloads.read_address(config))
    _write_if_changed(STAGING / _CONFIG, yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode())
    _write_if_changed(STAGING / _TOC, (paths.ROOT / _TOC).read_bytes())
    sources = [path for path in paths.BOOK.rglob("*") if path.suffix in _SOURCES]
    files = {STAGING / "book" / path.relative_to(paths.BOOK): path.read_bytes() for path in sources}
    files |= {STAGING / "book" / "_static" / table.name: table.read_bytes() for table in _TABLES}
    files[STAGING / "book" / browser.PLACE] = browser.export(study)
    for target, content in files.items():
        _write_if_changed(target, content)
    parameters = {"DATA": study.named, "PROFILE": study.profile.name}
    chapters = []
    for page in read_toc():
        source = paths.ROOT / f"{page}.ipynb"
        if source.exists():
            key = hashlib.sha256(source.read_bytes() + json.dumps([parameters, surroundings]).encode()).hexdigest()
            chapters.append(Chapter(source, STAGING / f"{page}.ipynb", parameters, study.data_sha256, key))
        elif not source.with_suffix(".md").exists():
            raise BookError(f"_toc.yml lists {page}, but there is no such page; add it or remove the entry.")
    wanted = {*files, *(c.target for c in chapters)}
    for path in (STAGING / "book").rglob("*"):
        if path.is_file() and path not in wanted and path.with_suffix(".ipynb") not in wanted:
            path.unlink()
    return chapters


def announce(study: Study) -> str:
    """The banner for the top of every page: what a reader must not miss. Empty if there is nothing."""
    notes = []
    if study.data.is_phantom:
        notes.append("The cells on this page are <strong>drawn phantoms, not patients' cells</strong>.")
    if study.results_of:
        notes.append("Results are those recorded on the real photos; counts of files and pixels are the phantoms'.")
    if study.profile.is_cut:
        notes.append(f"Training was cut short: <strong>{study.profile.title}</strong>.")
    return " ".join(notes)


def execute(chapter: Chapter) -> str | None:
    """Execute one chapter with papermill, whole or not at all; gives a sentence if something went wrong."""
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    temporary = chapter.target.with_name(f".{chapter.name}.tmp.ipynb")
    begun: list[nbformat.NotebookNode] = []
    try:
        for attempt in range(_STARTS):
            try:
                papermill.execute_notebook(
                    chapter.source, temporary, parameters=chapter.parameters, cwd=paths.ROOT, progress_bar=False,
                    kernel_name="python3", log_output=False, request_save_on_cell_execute=False,
                    extra_arguments=["--IPKernelApp.log_level=50"],
                    on_cell_execute=lambda cell, **_: begun.append(cell),
                )  # fmt: skip
                break
            except DeadKernelError:
                number = sum("injected-parameters" not in cell.metadata.get("tags", []) for cell in begun)
                return f"Chapter {chapter.name}, cell {number}: its kernel was killed, {_MEMORY}"
            except RuntimeError as error:
                # Where kernels are not copied they are given ports, and another process may have taken one meanwhile.
                if "Kernel died before replying" not in str(error):
                    raise
                if attempt == _STARTS - 1:
                    return f"Chapter {chapter.name}: its kernel does not start; see whether memory is short."
        notebook = nbformat.read(temporary, as_version=4)
        if notebook.metadata.papermill.get("exception"):
            return f"Chapter {chapter.name} ended with an error; run it in Jupyter to see where."
        # What papermill adds for itself is not for readers: the injected cell, and times that change every build.
        notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
        notebook.metadata.pop("papermill", None)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []) and "PROFILE" in chapter.parameters:
                cell.source = downloads.set_profile(cell.source, chapter.parameters["PROFILE"])
            for extra in ("papermill", "execution"):
                cell.metadata.pop(extra, None)
        fold_code(notebook)
        statements.mark(notebook)
        lineage.attach(notebook, chapter.data_sha256)
        nbformat.write(notebook, temporary)
        temporary.replace(chapter.target)
    except BookError as error:
        return f"Chapter {chapter.name}: {error}"
    except papermill.PapermillExecutionError as error:
        return f"Chapter {chapter.name}, cell {error.exec_count}: {error.ename}: {error.evalue}"
    finally:
        temporary.unlink(missing_ok=True)
    return None


def fold_code(notebook: Any) -> None:
    """Fold the code of every cell; what chapters hide, for it shows nothing, only the page's switch opens."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            tags = set(cell.metadata.get("tags", ()))
            hidden = {"quiet"} if "remove-input" in tags else set()
            cell.metadata["tags"] = sorted(tags - {"remove-input"} | {"hide-input"} | hidden)


def _hash_surroundings(study: Study) -> str:
    # Of all that chapters read but their own sources: whatever of it changes, none is taken for current.
    digest = hashlib.sha256(json.dumps([study.checksums.sha256, study.data_sha256, sys.version]).encode())
    folders = [paths.ROOT / "wbc_lib", paths.ROOT / "results", paths.ROOT / "benchmarks", paths.results()]
    for name in ("CITATION.cff", "requirements.lock"):
        digest.update((paths.ROOT / name).read_bytes())
    for folder in dict.fromkeys([*folders, *study.store.roots]):
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            within = path.relative_to(folder)
            # Temporary files and the state of unfinished trainings have hidden names.
            if not any(part.startswith((".", "__pycache__")) for part in within.parts):
                digest.update(f"{within.as_posix()} {hash_file(path)}\n".encode())
    return digest.hexdigest()


def _is_current(chapter: Chapter) -> bool:
    mark = chapter.target.with_suffix(".key")
    return chapter.target.exists() and mark.exists() and mark.read_text() == chapter.key


def _mark_current(chapter: Chapter) -> None:
    # By what was there before it was executed: what changes meanwhile it may not have read.
    paths.write_text(chapter.target.with_suffix(".key"), chapter.key)


def _write_if_changed(target: Path, content: bytes) -> bool:
    # Sphinx goes by a file's time: an untouched file is a page that need not be made again.
    if target.exists() and target.read_bytes() == content:
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def _remove_outdated_pages() -> None:
    # Once these change every page is made anew: no page or picture of an earlier build may stay among them.
    made_of = (STAGING / _CONFIG).read_bytes() + (STAGING / _TOC).read_bytes()
    if _write_if_changed(PAGES.parent / "made-of", made_of):
        shutil.rmtree(PAGES, ignore_errors=True)


def _make_pages(output: Path) -> Path:
    _remove_outdated_pages()
    command = [sys.executable, "-m", "wbc_lib.book", "build", str(STAGING), "--path-output", str(PAGES.parents[1])]
    command += ["--warningiserror", "--keep-going", "--quiet"]
    environment = os.environ | {site.BUILDING: "1"}
    log = paths.BUILD / "pages.log"
    with log.open("w", encoding="utf-8") as file:
        failed = stopping.run(command, stdout=file, stderr=STDOUT, env=environment)
    if failed < 0:
        raise BookError(f"The pages could not be built: Jupyter Book was killed, {_MEMORY}")
    if failed:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        warnings = [line for line in text if "WARNING" in line or "ERROR" in line or "Error" in line]
        raise BookError(
            "The pages could not be built:\n" + "\n".join((warnings or text)[-12:]) + f"\n(all of it: {log})"
        )
    static = STAGING / "book" / "_static"
    for path in (p for p in static.rglob("*") if p.is_file()):  # Sphinx copies these only if some page is out of date
        _write_if_changed(PAGES / "_static" / path.relative_to(static), path.read_bytes())
    config = yaml.safe_load((paths.ROOT / _CONFIG).read_text(encoding="utf-8"))
    downloads.write_downloads(PAGES, downloads.read_address(config))
    print_version.write(PAGES, read_toc(), config["title"], paths.BUILD / "print")
    site.publish(PAGES, output)
    return output / "index.html"
