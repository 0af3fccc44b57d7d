import pytest

from wbc_lib.errors import UnknownNameError
from wbc_lib.training import designs
from wbc_lib.training.designs import DESIGNS
from wbc_lib.training.experiments import EXPERIMENTS, PROFILES, Plan, find_experiment


@pytest.mark.parametrize("design", DESIGNS.values(), ids=DESIGNS)
def test_a_design_asks_for_experiments_that_exist_and_differ(design):
    plans = [
        Plan(e := find_experiment(name), PROFILES[design.profile].epochs(e), seed, "d")
        for name, seeds in design.seeds.items()
        for seed in seeds
    ]
    assert len({plan.key for plan in plans}) == len(plans)
    assert set(design.in_smoke) <= set(design.seeds)
    assert design.name in DESIGNS and design.title


def test_over_its_folds_every_network_of_the_paper_is_compared():
    bases = {name.split("+")[0] for name in DESIGNS["folds"].seeds}
    on_images = {
        e.name for e in EXPERIMENTS.values() if e.in_paper and e.material == "augmented" and not e.network.base
    }
    assert bases == on_images == {*designs.COMPARED, "final"}
    protocols = {find_experiment(name).protocol for name in DESIGNS["folds"].seeds}
    assert protocols == {f"fold-{k}" for k in range(1, 6)}


def test_an_unknown_design_is_named():
    with pytest.raises(UnknownNameError, match="'nope'; choose one of: sensitivity"):
        designs.find_design("nope")
