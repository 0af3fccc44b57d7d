"""The commands for many machines, as the page on reproducing gives them."""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
import typer

from wbc_lib import paths
from wbc_lib.cli import main, train
from wbc_lib.training.runs import Store


def commands() -> list[list[str]]:
    """The command lines for many machines, each as its words."""
    cells = json.loads((paths.BOOK / "reproduce.ipynb").read_text())["cells"]
    text = "".join("".join(cell["source"]) + "\n" for cell in cells if cell["cell_type"] == "markdown")
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.S)).replace("\\\n", " ")
    found = re.findall(r"(?:\.venv/bin/)?\b(wbc train|dask scheduler|dask worker)\b([^\n\"&|#]*)", lines)
    return [[*command.split(), *shlex.split(rest)] for command, rest in found]


def test_every_command_on_the_page_names_options_that_exist():
    from distributed.cli import dask_scheduler, dask_worker

    known: dict[str, click.Command] = {
        "wbc train": typer.main.get_command(main.app).commands["train"],
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
            assert train.parse_seeds(context.params["seeds"]) == tuple(range(3000))
            assert context.params["names"] == ["final+fold-{1..5}"]
    assert seen == set(known) and len(commands()) == 7


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
