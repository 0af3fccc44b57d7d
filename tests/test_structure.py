import ast
import subprocess
import sys

import pytest

from wbc_lib import paths

MODULES = {
    ".".join(path.relative_to(paths.ROOT).with_suffix("").parts): path
    for path in sorted(paths.LIBRARY.rglob("*.py"))
    if not path.stem.startswith("__")
}
#: What builds and fits networks; everything else loads TensorFlow only when a network is run.
LOAD_TENSORFLOW = {"wbc_lib.training.networks", "wbc_lib.training.efficientnet", "wbc_lib.training.fit"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - LOAD_TENSORFLOW))
def test_only_what_builds_and_fits_networks_names_tensorflow_at_its_head(module):
    tree = ast.parse(MODULES[module].read_text())
    names = {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)}
    names |= {alias.name for n in tree.body if isinstance(n, ast.Import) for alias in n.names}
    assert not {name.split(".")[0] for name in names} & {"tensorflow", "keras"}


def test_everything_else_starts_without_tensorflow():
    modules = sorted(set(MODULES) - LOAD_TENSORFLOW)
    code = f"import sys, {', '.join(modules)}; print(sorted({{'tensorflow', 'keras'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_every_package_has_its_line_in_the_readme():
    readme = (paths.ROOT / "README.md").read_text()
    packages = {path.parent.name for path in paths.LIBRARY.glob("*/__init__.py")}
    assert [package for package in sorted(packages) if f"| `{package}` |" not in readme] == []


def test_the_library_starts_soon():
    code = "import time; t = time.perf_counter(); import wbc_lib.training.study; print(time.perf_counter() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=True, capture_output=True).stdout)
        for _ in range(3)
    ]
    assert min(seconds) < 5  # half a second on an idle machine, which this one need not be
