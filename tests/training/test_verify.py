import dataclasses
import hashlib

import numpy as np
import pytest

from tests.drawn_runs import change_record
from wbc_lib.errors import RunError
from wbc_lib.training import plan, verify


def forge(run, name: str, change):
    """Edit the arrays of a recorded file and make the hashes agree again, as a cheat would."""
    with np.load(run.folder / name) as file:
        arrays = dict(file)
    change(arrays)
    np.savez_compressed(run.folder / name, **arrays)
    digest = hashlib.sha256((run.folder / name).read_bytes()).hexdigest()
    return change_record(run.folder, files=run.record["files"] | {name: digest})


def test_forged_predictions_and_forged_weights_do_not_come_out(with_run):
    run = with_run.run("tiny")
    honest = verify.rescore(run, with_run.data)
    assert honest.largest <= verify.LOGIT_TOLERANCE
    assert (honest.same_class, honest.recorded) == (1.0, honest.repeated)

    def improve(arrays):
        arrays["test_logits"][np.arange(len(arrays["test_labels"])), arrays["test_labels"]] += 100

    better = forge(run, "predictions.npz", improve)
    assert better.accuracy("test") == 1.0
    comparison = verify.rescore(better, with_run.data)
    assert comparison.largest > 90
    assert comparison.recorded == 1.0 and comparison.repeated == honest.recorded

    def disturb(arrays):
        arrays["w002"] += 1

    assert verify.rescore(forge(better, "weights.npz", disturb), with_run.data).largest > verify.LOGIT_TOLERANCE


@pytest.mark.parametrize("test", [verify.rescore, verify.retrain])
def test_a_run_of_other_data_or_of_earlier_numerics_is_not_compared(with_run, tiny_set, monkeypatch, test):
    run = with_run.run("tiny")
    with pytest.raises(RunError, match="made of other data"):
        test(run, tiny_set)
    monkeypatch.setattr(plan, "NUMERICS", plan.NUMERICS + 1)
    with pytest.raises(RunError, match="earlier version of the numerics"):
        test(run, with_run.data)


def test_a_run_without_weights_cannot_be_scored_again(with_run):
    run = with_run.run("tiny")
    with pytest.raises(RunError, match="without weights"):
        verify.rescore(dataclasses.replace(run, record=run.record | {"files": {}}), with_run.data)
