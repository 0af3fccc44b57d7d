import subprocess
import sys

import pytest

from wbc_lib.errors import BenchError
from wbc_lib.turns import Contender, Series, order, race

SERVER = """
import os, sys, time
sys.path.insert(0, {root!r})
from wbc_lib.turns import serve

def count(turn, log, name, step=1, size=None):
    print("noise that must not reach the other side")
    turn(("ready", None, 0.0), pid=str(os.getpid()))
    n = 0
    while True:
        n += step
        with open(log, "a") as file:
            file.write(name)
        turn(("count", size, float(n)), turns=str(n))

def refuse(turn):
    turn.cannot("it is Monday")

def fail(turn):
    turn()
    sys.exit("the reason why")

serve({{"count": count, "refuse": refuse, "fail": fail}})
"""


@pytest.fixture
def command(tmp_path):
    from wbc_lib import paths

    script = tmp_path / "server.py"
    script.write_text(SERVER.format(root=str(paths.ROOT)))
    return (sys.executable, str(script))


def test_contenders_take_turns_and_every_figure_arrives(command, tmp_path):
    log, seen = tmp_path / "log", []
    contenders = [
        Contender("one", command, "count", {"log": str(log), "name": "A"}),
        Contender("two", command, "count", {"log": str(log), "name": "B", "step": 10, "size": 7}),
        Contender("few", command, "count", {"log": str(log), "name": "C"}, rounds=1),
        Contender("none", command, "refuse"),
    ]
    outcome = race(contenders, 3, lambda done, total: seen.append((done, total)))
    assert log.read_text() == "ABCABAB"
    found = {(s.contender, s.quantity, s.size): s.values for s in outcome.series}
    assert found["one", "count", None] == (1, 2, 3)
    assert found["two", "count", 7] == (10, 20, 30)
    assert found["few", "count", None] == (1,)
    assert found["one", "ready", None] == (0,)
    assert outcome.about["two"]["turns"] == "30"
    assert outcome.missing == {"none": "it is Monday"}
    assert seen[0] == (0, 10) and seen[-1] == (10, 10)


def test_a_fresh_contender_is_another_process_each_turn(command, tmp_path):
    options = {"log": str(tmp_path / "log"), "name": "A"}
    (count,) = [s for s in race([Contender("a", command, "count", options, is_fresh=True)], 3).series if s.size is None
                and s.quantity == "count"]  # fmt: skip
    assert count.values == (1, 1, 1)


def test_a_contender_that_ends_early_is_named_with_its_last_words(command):
    with pytest.raises(BenchError, match="'a' ended with code 1 .*\n.*the reason why"):
        race([Contender("a", command, "fail")], 2)


def test_an_interpreter_that_is_not_there_is_named():
    with pytest.raises(BenchError, match="'a' needs /no/such/python, which cannot be started"):
        race([Contender("a", ("/no/such/python",), "count")], 1)


def test_a_contender_ends_when_nobody_listens_any_more(command, tmp_path):
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child.stdin.write('{"does": "count", "log": "%s", "name": "A"}\n' % (tmp_path / "log"))
    child.stdin.flush()
    assert "ready" in child.stdout.readline()
    child.stdin.close()
    assert child.wait(10) == 0
    assert not (tmp_path / "log").exists()
    child.stdout.close()


def test_turns_go_round():
    a, b = Contender("a", (), ""), Contender("b", (), "", rounds=1)
    assert [c.name for c in order([a, b], 3)] == ["a", "b", "a", "a"]


def test_the_median_of_a_series_is_what_counts():
    assert Series("a", "seconds", None, (9.0, 1.0, 2.0)).median == 2
