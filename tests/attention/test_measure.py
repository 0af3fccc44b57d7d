import dataclasses
import gzip
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from tests.drawn_runs import change_record
from wbc_lib import paths
from wbc_lib.attention import measure, saliency
from wbc_lib.attention.saliency import COVERS, FILLS
from wbc_lib.data.images import INPUT_SHAPE, load_images
from wbc_lib.errors import RunError
from wbc_lib.provenance.boxes import cell_masks, white_cells
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


@pytest.fixture(scope="module")
def attention(run, tiny_study):
    steps = []
    measured = measure.measure(run, tiny_study.data, lambda done, total: steps.append((done, total)))
    assert steps == [(i, len(steps)) for i in range(1, len(steps) + 1)] != []
    return measured


@pytest.fixture
def damage(run, attention, tmp_path):
    """Write the measurement, and change one of its files."""

    def write(part: str, change) -> None:
        measure.write(attention, run, tmp_path)
        path = tmp_path / f"{run.name}-{part}.csv.gz"
        path.write_bytes(change(path.read_bytes()))

    return write


def test_shares_and_probabilities_are_those_computed_image_by_image(run, tiny_study, attention):
    table, images, boxes = tiny_study.provenance, load_images(tiny_study.data), white_cells(tiny_study.data)
    test = attention.images.query("part == 'test'").reset_index(drop=True)
    rows = images.index.reset_index().set_index("image")["index"].loc[test.image].to_numpy()
    for column, classes in (("share", test.predicted), ("share_true", test.label)):
        maps, _ = saliency.compute_maps(saliency.rebuild(run), np.array(images.pixels[rows]), classes.to_numpy())
        upsampled = saliency.upsample(maps, INPUT_SHAPE, 3)
        masks = cell_masks(table.iloc[rows], boxes, INPUT_SHAPE)
        inside = [
            one[mask].sum() / one.sum() if one.sum() else np.nan for one, mask in zip(upsampled, masks, strict=True)
        ]
        np.testing.assert_allclose(test[column], inside, atol=1e-3)
    np.testing.assert_allclose(test.area, masks.mean(axis=(1, 2)), atol=1e-4)
    even = saliency.upsample(np.where(np.arange(11)[:, None] < 10, 1.0, 0.0) * np.ones((1, 11, 16)), INPUT_SHAPE, 3)[0]
    np.testing.assert_allclose(test.even, [even[mask].sum() / even.sum() for mask in masks], atol=1e-4)
    pairs = {part: pd.DataFrame(run.probabilities(part), run.names(part)) for part in ("test", "validation")}
    for image in attention.images.iloc[::50].itertuples():
        recorded = pairs[image.part].loc[image.image]
        assert image.p == pytest.approx(recorded[image.label], abs=1e-3)
        assert image.predicted == recorded.argmax()


def test_every_image_with_a_cell_in_view_has_a_row_and_the_label_it_is_filed_under(run, tiny_study, attention):
    names = {part: set(run.names(part)) for part in ("test", "validation")}
    for part, of_part in attention.images.groupby("part"):
        assert set(of_part.image) <= names[part]
        assert 0.5 * len(names[part]) < len(of_part) == of_part.image.nunique()
    labels = load_images(tiny_study.data).index.set_index("image").label
    assert (labels[attention.images.image].to_numpy() == attention.images.label).all()
    source = tiny_study.provenance.set_index("image").photo
    assert (source[attention.images.image].to_numpy() == attention.images.photo).all()
    assert set(attention.images.photo) <= set(white_cells(tiny_study.data).photo)


def test_what_is_painted_over_has_its_answer_or_no_room(attention):
    for cover, fill in itertools.product(COVERS, FILLS):
        p, predicted = attention.images[f"p_{cover}_{fill}"], attention.images[f"as_{cover}_{fill}"]
        assert (p.isna() == (predicted == -1)).all() and p.dropna().between(0, 1).all()
        assert cover == "elsewhere" or (predicted >= 0).all()
    assert (attention.images.p_cell_grey - attention.images.p).abs().max() > 0.001


