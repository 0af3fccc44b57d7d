"""What the tables of `capacity` say, in sentences for readers. Pure functions."""

import pandas as pd

from wbc_lib.capacity import FILES_PER_RUN, Basis, write_bytes, write_time
from wbc_lib.scaling import PARTS, Record

#: In place of what was not measured.
UNMEASURED = "No measurement is recorded with these results; python -m wbc_lib.scaling takes one."
#: From which ratio of the slowest to the quickest run on the runs count as unequally quick.
_UNEQUAL = 1.3
#: Below which share of a run's time what comes besides its epochs is little.
_LITTLE = 0.1
#: Seconds per run that the parts may miss without a word.
_UNSAID = 0.1
#: From which load average per core on a machine counts as busy with something else.
_BUSY = 0.25


def tell_load(record: Record | None) -> str:
    """Whether the machine had anything else to do when the overhead was measured.

    Parameters
    ----------
    record : Record or None
    """
    if record is None:
        return UNMEASURED
    load, cores = record.about["load"], record.about["machine"]["cores"]
    if load < _BUSY * cores:
        return "The machine had next to nothing else to do."
    return (
        f"The machine was busy: {load:.1f} processes wanted its {cores} cores before this was measured. All seconds "
        "of the overhead on this page are therefore too high, by a factor that is not known."
    )


def tell_parts(overhead: pd.DataFrame, basis: Basis) -> str:
    """Where a run's time goes.

    Parameters
    ----------
    overhead : DataFrame
        As `capacity.tabulate_overhead` gives it.
    basis : Basis
    """
    parts = overhead.middle.sort_values(ascending=False)
    total = parts.sum()
    first, second, third = (PARTS[part] for part in parts.index[:3])
    dask = 1000 * parts[["send", "receive"]].sum()
    return (
        f"A run costs {write_time(total)} besides its {write_time(basis.training)} of epochs: "
        f"{total / basis.seconds:.1%} of its time. Of that, {parts.iloc[:3].sum() / total:.0%} go to three parts: "
        f"{first}; {second}; {third}. Dask's own delay, there and back, is {dask:.0f} ms. The end of the process, "
        f"{parts['end']:.1f} s, is the time that Python takes to put TensorFlow away, the run being written by then."
    )


def tell_ways(totals: pd.DataFrame, record: Record) -> str:
    """What a process for each run costs, against one process for all.

    Parameters
    ----------
    totals : DataFrame
        As `capacity.tabulate_totals` gives it.
    record : Record
    """
    ways = totals.set_index("workers")
    own = record.parts[record.parts.workers == 1]
    staged = own[list(PARTS)].sum(axis=1).median()
    clusters = record.clusters[record.clusters.workers == 1]
    cluster = (clusters.start + clusters.stop).median()
    trainings, cores = record.about["trainings"], record.about["machine"]["cores"]
    left = ways.middle[1] - staged - cluster / trainings
    rest = f"The remaining {left:.1f} s are not accounted for. " if left >= _UNSAID else ""
    shared = (
        f"With two workers it is {ways.middle[2]:.1f} s: they share {cores} cores, and a start can use more than one."
        if ways.middle[2] > 1.1 * ways.middle[1]
        else f"With two workers it is {ways.middle[2]:.1f} s, about the same."
    )
    return (
        f"In one process Python and TensorFlow are started once, and a run costs {ways.middle[0]:.1f} s besides its "
        f"epochs; in a process of its own, {ways.middle[1]:.1f} s. The parts of so tiny a run come to {staged:.1f} s. "
        f"Starting and stopping the worker takes {cluster:.1f} s, or {cluster / trainings:.1f} s for each of "
        f"{trainings} runs. {rest}{shared} What is bought with it: a run that fails or is lost takes no other with it."
    )


