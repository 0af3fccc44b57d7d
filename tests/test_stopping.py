"""Real processes and real signals: nothing else shows what is left behind."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nbformat
import psutil
import pytest

from tests.train_tiny import read_history
from wbc_lib import paths, stopping
from wbc_lib.book import kernels
from wbc_lib.errors import KilledError

#: Seconds within which everything is to have ended.
LIMIT = 10  # five on an idle machine
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass
class Ended:
    code: int
    errors: str
    seconds: float
    #: Command lines of all processes that it had started, and of those that are left.
    had: list[str]
    left: list[str]


running: list[subprocess.Popen] = []


@pytest.fixture(autouse=True)
def _nothing_goes_on_after_a_test_that_failed():
    yield
    while running:
        running.pop().kill()


class Command:
    """The `wbc` command in a session of its own, as a terminal would have started it."""

    def __init__(self, *arguments: object, first: str = "", environment: dict[str, str] | None = None):
        # Where tests run in the background, a child would inherit that it is deaf to Ctrl-C.
        code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n" + first
        code += f"\nsys.argv = {['wbc', *map(str, arguments)]!r}\nfrom wbc_lib.__main__ import main; main()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], cwd=paths.ROOT, start_new_session=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=os.environ | (environment or {}),
        )  # fmt: skip
        self._root = psutil.Process(self._process.pid)
        running.append(self._process)

    def wait_for(self, condition, seconds: float = 300):
        ends = time.monotonic() + seconds
        while not (found := condition()):
            assert self._process.poll() is None, self._process.communicate()
            assert time.monotonic() < ends
            time.sleep(0.02)
        return found

    def started(self, word: str = "") -> list[psutil.Process]:
        found = []
        for child in self._root.children(recursive=True):
            with suppress(psutil.Error):
                found += [child] if word in " ".join(child.cmdline()) else []
        return found

    def kernels(self) -> list[psutil.Process]:
        if not kernels.CAN_COPY:
            return self.started("ipykernel")
        copies = self.started("forkserver")
        return [child for child in copies if child.ppid() in {other.pid for other in copies}]

    def stop(self, number: signal.Signals, times: int = 1) -> Ended:
        """Send a signal: SIGINT to the whole group, as a terminal does, SIGTERM to the command alone."""
        children = {child: " ".join(child.cmdline()) for child in self.started()}
        begun = time.monotonic()
        for i in range(times):
            time.sleep(0.2 * bool(i))
            with suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGINT else os.kill)(self._process.pid, number)
        _, errors = self._process.communicate(timeout=60)
        seconds = time.monotonic() - begun
        _, alive = psutil.wait_procs(list(children), timeout=max(0, LIMIT - seconds))
        left = [children[child] for child in alive]
        for child in alive:
            child.kill()
        return Ended(self._process.returncode, errors, seconds, list(children.values()), left)


def assert_stopped(ended: Ended, number: signal.Signals) -> None:
    assert ended.code == CODES[number], ended.errors
    assert ended.seconds < LIMIT
    assert ended.left == []
    assert not any(word in ended.errors for word in ("Traceback", "Exception", "Warning")), ended.errors
    assert len([line for line in ended.errors.splitlines() if "Stopped" in line]) == 1


@pytest.fixture
def small_book(tmp_path, phantom_set) -> str:
    """A book of one quick chapter and five that take ten minutes each; returns the code that puts it in place."""
    root = tmp_path / "project"
    (root / "book" / "_static").mkdir(parents=True)
    for name in ("_config.yml", "CITATION.cff", "requirements.lock"):
        shutil.copy(paths.ROOT / name, root)
    shutil.copytree(paths.ROOT / "results" / "provenance", root / "results" / "provenance")
    slow = [f"slow-{i}" for i in range(5)]
    chapters = [{"file": f"book/{name}"} for name in slow]
    (root / "_toc.yml").write_text(json.dumps({"format": "jb-book", "root": "book/quick", "chapters": chapters}))
    sources = {"quick": f"{'#' * 1000}\n1 + 1"}  # the longest comes first
    for name in slow:
        sources[name] = f"import pathlib, time\npathlib.Path({str(tmp_path / name)!r}).touch()\ntime.sleep(600)"
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    for name, source in sources.items():
        parameters = nbformat.v4.new_code_cell('DATA = ""\nPROFILE = "quick"', metadata={"tags": ["parameters"]})
        cells = [parameters, nbformat.v4.new_code_cell(source)]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / "book" / f"{name}.ipynb")
    return f"""
