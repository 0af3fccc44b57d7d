import subprocess
import sys

from wbc_lib import paths

#: What builds and fits networks; everything else loads TensorFlow only when a network is run.
LOAD_TENSORFLOW = {"wbc_lib.training.networks", "wbc_lib.training.efficientnet", "wbc_lib.training.fit"}


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