def tell_speed(rates: pd.DataFrame) -> str:
    """How far the recorded runs agree on what an epoch takes.

    Parameters
    ----------
    rates : DataFrame
        As `capacity.tabulate_runs` gives it.
    """
    spread, of_epochs = rates.high.max() / rates.low.min(), rates.epoch.max() / rates.epoch.min()
    chosen = f"The reckoning takes the median of the first row ({rates.index[0]}) and gives the range of all."
    if spread < _UNEQUAL:
        return f"Per image, the slowest run took {spread:.2f} times as long as the quickest. {chosen}"
    why = (
        f"The quickest epochs differ by a factor of {of_epochs:.1f} only. Sharing the cores with other work looks like "
        "that, so that a machine of its own is nearer to the low end of the range than to the high one. "
        if of_epochs < spread**0.75
        else ""
    )
    return (
        f"It is one network throughout, yet per image the slowest run took {spread:.1f} times as long as the quickest. "
        f"{why}{chosen}"
    )


def tell_cost(cost: pd.DataFrame, basis: Basis, n_runs: int, cores: int) -> str:
    """What is gained by more workers, and what is lost.

    Parameters
    ----------
    cost : DataFrame
        As `capacity.tabulate_cost` gives it.
    basis : Basis
    n_runs, cores : int
        Runs, and cores of a worker.
    """
    fewest, most = cost.index.min(), cost.index.max()
    slow, quick = cost.loc[fewest], cost.loc[most]
    idle = most - int(quick.in_last_wave)
    work = n_runs * basis.seconds * cores / 3600
    needs = "One worker would need" if fewest == 1 else f"{fewest} workers would need"
    times = f"{slow.days / quick.days:,.0f} times less for {most / fewest:,.0f} times the workers"
    last = (
        f"What {most} workers cost beyond it is the last wave, in which {idle} of them have nothing left to do: "
        f"{quick.idle:.1%} of all time."
        if idle
        else f"With {most} workers it costs nothing more, since every worker has a run in the last wave as well."
    )
    return (
        f"{needs} {write_time(86400 * slow.days)}, {most} need {write_time(86400 * quick.days)}: {times}. The work is "
        f"the same, {work:,.0f} core hours. {last} Energy is left out, since nothing here measures it."
    )


def tell_meaning(basis: Basis, record: Record | None) -> str:
    """Whether fanning out pays for runs like these.

    Parameters
    ----------
    basis : Basis
    record : Record or None
        The measurement that the basis' overhead comes from.
    """
    if record is None:
        return f"{UNMEASURED} Until then the times above are those of the epochs alone."
    share = basis.overhead / basis.seconds
    price = (
        f"For runs of this length a process each is cheap: it costs {share:.1%} of the time."
        if share < _LITTLE
        else f"For runs this short a process each is dear: it costs {share:.0%} of the time."
    )
    return (
        f"{price} Workers can be added until there is one for every run; beyond that nothing is gained. The first "
        "thing to look at before a large study is the store. Where it cannot keep up, fewer checkpoints would be the "
        "remedy, at the price of more epochs lost with a worker; the project has no setting for that yet."
    )


def tell_store(cost: pd.DataFrame, basis: Basis, n_runs: int) -> str:
    """What the shared store has to take.

    Parameters
    ----------
    cost : DataFrame
        As `capacity.tabulate_cost` gives it.
    basis : Basis
    n_runs : int
    """
    most = cost.index.max()
    written, kept = n_runs * basis.epochs * basis.checkpoint, n_runs * basis.kept
    return (
        f"A finished run leaves {write_bytes(basis.kept)} in {FILES_PER_RUN} files, all {n_runs:,} of them "
        f"{write_bytes(kept)}. The checkpoints weigh more. Each holds the weights and both moments of the optimizer, "
        f"{write_bytes(basis.checkpoint)}, and after every epoch takes the place of the one before: over the whole "
        f"study {write_bytes(written)}, {written / kept:,.0f} times what is kept. With {most} workers the store has to "
        f"take {cost.megabytes[most]:.0f} MB and {cost.checkpoints[most]:.0f} files a second, each forced to the "
        f"disk, for {write_time(86400 * cost.days[most])}. Not every shared folder can."
    )