def test_randomising_is_judged_against_the_trained_map(run, attention):
    table = attention.randomised
    photos = attention.images.query("part == 'test'").photo.nunique()
    assert table.groupby(["layers", "draw"]).size().tolist() == [photos] * (1 + len(run.weights()) // 2)
    trained = table.query("layers == 0")
    assert (trained.correlation.isin([0, 1]) & (trained.correlation.eq(0) == trained.share.isna())).all()
    assert table.query("layers > 0").correlation.mean() < 0.9
    first = attention.images.query("part == 'test'").drop_duplicates("photo").set_index("photo").share_true
    np.testing.assert_allclose(trained.share, first.loc[trained.photo], atol=1e-3)


def test_cells_at_the_photos_edge_are_told():
    edges = [(0, 100, 80, 200), (500, 100, 640, 200), (100, 400, 200, 479), (90, 2, 99, 99)]
    inside = [(100, 100, 200, 200), (9, 9, 630, 470)]
    boxes = pd.DataFrame(edges + inside, columns=["xmin", "ymin", "xmax", "ymax"]).assign(photo=range(6))
    assert sorted(measure._cut_by_edge(boxes)) == [0, 1, 2, 3]


def test_what_is_written_is_read_again_and_the_same_tables_give_the_same_bytes(run, attention, tmp_path):
    measure.write(attention, run, tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    again = measure.read(run, tmp_path)
    measure.write(again, run, tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert len(before) == 3
    pd.testing.assert_frame_equal(again.images, attention.images, check_dtype=False)
    pd.testing.assert_frame_equal(again.maps, attention.maps)


@pytest.mark.parametrize(
    "part, change",
    [
        ("images", lambda content: content[: len(content) // 2]),
        ("images", lambda content: content[:300] + bytes([content[300] ^ 1]) + content[301:]),
        ("randomised", lambda content: b""),
        ("maps", lambda content: gzip.compress(b"no table at all")),
    ],
)
def test_damage_is_told_with_the_files_name_and_the_remedy(run, damage, tmp_path, part, change):
    damage(part, change)
    with pytest.raises(RunError, match=rf"{part}.*damaged.*restore it"):
        measure.read(run, tmp_path)


def test_a_record_of_another_run_or_by_another_method_is_none(run, damage, attention, tmp_path, monkeypatch):
    assert measure.read(run, tmp_path) is None
    damage("maps", lambda content: content)
    assert measure.read(run, tmp_path) is not None
    other = dataclasses.replace(run, record={**run.record, "key": "0" * 64})
    assert measure.read(other, tmp_path) is None
    monkeypatch.setattr(measure, "METHOD", measure.METHOD + 1)
    assert measure.read(run, tmp_path) is None


def test_maps_are_kept_of_each_photo_and_of_what_is_chosen(run, attention):
    test = attention.images.query("part == 'test'")
    shown = set(test.iloc[measure.choose(test).row].image) | set(test.drop_duplicates("photo").image)
    assert set(attention.maps.index) == {(image, of) for image in shown for of in ("predicted", "true")}
    maps = measure.unflatten(attention.maps)
    assert maps.shape[1:] == saliency.map_shape(INPUT_SHAPE, 3)
    assert set(np.unique(maps.max(axis=(1, 2)))) <= {0, 1}


def test_the_median_of_each_kind_is_chosen():
    columns = {"label": [1, 1, 1, 1, 2, 2], "predicted": [1, 1, 1, 2, 1, 1], "share": [0.9, 0.2, 0.5, 0.1, np.nan, 0.4]}
    chosen = measure.choose(pd.DataFrame(columns))
    assert chosen.to_numpy().tolist() == [[3, 1, False], [2, 1, True], [5, 2, False]]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"data_sha256": "0" * 64}, "other data"),
        ({"material": "painted"}, "not scored on the images of TEST"),
        ({"protocol": "fold-1"}, "not scored on the images of TEST"),
    ],
)
def test_a_run_of_other_images_is_refused(run, tiny_study, changed, reason):
    record = {**run.record, "config": {**run.record["config"], **changed}}
    with pytest.raises(RunError, match=reason):
        measure.measure(dataclasses.replace(run, record=record), tiny_study.data, print)


def test_recorded_predictions_that_do_not_come_out_are_refused(run, tiny_study):
    forged = dataclasses.replace(run)
    assert forged._predictions is not run._predictions
    forged._predictions["test_logits"] = run.logits("test") + 1
    with pytest.raises(RunError, match="do not come out"):
        measure.measure(forged, tiny_study.data, print)


@pytest.fixture
def counted(run, attention, tmp_path, monkeypatch):
    """Count measurements, which are not made anew; folders are empty at first."""
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    calls = []
    monkeypatch.setattr(measure, "measure", lambda run, data, on_progress: calls.append(run.name) or attention)
    return calls


def test_a_study_measures_once_and_reads_from_then_on(run, tiny_study, attention, counted):
    first, second = (measure.read_or_measure(tiny_study, "tiny") for _ in range(2))
    assert counted == [run.name]
    pd.testing.assert_frame_equal(first[0].images, attention.images)
    pd.testing.assert_frame_equal(second[0].maps, attention.maps)


def test_what_is_recorded_in_the_project_is_not_measured(run, tiny_study, attention, counted):
    measure.write(attention, run, measure.folder())
    assert len(measure.read_or_measure(tiny_study, "tiny")) == 1
    assert counted == []


def test_nothing_is_measured_without_the_photos_or_the_weights(run, tiny_study, counted, monkeypatch):
    lent = dataclasses.replace(tiny_study, results_of="f" * 64)
    monkeypatch.setattr(Study, "runs", lambda self, name, optional: [run])
    with pytest.raises(RunError, match="not recorded"):
        measure.read_or_measure(lent, "tiny")
    bare = dataclasses.replace(run, record={**run.record, "files": {}})
    monkeypatch.setattr(Study, "runs", lambda self, name, optional: [bare])
    with pytest.raises(RunError, match="not recorded"):
        measure.read_or_measure(tiny_study, "tiny")
    assert counted == []


def test_what_every_recorded_final_run_looks_at_is_recorded_too():
    recorded = paths.ROOT / "results"
    runs = [run for run in Store(recorded).whole() if run.record["experiment"] == "final"]
    kept = [run for run in runs if "weights.npz" in run.record["files"]]
    assert kept
    assert [run.name for run in kept if measure.read(run, recorded / "attention") is None] == []


def test_recording_measures_the_final_runs_of_these_photos_that_lack_it(run, tiny_study, counted):
    plan = tiny_study.plan("tiny", 0)
    store = Store(paths.results())
    final = dataclasses.replace(plan, experiment=dataclasses.replace(plan.experiment, name="final"))
    other = dataclasses.replace(final, data_sha256="0" * 64)
    for recorded in (plan, final, other):
        forge(store, run, recorded)
    assert measure.record(tiny_study.data) == counted == [f"final-e{plan.epochs}-s0-{final.key[:12]}"]
    assert measure.record(tiny_study.data) == []


def forge(store: Store, run, plan) -> None:
    """Record the files of one run as those of another plan."""
    folder = store.roots[0] / f"{plan.experiment.name}-e{plan.epochs}-s{plan.seed}-{plan.key[:12]}"
    shutil.copytree(run.folder, folder)
    change_record(folder, key=plan.key, experiment=plan.experiment.name, config=plan.config)
