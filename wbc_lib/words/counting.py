"""What the tables of `counting` say, in sentences for readers. Pure functions."""

from collections.abc import Mapping, Sequence

import pandas as pd

from wbc_lib.evaluation.counting import ADJUSTED, BY_PHOTO, BY_VALIDATION, COUNTING, EM
from wbc_lib.figures.style import nice

ADJUSTED_BY_VALIDATION, EM_BY_VALIDATION = f"{ADJUSTED}, {BY_VALIDATION}", f"{EM}, {BY_VALIDATION}"
#: What a faultless reader, and the ways to estimate a mix that anybody could use, are called for readers.
READER = "a reader, 100 cells"
TITLES = {
    COUNTING: "predictions counted",
    ADJUSTED_BY_VALIDATION: "adjusted, by validation",
    EM_BY_VALIDATION: "EM, by validation",
}
#: The blood that is told of at length.
HEALTHY = "healthy adult"
#: A change of the mean error that is not worth a word, 0 to 1.
_LITTLE = 0.001


def tell_rarest(photos: Mapping[str, int]) -> str:
    """How few photos the rarest class of TEST has; takes what `counting.count_photos` gives."""
    rarest = min(photos, key=photos.get)
    fewest, cell = photos[rarest], nice(rarest).lower()
    dealt = (
        "that one; nothing can be dealt out" if fewest == 1 else f"one of {fewest}, and in a half one of {fewest // 2}"
    )
    return (
        f"The limit is set by the rarest class: TEST has {fewest} photo{'s' * (fewest > 1)} of {cell}s, so that every "
        f"{cell} counted here is {dealt}."
    )


def tell_healthy(
    blood: pd.Series, counted: pd.DataFrame, by_em: pd.DataFrame, undealt: pd.DataFrame | None, n: int
) -> str:
    """How far off the counts of one healthy person are.

    Parameters
    ----------
    blood : Series
        The true shares, by class, 0 to 1.
    counted, by_em : DataFrame
        Of predictions counted and of EM, as `counting.describe_shares` gives them.
    undealt : DataFrame or None
        Of predictions counted, the cells drawn from all photos; None if those of `counted` are, too.
    n : int
        Cells of a smear.
    """
    surplus, lost = (counted["mean"] - blood).idxmax(), (counted["mean"] - blood).idxmin()
    wide, corrected = counted.loc[surplus], by_em.loc[surplus]
    told = (
        f"Of {n:,} cells, {blood[surplus]:.1%} are {nice(surplus).lower()}s. Counting predictions finds "
        f"{wide['mean']:.1%} ({wide.low:.1%} to {wide.high:.1%}), mostly at the cost of the {nice(lost).lower()}s."
    )
    if undealt is not None:
        narrow = undealt.loc[surplus]
        told += (
            f" Drawn from all photos the counts would look far surer of themselves ({narrow.low:.1%} to "
            f"{narrow.high:.1%}): that is the certainty of having the same few photos in every smear."
        )
    return f"{told} EM finds {corrected['mean']:.1%} ({corrected.low:.1%} to {corrected.high:.1%})."


def tell_alarms(alarms: pd.DataFrame) -> str:
    """How often a healthy person's share would be reported as out of range.

    Parameters
    ----------
    alarms : DataFrame
        A row per class; shares, 0 to 1, in the columns `READER` and those that `TITLES` names.
    """
    counted, by_em = TITLES[COUNTING], TITLES[EM_BY_VALIDATION]
    worst = alarms[counted].astype(float).idxmax()
    alarm = alarms.loc[worst]
    return (
        f"A faultless reader of a hundred cells puts the {worst.lower()}s of this healthy person outside their range "
        f"in {alarm[READER]:.0%} of the smears, by chance; counting the network's predictions does so in "
        f"{alarm[counted]:.0%}, EM in {alarm[by_em]:.0%}."
    )


def find_wins(errors: pd.DataFrame, hundred: pd.Series, n: int) -> dict[str, list[str]]:
    """In which mixes each way of `TITLES` errs less, on average, than a faultless reader of a hundred cells.

    Parameters
    ----------
    errors : DataFrame
        As `counting.summarise_errors` gives it.
    hundred : Series
        Mean error of the reader, by mix.
    n : int
        Cells of a smear.
    """
    mean = errors.error.unstack("way").xs(n, level="n")
    return {way: [mix for mix in hundred.index if mean[way][mix] < hundred[mix]] for way in TITLES}


def _list_wins(won: Sequence[str], n_mixes: int) -> str:
    return "in none of the mixes" if not won else f"in {len(won)} of {n_mixes} ({', '.join(won)})"


def tell_errors(errors: pd.DataFrame, wins: Mapping[str, Sequence[str]], n: int) -> str:
    """What more cells bring.

    Parameters
    ----------
    errors : DataFrame
        As `counting.summarise_errors` gives it, for 100 and 1,000 cells among others.
    wins : mapping
        As `find_wins` gives it.
    n : int
        The largest number of cells.
    """
    curve = 100 * errors.error.xs((HEALTHY, COUNTING), level=("mix", "way"))
    n_mixes = errors.index.get_level_values("mix").nunique()
    said = {way: _list_wins(won, n_mixes) for way, won in wins.items()}
    return (
        f"More cells help only at first. In healthy blood counting predictions is off by {curve[100]:.1f} cells of a "
        f"hundred for 100 cells, {curve[1000]:.1f} for 1,000 and {curve[n]:.1f} for {n:,}: what is left is not chance "
        f"but the network's confusion. At {n:,} cells the mean error is below that of a reader's hundred cells "
        f"{said[COUNTING]} if predictions are counted, {said[ADJUSTED_BY_VALIDATION]} if they are adjusted by "
        f"validation, and {said[EM_BY_VALIDATION]} with EM."
    )


