import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.errors import UnknownNameError
from wbc_lib.training import experiments, paper
from wbc_lib.training.experiments import EXPERIMENTS, PROFILES, Network, Plan, Settings

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
    "base_pooling": "average",
    "pool_after": "last",
    "pool_dropout": 0.5,
    "class_weights": True,
    "photo_share": 0.5,
    "passes": 2,
    "optimizer": "rmsprop",
    "learning_rate": 0.5,
    "batch_size": 7,
    "normalisation": "[0, 1]",
    "validation_share": 0.5,
    "material": "raw",
    "augment": True,
    "input_shape": (120, 160),
    "protocol": "by-photo",
}


SIZES = st.lists(st.integers(1, 3), max_size=2).map(tuple)
SHARE = st.sampled_from([0.0, 1e-4, 0.1, 0.3])
NETWORKS = st.builds(
    Network, SIZES, SIZES, SHARE, SHARE, SHARE, SHARE, st.sampled_from(["", "vgg16"]), st.sampled_from(["", "random"])
)
SETTINGS = st.builds(
    Settings,
    st.sampled_from(["adam", "sgd"]),
    SHARE,
    st.integers(1, 3),
    st.sampled_from(["[-1, 1]", "[0, 1]"]),
    SHARE,
)
PLANS = st.builds(
    lambda network, settings, epochs, seed: Plan(
        dataclasses.replace(PLAN.experiment, network=network, settings=settings), epochs, seed, "d" * 64
    ),
    NETWORKS,
    SETTINGS,
    st.integers(1, 3),
    st.integers(0, 3),
)


@given(PLANS, PLANS)
def test_plans_have_the_same_key_if_and_only_if_they_are_equal(first, second):
    assert (first == second) == (first.key == second.key)
    assert first.key == dataclasses.replace(first).key


@pytest.mark.parametrize("change", [{"dropout": 0}, {"kernel_l2": 0}, {"learning_rate": 1}])
def test_a_whole_number_is_the_same_setting_however_it_is_written(change):
    other = {k: float(v) for k, v in change.items()}
    first, second = (
        dataclasses.replace(PLAN, experiment=experiments.vary(PLAN.experiment, **c)) for c in (change, other)
    )
    assert first == second
    assert first.key == second.key


def test_a_number_from_an_array_is_as_good_as_any():
    first, second = (experiments.vary(PLAN.experiment, batch_size=n) for n in (16, np.arange(20)[16]))
    assert dataclasses.replace(PLAN, experiment=first).key == dataclasses.replace(PLAN, experiment=second).key


@pytest.mark.parametrize("name, value", [("NUMERICS", 999), ("RESIZING", "another way")])
def test_other_numerics_and_another_way_of_resizing_are_other_runs(monkeypatch, name, value):
    before = PLAN.key
    monkeypatch.setattr(experiments, name, value)
    assert PLAN.key != before


def test_a_configuration_is_plain_json():
    assert json.loads(json.dumps(PLAN.config)) == PLAN.config


def test_a_setting_lives_in_one_place_only():
    names = [f.name for part in (Network, Settings, experiments.Experiment) for f in dataclasses.fields(part)]
    assert len(names) == len(set(names))


def test_every_setting_has_another_value_here():
    parts = (Network, Settings, experiments.Experiment)
    fields = {f.name for part in parts for f in dataclasses.fields(part)}
    assert fields - {"name", "title", "in_paper", "network", "settings", "epochs"} == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_a_changed_setting_is_another_run(name):
    changed = experiments.vary(PLAN.experiment, **{name: OTHER[name]})
    assert changed != PLAN.experiment
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


def test_a_name_with_variations_is_the_experiment_with_these_changes():
    found = experiments.find_experiment("final+painted+by-photo")
    assert (found.material, found.protocol, found.in_paper) == ("painted", "by-photo", False)
    assert found.name == "final+painted+by-photo" and found.title.startswith(EXPERIMENTS["final"].title)
    back = experiments.vary(found, material="augmented", protocol="random")
    assert dataclasses.replace(PLAN, experiment=back).key == PLAN.key
    other = experiments.find_experiment("final+by-photo+painted")
    assert dataclasses.replace(PLAN, experiment=other).key == dataclasses.replace(PLAN, experiment=found).key


def test_every_variation_changes_something_and_no_two_are_the_same():
    found = [experiments.find_experiment(f"final+{v}") for v in experiments.VARIATIONS]
    keys = {Plan(experiment, experiment.epochs, PLAN.seed, PLAN.data_sha256).key for experiment in found}
    assert len(keys | {PLAN.key}) == len(experiments.VARIATIONS) + 1


@pytest.mark.parametrize("name", ["final+nope", "nope+painted", "final+", "+painted"])
def test_an_unknown_variation_is_named(name):
    with pytest.raises(UnknownNameError, match="There is no"):
        experiments.find_experiment(name)


def test_a_varied_plan_is_read_back():
    plan = Plan(experiments.find_experiment("final+painted+fold-2"), 8, 1, "d" * 64)
    assert experiments.read_plan("final+painted+fold-2", plan.config).key == plan.key


@pytest.mark.parametrize("folder", sorted(paths.results().glob("*/run.json")), ids=lambda path: path.parent.name)
def test_every_recorded_run_is_found_by_the_key_that_its_experiment_has_today(folder):
    record = json.loads(folder.read_text())
    config = record["config"]
    assert experiments.read_plan(record["experiment"], config).key == record["key"]
    experiment = experiments.find_experiment(record["experiment"])
    assert Plan(experiment, config["epochs"], config["seed"], config["data_sha256"]).key == record["key"]


@pytest.mark.parametrize(
    "name, change",
    [
        ("final+no-dropout", {"dropout": 0.0}),
        ("final+no-penalty", {"kernel_l1": 0.0, "kernel_l2": 0.0}),
        ("final+overfitting-head", {"dense": EXPERIMENTS["overfitting"].network.dense}),
    ],
)
def test_an_ablation_changes_one_thing(name, change):
    found = dataclasses.asdict(experiments.find_experiment(name))
    final = dataclasses.asdict(EXPERIMENTS["final"])
    assert {k: v for k, v in found["network"].items() if v != final["network"][k]} == change
    assert found["settings"] == final["settings"] and found["epochs"] == final["epochs"]
