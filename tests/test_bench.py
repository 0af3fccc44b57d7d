import json
import os
import subprocess
import sys

import pytest

from wbc_lib import aims, bench, bench_record, cli, paths
from wbc_lib.errors import BenchError, UnknownNameError
from wbc_lib.study import open_study
from wbc_lib.turns import Outcome, Series


@pytest.fixture
def study():
    return open_study("phantoms", "smoke", may_train=False)


@pytest.mark.slow
@pytest.mark.parametrize("part", [part for part in bench.PARTS if part != "book"])  # see test_book_contenders
def test_every_part_runs_and_gives_every_figure(study, part):
    seen = []
    found = bench.measure(part, study, repeats=2, sizes=bench.SMALL, on_turn=lambda *turns: seen.append(turns))
    missing = {name for name, reading in aims.read_off({part: found}).items() if reading is None}
    assert {name for name, aim in aims.AIMS.items() if aim.part == part} & missing <= {"torch"}
    assert seen[-1][0] == seen[-1][1] and seen == sorted(seen)
    assert found.data["title"] == study.data.title
    assert aims.tell({part: found}, part)


def test_a_light_part_runs_whole_and_is_recorded(study, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    monkeypatch.setattr(bench, "ROOMS", {"study": bench.ROOMS["study"]})
    found = bench.measure("start", study, repeats=2, load_before=0.314, sizes=bench.SMALL)
    (series,) = found.outcome.series
    assert len(series.values) == 2
    assert found.load_before == 0.31
    assert json.loads(bench_record.write_part(found).read_text())["machine"]["cores"] == os.cpu_count()
    assert bench_record.read_parts() == {"start": found}


def test_parts_are_found_by_name_in_their_own_order():
    assert bench.find_parts("") == list(bench.PARTS)
    assert bench.find_parts("start, training") == ["training", "start"]
    with pytest.raises(UnknownNameError, match="There is no part 'nope'"):
        bench.find_parts("training,nope")


def test_without_photos_nothing_is_measured():
    with pytest.raises(BenchError, match="no photos to measure with"):
        bench.measure("start", open_study("recorded", "quick", may_train=False))


def test_races_are_counted_as_one_and_their_outcomes_joined(monkeypatch):
    def pretend(contenders, rounds, on_turn):
        for done in range(rounds + 1):
            on_turn(done, rounds)
        (one,) = contenders
        return Outcome((Series(one.name, "seconds", 1.0, (1.0,)),), {one.name: {"a": "b"}}, {})

    monkeypatch.setattr(bench, "race", pretend)
    seen = []
    races = [[bench.Contender("x", (), "")], [bench.Contender("y", (), "")]]
    outcome = bench._race_all(races, 2, lambda *turns: seen.append(turns))
    assert seen == [(0, 4), (1, 4), (2, 4), (2, 4), (3, 4), (4, 4)]
    assert [s.contender for s in outcome.series] == ["x", "y"]
    assert outcome.about == {"x": {"a": "b"}, "y": {"a": "b"}}


def test_a_whole_run_builds_the_book_less_often_than_the_book_alone(study, monkeypatch):
    given = []
    part = bench.Part("a", lambda setup, on_turn: (given.append((setup.repeats, setup.builds)), (Outcome(()), {}))[1])
    monkeypatch.setitem(bench.PARTS, "book", part)
    for is_alone in (False, True):
        bench.measure("book", study, is_alone=is_alone)
    assert given == [(5, 2), (5, 5)]


def test_the_command_prints_the_table():
    command = [sys.executable, "-m", "wbc_lib.cli", "bench", "--data", "phantoms", "--small", "--only", "start"]
    done = subprocess.run([*command, "--repeats", "1"], cwd=paths.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Import" in done.stdout and "0.60" in done.stdout
    assert not bench_record.folder().joinpath("start.json").exists()


def test_the_command_refuses_what_means_nothing():
    with pytest.raises(BenchError, match="cannot be recorded"):
        cli.bench(small=True, record=True)
    with pytest.raises(UnknownNameError, match="There is no part 'nope'"):
        cli.bench(only="nope")
