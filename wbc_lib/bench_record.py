"""What was measured, how fast, on which machine: one file per part, so that each part can be measured again alone."""

import json
import math
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wbc_lib import paths
from wbc_lib.errors import BenchError
from wbc_lib.turns import Outcome, Series

_FORMAT = 1
_LIBRARIES = ("tensorflow", "keras", "numpy", "opencv-python-headless", "pandas", "jupyter-book")


@dataclass(frozen=True)
class PartRecord:
    """The record of one part.

    Attributes
    ----------
    part : str
        Its name, as `wbc bench --only` takes it.
    measured : str
        When, ISO 8601.
    data : dict
        ``title`` and ``sha256`` of the photos.
    machine : dict
        ``system``, ``processor``, ``cores``, ``memory`` (GB).
    libraries : dict
        Versions by name.
    load_before : float
        How many processes wanted a core on average in the minute before.
    settings : dict
        What the part did, as far as its figures do not tell.
    outcome : Outcome
        Every single measurement.
    """

    part: str
    measured: str
    data: dict[str, str]
    machine: dict[str, Any]
    libraries: dict[str, str]
    load_before: float
    settings: dict[str, Any] = field(default_factory=dict)
    outcome: Outcome = Outcome(())

    def series(self, contender: str, quantity: str = "seconds") -> list[Series]:
        """What was measured of one contender, by size."""
        found = [s for s in self.outcome.series if (s.contender, s.quantity) == (contender, quantity)]
        return sorted(found, key=lambda s: s.size or 0)

    def largest(self, contender: str, quantity: str = "seconds") -> Series | None:
        """What was measured of one contender at the largest size; None if it took no part."""
        return next(reversed(self.series(contender, quantity)), None)


def describe_machine() -> dict[str, Any]:
    """Describe the machine that this runs on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    system = {"system": platform.system(), "processor": _name_processor(), "cores": os.cpu_count()}
    return system | {"memory": round(memory / 1e9)}


def _name_processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def describe_libraries() -> dict[str, str]:
    """Versions of what the figures depend on most."""
    return {name: metadata.version(name) for name in _LIBRARIES} | {"python": platform.python_version()}


def describe_now() -> str:
    """The time, as it is recorded."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def folder() -> Path:
    """Where the record is."""
    return paths.results() / "bench"


def write_part(record: PartRecord) -> Path:
    """Write the record of one part; those of the others stay as they are."""
    target = folder() / f"{record.part}.json"
    plain = {"format": _FORMAT, **asdict(record)}
    paths.write_text(target, json.dumps(plain, indent=1) + "\n")
    return target


def read_parts() -> dict[str, PartRecord]:
    """Read all that is recorded, by part; empty if nothing was measured yet.

    Raises
    ------
    BenchError
        If a file of the record is damaged.
    """
    return {path.stem: _read(path) for path in sorted(folder().glob("[!.]*.json"))}


def _read(path: Path) -> PartRecord:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("format") != _FORMAT or plain["part"] != path.stem:
            raise ValueError("another format")
        outcome = plain.pop("outcome")
        series = tuple(_read_series(s) for s in outcome.pop("series"))
        return PartRecord(**plain, outcome=Outcome(series, **outcome))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BenchError(
            f"{path} is no record of measurements; remove it and measure again with "
            f"`wbc bench --only {path.stem} --record`."
        ) from error


def _read_series(plain: Mapping[str, Any]) -> Series:
    values = tuple(float(v) for v in plain["values"])
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError("no figures")
    size = None if plain["size"] is None else float(plain["size"])
    return Series(str(plain["contender"]), str(plain["quantity"]), size, values)


def tabulate_series(record: PartRecord) -> pd.DataFrame:
    """A row per contender, quantity and size: ``median``, ``least``, ``most`` and ``times`` measured."""
    rows = [
        (s.contender, s.quantity, s.size, s.median, min(s.values), max(s.values), len(s.values))
        for s in record.outcome.series
    ]
    return pd.DataFrame(rows, columns=["contender", "quantity", "size", "median", "least", "most", "times"])


def fit_exponent(series: Sequence[Series]) -> float:
    """Fit the exponent with which something grows: the slope of its medians over the sizes, both as logarithms.

    Parameters
    ----------
    series : sequence of Series
        One per size.

    Returns
    -------
    float
        1 for what grows in proportion to the size, 0 for what does not depend on it; NaN with fewer than two sizes.
    """
    sizes = [s.size for s in series]
    if len(set(sizes)) < 2:
        return float("nan")
    slope, _ = np.polyfit(np.log(sizes), np.log([s.median for s in series]), 1)
    return float(slope)


def sum_of(*series: tuple[Series, float], quantity: str = "seconds") -> Series:
    """Weigh series of one contender and size, measured in the same turns, and add them up turn by turn."""
    first = series[0][0]
    values = zip(*(s.values for s, _ in series), strict=True)
    weights = [weight for _, weight in series]
    added = tuple(sum(w * v for w, v in zip(weights, turn, strict=True)) for turn in values)
    return Series(first.contender, quantity, first.size, added)


def compare(slower: Series, faster: Series) -> tuple[float, float, float]:
    """How many times as long one takes as the other.

    Returns
    -------
    tuple of float
        The ratio of the medians, and the least and the most of the ratios of single turns, which were taken one
        beside the other.
    """
    ratios = [a / b for a, b in zip(slower.values, faster.values, strict=False)]
    return statistics.median(slower.values) / statistics.median(faster.values), min(ratios), max(ratios)


def describe_basis(record: Mapping[str, PartRecord]) -> str:
    """Say in plain words on which machines and with which versions the parts were measured."""
    if not record:
        return "Nothing is measured yet: make bench does it, on an idle machine."
    kinds: dict[str, list[str]] = {}
    for part in record.values():
        machine, versions = part.machine, ", ".join(f"{name} {version}" for name, version in part.libraries.items())
        words = (
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory']} GB, {machine['system']}; {versions}"
        )
        kinds.setdefault(words, []).append(part.part)
    if len(kinds) == 1:
        return f"All of it was measured on one machine: {next(iter(kinds))}."
    return " ".join(f"Measured for {', '.join(parts)}: {words}." for words, parts in kinds.items())


def tabulate_parts(record: Mapping[str, PartRecord]) -> pd.DataFrame:
    """A row per part: ``measured`` (day), ``photos``, ``load before``, and ``turns``, the most of any contender."""
    rows = {
        part.part: {
            "measured": part.measured[:10],
            "photos": part.data["title"],
            "load before": f"{part.load_before:.2f}",
            "turns": str(max((len(s.values) for s in part.outcome.series), default=0)),
        }
        for part in record.values()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["measured", "photos", "load before", "turns"])
