"""What the benchmark is held against: the aims, set beforehand, and whether each is met."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import pandas as pd

from wbc_lib import bench
from wbc_lib.bench_record import PartRecord, compare, fit_exponent, sum_of
from wbc_lib.turns import Series

#: How the kinds of work begin, in a profile, that `operations` counts.
_ARITHMETIC = ("convolutions", "dense layers")
MET, MISSED, NOT_MEASURED = "met", "missed", "not measured yet"


@dataclass(frozen=True)
class Reading:
    """A figure read off the record: its value, the least and the most of single turns, and how many there were."""

    value: float
    least: float
    most: float
    times: int


@dataclass(frozen=True)
class Aim:
    """A figure that is reported, and what it was to be.

    Attributes
    ----------
    name : str
        For the program, and the page.
    part : str
        Of the benchmark, that it is read off.
    title : str
        For readers.
    form : str
        How the value is written, as in ``{:.2f} x``.
    read : callable
        Takes the part's record; None if what it needs took no part.
    bound : float
        NaN where there is no aim and the figure is only told.
    is_least : bool
        Whether the bound is the least that will do (and not the most).
    """

    name: str
    part: str
    title: str
    form: str
    read: Callable[[PartRecord], Reading | None]
    bound: float = math.nan
    is_least: bool = True

    def describe_bound(self) -> str:
        """Write the aim as it was set; "" if there is none."""
        if math.isnan(self.bound):
            return ""
        return f"{'at least' if self.is_least else 'below'} {self.form.format(self.bound)}"

    def judge(self, reading: Reading | None) -> str:
        """Say whether the aim is met; "" if there is none."""
        if reading is None:
            return NOT_MEASURED
        if math.isnan(self.bound):
            return ""
        return MET if (reading.value >= self.bound if self.is_least else reading.value < self.bound) else MISSED


def learn_in_loop(record: PartRecord) -> list[Series]:
    """Seconds that all epochs take through the frozen base, by size: two measured, the rest taken for the second."""
    firsts = record.series(bench.IN_LOOP, "seconds to the first epoch's end")
    furthers = record.series(bench.IN_LOOP, "seconds per further epoch")
    more = record.settings["epochs"] - 1
    return [sum_of((a, 1.0), (b, more)) for a, b in zip(firsts, furthers, strict=True)]


def find_limit(record: PartRecord) -> Series | None:
    """Operations per second of the library whose matrix products are the faster."""
    found = [s for name in bench.PRODUCTS for s in record.series(name, "operations/s")]
    return max(found, key=lambda s: s.median, default=None)


def _ratio(slower: str, faster: str) -> Callable[[PartRecord], Reading | None]:
    def read(record: PartRecord) -> Reading | None:
        pair = record.largest(slower), record.largest(faster)
        return _compare(*pair)

    return read


def _compare(slower: Series | None, faster: Series | None) -> Reading | None:
    if slower is None or faster is None:
        return None
    return Reading(*compare(slower, faster), min(len(slower.values), len(faster.values)))


def _transfer(record: PartRecord) -> Reading | None:
    slow = learn_in_loop(record)
    return _compare(slow[-1] if slow else None, record.largest(bench.CACHED))


def _share_of_limit(record: PartRecord) -> Reading | None:
    ours, limit = record.largest(bench.OURS), find_limit(record)
    if ours is None or limit is None:
        return None
    work = record.settings["operations_per_image"] * ours.size
    reached = Series(ours.contender, "operations/s", ours.size, tuple(work / v for v in ours.values))
    return _compare(reached, limit)


def _plain(contender: str, quantity: str = "seconds") -> Callable[[PartRecord], Reading | None]:
    def read(record: PartRecord) -> Reading | None:
        series = record.largest(contender, quantity)
        if series is None:
            return None
        return Reading(series.median, min(series.values), max(series.values), len(series.values))

    return read


def _rate(contender: str, quantity: str) -> Callable[[PartRecord], Reading | None]:
    def read(record: PartRecord) -> Reading | None:
        series = record.largest(contender, quantity)
        if series is None:
            return None
        rates = [(series.size or 1) / v for v in series.values]
        return Reading(statistics.median(rates), min(rates), max(rates), len(rates))

    return read


def _megabytes(quantity: str) -> Callable[[PartRecord], Reading | None]:
    def read(record: PartRecord) -> Reading | None:
        found = _plain(bench.BUILDS["fresh"], quantity)(record)
        return found and Reading(found.value / 1e6, found.least / 1e6, found.most / 1e6, found.times)

    return read


def _exponent(contender: str, quantity: str) -> Callable[[PartRecord], Reading | None]:
    def read(record: PartRecord) -> Reading | None:
        series = record.series(contender, quantity)
        if len(series) < 2:
            return None
        turns = [
            fit_exponent([Series(s.contender, s.quantity, s.size, (v,)) for s, v in zip(series, values, strict=True)])
            for values in zip(*(s.values for s in series), strict=False)
        ]
        return Reading(fit_exponent(series), min(turns), max(turns), len(turns))

    return read


AIMS = {
    aim.name: aim
    for aim in (
        Aim(
            "keras", "training", "Our loop, against plain Keras fit", "{:.2f} x", _ratio(bench.KERAS, bench.OURS), 1.35
        ),
        Aim("torch", "training", "Our loop, against PyTorch, eager", "{:.2f} x", _ratio(bench.TORCH, bench.OURS), 1.4),
        Aim("limit", "training", "Our loop, of the matrix-product limit", "{:.0%}", _share_of_limit, 0.6),
        Aim("rate", "training", "Our loop, images a second", "{:,.0f}", _rate(bench.OURS, "seconds")),
        Aim("cold", "arrays", "Cold, against imread, resize, append", "{:.1f} x", _ratio(bench.USUAL, bench.COLD), 3),
        Aim("warm", "arrays", "Warm, seconds", "{:.2f} s", _plain(bench.WARM), 0.2, False),
        Aim(
            "memory",
            "arrays",
            "Peak memory, cold, against the array",
            "{:.2f} x",
            _plain(bench.COLD, "peak memory / array"),
            1.3,
            False,
        ),
        Aim("transfer", "transfer", "Cached features, against the frozen base in the loop", "{:.1f} x", _transfer, 15),
        Aim(
            "tracing",
            "provenance",
            "Tracing, images a second on one core",
            "{:.0f}",
            _rate(bench.TRACING, "seconds per image"),
        ),
        Aim(
            "search",
            "provenance",
            "Candidate search, exponent in the number of photos",
            "{:.2f}",
            _exponent(bench.INDEXED, "seconds per image"),
            1,
            False,
        ),
        Aim("fresh", "book", "Whole book, seconds", "{:.0f} s", _plain(bench.BUILDS["fresh"]), 90, False),
        Aim("changed", "book", "One chapter changed, seconds", "{:.1f} s", _plain(bench.BUILDS["changed"]), 12, False),
        Aim("same", "book", "Nothing changed, seconds", "{:.1f} s", _plain(bench.BUILDS["same"]), 5, False),
        Aim("page", "book", "Largest page, MB", "{:.2f} MB", _megabytes("bytes of the largest page"), 1.5, False),
        Aim("site", "book", "Whole site, MB", "{:.0f} MB", _megabytes("bytes of the site")),
        Aim("start", "start", "Import of the library, seconds", "{:.2f} s", _plain(bench.ROOMS["study"]), 0.6, False),
        Aim("chapter", "start", "Import of what a chapter needs, seconds", "{:.2f} s", _plain(bench.ROOMS["chapter"])),
    )
}


def read_off(record: Mapping[str, PartRecord]) -> dict[str, Reading | None]:
    """Read every figure off the record, by the aim's name; None where it is not measured."""
    return {name: aim.read(record[aim.part]) if aim.part in record else None for name, aim in AIMS.items()}


