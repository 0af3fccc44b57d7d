import re
import subprocess
import sys
import tomllib
from itertools import pairwise

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


def test_the_picture_of_the_packages_in_the_readme_is_the_order_that_lint_keeps():
    (contract,) = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    names = [layer.partition(".")[2] for layer in reversed(contract["layers"])]
    packages = [name for name in names if (paths.LIBRARY / name).is_dir()]
    picture = (paths.ROOT / "README.md").read_text().partition("```mermaid\n")[2].partition("```")[0]
    arrows = [line.strip() for line in picture.splitlines()[1:]]
    assert arrows == [f"{first} --> {second}" for first, second in pairwise(packages)]


def test_tests_lie_where_their_modules_do_and_import_from_no_other_test():
    folder = paths.ROOT / "tests"
    for path in folder.rglob("test_*.py"):
        inside = path.relative_to(folder)
        module = paths.LIBRARY / inside.with_name(inside.name.removeprefix("test_"))
        assert len(inside.parts) == 1 or module.exists(), f"{inside} tests no module; move or remove it"
        assert not re.search(r"^(from|import) tests\S*\.(test_|conftest)", path.read_text(), re.M), inside
