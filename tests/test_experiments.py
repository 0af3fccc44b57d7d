import dataclasses

import pytest

from wbc_lib import experiments, paper
from wbc_lib.errors import UnknownNameError
from wbc_lib.experiments import EXPERIMENTS, PROFILES, Network, Plan, Settings

PLAN = Plan(EXPERIMENTS["final"], 50, 0, "d" * 64)
#: Another value for every field that decides a run's numbers.
OTHER = {
    "convolutions": (8,),
    "dense": (7,),
    "dropout": 0.123,
    "kernel_l1": 0.5,
    "kernel_l2": 0.5,
    "activity_l2": 0.5,
    "base": "vgg16",
    "base_weights": "random",
    "optimizer": "rmsprop",
    "learning_rate": 0.5,
    "batch_size": 7,
    "normalisation": "[0, 1]",
    "validation_share": 0.5,
    "material": "raw",
    "augment": True,
    "input_shape": (120, 160),
}


def test_every_setting_has_another_value_here():
    parts = (Network, Settings, experiments.Experiment)
    fields = {f.name for part in parts for f in dataclasses.fields(part)}
    assert fields - {"name", "title", "in_paper", "network", "settings", "epochs"} == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_a_changed_setting_is_another_run(name):
    changed = experiments.vary(PLAN.experiment, **{name: OTHER[name]})
    assert dataclasses.replace(PLAN, experiment=changed).key != PLAN.key


@pytest.mark.parametrize("change", [{"epochs": 49}, {"seed": 1}, {"data_sha256": "e" * 64}])
def test_other_epochs_seeds_and_data_are_other_runs(change):
    assert dataclasses.replace(PLAN, **change).key != PLAN.key


def test_what_is_only_for_readers_does_not_change_the_run():
    renamed = dataclasses.replace(PLAN.experiment, name="x", title="y", in_paper=False)
    assert dataclasses.replace(PLAN, experiment=renamed).key == PLAN.key


def test_the_key_has_not_moved():
    # If this fails, no recorded run is found any more: either undo the change, or raise NUMERICS and record anew.
    assert PLAN.key.startswith("2c47c88574647219")


def test_a_plan_is_read_back_from_what_a_run_records():
    for experiment in EXPERIMENTS.values():
        plan = Plan(experiment, 3, 1, "d" * 64)
        assert experiments.read_plan(experiment.name, plan.config) == plan


def test_lists_from_a_chapter_are_as_good_as_tuples():
    assert experiments.vary(PLAN.experiment, dense=[64, 32]) == PLAN.experiment


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="'nope'.*baseline"):
        experiments.find_experiment("nope")
    with pytest.raises(UnknownNameError, match="'nope'.*smoke, quick, paper"):
        experiments.find_profile("nope")
    with pytest.raises(UnknownNameError, match="'droput'"):
        experiments.vary(PLAN.experiment, droput=0.1)


def test_the_paper_profile_runs_the_papers_epochs():
    epochs = {n: PROFILES["paper"].epochs(e) for n, e in EXPERIMENTS.items()}
    assert {n for n, count in epochs.items() if count == 50} == {"final", "l1l2-kernel"}
    assert set(epochs.values()) == {30, 50}
    assert PROFILES["quick"].epochs(EXPERIMENTS["final"]) == 8
    assert PROFILES["quick"].epochs(EXPERIMENTS["raw-imbalanced"]) == 30
    assert PROFILES["smoke"].epochs(EXPERIMENTS["raw-imbalanced"]) == 2


def test_the_registry_and_the_papers_figures_name_the_same_experiments():
    assert set(paper.REPORTED) == {n for n, e in EXPERIMENTS.items() if e.in_paper}
    assert all(n == e.name for n, e in EXPERIMENTS.items())
