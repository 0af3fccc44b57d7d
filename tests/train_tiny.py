"""Train one tiny run through the study, in a process of its own: for tests that kill it or start it twice."""

import dataclasses
import sys
from pathlib import Path

from wbc_lib.data.dataset import open_folder
from wbc_lib.training import experiments, study
from wbc_lib.training.experiments import Experiment, Network, Settings
from wbc_lib.training.runs import Store

TINY = Experiment(
    "tiny", "Tiny", Network(convolutions=(4,), dense=(8,), dropout=0.3), settings=Settings(batch_size=8), epochs=6
)

if __name__ == "__main__":
    data, root, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    experiments.EXPERIMENTS["tiny"] = dataclasses.replace(TINY, epochs=epochs)
    study._WITH_WEIGHTS = ("tiny",)
    profile = dataclasses.replace(experiments.PROFILES["paper"], seeds=(0,))
    run = study.Study(open_folder(data), profile, Store(root)).run("tiny")
    written = (run.folder / "run.json").stat()
    print(run.name, written.st_ino, written.st_mtime_ns)
