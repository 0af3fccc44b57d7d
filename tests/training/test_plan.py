import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.errors import UnknownNameError
from wbc_lib.training import plan
from wbc_lib.training.experiments import EXPERIMENTS, find_experiment, read_plan
from wbc_lib.training.plan import Experiment, Network, Plan, Settings, vary

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
    "base_trained": True,
    "base_sha256": "5793",
    "class_weights": True,
    "photo_share": 0.5,
    "passes": 2,
    "steps": 50,
    "schedule": "one-cycle",
    "label_smoothing": 0.5,
    "views": 8,
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
CHANGES = st.dictionaries(st.sampled_from(sorted(OTHER)), st.booleans(), max_size=4).map(
    lambda chosen: {name: OTHER[name] for name, is_other in chosen.items() if is_other}
)
PLANS = st.builds(
    lambda changes, epochs, seed: Plan(vary(PLAN.experiment, **changes), epochs, seed, "d" * 64),
    CHANGES,
    st.integers(1, 2),
    st.integers(0, 2),
)


def replan(experiment: Experiment) -> Plan:
    return replace(PLAN, experiment=experiment)


def test_every_recorded_run_is_found_by_the_key_that_its_experiment_has_today():
    records = [json.loads(path.read_text()) for path in (paths.ROOT / "results").glob("*/run.json")]
    assert len(records) > 100
    for record in records:
        config = record["config"]
        assert read_plan(record["experiment"], config).key == record["key"]
        plan = Plan(find_experiment(record["experiment"]), config["epochs"], config["seed"], config["data_sha256"])
        assert plan.key == record["key"], record["experiment"]


@given(PLANS, PLANS)
def test_plans_have_the_same_key_if_and_only_if_they_are_equal(first, second):
    assert (first == second) == (first.key == second.key)
    assert read_plan("final", first.config).key == first.key
    assert json.loads(json.dumps(first.config)) == first.config


def test_every_setting_lives_in_one_place_and_another_value_of_it_is_another_run():
    names = [f.name for part in (Network, Settings, Experiment) for f in dataclasses.fields(part)]
    assert sorted(names) == sorted({*OTHER, "name", "title", "in_paper", "network", "settings", "epochs"})
    keys = {replan(vary(PLAN.experiment, **{name: value})).key for name, value in OTHER.items()}
    assert len(keys | {PLAN.key}) == len(OTHER) + 1


def test_other_numerics_and_another_way_of_resizing_are_other_runs_and_what_readers_see_is_not(monkeypatch):
    keys = {PLAN.key}
    for name, value in (("NUMERICS", 999), ("RESIZING", "another way")):
        with monkeypatch.context() as patch:
            patch.setattr(plan, name, value)
            keys.add(PLAN.key)
    keys |= {replace(PLAN, **change).key for change in ({"epochs": 49}, {"seed": 1}, {"data_sha256": "e" * 64})}
    assert len(keys) == 6
    assert replan(replace(PLAN.experiment, name="x", title="y", in_paper=False)).key == PLAN.key


@pytest.mark.parametrize(
    "change, same",
    [
        ({"dropout": 0}, {"dropout": 0.0}),
        ({"learning_rate": 1}, {"learning_rate": 1.0}),
        ({"batch_size": np.arange(20)[16]}, {"batch_size": 16}),
        ({"dense": [64, 32]}, {"dense": (64, 32)}),
    ],
)
def test_equal_settings_are_the_same_run_however_they_are_written(change, same):
    first, second = (replan(vary(PLAN.experiment, **c)) for c in (change, same))
    assert first == second and first.key == second.key


def test_a_setting_that_there_is_not_is_named():
    with pytest.raises(UnknownNameError, match="'droput'"):
        vary(PLAN.experiment, droput=0.1)