def tell_sources(errors: pd.DataFrame, n: int, of_others: pd.DataFrame | None = None) -> str:
    """Whether it matters from which images the network's faults are learned.

    Parameters
    ----------
    errors : DataFrame
        As `counting.summarise_errors` gives it; ways by photo are missing where photos cannot be dealt out.
    n : int
        Cells of a smear.
    of_others : DataFrame, optional
        The same of networks whose validation was held back by photo.
    """
    overall = 100 * errors.error.xs(n, level="n").groupby("way").mean()
    told = _tell_changes(overall)
    if of_others is None:
        return told
    others = 100 * of_others.error.xs(n, level="n").groupby("way").mean()
    return (
        f"{told} Networks whose validation is held back by photo err, over the mixes, by {others[COUNTING]:.1f} cells "
        f"of a hundred if predictions are counted, {others[ADJUSTED_BY_VALIDATION]:.1f} if they are adjusted by it, "
        f"and {others[EM_BY_VALIDATION]:.1f} with EM; the networks validated at random by {overall[COUNTING]:.1f}, "
        f"{overall[ADJUSTED_BY_VALIDATION]:.1f} and {overall[EM_BY_VALIDATION]:.1f}."
    )


def _tell_changes(overall: pd.Series) -> str:
    if f"{EM}, {BY_PHOTO}" not in overall:
        return (
            "Some class of this data set has a single photo in TEST, which cannot be dealt out: cells are drawn from "
            "all photos, and nothing is calibrated by photo."
        )
    changes = {name: overall[f"{name}, {BY_PHOTO}"] - overall[f"{name}, {BY_VALIDATION}"] for name in (ADJUSTED, EM)}
    lesson = (
        "Rates of confusion from half of the photos of TEST are honest but rough: adjusting by them is worse than not "
        "adjusting at all. Knowledge of the faults needs not only new photos but many. EM, which learns one number "
        "from them, depends on them less."
        if overall[f"{ADJUSTED}, {BY_PHOTO}"] > overall[COUNTING] and changes[EM] < changes[ADJUSTED]
        else "Where this helps, validation had hidden faults; where it harms, the photos are too few to tell them."
    )
    return (
        f"Faults learned from other new photos instead of validation change the mean error over the mixes by "
        f"{changes[ADJUSTED]:+.1f} cells of a hundred for adjusted counting and by {changes[EM]:+.1f} for EM. {lesson}"
    )


def tell_verdict(wins: Mapping[str, Sequence[str]], n_mixes: int) -> str:
    """Whether the network can count, in a phrase; takes what `find_wins` gives."""
    plain, by_em = len(wins[COUNTING]), len(wins[EM_BY_VALIDATION])
    if plain == n_mixes:
        return "Yes"
    if by_em == n_mixes:
        return "Not by counting what it says, but with a correction"
    return "For some blood, not for all" if plain or by_em else "No"


def tell_meaning(
    wins: Mapping[str, Sequence[str]], worth: pd.DataFrame, own: pd.Series, hundred: float, better: float, n: int
) -> str:
    """What the largest counts are worth against a reader's hundred cells.

    Parameters
    ----------
    wins : mapping
        As `find_wins` gives it.
    worth : DataFrame
        As `counting.compare_with_reader` gives it, with columns named by `TITLES`.
    own : Series
        ``error``, ``low`` and ``high`` of EM in healthy blood.
    hundred : float
        Mean error of the reader in healthy blood.
    better : float
        Share of the healthy smears in which EM errs less than that, 0 to 1.
    n : int
        Cells of a smear.
    """
    said = {way: _list_wins(won, len(worth)) for way, won in wins.items()}
    healthy = worth.loc[HEALTHY]
    return (
        f"Set against a faultless reader of a hundred cells, the paper's idea as it stands, counting the predictions "
        f"of {n:,} cells, comes closer to the truth {said[COUNTING]}. In healthy blood its count is worth that of a "
        f"reader of {healthy[TITLES[COUNTING]]:,} cells. EM comes closer {said[EM_BY_VALIDATION]}; in healthy blood it "
        f"is worth {healthy[TITLES[EM_BY_VALIDATION]]:,} cells, with an error of {100 * own.error:.1f} cells of a "
        f"hundred ({100 * own.low:.1f} to {100 * own.high:.1f}), below the reader's mean of {100 * hundred:.1f} in "
        f"{better:.0%} of the simulated smears."
    )


def tell_help(errors: pd.DataFrame, n: int) -> str:
    """In which mixes EM comes closer to the truth than counting predictions; takes what `find_wins` does."""
    mean = errors.error.unstack("way").xs(n, level="n")
    mixes = dict.fromkeys(errors.index.get_level_values("mix"))
    helped = [mix for mix in mixes if mean[EM_BY_VALIDATION][mix] < mean[COUNTING][mix] - _LITTLE]
    listed = f" ({', '.join(helped)})" if helped else ""
    return f"That brings the count closer to the truth in {len(helped)} of {len(mixes)} mixes{listed}."
