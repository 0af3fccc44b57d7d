"""What the chapters suggest trying: that it is there, and that it would run."""

import ast
import builtins
import importlib
import importlib.util
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
import typer

from tests.book.test_downloads import CHEAP, run_alone
from wbc_lib import paths
from wbc_lib.book.lab import list_chapters
from wbc_lib.cli import main
from wbc_lib.training.experiments import find_experiment, find_profile
from wbc_lib.training.plan import Experiment, vary
from wbc_lib.training.study import RECORDED, Study

HEADING = "## Try it\n"
#: What is looked into there takes trainings on all folds, which phantoms are not given.
ON_RECORDED = {"b4-new-photo"}


def cells(name: str) -> list[nbformat.NotebookNode]:
    return nbformat.read(paths.BOOK / f"{name}.ipynb", as_version=4).cells


def prose(name: str) -> str:
    return "\n".join(c.source for c in cells(name) if c.cell_type == "markdown")


#: Front and back matter may have nothing to change.
WITH = [name for name in list_chapters() if HEADING in prose(name)]


def suggestions(name: str) -> list[str]:
    return re.findall(r"^- (.*?)(?=^- |\Z)", prose(name).split(HEADING)[1], re.M | re.S)


def snippets(name: str) -> list[str]:
    """The code of all suggestions; roles such as a reference to another chapter are none."""
    return [s for text in suggestions(name) for s in re.findall(r"(?<!\})`([^`]+)`", text)]


def code_of(name: str) -> ast.Module:
    return ast.parse("\n".join(c.source for c in cells(name) if c.cell_type == "code"))


def names_made_by(tree: ast.AST) -> set[str]:
    made = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    return made | {(a.asname or a.name).split(".")[0] for n in imports for a in n.names}


def rooms_imported_by(tree: ast.AST) -> dict[str, ModuleType]:
    found = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module.startswith("wbc_lib")]
    named = {a.asname or a.name: f"{n.module}.{a.name}" for n in found for a in n.names}
    return {name: importlib.import_module(module) for name, module in named.items() if _is_module(module)}


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # what holds it is a module itself
        return False


def parameters_of(name: str) -> set[str]:
    [cell] = [c for c in cells(name) if "parameters" in c.metadata.get("tags", [])]
    return names_made_by(ast.parse(cell.source))


def as_code(snippet: str) -> ast.Module | None:
    try:
        return ast.parse(snippet)
    except SyntaxError:
        return None


@pytest.mark.parametrize("name", WITH)
def test_a_chapter_suggests_a_change_and_not_too_many(name):
    assert 1 <= len(suggestions(name)) <= 3


def test_every_chapter_has_suggestions():
    chapters = [name for name in list_chapters() if re.match(r"b?[0-9]", name)]
    assert len(chapters) >= 17
    assert set(chapters) <= set(WITH)


def check_command(words: list[str]) -> None:
    command = typer.main.get_command(main.app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    options = {o for p in command.params for o in p.opts}
    assert {w for w in words if w.startswith("--")} <= options


def check_call(call: ast.Call, rooms: dict[str, ModuleType]) -> None:
    function, keywords = call.func, {k.arg: k.value for k in call.keywords}
    if not isinstance(function, ast.Attribute) or not isinstance(function.value, ast.Name):
        return
    owner = Study if function.value.id == "study" else rooms.get(function.value.id)
    if owner is None:
        return
    asked = getattr(owner, function.attr)
    bound = inspect.signature(asked).bind(*([None] if owner is Study else []), *call.args, **keywords)
    if owner is Study and function.attr in ("run", "runs"):
        changes = {k: ast.literal_eval(v) for k, v in bound.arguments.get("changes", {}).items()}
        # As asked for in the shortest profile: only what the call names differs from the registry.
        experiment = vary(find_experiment(ast.literal_eval(bound.arguments["name"])), **changes)
        assert isinstance(experiment, Experiment)


@pytest.mark.parametrize("name", WITH)
def test_what_a_chapter_suggests_names_what_is_there(name):
    tree = code_of(name)
    rooms, known = rooms_imported_by(tree), names_made_by(tree) | set(dir(builtins))
    for snippet in snippets(name):
        code = as_code(snippet)
        if snippet.startswith(("wbc ", "--")):
            check_command(
                [w for w in shlex.split(snippet) if w != "wbc"] if snippet[0] == "w" else ["predict", snippet]
            )
        elif snippet.startswith("wbc_lib/"):
            assert (paths.ROOT / snippet).is_file()
        elif snippet.startswith("python -m "):
            assert (paths.ROOT / f"{snippet.split()[2].replace('.', '/')}.py").is_file()
        elif re.match(r"WBC_[A-Z]+=", snippet):  # a variable of the environment
            assert snippet.split("=")[0] in "".join(p.read_text() for p in (paths.ROOT / "wbc_lib").glob("*.py"))
        else:
            assert code is not None, snippet
            parts = [n for n in ast.walk(code) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
            assert [p.attr for p in parts if p.value.id in rooms and not hasattr(rooms[p.value.id], p.attr)] == []
            for call in (n for n in ast.walk(code) if isinstance(n, ast.Call)):
                check_call(call, rooms)
            check_names(name, code, known, rooms)


def check_names(name: str, code: ast.Module, known: set[str], rooms: dict[str, ModuleType]) -> None:
    # What the snippets before it assign counts as known, as in `a = test.mean`.
    made = set().union(*(names_made_by(c) for c in map(as_code, snippets(name)) if c))
    constants = {n for n in names_made_by(code) if n.isupper()}
    assert constants <= parameters_of(name)
    used = {n.id for n in ast.walk(code) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    functions = {f for room in rooms.values() for f in dir(room)}  # a function named without its room
    assert used - known - made - functions == set()


def test_a_profile_that_is_suggested_exists():
    said = [s for name in WITH for s in snippets(name) if s.startswith("PROFILE")]
    assert said and all(find_profile(ast.literal_eval(s.split("=")[1].strip())) for s in said)


def as_cells(name: str) -> list[nbformat.NotebookNode]:
    """What can be run after the chapter as it stands: parameters, commands and mere names are left out."""
    chosen = [s for s in snippets(name) if (code := as_code(s)) and not {n for n in names_made_by(code) if n.isupper()}]
    chosen = [s for s in chosen if re.search(r"[(\[]|\w\.\w", s) and not s.startswith(("wbc", "WBC"))]
    # Assignments first: a suggestion may name what it needs after the call.
    ordered = sorted(chosen, key=lambda s: not isinstance(ast.parse(s).body[0], ast.Assign))
    return [nbformat.v4.new_code_cell(s) for s in ordered]


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in WITH if as_cells(n)])
def test_what_a_chapter_suggests_runs(name, phantom_set, tmp_path: Path):
    asked = as_cells(name)
    if name in ON_RECORDED:
        read_only = [c for c in asked if "study.run" not in c.source]
        run_alone(name, tmp_path / "alone", RECORDED, read_only, profile="paper", results=paths.ROOT / "results")
        asked = [c for c in asked if "study.run" in c.source]
    run_alone(name, tmp_path / "phantoms", phantom_set.root, asked)


def test_what_cheap_chapters_suggest_is_tested_there():
    assert {c.source for c in as_cells("2-measure")} == {
        "scores.accuracy(matrix[1:, 1:])",
        "scores.report(matrix * [[10], [1], [1], [1]])",
    }
    assert all(as_cells(name) for name in CHEAP)
