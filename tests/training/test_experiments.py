import pytest

from wbc_lib.errors import UnknownNameError
from wbc_lib.training import experiments, paper
from wbc_lib.training.experiments import EXPERIMENTS, PROFILES, SUITES, find_experiment, find_profile, find_suite
from wbc_lib.training.plan import Plan, vary


def key_of(name: str, profile: str = "paper", seed: int = 0) -> str:
    experiment = find_experiment(name)
    return Plan(experiment, PROFILES[profile].epochs(experiment), seed, "d" * 64).key


def test_a_name_with_variations_is_the_experiment_with_these_changes():
    varied = find_experiment("final+painted+by-photo")
    assert (varied.material, varied.protocol, varied.in_paper) == ("painted", "by-photo", False)
    assert varied.name == "final+painted+by-photo" and varied.title.startswith(EXPERIMENTS["final"].title)
    back = vary(varied, material="augmented", protocol="random")
    assert Plan(back, 50, 0, "d" * 64).key == key_of("final")
    assert key_of("final+by-photo+painted") == key_of("final+painted+by-photo")


def test_every_variation_changes_something_and_no_two_are_the_same():
    keys = {key_of(f"final+{variation}") for variation in experiments.VARIATIONS}
    assert len(keys | {key_of("final")}) == len(experiments.VARIATIONS) + 1


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_the_runs_of_a_suite_exist_and_differ(suite):
    runs = [(name, seed) for name, seeds in suite.seeds.items() for seed in seeds]
    assert len({key_of(name, suite.profile, seed) for name, seed in runs}) == len(runs)
    assert set(suite.in_smoke) <= set(suite.seeds)


def test_the_papers_figures_are_of_its_experiments_and_over_its_folds_every_network_is_compared():
    assert set(paper.REPORTED) == {name for name, e in EXPERIMENTS.items() if e.in_paper and e.name == name}
    on_images = {
        e.name for e in EXPERIMENTS.values() if e.in_paper and e.material == "augmented" and not e.network.base
    }
    assert on_images == {*experiments.COMPARED, "final"}
    assert set(SUITES["folds"].seeds) == {f"{name}+fold-{k}" for name in on_images for k in range(1, 6)}


@pytest.mark.parametrize(
    "find, name, known",
    [
        (find_experiment, "nope", "baseline"),
        (find_experiment, "nope+painted", "baseline"),
        (find_experiment, "final+nope", "by-photo"),
        (find_experiment, "final+", "by-photo"),
        (find_profile, "nope", "smoke, quick, paper"),
        (find_suite, "nope", "sensitivity, leakage"),
    ],
)
def test_unknown_names_are_answered_with_the_known_ones(find, name, known):
    with pytest.raises(UnknownNameError, match=f"There is no .*{known}"):
        find(name)
