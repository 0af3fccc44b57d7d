import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.drawn import draw_discs, turn
from wbc_lib.cli.main import app
from wbc_lib.errors import WbcError


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Train with pictures 0 to 2, val with 2 (turned) to 4 and one that shows nothing; classes as folders."""
    root = tmp_path_factory.mktemp("parts")
    for part, seeds in (("train", (0, 1, 2)), ("val", (2, 3, 4))):
        for seed in seeds:
            folder = root / part / ("even" if seed % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{seed}.png"), turn(draw_discs(seed), 25 if part == "val" else 0))
    cv2.imwrite(str(root / "val" / "odd" / "blank.png"), np.full((200, 220, 3), 200, np.uint8))
    return root


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_leak_names_the_sibling_and_writes_table_and_page(parts, tmp_path):
    table, page = tmp_path / "leaks.csv", tmp_path / "leaks.html"
    outcome = run("leak", parts / "train", parts / "val", "--csv", table, "--html", page, "--json")
    assert outcome.exit_code == 0, outcome.output
    rows = pd.read_csv(table).set_index("picture")
    assert rows.sibling["val/even/2.png"] == "train/even/2.png"
    assert rows.verdict.value_counts().to_dict() == {"sibling": 2, "clean": 4, "cannot tell": 1}
    affine = np.array(rows["transform"]["val/even/2.png"].split(), float).reshape(2, 3)
    np.testing.assert_allclose(affine, cv2.getRotationMatrix2D((110, 100), 25, 1), atol=1)
    counts = {(c["split"], c["class"]): c["sibling"] for c in json.loads(outcome.stdout)["counts"]}
    assert counts["val", "even"] == counts["val", "all"] == 1
    assert counts["val", "odd"] == 0
    text = page.read_text()
    assert text.count("<img") == 3  # the two of the one pair, and the one laid over the other
    assert "http" not in text


@pytest.mark.parametrize(("allowed", "code"), [(0, 1), (1, 1), (2, 0)])
def test_fail_above_decides_the_exit_and_says_why(parts, allowed, code):
    outcome = run("leak", parts / "train", parts / "val", "--fail-above", allowed)
    assert outcome.exit_code == code == ("2 pictures leak" in outcome.stderr)
    assert "val: 1 of 4 pictures" in outcome.stdout


def test_workers_of_a_scheduler_find_the_same(parts, tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster:
        there = run("leak", parts / "train", parts / "val", "--json", "--scheduler", cluster.scheduler_address)
        assert cluster.scheduler.transition_counter
    shutil.rmtree(tmp_path / "cache")
    here = run("leak", parts / "train", parts / "val", "--json")
    assert json.loads(there.stdout) == json.loads(here.stdout)


def test_zips_and_a_table_are_parts_too(parts, tmp_path):
    for part in ("train", "val"):
        with zipfile.ZipFile(tmp_path / f"{part}.zip", "w") as packed:
            for path in (parts / part).rglob("*.png"):
                packed.write(path, path.relative_to(parts / part))
    listed = sorted(parts.rglob("*.png"))
    table = pd.DataFrame({"picture": listed, "split": [path.relative_to(parts).parts[0] for path in listed]})
    table.to_csv(tmp_path / "parts.csv", index=False)
    for places in ((tmp_path / "train.zip", tmp_path / "val.zip"), (tmp_path / "parts.csv",)):
        outcome = run("leak", *places, "--json")
        assert len(json.loads(outcome.stdout)["leaks"]) == 2


def test_group_gives_siblings_one_number_or_the_name_of_their_source(parts, tmp_path):
    originals = tmp_path / "originals"
    originals.mkdir()
    for seed in range(5):
        cv2.imwrite(str(originals / f"source-{seed}.png"), draw_discs(seed))
    run("group", parts, "--csv", tmp_path / "plain.csv")
    run("group", parts, "--csv", tmp_path / "named.csv", "--sources", originals)
    plain, named = (pd.read_csv(tmp_path / name).set_index("picture") for name in ("plain.csv", "named.csv"))
    assert plain.groupby("group").size().value_counts().to_dict() == {1: 5, 2: 1}
    name = parts.name
    assert named.group[f"{name}/val/even/2.png"] == named.group[f"{name}/train/even/2.png"] == "source-2.png"
    assert named.group[f"{name}/val/odd/blank.png"].startswith("unknown")


def test_of_several_siblings_the_copy_bit_for_bit_is_named(parts, tmp_path):
    (tmp_path / "a").mkdir()
    for name, picture in (
        ("1.png", draw_discs(9)),
        ("2.png", turn(draw_discs(9), 40)),
        ("3.png", turn(draw_discs(9), 80)),
    ):
        cv2.imwrite(str(tmp_path / "a" / name), picture)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    run("leak", tmp_path / "a", tmp_path / "b", "--csv", tmp_path / "leaks.csv")
    rows = pd.read_csv(tmp_path / "leaks.csv")
    assert [Path(name).name for name in rows.sibling] == [Path(name).name for name in rows.picture]
    assert set(rows["transform"]) == {"1 0 0 0 1 0"}


def test_a_table_may_name_classes_and_needs_no_parts_for_groups(parts, tmp_path):
    listed = sorted(parts.rglob("*.png"))
    pd.DataFrame({"Picture": listed, "class": "cell"}).to_csv(tmp_path / "all.csv", index=False)
    assert run("group", tmp_path / "all.csv", "--csv", tmp_path / "groups.csv").exit_code == 0
    groups = pd.read_csv(tmp_path / "groups.csv")
    assert groups["class"].eq("cell").all() and groups.group.nunique() == len(listed) - 1


def test_what_is_passed_over_in_a_folder_is_said(parts, tmp_path):
    shutil.copy(parts / "val" / "even" / "2.png", tmp_path)
    (tmp_path / "linked").symlink_to(parts / "train")
    (tmp_path / "notes.gif").write_bytes(b"GIF89a")
    outcome = run("leak", parts / "train", tmp_path)
    assert outcome.exit_code == 0
    assert "linked" in outcome.stderr and "notes.gif" in outcome.stderr


def test_colours_do_not_matter(parts, tmp_path):
    with Image.open(parts / "train" / "even" / "2.png") as opened:
        opened.convert("RGBA").rotate(15).save(tmp_path / "RGBA.png")
        for mode, ending in {"CMYK": "jpg", "L": "png", "P": "png"}.items():
            opened.convert(mode).save(tmp_path / f"{mode}.{ending}")
    outcome = run("leak", parts / "train", tmp_path)
    assert outcome.exit_code == 0, outcome.output
    assert f"{tmp_path.name}: 4 of 4 pictures" in outcome.stdout


def _write(folder, name, content):
    (folder / name).write_bytes(content)
    return folder / name


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda folder: [folder / "nowhere", folder], "nowhere"),
        (lambda folder: [folder], "wbc group"),
        (lambda folder: [folder, folder], "twice"),
        (lambda folder: [_write(folder, "a.txt", b"text"), folder], "a.txt"),
        (lambda folder: [_write(folder, "a.zip", b"PK\x05\x06" + bytes(18)), folder], "a.zip"),
        (lambda folder: [_write(folder, "a.csv", b"picture\nx.png\n")], "split"),
        (lambda folder: [_write(folder, "a.csv", b"picture,split\n")], "no picture"),
        (lambda folder: [_write(folder, "a.csv", b"picture,split\nx.png,train\n")], "row 2"),
        (lambda folder: [_write(folder, "a.csv", b"picture,split\nx.png,\n")], "row 2"),
        (lambda folder: [_write(folder, "a.csv", b"\xff\xfe\x00")], "a.csv"),
    ],
)
def test_bad_input_gets_a_sentence(parts, make, named):
    outcome = run("leak", *make(parts / "train"))
    assert isinstance(outcome.exception, WbcError)
    assert named in str(outcome.exception)


def test_a_damaged_picture_is_named_and_the_others_are_compared(parts, tmp_path):
    _write(tmp_path, "damaged.png", (parts / "val" / "even" / "2.png").read_bytes()[:2000])
    cv2.imwrite(str(tmp_path / "2.png"), draw_discs(2))
    outcome = run("leak", parts / "train", tmp_path)
    assert outcome.exit_code == 1
    assert "damaged.png" in outcome.stderr
    assert " 1 " in outcome.stdout
