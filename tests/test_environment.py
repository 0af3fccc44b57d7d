import re
import tomllib

import yaml

from wbc_lib import paths

PROJECT = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
LOCK = (paths.ROOT / "requirements.lock").read_text()
CONDA = (paths.ROOT / "environment.yml").read_text()


def direct() -> set[str]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {re.match(r"[A-Za-z0-9._-]+", d)[0].lower() for group in groups for d in group}


def locked() -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", LOCK, re.M))


def test_conda_gets_the_direct_dependencies_at_the_locked_versions():
    listed = yaml.safe_load(CONDA)["dependencies"]
    conda = dict(re.split("==?", d) for d in listed if isinstance(d, str) and "=" in d and not d.startswith("python>"))
    pip = dict(d.split("==") for d in next(d for d in listed if isinstance(d, dict))["pip"] if "==" in d)
    assert conda | pip == {name: locked()[name] for name in direct()}


def test_everything_in_the_lock_has_a_hash():
    blocks = re.findall(r"^[a-z0-9._-]+==.*?(?=^[a-z0-9]|\Z)", LOCK, re.M | re.S)
    assert len(blocks) >= len(locked())
    assert [b.splitlines()[0] for b in blocks if "--hash=sha256:" not in b] == []


def test_no_index_is_named():
    for text in (LOCK, CONDA, (paths.ROOT / "Makefile").read_text()):
        assert not re.search(
            r"https?://|index-url|find-links(?! )",
            text.replace("--no-emit-index-url", "").replace("--no-emit-find-links", ""),
        )
