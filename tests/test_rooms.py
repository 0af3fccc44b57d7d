import ast
import subprocess
import sys
import time

import pytest

from wbc_lib import paths

#: From the ground up; a room imports only from rooms before it.
ORDER = """
    errors paths archive folders photos manifest phantoms images check registration lineup provenance fields
    cells shared_cells evidence recipe data_sheet splits paper experiments designs efficientnet models features examples
    training runs progress study verify remote jobs scaleout metrics intervals photo_scores certainty crossvalidation
    new_photo_words leakage calibration conformal trust counting claims figures saliency occlusion attention
    attention_views attention_words attention_figures certainty_figures provenance_figures provenance_words
    trust_figures trust_words counting_words interactive glossary citation lineage chapter pictures prediction
    browser_model gallery print_version prose downloads site book lab
    data_commands run_commands lab_commands cli
""".split()  # noqa: SIM905 - read as a line, from left to right
FILES = {p.stem: p for p in (paths.ROOT / "wbc_lib").glob("*.py") if not p.stem.startswith("__")}


def imports(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "wbc_lib":
                found |= {f"wbc_lib.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def without_type_checking(tree: ast.Module) -> ast.Module:
    class Drop(ast.NodeTransformer):
        def visit_If(self, node: ast.If) -> ast.AST | None:
            return None if getattr(node.test, "id", "") == "TYPE_CHECKING" else self.generic_visit(node)

    return Drop().visit(tree)


@pytest.mark.parametrize("room", sorted(FILES))
def test_imports_run_one_way(room):
    tree = without_type_checking(ast.parse(FILES[room].read_text()))
    used = {name.split(".")[1] for name in imports(tree) if name.startswith("wbc_lib.")}
    assert [other for other in used if ORDER.index(other) >= ORDER.index(room)] == []


def test_no_import_is_relative():
    trees = {room: ast.parse(path.read_text()) for room, path in FILES.items()}
    assert [
        room for room, tree in trees.items() for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level
    ] == []


@pytest.mark.parametrize("room", sorted(set(FILES) - {"efficientnet", "models", "training"}))
def test_only_models_and_training_load_tensorflow_with_themselves(room):
    tree = ast.parse(FILES[room].read_text())
    top = ast.Module([n for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)], [])
    names = imports(top)
    assert not {n.split(".")[0] for n in names} & {"tensorflow", "keras"}
    assert not names & {"wbc_lib.models", "wbc_lib.training"}


def test_all_rooms_but_models_and_training_start_without_tensorflow():
    rooms = [room for room in ORDER if room not in {"efficientnet", "models", "training"}]
    found = "sorted({'tensorflow', 'keras'} & set(sys.modules))"
    code = f"import sys; from wbc_lib import {', '.join(rooms)}; print({found})"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_every_room_has_its_place_in_the_order():
    assert set(ORDER) == set(FILES)


def test_every_room_has_its_line_in_the_readme():
    readme = (paths.ROOT / "README.md").read_text()
    assert [room for room in FILES if f"`{room}`" not in readme] == []


def test_the_library_starts_without_tensorflow_and_soon():
    started = time.perf_counter()
    code = "import sys, wbc_lib.study; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False).returncode == 0
    assert time.perf_counter() - started < 10