from pathlib import Path
from wbc_lib import paths
paths.ROOT = Path({str(root)!r})
paths.BOOK, paths.BUILD = paths.ROOT / "book", paths.ROOT / "_build"
from wbc_lib.cli import book as cli
cli.train_missing = cli.train_suite = cli._require_runs = lambda *_: None
"""


def begin_to_build(small_book: str, tmp_path: Path) -> Command:
    """Build until the quick chapter is done and two of the slow ones are under way."""
    for path in tmp_path.glob("slow-*"):
        path.unlink()
    build = Command("book", "--data", "phantoms", "--profile", "smoke", first=small_book)
    done = tmp_path / "project" / "_build" / "executed" / "book" / "quick.key"
    build.wait_for(lambda: done.exists() and len(list(tmp_path.glob("slow-*"))) == 2)
    return build


def assert_killed_in_one_sentence(build: Command, words: Sequence[str] = ()) -> None:
    _, errors = build._process.communicate(timeout=60)
    assert build._process.returncode == 1, errors
    assert not any(word in errors for word in ("Traceback", "DeadKernelError", "Warning")), errors
    assert all(word in errors.strip().splitlines()[-1] for word in ("killed", *words))


def test_a_build_ends_at_once_goes_on_where_it_was_and_tells_of_a_killed_kernel(small_book, tmp_path):
    quick = tmp_path / "project" / "_build" / "executed" / "book" / "quick.ipynb"
    build = begin_to_build(small_book, tmp_path)
    assert len(build.kernels()) == 2
    assert_stopped(build.stop(signal.SIGINT, 3), signal.SIGINT)
    assert len(list(tmp_path.glob("slow-*"))) == 2  # nothing new was begun
    assert sorted(p.name for p in quick.parent.glob("*.key")) == ["quick.key"]
    made = quick.stat().st_mtime_ns
    build = begin_to_build(small_book, tmp_path)
    build.kernels()[0].kill()
    assert_killed_in_one_sentence(build, ("Chapter slow-", "cell 2", "memory", "--jobs 1"))
    assert quick.stat().st_mtime_ns == made


@pytest.mark.slow
def test_a_build_that_is_told_to_end_or_is_killed_leaves_no_process_either(small_book, tmp_path):
    assert_stopped(begin_to_build(small_book, tmp_path).stop(signal.SIGTERM), signal.SIGTERM)
    ended = begin_to_build(small_book, tmp_path).stop(signal.SIGKILL)
    assert ended.code == -signal.SIGKILL and ended.left == []
    build = begin_to_build(small_book, tmp_path)
    build.started("spawn_main")[0].kill()
    assert_killed_in_one_sentence(build)


def test_jupyter_book_ends_with_the_build(tmp_path):
    code = "from wbc_lib import stopping; import time; stopping.end_with_stdin(); print(flush=True); time.sleep(600)"
    parent = f"import sys; from wbc_lib import stopping; stopping.run([sys.executable, '-c', {code!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], cwd=paths.ROOT, stdout=subprocess.PIPE)
    process.stdout.readline()
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    process.stdout.close()
    assert psutil.wait_procs([child], timeout=LIMIT)[1] == []


def test_what_a_process_started_ends_with_it_even_if_it_is_told_to_be_silent_about_semaphores():
    child = [sys.executable, "-Wignore:resource_tracker:UserWarning", "-c", "import time; time.sleep(600)"]
    code = f"import subprocess; from wbc_lib import stopping; print(subprocess.Popen({child}).pid, flush=True)"
    code += "; stopping.end_with_stdin(); import time; time.sleep(600)"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, **pipes) as process:
        started = psutil.Process(int(process.stdout.readline()))
        process.stdin.close()
        assert psutil.wait_procs([started], timeout=LIMIT)[1] == []


@pytest.fixture
def places(tmp_path) -> dict[str, str]:
    return {"WBC_CACHE": str(tmp_path / "cache"), "WBC_RESULTS": str(tmp_path / "results")}


#: An experiment that takes long, with short epochs.
LONG = """
import dataclasses
from tests.train_tiny import TINY
from wbc_lib.training import experiments
experiments.EXPERIMENTS["final"] = dataclasses.replace(TINY, name="final", epochs=5000)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "options"), [(signal.SIGTERM, []), (signal.SIGINT, ["--workers", 2])], ids=["alone", "on workers"]
)
def test_a_training_that_is_stopped_goes_on_from_its_checkpoint(phantom_set, tmp_path, places, number, options):
    arguments = ["train", "final", "--profile", "paper", "--seeds", "0-1", "--data", phantom_set.root, *options]
    behind = []
    for _ in range(2):
        training = Command(*arguments, first=LONG, environment=places)

        def has_gone_on() -> bool:
            files = sorted((tmp_path / "cache" / "runs" / ".unfinished").glob("*.npz"))
            found = [len(read_history(file)) for file in files]
            return max(found, default=0) > 3 + max(behind, default=0)

        training.wait_for(has_gone_on)
        assert_stopped(training.stop(number, 3), number)
        files = (tmp_path / "cache" / "runs" / ".unfinished").glob("*.npz")
        behind.append(max(len(read_history(file)) for file in files))
    assert behind[1] > behind[0] > 0
    assert not list((tmp_path / "cache" / "runs").glob("final-*"))


