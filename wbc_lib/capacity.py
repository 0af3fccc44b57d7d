"""Many independent runs on many workers, on paper: time, work, and what they leave in the store."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wbc_lib import experiments
from wbc_lib.runs import Run
from wbc_lib.scaling import OF_THE_DATA, PARTS, Record

#: Files that a finished run without weights leaves: history, predictions, record.
FILES_PER_RUN = 3
_DAY, _HOUR = 86400, 3600


@dataclass(frozen=True)
class Estimate:
    """Equal runs on so many workers.

    Attributes
    ----------
    workers, waves : int
        Each worker does at most `waves` runs, one after the other.
    wall : float
        Seconds from the first start to the last end.
    work : float
        Seconds that all workers are busy, added up.
    in_last_wave : int
        Workers that have a run in the last wave.
    """

    workers: int
    waves: int
    wall: float
    work: float
    in_last_wave: int

    @property
    def idle(self) -> float:
        """Share of the workers' time in which there is nothing left to do, 0 to 1."""
        return 1 - self.work / (self.workers * self.wall) if self.wall else 0.0


def estimate(runs: int, seconds: float, workers: int) -> Estimate:
    """Time that equal, independent runs take.

    Parameters
    ----------
    runs : int
    seconds : float
        Of one run, with all that comes with it.
    workers : int
        At least 1; each does one run at a time.
    """
    waves = math.ceil(runs / workers)
    last = runs - (waves - 1) * workers if waves else 0
    return Estimate(workers, waves, waves * seconds, runs * seconds, last)


def bound(seconds: Sequence[float], workers: int) -> tuple[float, float]:
    """Least and most time, in seconds, that unequal runs take if no worker idles while a run waits (Graham 1969).

    Parameters
    ----------
    seconds : sequence of float
        Of each run, in any order.
    workers : int
        At least 1.
    """
    longest, total = max(seconds, default=0.0), math.fsum(seconds)
    return max(longest, total / workers), total / workers + (1 - 1 / workers) * longest


@dataclass(frozen=True)
class Basis:
    """What one run at full length takes.

    Attributes
    ----------
    epochs : int
    training, low, high : float
        Seconds of its epochs: the middle, and from the quickest to the slowest recorded run of the network.
    overhead : float
        Seconds besides.
    kept : float
        Bytes that it leaves in the store.
    checkpoint : float
        Bytes that it writes there after every epoch, the next in place of the last.
    """

    epochs: int
    training: float
    low: float
    high: float
    overhead: float
    kept: float
    checkpoint: float

    @property
    def seconds(self) -> float:
        """Of one run, with all that comes with it."""
        return self.training + self.overhead


