"""The chapters as they lie in ``book/``: their form, what they suggest trying, and that each runs on its own."""

import ast
import builtins
import contextlib
import importlib
import importlib.util
import inspect
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import click
import nbformat
import pytest
import typer
from distributed.cli import dask_scheduler, dask_worker
from nbclient import NotebookClient

from wbc_lib import paths
from wbc_lib.book import build, downloads
from wbc_lib.book.downloads import SETUP
from wbc_lib.book.lab import list_chapters
from wbc_lib.cli import main
from wbc_lib.training.experiments import find_experiment
from wbc_lib.training.plan import vary
from wbc_lib.training.runs import Store
from wbc_lib.training.study import RECORDED, Study

NOTEBOOKS = {path.stem: nbformat.read(path, as_version=4) for path in sorted(paths.BOOK.glob("*.ipynb"))}
PROSE = {n: "\n".join(c.source for c in b.cells if c.cell_type == "markdown") for n, b in NOTEBOOKS.items()}
CODE = {name: [c for c in book.cells if c.cell_type == "code"] for name, book in NOTEBOOKS.items()}
#: Of a chapter that follows the paper, and of one that goes beyond it; front and back matter have their own.
SECTIONS = {
    r"\d": [
        "What the paper did",
        "What it leaves open",
        "What we ran",
        "What we found",
        "Does the paper's claim hold?",
    ],
    r"b\d": ["The question", "How it is measured", "What we found", "What it means"],
}
#: Read rather than trained: through in seconds.
CHEAP = "2-measure"
#: What is suggested there looks into trainings on all folds, which phantoms are not given.
ON_RECORDED = "b4-new-photo"


