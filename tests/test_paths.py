import os
import subprocess
import sys

import numpy as np
import pytest

from wbc_lib import paths


@pytest.mark.parametrize("error", [OSError(28, "No space left"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, error):
    target = tmp_path / "folder" / "file"
    paths.write_text(target, "old")

    def fail():
        with paths.written_whole(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_an_array_appears_whole(tmp_path):
    with paths.new_array(tmp_path / "a.npy", (3, 2), np.float32) as array:
        array[:] = 7
        assert not (tmp_path / "a.npy").exists()
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.full((3, 2), 7, np.float32))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on the size of files")
def test_an_array_for_which_there_is_no_room_is_an_error_and_no_crash(tmp_path):
    code = (
        "import resource, signal, sys, numpy as np; from pathlib import Path; from wbc_lib import paths\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        f"    with paths.new_array(Path({str(tmp_path / 'a.npy')!r}), (10**6,), np.uint8) as a: a[:] = 1\n"
        "except OSError: sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, check=False, env=os.environ)
    assert done.returncode == 3
    assert list(tmp_path.iterdir()) == []


def test_folders_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "c"))
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "r"))
    assert (paths.cache(), paths.results()) == (tmp_path / "c", tmp_path / "r")
    monkeypatch.delenv("WBC_RESULTS")
    assert paths.results() == paths.ROOT / "results"
