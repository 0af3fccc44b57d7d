"""A tiny experiment; run as a script, trained in a process of its own, to be killed."""

import dataclasses
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from wbc_lib.data.dataset import open_folder
from wbc_lib.training import experiments, study
from wbc_lib.training.plan import Experiment, Network, Settings
from wbc_lib.training.runs import Store

TINY = Experiment(
    "tiny", "Tiny", Network(convolutions=(4,), dense=(8,), dropout=0.3), settings=Settings(batch_size=8), epochs=6
)
#: In place of the final model: of three convolutions too, whose attention can be looked at.
SMALL = Experiment("final", "Small", Network(convolutions=(4, 6, 8), dense=(8,)), epochs=50)
#: Under a name whose runs keep their weights.
TINY_FINAL = dataclasses.replace(TINY, name="final", title="Final", epochs=30)


def read_history(checkpoint: Path) -> list[dict[str, float]]:
    """The finished epochs of an unfinished training; none if there is no readable checkpoint."""
    with suppress(Exception), np.load(checkpoint, allow_pickle=False) as file:
        return json.loads(file["history"].tobytes())
    return []


if __name__ == "__main__":
    data, root, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    experiments.EXPERIMENTS["tiny"] = dataclasses.replace(TINY, epochs=epochs)
    study._WITH_WEIGHTS = ("tiny",)
    profile = dataclasses.replace(experiments.PROFILES["paper"], seeds=(0,))
    study.Study(open_folder(data), profile, Store(root)).run("tiny")
