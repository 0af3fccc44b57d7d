"""Ask for a run: read it if it is recorded, train it if it is not."""

import copy
import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from wbc_lib import paths, progress
from wbc_lib.data import dataset
from wbc_lib.data.dataset import DataSet
from wbc_lib.data.hashes import PUBLISHED_SHA256, Checksums, read_checksums
from wbc_lib.data.images import Images, load_images
from wbc_lib.errors import DataNotFoundError, RunError, WeightsError
from wbc_lib.progress import Step
from wbc_lib.provenance import overlaps
from wbc_lib.provenance import trace as provenance
from wbc_lib.training.experiments import EXPERIMENTS, Profile, find_experiment, find_profile, find_suite
from wbc_lib.training.plan import Plan, vary
from wbc_lib.training.runs import Run, Store

#: In place of a folder of photos: the recorded results, with phantoms where a picture is needed.
RECORDED = "recorded"
#: Experiments whose weights are kept in the repository; every other run's weights stay with their machine.
_WITH_WEIGHTS = ("final", "pbc", "stronger")


@dataclass(frozen=True)
class Study:
    """The data and the profile that a chapter or a command works with."""

    data: DataSet
    profile: Profile
    store: Store
    may_train: bool = True  # if not, asking for a run that is not there raises `RunError`
    results_of: str = ""  # sha256 of other data whose recorded runs are shown: `data` only lends its pictures; or ""

    @cached_property
    def checksums(self) -> Checksums:
        """The data set's hashes."""
        return read_checksums(self.data)

    @property
    def data_sha256(self) -> str:
        """Of the data that the runs were made of."""
        return self.results_of or self.checksums.sha256

    @property
    def named(self) -> str:
        """What `open_study` is to be given to open the same data again, from any folder."""
        return RECORDED if self.results_of else str(self.data.root.resolve())

    @cached_property
    def provenance(self) -> pd.DataFrame:
        """Which photo each image that the runs were made of came from, as `provenance.trace` tells it."""
        if self.data_sha256 == PUBLISHED_SHA256:
            return provenance.read_recorded()
        with progress.bar("Tracing the images") as on_progress:
            return provenance.read(self.data, on_progress)

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """Photos of the runs' data that share a field of view, as `overlaps.find_pairs` tells it."""
        return overlaps.read_recorded() if self.data_sha256 == PUBLISHED_SHA256 else overlaps.read_pairs(self.data)

    @cached_property
    def images(self) -> Images:
        """The augmented images as an array at the network's input size."""
        with progress.bar("Preparing the images") as on_progress:
            return load_images(self.data, on_progress=on_progress)

    def plan(self, name: str, seed: int, **changes: Any) -> Plan:
        """The plan of an experiment of this study, with any setting changed (see `plan.vary`)."""
        experiment = vary(find_experiment(name), **changes)
        return Plan(experiment, self.profile.epochs(experiment), seed, self.data_sha256)

    def run(self, name: str, seed: int = 0, **changes: Any) -> Run:
        """Get one run, training it if need be; `changes` are settings that differ from the registry's: ``dropout=0.3``.

        Raises `RunError` if it is damaged, or is lacking and may not be trained, and `WeightsError` as `gather` does.
        """
        plan = self.plan(name, seed, **changes)
        return self.store.find(plan) or self.train(plan)

    def runs(self, name: str, *, optional: bool = False) -> list[Run]:
        """Get the runs of one experiment, one per seed of the profile.

        Where training is not allowed, or not possible here and the runs are `optional`, those that are recorded: at
        least one unless `optional`. Raises `RunError` if one is damaged.
        """
        if not self.may_train:
            found = self.recorded(name)
            return found if found or optional else [self.run(name, self.profile.seeds[0])]
        try:
            return [self.run(name, seed) for seed in self.profile.seeds]
        except WeightsError:
            if optional:
                return self.recorded(name)
            raise

    def recorded(self, name: str, seeds: Iterable[int] = ()) -> list[Run]:
        """Those runs of one experiment, by default of the profile's seeds, that are there already."""
        found = (self.store.find(self.plan(name, seed)) for seed in seeds or self.profile.seeds)
        return [run for run in found if run is not None]

    def missing(self, names: Iterable[str] = EXPERIMENTS, seeds: Iterable[int] = ()) -> list[tuple[str, int]]:
        """Experiments and seeds (by default the profile's) that are not recorded, first seeds first."""
        wanted = [(name, seed) for seed in seeds or self.profile.seeds for name in names]
        return [(name, seed) for name, seed in wanted if self.store.find(self.plan(name, seed)) is None]

    def suite(self, name: str) -> dict[str, list[Run]]:
        """Those runs of a suite that are there already, by the experiment's name, each list by seed."""
        wanted, study = self.wanted(name)
        return {experiment: study.recorded(experiment, seeds) for experiment, seeds in wanted.items()}

    def wanted(self, name: str) -> tuple[dict[str, tuple[int, ...]], "Study"]:
        """Seeds of each experiment of a suite, and this study at the profile that the suite is run with."""
        suite = find_suite(name)
        if self.profile.name == "smoke":
            return dict.fromkeys(suite.in_smoke, self.profile.seeds), self
        return suite.seeds, replace(self, profile=find_profile(suite.profile))

    def train(self, plan: Plan, on_step: Callable[[Step], None] | None = None) -> Run:
        """Train a plan that is not recorded; another process that asks for the same one waits and reads.

        `on_step` is told about progress, in place of a bar. Raises `RunError` if it may not train or cannot write.
        """
        if not self.may_train:
            raise RunError(
                f"No run of '{plan.title}' over {plan.epochs} epochs is recorded; train it with `wbc train`."
            )
        with self.store.lock(plan):
            # Whoever held the lock before may have trained just this.
            return self.store.find(plan) or self._train_alone(plan, on_step)

    def _train_alone(self, plan: Plan, on_step: Callable[[Step], None] | None) -> Run:
        from wbc_lib.training.arrays import gather
        from wbc_lib.training.fit import fit

        experiment, title = plan.experiment, plan.title
        start = self.run("pbc").weights() if experiment.network.base_weights == "pbc" else None
        with progress.bar(f"{title}: preparing") as on_progress:
            material = gather(self.data, experiment, plan.seed, on_progress)
        checkpoint = self.store.checkpoint(plan)
        try:
            with nullcontext(on_step) if on_step else progress.training_bar(title) as report:
                fitted = fit(
                    experiment, material, plan.epochs, plan.seed, start=start, checkpoint=checkpoint, on_step=report
                )
        except OSError as error:
            raise RunError(
                f"The training of '{title}' could not keep its state. {paths.explain(error, checkpoint.parent)} Where "
                "there is room made, it goes on from its last finished epoch."
            ) from error
        return self.store.write(plan, fitted, material, keep_weights=experiment.name in _WITH_WEIGHTS)