def tabulate(record: Mapping[str, PartRecord]) -> pd.DataFrame:
    """A row per figure: ``part``, ``measured``, ``single turns``, ``times``, ``aim`` and whether it is met, as words.

    Parameters
    ----------
    record : mapping of str to PartRecord
        By part, as `bench_record.read_parts` gives it.

    Returns
    -------
    DataFrame
        Indexed by ``what``, the figure's title.
    """
    rows = []
    for name, reading in read_off(record).items():
        aim = AIMS[name]
        write = aim.form.format
        is_range = reading is not None and reading.times > 1
        rows.append(
            {
                "what": aim.title,
                "part": aim.part,
                "measured": "" if reading is None else write(reading.value),
                "single turns": f"{write(reading.least)} to {write(reading.most)}" if is_range else "",
                "turns": "" if reading is None else str(reading.times),
                "aim": aim.describe_bound(),
                "outcome": aim.judge(reading),
            }
        )
    return pd.DataFrame(rows).set_index("what")


def tell(record: Mapping[str, PartRecord], part: str) -> str:
    """Say in a sentence for each aim of a part whether it is met; that the part is not measured yet, if so."""
    if part not in record:
        return f"This is not measured yet: wbc bench --only {part} --record does it."
    readings = read_off(record)
    sentences = []
    for name, aim in AIMS.items():
        if aim.part != part or math.isnan(aim.bound):
            continue
        verdict, reading = aim.judge(readings[name]), readings[name]
        if reading is None:
            why = "; ".join(record[part].outcome.missing.values())
            sentences.append(f"{aim.title}: {NOT_MEASURED}{f' ({why})' if why else ''}.")
        else:
            value = aim.form.format(reading.value)
            sentences.append(f"{aim.title}: {value}; the aim, {aim.describe_bound()}, is {verdict}.")
    return " ".join(sentences)