def test_the_table_of_contents_and_the_files_agree():
    pages = build.read_toc()
    assert sorted(pages) == sorted(f"book/{p.stem}" for p in paths.BOOK.iterdir() if p.suffix in (".ipynb", ".md"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_is_stripped_and_has_short_cells_and_figures_that_say_what_they_are(name):
    cells = CODE[name]
    assert not any(c.outputs or c.execution_count for c in cells)
    (parameters,) = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    assert {"DATA", "PROFILE"} <= set(re.findall(r"^(\w+) =", parameters.source, re.M))
    visible = [c.source for c in cells if not {"hide-input", "remove-input"} & set(c.metadata.get("tags", []))]
    assert [source for source in visible if len(source.splitlines()) > 10] == []
    assert [c.source for c in cells if re.search(r"^\s*(class |def |!|%)|pip install", c.source, re.M)] == []
    for cell in (c for c in cells if "figures.draw_" in (c.source.splitlines() or [""])[-1]):
        shown = cell.metadata.mystnb
        assert shown.figure.caption and shown.figure.name and shown.image.alt, cell.source


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_chapter_has_its_sections_in_order_and_something_to_try(name):
    for pattern, wanted in SECTIONS.items():
        if re.match(pattern, name):
            assert re.findall(r"^## (.+)$", PROSE[name].replace("’", "'"), re.M) == [*wanted, "Try it"]
            assert 1 <= len(suggestions(name)) <= 3


# --- what is suggested


def suggestions(name: str) -> list[str]:
    return re.findall(r"^- (.*?)(?=^- |\Z)", PROSE[name].partition("## Try it\n")[2], re.M | re.S)


def snippets(name: str) -> list[str]:
    """The code of all suggestions; roles such as a reference to another chapter are none."""
    return [s for text in suggestions(name) for s in re.findall(r"(?<!\})`([^`]+)`", text)]


def is_code(snippet: str) -> bool:
    return not re.match(r"wbc |--|wbc_lib/", snippet)


def names_made_by(tree: ast.AST) -> set[str]:
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    return made | {(a.asname or a.name).split(".")[0] for n in imports for a in n.names}


def modules_imported_by(tree: ast.AST) -> dict[str, ModuleType]:
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("wbc_lib")]
    named = {a.asname or a.name: f"{n.module}.{a.name}" for n in found for a in n.names}
    with_spec = contextlib.suppress(ModuleNotFoundError)  # what holds it is a module itself
    modules = {}
    for name, module in named.items():
        with with_spec:
            if importlib.util.find_spec(module):
                modules[name] = importlib.import_module(module)
    return modules


def check_command(command: click.Command, words: list[str]) -> click.Context:
    """Have a command line read: its options exist, values are of the right kind, none is missing or too many."""
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    context = click.Context(command)
    command.parse_args(context, list(words))
    return context


def check_call(call: ast.Call, modules: dict[str, ModuleType]) -> None:
    if not isinstance(call.func, ast.Attribute) or not isinstance(call.func.value, ast.Name):
        return
    owner = Study if call.func.value.id == "study" else modules.get(call.func.value.id)
    if owner is None:
        return
    given = inspect.signature(getattr(owner, call.func.attr)).bind(
        *[None] * (owner is Study), *call.args, **{k.arg: k.value for k in call.keywords}
    )
    if owner is Study and call.func.attr in ("run", "runs"):
        changes = {k: ast.literal_eval(v) for k, v in given.arguments.get("changes", {}).items()}
        vary(find_experiment(ast.literal_eval(given.arguments["name"])), **changes)


@pytest.mark.parametrize("name", [name for name in NOTEBOOKS if snippets(name)])
def test_what_a_chapter_suggests_names_what_is_there(name):
    tree = ast.parse("\n".join(c.source for c in CODE[name]))
    modules, known = modules_imported_by(tree), names_made_by(tree) | set(dir(builtins))
    for snippet in snippets(name):
        if snippet.startswith(("wbc ", "--")):
            words = shlex.split(snippet) if snippet.startswith("wbc") else ["wbc", "predict", "PICTURE", snippet]
            check_command(typer.main.get_command(main.app), words[1:])
        elif not is_code(snippet):
            assert (paths.ROOT / snippet).is_file()
        else:
            code = ast.parse(snippet)
            assert {n for n in names_made_by(code) if n.isupper()} <= known, snippet
            known |= names_made_by(code)
            for node in ast.walk(code):
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in modules:
                    assert hasattr(modules[node.value.id], node.attr), snippet
                if isinstance(node, ast.Call):
                    check_call(node, modules)
    # A suggestion may name what it needs after the call.
    used = {n.id for s in snippets(name) if is_code(s) for n in ast.walk(ast.parse(s)) if isinstance(n, ast.Name)}
    assert used - known - {f for module in modules.values() for f in dir(module)} == set()


def as_cells(name: str) -> list[nbformat.NotebookNode]:
    """What can be run after the chapter as it stands: parameters, commands and mere names are left out."""
    chosen = [s for s in snippets(name) if is_code(s) and re.search(r"[(\[]|\w\.\w", s)]
    chosen = [s for s in chosen if not any(n.isupper() for n in names_made_by(ast.parse(s)))]
    # Assignments first: a suggestion may name what it needs after the call.
    ordered = sorted(chosen, key=lambda s: not isinstance(ast.parse(s).body[0], ast.Assign))
    return [nbformat.v4.new_code_cell(s) for s in ordered]


def run_alone(
    name: str, folder: Path, data: Path | str, then: Sequence[nbformat.NotebookNode], profile: str, **variables: str
) -> nbformat.NotebookNode:
    """Execute a chapter as a reader has it, downloaded, in a folder with nothing else; then cells of the reader's."""
    folder.mkdir()
    download = downloads.format_notebook(downloads.as_download(NOTEBOOKS[name], None))
    (folder / f"{name}.ipynb").write_text(downloads.set_profile(download, profile))
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    notebook.cells += then
    search = [str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = os.environ | {"WBC_DATA": str(data), "PYTHONPATH": os.pathsep.join(search)} | variables
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, kernel_name="python3", timeout=1800, resources=where).execute(env=variables)
    assert [p.name for p in folder.iterdir()] == [f"{name}.ipynb"]
    return notebook


@pytest.mark.parametrize(
    "name", [c if c == CHEAP else pytest.param(c, marks=pytest.mark.slow) for c in list_chapters()]
)
def test_a_chapter_and_what_it_suggests_run_in_an_empty_folder_as_downloaded(name, phantom_set, tmp_path):
    asked = as_cells(name)
    if name == ON_RECORDED:
        recorded = {"profile": "paper", "WBC_RESULTS": str(paths.ROOT / "results")}
        run_alone(name, tmp_path / "recorded", RECORDED, [c for c in asked if "study.run" not in c.source], **recorded)
        asked = [c for c in asked if "study.run" in c.source]
    executed = run_alone(name, tmp_path / "alone", phantom_set.root, asked, "smoke")
    assert SETUP in executed.cells[0].metadata.tags
    assert executed.cells[0].outputs == []  # the library is there: nothing to be done
    basis = next(o.data["text/html"] for c in executed.cells[1:9] for o in c.get("outputs", []) if "data" in o)
    assert "phantoms" in basis and "<code>smoke</code>" in basis


# --- the commands for many machines


def commands() -> list[list[str]]:
    """The command lines on the page on reproducing, each as its words."""
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", PROSE["reproduce"], re.S)).replace("\\\n", " ")
    found = re.findall(r"(?:\.venv/bin/)?\b(wbc train|dask scheduler|dask worker)\b([^\n\"&|#]*)", lines)
    return [[*command.split(), *shlex.split(rest)] for command, rest in found]


def test_every_command_on_the_page_is_understood():
    known = {
        "wbc train": typer.main.get_command(main.app).commands["train"],
        "dask scheduler": dask_scheduler.main,
        "dask worker": dask_worker.main,
    }
    for first, second, *words in commands():
        check_command(known[f"{first} {second}"], words)
    assert {f"{first} {second}" for first, second, *_ in commands()} == set(known)


@pytest.mark.slow
def test_the_commands_for_a_head_and_its_nodes_work_on_one_machine(phantom_set, tmp_path):
    told = [words for words in commands() if "tcp://head:8786" in words]
    assert [words[1] for words in told] == ["worker", "train"]
    head = next(words for words in commands() if words[:2] == ["dask", "scheduler"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"tcp://head:8786": f"tcp://127.0.0.1:{port}", "8786": port, "final+fold-{1..5}": "baseline", "4": "2"}
    small = {"paper": "smoke", "0-2999": "0-1"}
    scheduler, worker, train = ([(here | small).get(word, word) for word in words] for words in (head, *told))
    binaries = Path(sys.executable).parent
    options = {"env": os.environ | {"WBC_CACHE": str(tmp_path)}, "cwd": paths.ROOT, "stderr": subprocess.PIPE}
    with contextlib.ExitStack() as stack:
        for name, *words in (scheduler, worker):
            # Both end with their group: a worker's nanny would start it again.
            process = subprocess.Popen([binaries / name, *words], start_new_session=True, **options)
            stack.callback(process.wait)
            stack.callback(process.stderr.close)
            stack.callback(os.killpg, process.pid, signal.SIGTERM)
        command = [binaries / "wbc", *train[1:], "--data", phantom_set.root]
        done = subprocess.run(command, check=False, **options)
    assert done.returncode == 0, done.stderr
    trained = {(run.record["experiment"], run.seed) for run in Store(tmp_path / "runs").whole()}
    assert trained == {("baseline", 0), ("baseline", 1)}