def open_study(
    data: str | Path | None = None,
    profile: str = "quick",
    *,
    record: bool = False,
    may_train: bool = True,
) -> Study:
    """Open the study: find the photos (or, failing that, draw phantoms) and the store.

    `data` is a folder of the data set; "phantoms"; or "recorded": phantoms for the pictures, and the recorded runs of
    the published photos for all else. By default it is what `dataset.find` finds, and "recorded" if that is nothing.
    With `record`, new runs go to the project's ``results/``, to be committed, and else to the user cache. Raises
    `DataNotFoundError` if `data` names a folder that holds no data set.
    """
    chosen = find_profile(profile)
    named = str(data or os.environ.get("WBC_DATA") or "")
    found = _find_photos(named)
    roots = [paths.cache() / "runs", paths.results()]
    store = Store(*(roots[::-1] if record else roots))
    if found:
        return Study(found, chosen, store, may_train)
    if named == "phantoms" or chosen.name == "smoke":
        return Study(_draw(is_small=chosen.name == "smoke"), chosen, store, may_train)
    return Study(_draw(is_small=True), chosen, store, may_train=False, results_of=PUBLISHED_SHA256)


def prefer_recorded(study: Study) -> Study:
    """The same study at profile "paper" where the final model's runs are recorded for these data, else at "quick"."""
    at_full_length = replace(study, profile=find_profile("paper"))
    return at_full_length if at_full_length.recorded("final") else replace(study, profile=find_profile("quick"))


def published(study: Study) -> Study:
    """The recorded runs of the published photos at full length, whatever data `study` has; nothing is trained."""
    store = copy.copy(study.store)  # one that is watched stays so
    store.roots = (*store.roots, paths.ROOT / "results")
    profile = find_profile("paper")
    return replace(study, profile=profile, store=store, may_train=False, results_of=PUBLISHED_SHA256)


def _find_photos(named: str) -> DataSet | None:
    if named in ("phantoms", RECORDED):
        return None
    if named:
        return dataset.open_folder(named)
    try:
        return dataset.find()
    except DataNotFoundError as error:
        if (paths.cache() / "blood-cells").exists():
            raise  # they are there, but not as they should be
        progress.say(str(error))
    return None


def _draw(*, is_small: bool) -> DataSet:
    from wbc_lib.data import phantoms

    with progress.bar("Drawing phantoms") as on_progress:
        if is_small:
            return phantoms.cached(scale=0.1, copies=40, on_progress=on_progress)
        return phantoms.cached(on_progress=on_progress)