def trace_growth(record: Mapping[str, PartRecord], part: str) -> dict[str, list[Series]]:
    """What is drawn of a part against its size, by contender; those that took no part have no series."""
    contenders = {
        "training": (bench.OURS, bench.KERAS, bench.TORCH),
        "arrays": (bench.COLD, bench.USUAL, bench.WARM),
        "transfer": (bench.CACHED,),
        "provenance": (bench.INDEXED, bench.ONE_BY_ONE),
    }[part]
    if part not in record:
        return {}
    quantity = "seconds per image" if part == "provenance" else "seconds"
    growth = {name: record[part].series(name, quantity) for name in contenders}
    return growth | {bench.IN_LOOP: learn_in_loop(record[part])} if part == "transfer" else growth


def read_profile(record: Mapping[str, PartRecord]) -> dict[str, float]:
    """Share of the training loop's time, 0 to 1, by kind of work; empty if it is not measured."""
    series = record["training"].outcome.series if "training" in record else ()
    return {s.quantity: s.median for s in series if s.contender == bench.PROFILE}


def explain_limit(record: Mapping[str, PartRecord]) -> str:
    """Say what keeps the training loop from the matrix-product limit, as its profile tells it; "" if there is none."""
    shares, reached = read_profile(record), read_off(record)["limit"]
    if not shares or reached is None:
        return ""
    counted = sum(share for kind, share in shares.items() if kind.startswith(_ARITHMETIC))
    return (
        f"By its profile, the loop spends {counted:.0%} of its time on the arithmetic that is counted, convolutions "
        f"and dense layers, and within these it does {reached.value / counted:.0%} of what large matrix products do. "
        f"The other {1 - counted:.0%} go to work that moves numbers about and multiplies few of them."
    )


def explain_keras(record: Mapping[str, PartRecord]) -> str:
    """Say what a loop can save, set against what plain Keras takes; "" if it is not measured."""
    if "training" not in record:
        return ""
    ours, theirs = (record["training"].largest(name) for name in (bench.OURS, bench.KERAS))
    shares = read_profile(record)
    if ours is None or theirs is None or not shares:
        return ""
    batches = ours.size / record["training"].settings["batch_size"]
    own, other = (1000 * series.median / batches for series in (ours, theirs))
    arithmetic = sum(share for kind, share in shares.items() if kind.startswith(_ARITHMETIC))
    return (
        f"A batch takes {own:.1f} ms here and {other:.1f} ms in plain Keras. Both run the same operations, of which "
        f"convolutions and dense layers alone make up {arithmetic:.0%} of our time; a loop saves only what it adds to "
        f"them, and for the aim plain Keras would have to take {AIMS['keras'].bound * own:.1f} ms."
    )


def explain_book(record: Mapping[str, PartRecord]) -> str:
    """Say what the time of building the whole book goes to; "" if it is not measured."""
    if "book" not in record:
        return ""
    whole, pages = (record["book"].largest(bench.BUILDS[state]) for state in ("fresh", "pages"))
    if whole is None or pages is None:
        return ""
    chapters, rest = record["book"].settings["chapters"], whole.median - pages.median
    return (
        f"Of the {whole.median:.0f} seconds that the whole book takes, {pages.median:.0f} go to making the pages, in "
        f"one process; the other {rest:.0f} to executing {chapters} chapters, two at a time, which is "
        f"{2 * rest / chapters:.1f} seconds for each, the start of its process and its imports among them."
    )


def explain_cold(record: Mapping[str, PartRecord]) -> str:
    """Say what the time of a cold start goes to, set against the usual loop; "" if not measured."""
    if "arrays" not in record:
        return ""
    parts = [record["arrays"].largest(bench.COLD, f"seconds{what}") for what in ("", " of hashing", " of decoding")]
    usual = record["arrays"].largest(bench.USUAL)
    if usual is None or None in parts:
        return ""
    whole, hashing, decoding = parts
    return (
        f"Of the {whole.median:.1f} seconds that {whole.size:,.0f} images take when nothing is cached, "
        f"{hashing.median:.1f} are spent on hashing the files, which the usual loop does without, and "
        f"{decoding.median:.1f} on listing, decoding at half size and shrinking them on two cores. The usual loop's "
        f"{usual.median:.1f} go to decoding at full size on one, so that even without hashing the ratio would be "
        f"{usual.median / decoding.median:.1f}."
    )


def describe_search(record: Mapping[str, PartRecord]) -> str:
    """Say what the search costs and how often it is right as the photos become more; "" if not measured."""
    if "provenance" not in record:
        return ""
    found = record["provenance"].series(bench.INDEXED, "share found")
    cost = record["provenance"].series(bench.INDEXED, "seconds per image")
    parts = [
        f"{s.size:,.0f} photos: {1000 * c.median:.1f} ms, {s.median:.0%} found"
        for s, c in zip(found, cost, strict=True)
    ]
    return f"Time per image, and images whose photo is among the three with most votes: {'; '.join(parts)}."
