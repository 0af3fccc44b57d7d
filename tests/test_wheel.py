"""The library as `pip install .` brings it: without the project, and without what only the book and trainings need."""

import ast
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import cv2
import pandas as pd
import pytest
from packaging.requirements import Requirement

from tests.drawn import draw_discs, turn
from wbc_lib import paths
from wbc_lib.data.splits import read_splits

MEGABYTES = 3
#: Runs commands of `wbc` where an import of what was not asked for fails, as it would if it were not installed.
RUN = """
import sys
class Refusal:
    def find_spec(self, name, path=None, target=None):
        if name in {refused!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Refusal())
import wbc_lib
assert wbc_lib.__file__.startswith({site!r}), wbc_lib.__file__
from wbc_lib.cli import main
codes = []
for words in {commands!r}:
    sys.argv = ["wbc", *words]
    try:
        main.main()
    except SystemExit as end:
        codes.append(end.code)
print(codes)
"""


def add_required(name: str, extras: set[str], known: set[str]) -> set[str]:
    """The distributions that one brings with it, over any number of steps."""
    if name not in known:
        known.add(name)
        for line in metadata.requires(name) or ():
            wanted = Requirement(line)
            if wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in extras | {""}):
                add_required(wanted.name.lower().replace("_", "-"), wanted.extras, known)
    return known


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made from a copy, for building leaves its traces."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(paths.ROOT / name, source)
    shutil.copytree(paths.LIBRARY, source / "wbc_lib", ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--quiet", "--no-deps", "--no-build-isolation", "-w", target]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, source], check=True, capture_output=True)
    (made,) = target.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wbc(wheel, tmp_path_factory):
    """Run commands of the unpacked wheel, in a folder of its own; gives its output, and their exit codes."""
    site, place = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("place")
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():  # our own wheel, built a moment ago
            packed.extract(name, site)
    (installed,) = metadata.distributions(path=[str(site)])
    allowed = {"wbc"}
    for line in installed.requires or ():
        if (wanted := Requirement(line)).marker is None:
            add_required(wanted.name, wanted.extras, allowed)
    by_name = metadata.packages_distributions()
    refused = {name for name, by in by_name.items() if not {d.lower().replace("_", "-") for d in by} & allowed}
    assert {"tensorflow", "sphinx", "matplotlib", "distributed"} <= refused

    def run(*commands: list[object]) -> tuple[subprocess.CompletedProcess, list[int]]:
        code = RUN.format(refused=refused, site=str(site), commands=[list(map(str, words)) for words in commands])
        environment = {"PYTHONPATH": str(site), "PATH": "", "HOME": str(place), "WBC_CACHE": str(place / "cache")}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=True)
        return done, ast.literal_eval(done.stdout.splitlines()[-1])

    return run


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> tuple[Path, Path]:
    """Two folders that share one source."""
    folders = tuple(tmp_path_factory.mktemp(name) for name in ("train", "val"))
    for folder, seeds in zip(folders, ((0, 1), (1, 2)), strict=True):
        for seed in seeds:
            cv2.imwrite(str(folder / f"{seed}.png"), turn(draw_discs(seed), 20 if folder is folders[1] else 0))
    return folders


def test_tables_and_templates_travel_in_the_wheel_which_is_small(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    travels = {path.relative_to(paths.ROOT).as_posix() for path in paths.LIBRARY.rglob("*.jinja")}
    assert {"wbc_lib/data/splits.csv", "wbc_lib/evaluation/models.csv", *travels} <= names
    assert not [name for name in names if name.startswith(("tests", "book", "results"))]
    assert wheel.stat().st_size < MEGABYTES * 1e6


def test_leaks_are_found_groups_made_predictions_scored_and_splits_written(wbc, parts, tmp_path):
    test = read_splits().query("split == 'TEST'")
    pd.DataFrame({"image": test.image, "predicted": test["class"]}).to_csv(tmp_path / "p.csv", index=False)
    done, codes = wbc(
        ["leak", *parts, "--html", "leaks.html", "--csv", "leaks.csv", "--fail-above", 2],
        ["group", *parts, "--csv", tmp_path / "groups.csv"],
        ["score", tmp_path / "p.csv", "--html", "score.html", "--json", "score.json"],
        ["data", "splits", tmp_path / "splits.csv"],
    )
    assert codes == [0, 0, 0, 0], done.stderr
    assert "1 of 2 pictures have a sibling" in done.stdout and "100.00 %" in done.stdout
    assert pd.read_csv(tmp_path / "groups.csv").group.nunique() == 3
    assert (tmp_path / "splits.csv").read_bytes() == (paths.LIBRARY / "data" / "splits.csv").read_bytes()


def test_what_needs_more_says_how_to_install_it(wbc, parts):
    done, codes = wbc(["book"], ["leak", *parts, "--scheduler", "x"])
    assert codes == [1, 1]
    assert done.stderr.count("[book,train]") == 2 and "Traceback" not in done.stderr
