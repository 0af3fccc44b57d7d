"""Measuring by turns: each contender is a process of its own, of which one runs while all others wait.

The standard library is all this needs, so that a contender may run in another interpreter than the library's.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from wbc_lib.errors import BenchError

#: What was measured, at which size of the job (None if there is but one), and the value.
Measured = tuple[str, float | None, float]
_LOG_TAIL = 2000


class Turn:
    """A contender's side: tell what was measured, then wait for the next turn; without one, the process ends."""

    def __init__(self) -> None:
        # Libraries print what they like: only what is written to this copy reaches the other side.
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)

    def __call__(self, *figures: Measured, **about: str) -> None:
        """Report figures of the turn that ends here, and facts (such as versions) about the contender."""
        self._tell({"figures": figures, "about": about})

    def cannot(self, reason: str) -> None:
        """Report that this contender cannot take part here, and why."""
        self._tell({"cannot": reason})

    def _tell(self, message: dict[str, Any]) -> None:
        print(json.dumps(message), file=self._out, flush=True)
        if not sys.stdin.readline():
            raise SystemExit


@dataclass(frozen=True)
class Contender:
    """One way of doing a job.

    Attributes
    ----------
    name : str
        For readers.
    command : tuple of str
        What starts the process, which is to call `serve`.
    does : str
        Name of the function of the process that does it.
    options : dict
        Its arguments.
    rounds : int
        Turns it takes, if fewer than the others; 0 for all.
    is_fresh : bool
        Whether every turn has a new process, for what depends on how a process starts or on what it holds.
    """

    name: str
    command: tuple[str, ...]
    does: str
    options: dict[str, Any] = field(default_factory=dict)
    rounds: int = 0
    is_fresh: bool = False


@dataclass(frozen=True)
class Series:
    """The values of one quantity, one per turn.

    Attributes
    ----------
    contender, quantity : str
    size : float or None
        Of the job, where it was done at several sizes.
    values : tuple of float
        In the order they were measured.
    """

    contender: str
    quantity: str
    size: float | None
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure that counts."""
        return statistics.median(self.values)


@dataclass(frozen=True)
class Outcome:
    """What came of a race.

    Attributes
    ----------
    series : tuple of Series
    about : dict
        What contenders told about themselves, by contender.
    missing : dict
        Why a contender did not take part, by contender.
    """

    series: tuple[Series, ...]
    about: dict[str, dict[str, str]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def order(contenders: Sequence[Contender], rounds: int) -> list[Contender]:
    """Whose turn it is: A B C A B C …, so that whatever else the machine does meets all of them alike."""
    return [c for turn in range(rounds) for c in contenders if turn < (c.rounds or rounds)]


def race(
    contenders: Sequence[Contender], rounds: int, on_turn: Callable[[int, int], None] = lambda done, total: None
) -> Outcome:
    """Let contenders do their job by turns.

    Parameters
    ----------
    contenders : sequence of Contender
    rounds : int
        Turns of each.
    on_turn : callable
        Told (turns done, turns in all).

    Raises
    ------
    BenchError
        If a contender's process ends before its last turn.
    """
    values: dict[tuple[str, str, float | None], list[float]] = {}
    about: dict[str, dict[str, str]] = {}
    missing: dict[str, str] = {}
    turns = order(contenders, rounds)
    with ExitStack() as stack:
        waiting: dict[str, _Process] = {}
        for done, contender in enumerate(turns):
            on_turn(done, len(turns))
            if contender.name in missing:
                continue
            process = waiting.get(contender.name)
            if process is None:
                process = stack.enter_context(_Process(contender))
                ready = process.listen()
                if "cannot" in ready:
                    missing[contender.name] = ready["cannot"]
                    continue
                waiting[contender.name] = process
                if contender.name not in about:
                    _keep(values, contender, ready["figures"])
                about.setdefault(contender.name, {}).update(ready["about"])
            told = process.take_turn()
            about[contender.name].update(told["about"])
            _keep(values, contender, told["figures"])
            if contender.is_fresh:
                waiting.pop(contender.name).close()
        on_turn(len(turns), len(turns))
    series = tuple(Series(*key, tuple(found)) for key, found in values.items())
    return Outcome(series, {name: facts for name, facts in about.items() if facts}, missing)


def _keep(values: dict[tuple[str, str, float | None], list[float]], contender: Contender, figures: list[Any]) -> None:
    for quantity, size, value in figures:
        values.setdefault((contender.name, quantity, size), []).append(value)


class _Process:
    # A contender's process; it ends when its standard input is closed, whoever closes it.

    def __init__(self, contender: Contender) -> None:
        self._name = contender.name
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - see close
        try:
            self._child = subprocess.Popen(
                contender.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                cwd=Path(__file__).parents[1],  # so that any interpreter finds the library
            )
        except OSError as error:
            self._log.close()
            program = contender.command[0]
            raise BenchError(f"'{self._name}' needs {program}, which cannot be started ({error.strerror}).") from error
        self._say(json.dumps({"does": contender.does, **contender.options}))

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error:
            self._child.kill()
        self.close()

    def take_turn(self) -> dict[str, Any]:
        self._say("")
        return self.listen()

    def listen(self) -> dict[str, Any]:
        line = self._child.stdout.readline()
        if not line:
            self._child.wait()
            self._log.seek(0)
            said = self._log.read()[-_LOG_TAIL:].strip()
            raise BenchError(f"'{self._name}' ended with code {self._child.returncode} in mid-measurement:\n{said}")
        return json.loads(line)

    def close(self) -> None:
        if not self._log.closed:
            self._child.stdin.close()
            self._child.stdout.close()
            self._child.wait()
            self._log.close()

    def _say(self, line: str) -> None:
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            pass  # `listen` tells why


def serve(does: dict[str, Callable[..., None]]) -> None:
    """Be a contender: read what to do from standard input, and do it by turns."""
    options = json.loads(sys.stdin.readline())
    does[options.pop("does")](Turn(), **options)
