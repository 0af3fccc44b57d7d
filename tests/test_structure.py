import re
import subprocess
import sys

import grimp

from wbc_lib import paths

#: What builds and fits networks; everything else loads TensorFlow only when a network is run.
LOAD_TENSORFLOW = {"wbc_lib.training.networks", "wbc_lib.training.fit"}


def test_no_module_is_longer_than_400_lines():
    lengths = {str(path): len(path.read_text().splitlines()) for path in paths.LIBRARY.rglob("*.py")}
    assert [path for path, length in lengths.items() if length > 400] == []


def test_everything_but_what_fits_networks_starts_without_tensorflow():
    files = [path.relative_to(paths.ROOT) for path in paths.LIBRARY.rglob("*.py") if not path.stem.startswith("__")]
    modules = sorted({".".join(file.with_suffix("").parts) for file in files} - LOAD_TENSORFLOW)
    code = f"import sys, {', '.join(modules)}; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_every_package_has_its_line_in_the_readme():
    readme = (paths.ROOT / "README.md").read_text()
    packages = {path.parent.name for path in paths.LIBRARY.glob("*/__init__.py")}
    assert [package for package in sorted(packages) if f"| `{package}` |" not in readme] == []


def test_the_picture_of_the_packages_in_the_readme_is_that_of_the_imports():
    packages = {path.parent.name for path in paths.LIBRARY.glob("*/__init__.py")}
    graph = grimp.build_graph("wbc_lib")
    built_on: dict[str, set[str]] = {}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            importer, other = (name.split(".")[1:2] for name in (module, imported))
            both = packages.issuperset([*importer, *other]) and importer and other
            if both and importer != other:
                built_on.setdefault(module.split(".")[1], set()).update(other)

    def reaches(package, other):
        return any(step == other or reaches(step, other) for step in built_on.get(package, ()))

    arrows = {
        f"{other} --> {package}"
        for package, others in built_on.items()
        for other in others
        if not any(reaches(step, other) for step in others)
    }
    picture = (paths.ROOT / "README.md").read_text().partition("```mermaid\n")[2].partition("```")[0]
    assert {line.strip() for line in picture.splitlines()[1:]} == arrows


def test_tests_lie_where_their_modules_do_and_import_from_no_other_test():
    folder = paths.ROOT / "tests"
    for path in folder.rglob("test_*.py"):
        inside = path.relative_to(folder)
        module = paths.LIBRARY / inside.with_name(inside.name.removeprefix("test_"))
        assert len(inside.parts) == 1 or module.exists(), f"{inside} tests no module; move or remove it"
        assert not re.search(r"^(from|import) tests\S*\.(test_|conftest)", path.read_text(), re.M), inside
