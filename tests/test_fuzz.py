"""The corpus of `fuzz_corpus`, run in a process whose memory, time and writing are watched."""

import faulthandler
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from wbc_lib import paths

resource = pytest.importorskip("resource", reason="needs limits on memory and time")

#: What one case may take: seconds of processor time and of the clock, bytes beyond what was there before.
CPU_SECONDS, CLOCK_SECONDS, MEMORY = 8, 120, 100_000_000


@pytest.fixture(scope="module")
def outcomes(phantom_set, tmp_path_factory) -> list[dict]:
    """A record per case, in the order of the corpus."""
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, "-m", "tests.test_fuzz", str(phantom_set.root), str(folder)]
    environment = {**os.environ, "WBC_CACHE": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "messages").open("w") as messages:
        done = subprocess.run(
            command, cwd=paths.ROOT, env=environment, stdout=subprocess.PIPE, stderr=messages, text=True, check=False
        )
    records = [json.loads(line) for line in done.stdout.splitlines()]
    told = (folder / "messages").read_text(errors="replace")[-2000:]
    # A case says that it begins and that it ends: the last one tells where the process died.
    assert done.returncode == 0, f"{done.returncode} in {records[-1] if records else 'nothing'}: {told}"
    shutil.rmtree(folder)
    return [record for record in records if "outcome" in record]


def test_every_case_ends_in_a_named_error_or_a_correct_reading(outcomes):
    failed = [r for r in outcomes if r["outcome"] not in {"refused", "read"}]
    assert failed == [], f"{len(failed)} of {len(outcomes)}: {json.dumps(failed[:5], indent=1)}"
    assert len(outcomes) >= 2000
    assert len({(r["kind"], r["name"]) for r in outcomes}) == len(outcomes)


def test_what_is_known_to_be_good_is_read_and_what_is_known_to_be_bad_is_refused(outcomes):
    wrong = [r for r in outcomes if r["must"] and r["outcome"] != r["must"]]
    assert wrong == [], f"{len(wrong)}: {json.dumps(wrong[:5], indent=1)}"


def test_most_damage_inside_a_jpeg_is_seen_without_knowing_the_original(outcomes):
    # The rest is a JPEG without fault, of another picture: only its hash can tell (see test_check).
    damaged = [r["outcome"] for r in outcomes if r["kind"] == "damaged inside"]
    assert damaged.count("refused") > 0.8 * len(damaged)


def test_every_error_is_a_sentence_that_a_terminal_can_show(outcomes):
    for record in outcomes:
        if record["outcome"] == "refused":
            text = record["detail"]
            assert text.endswith(".") and len(text) < 900 and text.isprintable(), record


def test_no_case_takes_long_or_much_memory(outcomes):
    assert max(r["seconds"] for r in outcomes) < CPU_SECONDS
    assert max(r["memory"] for r in outcomes) < MEMORY


def test_nothing_is_opened_or_written_that_does_not_belong_to_the_case(outcomes):
    assert [r for r in outcomes if r["breaches"]] == []


class Watch:
    """Notes whatever leaves the folder of the fuzz: files written elsewhere, the secret read, addresses, programs."""

    FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn")
    CHANGES = ("os.mkdir", "os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.truncate", "os.chmod")

    def __init__(self, folder: Path, secret: Path):
        self.folder, self.secret = str(folder.resolve()) + os.sep, str(secret.resolve())
        self.breaches: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event in self.FORBIDDEN:
            self.breaches.append(f"{event} {arguments!r:.200}")
        elif event == "open" and not isinstance(arguments[0], int):
            path, mode, flags = arguments
            writes = (
                flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else set(mode) & set("wxa+")
            )
            self.look(event, path, bool(writes))
        elif event in self.CHANGES:
            for path in arguments[event in {"os.symlink", "os.link"} :]:  # what a link leads to is not changed
                if isinstance(path, str | bytes | os.PathLike):
                    self.look(event, path, True)

    def look(self, event: str, path: object, writes: bool) -> None:
        # Of a link it is its place that counts when it is made or removed, its target when it is opened.
        path = os.fsdecode(path)
        place = os.path.realpath(path if event == "open" else Path(path).parent)
        if place == self.secret or (writes and place != os.devnull and not f"{place}{os.sep}".startswith(self.folder)):
            self.breaches.append(f"{event} {path!r:.200}")


def main(phantoms: str, folder: Path) -> None:
    """Run the corpus; write two lines of JSON per case."""
    from tests.fuzz_corpus import corpus
    from wbc_lib.data.dataset import index_photos, open_folder
    from wbc_lib.errors import WbcError

    report = os.fdopen(os.dup(1), "w", buffering=1)
    data = open_folder(phantoms)
    os.chdir(folder)
    index_photos(data)  # loads scikit-learn
    (folder / "cache").mkdir()
    secret = folder / "secret.txt"
    secret.write_text("not to be read\n")
    watch = Watch(folder, secret)
    faulthandler.enable()
    limit_memory()

    def too_long(number: int, frame: object) -> None:
        raise TimeoutError(signal.Signals(number).name)

    signal.signal(signal.SIGPROF, too_long)
    signal.signal(signal.SIGALRM, too_long)
    before = resource.getrusage(resource.RUSAGE_SELF)
    for number, case in enumerate(corpus(data)):
        record = {"kind": case.kind, "name": case.name, "must": case.must}
        report.write(json.dumps(record) + "\n")
        place = folder / str(number)
        place.mkdir()
        watch.breaches.clear()
        base, started = memory(), time.process_time()
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
        signal.setitimer(signal.ITIMER_REAL, CLOCK_SECONDS)
        try:
            case.run(place)
            outcome, detail = "read", ""
        except WbcError as error:
            outcome, detail = "refused", str(error)
        except Exception as error:
            outcome, detail = type(error).__name__, "".join(traceback.format_exception(error)[-3:])
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        seconds, breaches = time.process_time() - started, list(watch.breaches)
        os.chdir(folder)
        shutil.rmtree(place)
        found = {"seconds": seconds, "memory": memory() - base, "breaches": breaches}
        report.write(json.dumps({**record, "outcome": outcome, "detail": detail, **found}) + "\n")
    after = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{after.ru_utime - before.ru_utime:.1f} s of processor time", file=sys.stderr)


def memory() -> int:
    """The most memory that this process has ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limit_memory() -> None:
    """Let no case have much more than is there now: it would meet a MemoryError, which fails it."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 3 * MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
