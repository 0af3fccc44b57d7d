import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from wbc_lib import paths

PYPROJECT = (paths.ROOT / "pyproject.toml").read_text()
PROJECT = tomllib.loads(PYPROJECT)["project"]
LOCK = (paths.ROOT / "requirements.lock").read_text()
CONDA = (paths.ROOT / "environment.yml").read_text()


def direct() -> dict[str, SpecifierSet]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {(r := Requirement(line)).name.lower(): r.specifier for group in groups for line in group}


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK, re.M))


def test_conda_gets_the_direct_dependencies_at_the_locked_versions():
    listed = yaml.safe_load(CONDA)["dependencies"]
    conda = dict(re.split("==?", d) for d in listed if isinstance(d, str) and "=" in d and not d.startswith("python>"))
    pip = dict(d.split("==") for d in next(d for d in listed if isinstance(d, dict))["pip"] if "==" in d)
    assert conda | pip == {name: locked()[name] for name in direct()}
    assert f"python{PROJECT['requires-python']}" in listed


def test_the_locked_versions_are_among_those_that_the_project_asks_for():
    versions = locked()
    assert [
        f"{name} {versions[name]}" for name, wanted in direct().items() if not wanted.contains(versions[name])
    ] == []


def test_no_index_and_no_address_is_named():
    makefile = (paths.ROOT / "Makefile").read_text()
    for allowed in ("--no-emit-index-url", "--no-emit-find-links"):
        makefile = makefile.replace(allowed, "")
    for text in (LOCK, CONDA, PYPROJECT, makefile):
        assert re.findall(r"\w+://\S*|index-url|find-links| @ \S+|git\+", text) == []
