import contextlib
import dataclasses
import heapq
import json
import math
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tests.test_scaling import made_record
from wbc_lib import capacity, cli, experiments, paths
from wbc_lib.capacity import Basis, bound, estimate
from wbc_lib.runs import Store

RUNS, WORKERS = st.integers(0, 3000), st.integers(1, 400)
SECONDS = st.floats(0.01, 1e5)
BASIS = Basis(epochs=50, training=700.0, low=500.0, high=1500.0, overhead=10.0, kept=70e3, checkpoint=5e6)


def play(seconds: list[float], workers: int) -> float:
    """When the last run ends if each goes to the worker that is free first: the schedule, played through."""
    free = [0.0] * workers
    for run in seconds:
        heapq.heapreplace(free, free[0] + run)
    return max(free)


@given(RUNS, SECONDS, WORKERS)
def test_equal_runs_take_what_they_take_when_the_schedule_is_played_through(runs, seconds, workers):
    assert estimate(runs, seconds, workers).wall == pytest.approx(play([seconds] * runs, workers))


@given(st.lists(SECONDS, max_size=60), st.integers(1, 20))
def test_unequal_runs_stay_within_the_bounds_when_played_through(seconds, workers):
    low, high = bound(seconds, workers)
    assert low * (1 - 1e-9) <= play(seconds, workers) <= high * (1 + 1e-9)


def test_the_upper_bound_is_reached():
    # One long run that is sent last, after short ones that fill every worker evenly.
    assert play([1.0] * 12 + [4.0], 4) == pytest.approx(bound([1.0] * 12 + [4.0], 4)[1])


@given(RUNS, SECONDS, WORKERS)
def test_work_is_conserved_and_no_run_is_hurried(runs, seconds, workers):
    found = estimate(runs, seconds, workers)
    assert found.work == pytest.approx(runs * seconds)
    assert found.wall * workers * (1 - found.idle) == pytest.approx(found.work)
    assert found.wall >= seconds or not runs
    low, high = bound([seconds] * runs, workers)
    assert low * (1 - 1e-9) <= found.wall <= high * (1 + 1e-9)
    assert 0 <= found.idle < 1
    in_waves = [workers] * (found.waves - 1) + [found.in_last_wave] * (found.waves > 0)
    assert sum(in_waves) == runs and (0 < found.in_last_wave <= workers or not runs)


@given(RUNS, SECONDS, WORKERS, st.integers(0, 100))
def test_more_workers_never_take_longer_and_one_is_ideal(runs, seconds, workers, more):
    assert estimate(runs, seconds, workers + more).wall <= estimate(runs, seconds, workers).wall
    alone = estimate(runs, seconds, 1)
    assert alone.wall == pytest.approx(runs * seconds) and alone.idle == pytest.approx(0)
    assert estimate(runs, seconds, workers).wall * workers >= alone.wall * (1 - 1e-9)


def test_a_thousand_seeds_on_fifteen_folds():
    found = estimate(15_000, 700, 256)
    assert (found.waves, found.in_last_wave) == (59, 152)  # 58 full waves of 256 are 14,848
    assert found.idle == pytest.approx(104 / (59 * 256))
    cost = capacity.tabulate_cost(15_000, BASIS, (1, 16, 256), cores=2)
    assert cost.days[1] == pytest.approx(15_000 * 710 / 86400)
    assert cost.days[16] == pytest.approx(938 * 710 / 86400)
    assert cost.low[1] == pytest.approx(15_000 * 510 / 86400) and cost.high[1] == pytest.approx(15_000 * 1510 / 86400)
    assert cost.core_hours[1] == pytest.approx(15_000 * 710 * 2 / 3600)
    assert cost.core_hours[256] == pytest.approx(256 * 2 * 59 * 710 / 3600)
    assert cost.checkpoints[256] == pytest.approx(256 * 50 / 710)
    assert cost.megabytes[256] == pytest.approx(256 * (50 * 5 + 0.07) / 710)
    assert cost["runs"][1] == pytest.approx(1 / 710)


def test_the_store_is_not_asked_by_workers_that_have_no_run():
    cost = capacity.tabulate_cost(10, BASIS, (10, 1000))
    assert cost.checkpoints[10] == cost.checkpoints[1000]


def test_an_overhead_is_taken_from_where_it_was_measured_and_checkpoints_grow_with_the_epochs():
    record = made_record()
    table = capacity.tabulate_overhead(record, 50)
    one = record.parts[record.parts.workers == 1]
    assert table.middle["tensorflow"] == np.median(one.tensorflow)
    assert (table.low["write"], table.high["write"]) == (one.write.min(), one.write.max())
    assert table.middle["arrays"] == np.median(record.full_size.arrays) != np.median(one.arrays)
    assert table.middle["checkpoints"] == pytest.approx(25 * np.median(one.checkpoints))  # of two epochs
    assert table.full_size.sum() == 3
    without = capacity.tabulate_overhead(dataclasses.replace(record, full_size=pd.DataFrame()), 2)
    assert not without.full_size.any()
    pd.testing.assert_series_equal(without.middle, one[without.index].median(), check_names=False)


def test_what_a_training_costs_its_worker_counts_every_worker():
    record = made_record()
    table = capacity.tabulate_totals(record)
    totals = record.totals.set_index(["way", "repeat"])
    for way, workers in (("one process, in turn", 1), ("1 worker", 1), ("2 workers", 2)):
        each = [(workers * row.wall - row.training) / 4 for row in totals.loc[way].itertuples()]
        assert table.loc[way, ["low", "middle", "high"]].tolist() == pytest.approx(
            [min(each), np.median(each), max(each)]
        )


