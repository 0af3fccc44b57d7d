import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings
from playwright.sync_api import Browser, Page, sync_playwright

from wbc_lib import paths
from wbc_lib.cli import main
from wbc_lib.data import dataset, phantoms
from wbc_lib.data.dataset import DataSet
from wbc_lib.data.external import External

EXTERNAL = Path(os.environ.get("WBC_TEST_EXTERNAL", paths.ROOT.parent / "shared" / "data" / "external"))
REAL = Path(os.environ.get("WBC_TEST_PHOTOS", paths.ROOT.parent / "shared" / "data" / "blood-cells"))

# The machine may be busy training: how long an example takes says nothing.
settings.register_profile("wbc", deadline=None, max_examples=50)
settings.load_profile("wbc")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, the book and then trainings: it is not to be left over for one of two workers."""

    def place(item: pytest.Item) -> tuple[bool, bool]:
        return "site" not in getattr(item, "fixturenames", ()), item.path.parent.name != "training"

    items.sort(key=place)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what the whole run of the tests makes once, whichever worker comes first."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_users_is_touched(run_folder: Path) -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("WBC_CACHE", str(run_folder / "cache"))
    patch.setenv("WBC_RESULTS", str(run_folder / "results"))
    for name in ("WBC_DATA", "WBC_EXTERNAL", "WBC_NEVER_TRAIN", "WBC_REPOSITORY", "WBC_WEIGHTS"):
        patch.delenv(name, raising=False)
    yield
    patch.undo()


def _draw(run_folder: Path, **options: float) -> DataSet:
    with FileLock(run_folder / "phantoms.lock"):
        return phantoms.cached(**options)


@pytest.fixture(scope="session")
def phantom_set(run_folder: Path, _nothing_of_the_users_is_touched: None) -> DataSet:
    """A small phantom data set, drawn once; not to be written to."""
    return _draw(run_folder, scale=0.1, copies=40)


@pytest.fixture(scope="session")
def tiny_set(run_folder: Path, _nothing_of_the_users_is_touched: None) -> DataSet:
    """The smallest phantom data set, of another seed, drawn once; not to be written to."""
    return _draw(run_folder, seed=3, scale=0.01, copies=12)


@pytest.fixture
def phantom_copy(tiny_set: DataSet, tmp_path: Path) -> DataSet:
    """A copy of the smallest phantom data set, to be damaged."""
    shutil.copytree(tiny_set.root, tmp_path / "copy")
    return dataset.open_folder(tmp_path / "copy")


@pytest.fixture(scope="session")
def real_set() -> DataSet:
    """The real photos, where they are."""
    if not REAL.is_dir():
        pytest.skip(f"the real photos are not at {REAL}")
    return dataset.open_folder(REAL)


@pytest.fixture(scope="session")
def external_set() -> External:
    """The pictures from other microscopes, where they are."""
    if not EXTERNAL.is_dir():
        pytest.skip(f"the pictures from other microscopes are not at {EXTERNAL}")
    return External(EXTERNAL)


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which writing fails once a file has the given number of bytes, as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")

    @contextmanager
    def limit(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture
def wbc(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., subprocess.CompletedProcess]:
    """Run the command in this process, which has TensorFlow loaded already; no build of the checkout is in its way."""
    monkeypatch.setattr(paths, "BUILD", tmp_path_factory.mktemp("build"))

    def run(*arguments: object) -> subprocess.CompletedProcess:
        monkeypatch.setattr(sys, "argv", ["wbc", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as done:
            main.main()
        output, errors = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, done.value.code, output, errors)

    return run


@contextmanager
def _open_browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        if os.environ.get("WBC_NEEDS_BROWSER"):
            pytest.fail("No browser was found, and WBC_NEEDS_BROWSER asks for one; install Debian's chromium.")
        pytest.skip("no browser was found (Debian: apt-get install chromium)")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=options)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Callable]:
    """Run a function of a browser, in a thread of its own: playwright's event loop would be in the way of others."""
    opening = _open_browser()
    with ThreadPoolExecutor(1) as thread:
        opened = thread.submit(opening.__enter__).result()
        yield lambda act: thread.submit(act, opened).result()
        thread.submit(opening.__exit__, None, None, None).result()


@pytest.fixture(scope="session")
def open_page(chromium: Callable) -> Callable[..., AbstractContextManager[Callable]]:
    """Open a file in the browser: a context that gives a way to run functions of its tab.

    At its end nothing may have been complained of on the console, or asked of a network.
    """

    @contextmanager
    def open_file(path: Path, **options: object) -> Iterator[Callable]:
        flaws: list[str] = []

        def begin(browser: Browser) -> Page:
            tab = browser.new_page(**options)
            tab.on("console", lambda message: message.type == "error" and flaws.append(message.text))
            tab.on("pageerror", lambda error: flaws.append(str(error)))
            tab.on("request", lambda request: request.url.startswith("http") and flaws.append(request.url))
            tab.goto(path.as_uri(), wait_until="load")
            return tab

        tab = chromium(begin)
        yield lambda act: chromium(lambda _: act(tab))
        chromium(lambda _: tab.close())
        assert flaws == [], path.name

    return open_file
