import json
import math
import os
import subprocess
import sys

import pytest

from wbc_lib import paths

FOLDER = paths.ROOT / "benchmarks"
sys.path.insert(0, str(FOLDER))
import measure  # noqa: E402 - a script beside the library, which does not import it


@pytest.mark.slow
@pytest.mark.parametrize("part", measure.list_parts("", paths.ROOT, measure.SMALL))
def test_every_part_runs(part, phantom_set):
    command = [sys.executable, FOLDER / "measure.py", "--small", "--repeats", "2", "--only", part]
    # The book is made from the results that are recorded here, not from what tests record.
    environment = {name: value for name, value in os.environ.items() if name != "WBC_RESULTS"}
    command += ["--data", phantom_set.root]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    lines = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith(part)]
    ways = measure.list_parts("", paths.ROOT, measure.SMALL)[part]
    assert {line[1] for line in lines} == {way.name for way in ways}
    assert all(float(line[3].split()[0]) > 0 for line in lines)


def test_ways_take_turns_and_the_slowest_of_those_side_by_side_counts(monkeypatch):
    turns = []
    monkeypatch.setattr(measure, "take_turn", lambda way: turns.append(way.name) or {"seconds": len(turns)})
    ways = [measure.Way(name, measure.read_warm, {}, size=3) for name in "ab"]
    rows = measure.measure(ways, 3)
    assert turns == list("ababab")
    assert [(row["way"], row["values"], row["size"]) for row in rows] == [("a", [1, 3, 5], 3), ("b", [2, 4, 6], 3)]


def test_a_turn_is_a_process_of_its_own_and_one_that_fails_ends_it_all(phantom_set, capfd):
    way = measure.Way("warm", measure.read_warm, {"data": str(phantom_set.root)}, threads=1)
    assert 0 < measure.take_turn(way)["seconds"] < 600
    with pytest.raises(SystemExit, match="warm ended with code 1"):
        measure.take_turn(measure.Way("warm", measure.read_warm, {"data": "/no/such/folder"}))


@pytest.mark.parametrize(
    ("options", "data", "complaint"),
    [(["--only", "speed"], "", "'speed'"), (["--record"], "", "2"), ([], "/no/such/folder", "/no/such/folder")],
)
def test_an_unknown_part_is_named_and_what_is_small_is_not_recorded(phantom_set, monkeypatch, options, data, complaint):
    command = ["measure.py", "--small", "--data", data or str(phantom_set.root), *options]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit, match=complaint):
        measure.main()


def test_a_new_figure_takes_the_place_of_the_same_one_and_no_other_is_lost(tmp_path):
    path = tmp_path / "record.json"
    path.write_bytes((FOLDER / "record.json").read_bytes())
    before = json.loads(path.read_text())
    old = next(f for f in before["figures"] if f["way"] == "warm cache" and f["size"] == 12515)
    new = {"way": "warm cache", "quantity": "seconds", "size": 12515, "values": [1.0]}
    measure.write_record("arrays", [new], {"machine": {}}, path)
    after = json.loads(path.read_text())
    assert [f for f in after["figures"] if f in before["figures"]] == [f for f in before["figures"] if f != old]
    (added,) = [f for f in after["figures"] if f not in before["figures"]]
    assert added == {"part": "arrays", **new, "taken": added["taken"]}
    assert after["takings"] == before["takings"] | {added["taken"]: {"machine": {}}}


def test_the_record_says_of_every_figure_when_and_where_it_was_taken():
    record = json.loads((FOLDER / "record.json").read_text())
    assert {f["taken"] for f in record["figures"]} == set(record["takings"])
    assert all(f["values"] and all(map(math.isfinite, f["values"])) for f in record["figures"])
    keys = [(f["part"], f["way"], f["quantity"], f["size"]) for f in record["figures"]]
    assert len(keys) == len(set(keys))
    for taking in record["takings"].values():
        assert {"machine", "libraries", "photos", "load_before", "settings"} <= set(taking)
