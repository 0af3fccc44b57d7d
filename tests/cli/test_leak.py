import json
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from wbc_lib.cli.main import app
from wbc_lib.errors import WbcError


def draw(seed):
    rng = np.random.default_rng(seed)
    picture = np.full((200, 220, 3), 225, np.uint8)
    for _ in range(90):
        place, axes = (tuple(int(v) for v in rng.integers(*limits, 2)) for limits in ((0, 220), (4, 20)))
        colour = tuple(int(v) for v in rng.integers(60, 230, 3))
        cv2.ellipse(picture, place, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def turn(picture, angle):
    return cv2.warpAffine(picture, cv2.getRotationMatrix2D((110, 100), angle, 1), (220, 200))


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Train with pictures 0 to 2, val with 2 (turned) to 4 and one that shows nothing; classes as folders."""
    root = tmp_path_factory.mktemp("parts")
    for part, seeds in (("train", (0, 1, 2)), ("val", (2, 3, 4))):
        for seed in seeds:
            folder = root / part / ("even" if seed % 2 == 0 else "odd")
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{seed}.png"), turn(draw(seed), 25 if part == "val" else 0))
    cv2.imwrite(str(root / "val" / "odd" / "blank.png"), np.full((200, 220, 3), 200, np.uint8))
    return root


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))


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
def test_fail_above_decides_the_exit(parts, allowed, code):
    assert run("leak", parts / "train", parts / "val", "--fail-above", allowed).exit_code == code


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
        cv2.imwrite(str(originals / f"source-{seed}.png"), draw(seed))
    run("group", parts, "--csv", tmp_path / "plain.csv")
    run("group", parts, "--csv", tmp_path / "named.csv", "--sources", originals)
    plain, named = (pd.read_csv(tmp_path / name).set_index("picture") for name in ("plain.csv", "named.csv"))
    assert plain.groupby("group").size().value_counts().to_dict() == {1: 5, 2: 1}
    name = parts.name
    assert named.group[f"{name}/val/even/2.png"] == named.group[f"{name}/train/even/2.png"] == "source-2.png"
    assert named.group[f"{name}/val/odd/blank.png"].startswith("unknown")


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
    cv2.imwrite(str(tmp_path / "2.png"), draw(2))
    outcome = run("leak", parts / "train", tmp_path)
    assert outcome.exit_code == 1
    assert "damaged.png" in outcome.stderr
    assert " 1 " in outcome.stdout
