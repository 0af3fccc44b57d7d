"""How work is stopped: by Ctrl-C or SIGTERM, within seconds, with every process that was started for it.

Whatever is started here holds one end of a pipe and ends when the other is closed, which happens however the one who
started it comes to its end. What an end at any moment leaves behind is in order: files are written whole or not at all.
"""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil

from wbc_lib.errors import KilledError

Item = TypeVar("Item")
Result = TypeVar("Result")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: Seconds that a stopped command may take to put things in order; then it ends as it is.
_PATIENCE = 2.5
_SENTENCE = "Stopped; what had finished is kept."
#: By which the process is known that takes the semaphores of others off the system.
_TRACKER = "from multiprocessing.resource_tracker import main"


@contextmanager
def heeded() -> Iterator[None]:
    """Stop the body at the first Ctrl-C or SIGTERM; later ones change nothing.

    The body gets a `KeyboardInterrupt`. Should it not end by that, because it is at work outside of Python or the
    exception was lost on its way, the process ends all the same. Raises `SystemExit`, with 130 after Ctrl-C and 143
    after SIGTERM, if a signal came, whatever the body made of it.
    """
    code = 0

    def stop(number: int, _: object) -> None:
        nonlocal code
        if not code:
            code = 128 + number
            raise KeyboardInterrupt

    heard = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # a job in the background is deaf to Ctrl-C
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    # Python's own handlers wait for the main thread; this thread is told at once.
    threading.Thread(target=_end_in_time, args=(ear, heard), daemon=True).start()
    told_before = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    before = {n: signal.signal(n, stop) for n in heard}
    try:
        yield
    except BaseException:  # after a signal whatever comes out is the stop, in what a library made of it
        if not code:
            raise
    finally:
        if not code:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(told_before)
            mouth.close()
    if code:
        sys.unraisablehook = lambda _: None  # what is half done is taken down in any order
        for number in heard:  # the interpreter, on its way out, would give Ctrl-C back its first meaning
            signal.signal(number, signal.SIG_IGN)
        print(_SENTENCE, file=sys.stderr, flush=True)
        sys.exit(code)


def _end_in_time(ear: socket.socket, heard: Sequence[int]) -> None:
    with ear:
        while told := ear.recv(1):
            if told[0] in heard:
                time.sleep(_PATIENCE)
                os.write(2, f"{_SENTENCE}\n".encode())
                _end(128 + told[0])


@contextmanager
def deaf_children() -> Iterator[None]:
    """Let processes that are started in the body not hear the signals, which are for the one who started them.

    A Ctrl-C goes to all processes of a terminal. While the body runs it waits: what is half started cannot be ended.
    """
    waiting: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    before = {n: signal.signal(n, lambda n, _: waiting.append(n)) for n in SIGNALS} if is_main else {}
    has_mask = hasattr(signal, "pthread_sigmask")
    if has_mask:
        resource_tracker.ensure_running()  # its start would take the mask off
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        if has_mask:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        if waiting:
            signal.raise_signal(waiting[0])


def work_in_processes(
    function: Callable[[Item], Result], items: Iterable[Item], jobs: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield each item and what `function` makes of it as it is done, by processes that end with this one.

    Close the generator (`contextlib.closing`) to stop at once what is under way. Raises `KilledError` if one of the
    processes was killed.
    """
    context = multiprocessing.get_context("spawn")
    ear, mouth = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(jobs, context, _end_with, (ear,))
    try:
        with deaf_children():
            waiting = {pool.submit(function, item): item for item in items}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    except BaseException as error:  # GeneratorExit too
        mouth.close()
        if isinstance(error, BrokenProcessPool):
            raise KilledError(
                "A process at work was killed, most often for lack of memory; close other programs and ask again: what "
                "had finished is kept."
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        mouth.close()
        ear.close()


def _end_with(ear: Connection) -> None:
    threading.Thread(target=_end_after, args=(ear.recv_bytes,), daemon=True).start()


def run(command: Sequence[str], **options: Any) -> int:
    """Run a command that calls `end_with_stdin`, and return its exit code; it ends if this is stopped or killed."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **options) as child:
        try:
            return child.wait()
        except BaseException:
            child.kill()
            raise


def end_with_stdin() -> None:
    """From now on end this process, and all that it started, at once when its standard input is closed."""
    # Not through the buffer, whose lock the interpreter wants when it ends.
    threading.Thread(target=_end_after, args=(lambda: _exhaust(sys.stdin.fileno()),), daemon=True).start()


def end_with_parent() -> None:
    """From now on end this process, and all that it started, once the one that made it by multiprocessing has ended."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(parent.join,), daemon=True).start()


def _exhaust(descriptor: int) -> None:
    while os.read(descriptor, 1):
        pass


def _end_after(wait: Callable[[], object]) -> None:
    with suppress(EOFError, OSError):
        wait()
    _end(1)


def _end(code: int) -> None:
    # Threads that wait for a child would speak of its end, which is meant.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # Children would end by themselves, but kernels look for their parent only now and then. What multiprocessing keeps
    # to take its semaphores off the system must stay, and goes when that is done.
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if _TRACKER not in " ".join(child.cmdline()):
                child.kill()
    os._exit(code)