def tabulate_runs(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """How quick recorded runs of one network were.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        By what they are called; empty ones are left out.

    Returns
    -------
    DataFrame
        A row per name: ``runs``; ``epochs`` of each; ``images`` that an epoch looks at, training and validation
        (median); ``minutes`` of a run (median); seconds per 1,000 images, over runs: ``low``, ``middle``, ``high``;
        and in the quickest ``epoch`` of all.
    """
    rows = {}
    for name, members in runs.items():
        if members:
            images = np.array([r.record["examples"]["training"] + r.record["examples"]["validation"] for r in members])
            rates = [1000 * r.history.seconds.mean() / n for r, n in zip(members, images, strict=True)]
            quickest = min(1000 * r.history.seconds.min() / n for r, n in zip(members, images, strict=True))
            rows[name] = {
                "runs": len(members),
                "epochs": members[0].epochs,
                "images": int(np.median(images)),
                "minutes": float(np.median([r.history.seconds.sum() for r in members])) / 60,
                "low": min(rates),
                "middle": float(np.median(rates)),
                "high": max(rates),
                "epoch": quickest,
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def tabulate_overhead(record: Record, epochs: int) -> pd.DataFrame:
    """Seconds of each part of a run besides its epochs, on one worker.

    Parameters
    ----------
    record : Record
    epochs : int
        Of the run; each ends with a checkpoint.

    Returns
    -------
    DataFrame
        Indexed by part (see `scaling.PARTS`): ``middle`` (median), ``low``, ``high``, and whether it was measured at
        ``full_size``, which is so where the part depends on the photos and there were some.
    """
    tiny = record.parts[record.parts.workers == 1]
    rows = {}
    for part in PARTS:
        is_full = part in OF_THE_DATA and len(record.full_size) > 0
        seconds = (record.full_size if is_full else tiny)[part]
        if part == "checkpoints":
            seconds = seconds * epochs / record.about["epochs"]
        rows[part] = {
            "middle": seconds.median(),
            "low": seconds.min(),
            "high": seconds.max(),
            "full_size": is_full,
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def tabulate_totals(record: Record) -> pd.DataFrame:
    """What the same trainings took in each way.

    Returns
    -------
    DataFrame
        Indexed by way: ``workers``; seconds of ``wall`` and ``training`` over all trainings (medians of the repeats);
        and what a training costs a worker besides its epochs, in seconds: ``middle`` (median), ``low``, ``high``.
    """
    totals = record.totals.assign(
        overhead=lambda t: (t.wall * t.workers.clip(lower=1) - t.training) / record.about["trainings"]
    )
    by_way = totals.groupby("way", sort=False)
    table = by_way[["workers", "wall", "training"]].median()
    return table.assign(middle=by_way.overhead.median(), low=by_way.overhead.min(), high=by_way.overhead.max()).astype(
        {"workers": int}
    )


def find_basis(runs: Mapping[str, Sequence[Run]], record: Record | None, name: str) -> Basis | None:
    """What one run at full length takes, from recorded runs of the final network; ``None`` if there are none.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        By what they are called, all of one network.
    record : Record or None
        Without one, nothing is added to the epochs' own seconds.
    name : str
        Of those runs that look at as many images as the planned ones; the first others stand in if there are none.
    """
    rates = tabulate_runs(runs)
    if rates.empty:
        return None
    like = runs.get(name) or next(members for members in runs.values() if members)
    own = rates.loc[name] if name in rates.index else rates.iloc[0]
    epochs = experiments.EXPERIMENTS["final"].epochs
    images = own.images / 1000 * epochs
    overhead = tabulate_overhead(record, epochs).middle.sum() if record else 0.0
    checkpoint = record.about["bytes"]["checkpoint"] if record else float("nan")
    return Basis(
        epochs, own.middle * images, rates.low.min() * images, rates.high.max() * images, overhead,
        float(np.median([_kept(run, epochs) for run in like])), checkpoint,
    )  # fmt: skip


def _kept(run: Run, epochs: int) -> float:
    # Weights are not kept but for the experiment that is named final; a history has a line per epoch.
    sizes = {p.name: p.stat().st_size for p in run.folder.iterdir() if p.suffix in {".csv", ".npz", ".json"}}
    history = sizes.pop("history.csv") * epochs / run.epochs
    return history + sum(size for name, size in sizes.items() if name != "weights.npz")


def tabulate_cost(n_runs: int, basis: Basis, workers: Sequence[int], cores: int = 2) -> pd.DataFrame:
    """What many runs cost, by the number of workers.

    Parameters
    ----------
    n_runs : int
    basis : Basis
    workers : sequence of int
    cores : int
        Of each worker.

    Returns
    -------
    DataFrame
        Indexed by workers: ``days`` and the range ``low`` to ``high`` (from the quickest to the slowest recorded
        run's speed); ``core_hours`` paid for, idle ones included; ``waves``; ``in_last_wave``; ``idle``, the share
        of the workers' time, 0 to 1; what the store is asked for while all are busy: ``checkpoints`` per second,
        ``megabytes`` per second, finished ``runs`` per second.
    """
    rows = {}
    for n in workers:
        middle, low, high = (
            estimate(n_runs, seconds + basis.overhead, n) for seconds in (basis.training, basis.low, basis.high)
        )
        finished = min(n, n_runs) / basis.seconds
        rows[n] = {
            "days": middle.wall / _DAY,
            "low": low.wall / _DAY,
            "high": high.wall / _DAY,
            "core_hours": n * cores * middle.wall / _HOUR,
            "waves": middle.waves,
            "in_last_wave": middle.in_last_wave,
            "idle": middle.idle,
            "checkpoints": finished * basis.epochs,
            "megabytes": finished * (basis.epochs * basis.checkpoint + basis.kept) / 1e6,
            "runs": finished,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("workers")


def write_time(seconds: float) -> str:
    """Write a duration for readers, in the unit that suits it: "40 s", "12.4 minutes", "8.0 hours", "126 days"."""
    for unit, name in ((_DAY, "days"), (_HOUR, "hours"), (60, "minutes")):
        if seconds >= 2 * unit:
            amount = seconds / unit
            return f"{amount:.0f} {name}" if amount >= 20 else f"{amount:.1f} {name}"
    return f"{seconds:.1f} s" if seconds < 20 else f"{seconds:.0f} s"


def write_bytes(size: float) -> str:
    """Write a number of bytes for readers, in powers of ten: "72 kB", "5.1 MB", "3.8 TB"."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.0f} {name}" if size >= 20 * unit else f"{size / unit:.1f} {name}"
    return f"{size:.0f} bytes"