def recorded() -> dict:
    runs = Store(paths.ROOT / "results").whole()
    return {
        "folds": [run for run in runs if re.match(r"final\+fold-\d-e8-", run.name)],
        "none": [],
        "as published": [run for run in runs if run.name.startswith("final-e50")],
    }


def test_the_basis_is_read_off_recorded_runs():
    runs = recorded()
    folds, published = runs["folds"], runs["as published"]
    table = capacity.tabulate_runs(runs)
    assert table.index.tolist() == ["folds", "as published"]

    def images(run):
        return run.record["examples"]["training"] + run.record["examples"]["validation"]

    assert table.images.tolist() == [12_444, 9_957]
    rates = [1000 * run.record["seconds"] / run.epochs / images(run) for run in published]
    assert [table.low["as published"], table.high["as published"]] == pytest.approx([min(rates), max(rates)], rel=1e-3)
    assert (table.epoch <= table.low).all()

    found = capacity.find_basis(runs, made_record(), "folds")
    assert found.epochs == experiments.EXPERIMENTS["final"].epochs == 50
    assert found.training == pytest.approx(50 * np.median([r.record["seconds"] for r in folds]) / 8, rel=0.05)
    assert found.low <= found.training <= found.high
    assert found.overhead == capacity.tabulate_overhead(made_record(), 50).middle.sum()
    # A history of fifty epochs and the predictions of a fold, but no weights.
    history = np.median([(run.folder / "history.csv").stat().st_size for run in published])
    rest = np.median([(run.folder / "predictions.npz").stat().st_size for run in folds])
    assert found.kept == pytest.approx(history + rest, rel=0.1)
    assert found.kept < 1e5
    alone = capacity.find_basis({"folds": [], "as published": published}, None, "folds")
    assert alone.overhead == 0 and math.isnan(alone.checkpoint)
    assert alone.training == pytest.approx(np.median([run.record["seconds"] for run in published]), rel=0.01)
    assert alone.kept < 2e5  # the weights that are kept here would not be kept of thousands
    assert capacity.find_basis({"folds": []}, None, "folds") is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.043, "0.0 s"), (4.26, "4.3 s"), (90, "90 s"), (724, "12.1 minutes"), (42_000, "11.7 hours"),
     (100 * 60, "100 minutes"), (3600 * 47, "47 hours"), (126.4 * 86400, "126 days")],
)  # fmt: skip
def test_a_duration_is_written_in_the_unit_that_suits_it(seconds, words):
    assert capacity.write_time(seconds) == words


def test_bytes_are_written_in_powers_of_ten():
    sizes = (12, 70_400, 5_089_186, 1.05e9, 3.8e12, 99e12)
    assert [capacity.write_bytes(size) for size in sizes] == [
        "12 bytes",
        "70 kB",
        "5.1 MB",
        "1.1 GB",
        "3.8 TB",
        "99 TB",
    ]


def commands() -> list[list[str]]:
    """The command lines of the page "At scale", each as its words."""
    cells = json.loads((paths.BOOK / "at-scale.ipynb").read_text())["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S)).replace("\\\n", " ")
    found = re.findall(r"(?:\.venv/bin/)?\b(wbc train|dask scheduler|dask worker)\b([^\n\"&|#]*)", lines)
    return [[*command.split(), *shlex.split(rest)] for command, rest in found]


def test_every_command_on_the_page_names_options_that_exist():
    from distributed.cli import dask_scheduler, dask_worker

    known: dict[str, click.Command] = {
        "wbc train": typer.main.get_command(cli.app).commands["train"],
        "dask scheduler": dask_scheduler.main,
        "dask worker": dask_worker.main,
    }
    seen = set()
    for first, second, *words in commands():
        command = known[f"{first} {second}"]
        seen.add(f"{first} {second}")
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= options, words
        # It is also read without complaint: values are of the right kind, none is missing or too many.
        context = click.Context(command, ignore_unknown_options=False)
        command.parse_args(context, list(words))
        if first == "wbc":
            assert context.params["profile"] == "paper" and context.params["threads"] == 2
            assert cli.parse_seeds(context.params["seeds"]) == tuple(range(3000))
            assert context.params["names"] == ["final+fold-{1..5}"]
    assert seen == set(known) and len(commands()) >= 9


@pytest.mark.slow
def test_the_commands_for_a_head_and_its_nodes_work_on_one_machine(phantom_set, tmp_path):
    told = [words for words in commands() if "tcp://head:8786" in words]
    assert [words[1] for words in told] == ["worker", "train"]
    head = next(words for words in commands() if words[:2] == ["dask", "scheduler"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    here = {"tcp://head:8786": f"tcp://127.0.0.1:{port}", "8786": port, "final+fold-{1..5}": "baseline", "4": "2"}
    small = {"paper": "smoke", "0-2999": "0-1"}
    scheduler, worker, train = ([(here | small).get(word, word) for word in words] for words in (head, *told))
    binaries = Path(sys.executable).parent
    environment = os.environ | {"WBC_CACHE": str(tmp_path)}
    with contextlib.ExitStack() as stack:
        for name, *words in (scheduler, worker):
            # Both end with their group: a worker's nanny would start it again.
            process = subprocess.Popen(
                [binaries / name, *words],
                env=environment,
                cwd=paths.ROOT,
                start_new_session=True,
                stderr=subprocess.PIPE,
            )
            stack.callback(process.wait)
            stack.callback(process.stderr.close)
            stack.callback(os.killpg, process.pid, signal.SIGTERM)
        command = [binaries / "wbc", *train[1:], "--data", phantom_set.root]
        done = subprocess.run(command, env=environment, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {(run.record["experiment"], run.seed) for run in Store(tmp_path / "runs").whole()} == {
        ("baseline", 0),
        ("baseline", 1),
    }