@pytest.mark.slow
def test_tracing_that_is_stopped_keeps_what_it_has_traced(phantom_set, tmp_path, places):
    first = "from wbc_lib.provenance import trace; trace._CHUNK = 2\n"
    first += "from wbc_lib.cli import main as cli; cli.app.command('trace')(lambda data: study(data))\n"
    first += "from wbc_lib.training.study import open_study\n"
    first += "def study(data): trace.trace(open_study(data, 'smoke').data)\n"
    first += "cli.app.registered_commands[-1].callback.__annotations__ = {'data': str}"
    tracing = Command("trace", phantom_set.root, first=first, environment=places)

    def traced() -> list[Path]:
        return list((tmp_path / "cache").rglob("chunks/*.csv"))

    tracing.wait_for(lambda: len(traced()) >= 2)
    assert_stopped(tracing.stop(signal.SIGINT, 3), signal.SIGINT)
    assert len(traced()) >= 2


def test_a_download_that_does_not_come_can_be_stopped(tmp_path, places):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0)
        nowhere = {"HTTPS_PROXY": f"http://127.0.0.1:{silent.getsockname()[1]}", "NO_PROXY": "", "no_proxy": ""}
        nowhere |= {"KAGGLEHUB_CACHE": str(tmp_path / "hub"), "https_proxy": nowhere["HTTPS_PROXY"]}
        download = Command("data", "where", environment=places | nowhere)

        def is_asked() -> bool:
            with suppress(BlockingIOError):
                asked.append(silent.accept()[0])
            return bool(asked)

        asked: list[socket.socket] = []
        download.wait_for(is_asked)
        assert_stopped(download.stop(signal.SIGINT, 3), signal.SIGINT)
        asked[0].close()


@pytest.mark.slow
def test_predict_that_is_stopped_leaves_the_maps_it_has_drawn(phantom_set, tmp_path):
    picture = next(phantom_set.augmented.glob("TEST/*/*"))
    (tmp_path / "pictures").mkdir()
    for i in range(500):
        (tmp_path / "pictures" / f"{i:03d}.jpeg").symlink_to(picture)
    recorded = {"WBC_RESULTS": str(paths.ROOT / "results")}
    asked = Command("predict", tmp_path / "pictures", "--as-is", "--map", tmp_path / "maps", environment=recorded)
    asked.wait_for(lambda: len(list(tmp_path.glob("maps/[!.]*"))) > 1)
    assert_stopped(asked.stop(signal.SIGTERM, 3), signal.SIGTERM)
    maps = list((tmp_path / "maps").iterdir())
    assert 1 < len(maps) < 500
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in maps)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM] * 3, ids=lambda n: n.name)
def test_a_stop_at_any_moment_of_loading_is_quiet(phantom_set, number, request):
    picture = next(phantom_set.augmented.glob("TEST/*/*"))
    asked = Command("predict", picture, environment={"WBC_RESULTS": str(paths.ROOT / "results")})
    time.sleep(0.3 + 1.0 * request.node.callspec.indices["number"])
    ended = asked.stop(number, 3)
    assert ended.code in (CODES[number], 0) and ended.seconds < LIMIT
    assert "Traceback" not in ended.errors


STUBBORN = {
    "outside of Python": "import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)",
    "swallowed": """
while True:
    try:
        time.sleep(60)
    except BaseException:
        pass
""",
    "made into another": """
try:
    time.sleep(60)
except BaseException:
    raise ImportError("a library's own words")
""",
}


@pytest.mark.parametrize("body", STUBBORN.values(), ids=STUBBORN)
def test_work_that_does_not_hear_of_the_stop_ends_too(body):
    first = f"""
import time
from wbc_lib import stopping
from wbc_lib.cli import main as cli
stopping._PATIENCE = 1
def work(**_):
    print("begun", file=sys.stderr, flush=True)
    exec({body!r})
cli.app = work
"""
    command = Command(first=first)
    command._process.stderr.readline()
    time.sleep(0.5)
    assert_stopped(command.stop(signal.SIGTERM, 3), signal.SIGTERM)


def test_who_was_started_deaf_to_ctrl_c_stays_so():
    code = """
import signal, time
from wbc_lib import stopping
signal.signal(signal.SIGINT, signal.SIG_IGN)
with stopping.heeded():
    signal.raise_signal(signal.SIGINT)
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def test_without_a_signal_everything_is_as_before():
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    threads = threading.active_count()
    with pytest.raises(ZeroDivisionError), stopping.heeded():
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    time.sleep(0.5)
    assert threading.active_count() == threads


def test_processes_do_all_their_work_and_one_that_is_killed_is_an_error():
    assert dict(stopping.work_in_processes(abs, range(-5, 0), 2)) == {i: -i for i in range(-5, 0)}
    with pytest.raises(KilledError, match="memory"):
        list(stopping.work_in_processes(signal.raise_signal, [signal.SIGKILL], 1))
    assert multiprocessing.active_children() == []
