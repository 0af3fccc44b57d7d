import subprocess
import sys
from pathlib import Path

import pytest

from wbc_lib import paths


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole book, built from phantoms as a user would build it."""
    folder = tmp_path_factory.mktemp("site") / "html"
    command = [sys.executable, "-m", "wbc_lib.cli.main", "book", "--data", "phantoms", "--profile", "smoke"]
    done = subprocess.run([*command, "--output", folder], capture_output=True, text=True, cwd=paths.ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.startswith("Working with phantoms")
    return folder
