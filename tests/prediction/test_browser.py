import base64
import hashlib
import json
import shutil
import time

import cv2
import nbformat
import numpy as np
import pytest

from tests.train_tiny import SMALL
from wbc_lib import paths
from wbc_lib.book import build
from wbc_lib.data import dataset, images, pictures
from wbc_lib.data.windows import RED_CELL, WHOLE_PHOTO, find_cells
from wbc_lib.prediction import answers, picture, refusal
from wbc_lib.prediction import browser as browser_model
from wbc_lib.prediction.refusal import Guard
from wbc_lib.training import experiments
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

FINAL = experiments.EXPERIMENTS["final"]
TRY = paths.BOOK / "_static" / "try"
#: Of the files that are not ours, as npm has them: tfjs-core and tfjs-backend-cpu 4.22.0.
SHA256 = {
    "tf-core.es2017.min.js": "c55367325aa628ed685164d5c4210892e31c6d2d0e8c163a827b15ad330d1eba",
    "tf-backend-cpu.es2017.min.js": "5d703dd6791356c98c3131aa6340ca48d82806228dfad8b439e83bcaedbb508e",
}


@pytest.fixture(scope="module")
def study(small_run, tiny_set):
    """A study whose final model is a small one that has learned a little from phantoms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "final", SMALL)
        yield Study(tiny_set, PROFILES["smoke"], Store(small_run.folder.parent))


def make_page(folder, study):
    """The page as the site has it, with the book's style and without the theme's."""
    cells = nbformat.read(paths.BOOK / "try-a-cell.ipynb", 4).cells
    (body,) = [c.source for c in cells if 'id="wbc-try-page"' in c.source]
    target = folder / "book" / "try-a-cell.html"
    target.parent.mkdir(parents=True)
    shutil.copytree(TRY, folder / "_static" / "try")
    shutil.copy(TRY.parent / "wbc.css", folder / "_static")
    (folder / browser_model.PLACE).write_bytes(browser_model.export(study))
    head = '<meta charset=utf-8><title>.</title><link rel="stylesheet" href="../_static/wbc.css">'
    target.write_text(f"<!doctype html><html lang=en>{head}{body}")
    return target


@pytest.fixture(scope="module")
def page(study, tmp_path_factory):
    return make_page(tmp_path_factory.mktemp("site"), study)


@pytest.fixture
def do(open_page, page):
    with open_page(page) as do:
        yield do


def test_the_page_is_used_with_the_keyboard_and_draws_examples_of_each_class_in_turn(do):
    loaded = "Array.from(document.scripts, (script) => script.src.split('/').pop())"
    assert do(lambda tab: tab.evaluate(loaded)) == ["try.js"]  # before a picture is given nothing else is

    def walk(tab):
        for place in ("wbc-try-file", "wbc-try-example"):
            tab.keyboard.press("Tab")
            assert tab.evaluate("document.activeElement.id") == place
        said = []
        for _ in range(5):
            tab.keyboard.press("Enter")
            tab.wait_for_function("/%/.test(document.getElementById('wbc-try-answer').innerText)")
            said.append(tab.inner_text("#wbc-try-answer").split(":")[0])
        return said

    assert do(walk) == [f"A drawn {c.lower()}" for c in (*dataset.CLASSES, dataset.CLASSES[0])]
    assert "model.js" in do(lambda tab: tab.evaluate(loaded))
    assert do(lambda tab: tab.locator("#wbc-try-bars > *").count()) == 4
    assert do(lambda tab: tab.get_attribute("#wbc-try-answer", "aria-live")) == "polite"
    assert do(lambda tab: tab.evaluate("document.getElementById('wbc-try-file').labels.length")) == 1


def read_answer(do):
    do(lambda tab: tab.wait_for_function("!/^(Looking|$)/.test(document.getElementById('wbc-try-answer').innerText)"))
    return do(lambda tab: tab.inner_text("#wbc-try-answer"))


def give(do, *files):
    """Choose files one by one; returns what the page says of each."""
    said = []
    for file in files:
        do(lambda tab, file=file: tab.set_input_files("#wbc-try-file", str(file)))
        said.append(read_answer(do))
    return said


def read_and_ask(do, files):
    """Pixels and probabilities that the page's own functions give for files."""
    script = """async (content) => {
        const model = await wbcTry.network();
        const file = new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))]);
        const { pixels } = await wbcTry.readPicture(file, model.shape);
        return [Array.from(pixels), model.ask(pixels)];
    }"""
    content = [base64.b64encode(f.read_bytes()).decode() for f in files]
    answers = [do(lambda tab, c=c: tab.evaluate(script, c)) for c in content]
    return np.array([a[0] for a in answers]).reshape(-1, 60, 80, 3), np.array([a[1] for a in answers])


def ask(run, files, threshold=0.5):
    return [said.cells[0] for said in answers.answer(run, None, files, threshold, as_is=True)]


def probabilities(run, files):
    return np.array([cell.probabilities for cell in ask(run, files)])


def images_of(data, split, per_class):
    listed = dataset.list_images(data)
    chosen = listed[listed.split == split].groupby("cell").head(per_class)
    return [data.image_path(name) for name in chosen.image]


#: Training decodes a JPEG at half size, a browser at full size: how far a pixel and a probability may be apart.
#: (Decoding 208 published images at full size with OpenCV moves a pixel by up to 12, 0.4 on the mean.) This network
#: learned little: its answers are alike.
PIXELS, PROBABILITY = 16, 0.002


def test_files_of_the_data_set_get_nearly_the_same_probabilities_as_from_wbc_predict(do, small_run, phantom_set):
    files = images_of(phantom_set, "TEST", 3)
    pixels, found = read_and_ask(do, files)
    off = np.abs(pixels - np.array([images.read_small(f) for f in files], int))
    assert off.max() <= PIXELS and off.mean() < 0.5
    expected = probabilities(small_run, files)
    assert np.abs(found - expected).max() < PROBABILITY
    assert np.ptp(expected, axis=0).max() > 2 * PROBABILITY  # else agreeing would be no feat


def test_equal_pixels_give_equal_probabilities_however_odd_the_picture(do, small_run, tmp_path):
    rng = np.random.default_rng(0)
    files = []
    for i, spread in enumerate((0, 1, 10, 120, 1000)):
        noise = np.clip(rng.normal(128, spread, (60, 80, 3)), 0, 255).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), noise)
        files.append(tmp_path / f"{i}.png")
    pixels, found = read_and_ask(do, files)
    assert np.array_equal(pixels, [pictures.read_picture(f) for f in files])
    assert np.abs(found - probabilities(small_run, files)).max() < 1e-4


def test_other_pictures_are_cut_and_averaged_alike(do, tmp_path, phantom_set):
    source = images.read_image(phantom_set.photo_path(dataset.list_photos(phantom_set)[0]))
    full_colour = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # not the data set's kind
    files = []
    for size in [(640, 480), (1001, 333), (97, 400), (320, 240), (163, 121)]:
        for ending, options in {".png": [], ".jpg": full_colour}.items():
            files.append(tmp_path / f"{size[0]}x{size[1]}{ending}")
            cv2.imwrite(str(files[-1]), cv2.resize(source, size)[..., ::-1], options)
    for file, pixels in zip(files, read_and_ask(do, files)[0], strict=True):
        off = np.abs(pixels - pictures.read_picture(file).astype(int))
        assert off.max() <= (2 if file.suffix == ".jpg" else 1), file
        assert off.mean() < 0.25, file


LOOK = """async ([content, guard]) => {
    await wbcTry.network();
    const file = new Blob([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))]);
    const { larger, size } = await wbcTry.readPicture(file, [60, 80]);
    const pixels = Array.from(larger, (value) => String.fromCharCode(value)).join("");
    return [pixels, wbcCheck.look(larger, size[1], size[0], guard)];
}"""


@pytest.fixture(scope="module")
def guard(phantom_set):
    """What phantoms are like."""
    files = images_of(phantom_set, "TRAIN", 8)
    cells = [picture.look(images.read_image(f), RED_CELL / 2)[0] for f in files]
    numbers = np.stack([refusal.colour_numbers(cell.colours) for cell in cells])
    reference = refusal.fit_reference("phantoms", numbers, np.arange(len(files)))
    return Guard((reference,), *refusal.nucleus_limits(np.array([cell.nucleus for cell in cells])))


def change(pixels):
    """Pictures of one cell: as it is, turned with black corners, near an edge, of another stain, light, and tiny."""
    turn = cv2.getRotationMatrix2D((160, 120), 30, 1)
    yield from (pixels, cv2.warpAffine(pixels, turn, (320, 240)), np.roll(pixels, 110, axis=1))
    yield from (pixels[..., ::-1], (pixels // 2 + 127).astype(np.uint8), cv2.resize(pixels, (163, 121)))


def test_colours_are_checked_with_the_numbers_of_wbc_predict(do, phantom_set, guard, tmp_path):
    plain = guard.as_plain() | {"across": WHOLE_PHOTO.field[0]}
    compared = 0
    for file in images_of(phantom_set, "TEST", 1)[::2]:
        for changed in change(images.read_image(file)):
            _, content = cv2.imencode(".png", changed[..., ::-1])
            pixels, seen = do(lambda tab, c=content: tab.evaluate(LOOK, [base64.b64encode(c).decode(), plain]))
            side = 320 if len(pixels) == 320 * 240 * 3 else 160
            pixels = np.frombuffer(pixels.encode("latin-1"), np.uint8).reshape(-1, side, 3)
            cells = find_cells(pixels, side / WHOLE_PHOTO.field[0])
            assert bool(cells) == bool(seen)
            if not cells:
                continue
            (cell, *_), scale = cells, side / WHOLE_PHOTO.field[0]
            numbers = refusal.colour_numbers(refusal.cut_colours(pixels, cell, scale))
            assert seen["nucleus"]["diameter"] == pytest.approx(cell.diameter(scale), rel=0.02)
            assert seen["numbers"] == pytest.approx(numbers, abs=0.5)
            assert seen["unlike"] == pytest.approx(float(guard.scores(numbers)), rel=0.03, abs=0.03)
            compared += 1
    assert compared >= 8


def test_a_picture_of_other_colours_gets_the_reason_and_an_answer_only_on_request(
    open_page, study, guard, phantom_set, tmp_path, monkeypatch
):
    monkeypatch.setattr(browser_model, "find_guard", lambda _: guard)
    file = images_of(phantom_set, "TEST", 1)[0]
    cv2.imwrite(str(tmp_path / "green.png"), images.read_image(file)[..., [1, 2, 0]])
    cv2.imwrite(str(tmp_path / "blank.png"), np.full((240, 320, 3), 200, np.uint8))
    with open_page(make_page(tmp_path / "site", study)) as do:
        said = give(do, tmp_path / "green.png", tmp_path / "blank.png")
        assert all("No answer" in sentence and "%" not in sentence for sentence in said)
        assert not do(lambda tab: tab.is_visible("#wbc-try-result"))
        do(lambda tab: tab.click("#wbc-try-answer button"))
        assert "%" in read_answer(do) and do(lambda tab: tab.is_visible("#wbc-try-result"))
        assert "%" in give(do, file)[0]
        do(lambda tab: tab.click("#wbc-try-example"))
        assert "%" in read_answer(do)


def test_the_page_names_the_class_shows_four_bars_and_the_pixels(do, small_run, study, phantom_set):
    file = images_of(phantom_set, "TEST", 1)[0]
    (said,) = give(do, file)
    (answer,) = ask(small_run, [file], picture.choose_threshold(small_run))
    assert said.startswith(f"{file.name}: {answer.cell.capitalize()}, ")
    assert ("rather abstain" in said) == answer.abstains
    bars = do(lambda tab: tab.inner_text("#wbc-try-bars").split())
    shown = dict(zip(bars[::2], bars[1::2], strict=True))
    assert list(shown) == [c.capitalize() for c in dataset.CLASSES]
    shares = [float(share.removesuffix("%")) / 100 for share in shown.values()]
    assert shares == pytest.approx(answer.probabilities[1:], abs=PROBABILITY)
    pixels = """(() => { const c = document.getElementById('wbc-try-seen');
        return Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data) })()"""
    seen = do(lambda tab: tab.evaluate(pixels))
    assert np.abs(np.reshape(seen, (60, 80, 4))[..., :3] - answer.pixels.astype(int)).max() <= PIXELS


def test_what_is_no_picture_is_a_sentence_and_the_next_one_is_answered(do, tmp_path, phantom_set):
    (tmp_path / "notes.txt").write_text("Dear diary")
    (tmp_path / "cut.jpg").write_bytes(images_of(phantom_set, "TEST", 1)[0].read_bytes()[:300])
    cv2.imwrite(str(tmp_path / "tiny.png"), np.zeros((59, 100, 3), np.uint8))
    good = images_of(phantom_set, "TEST", 1)[0]
    said = give(do, good, tmp_path / "notes.txt", tmp_path / "cut.jpg", tmp_path / "tiny.png")
    assert "%" in said[0]
    unreadable = "is no picture that this browser can read; give a JPEG or PNG file."
    assert said[1:3] == [f"notes.txt {unreadable}", f"cut.jpg {unreadable}"]
    assert said[3] == "tiny.png is smaller (100x59) than what the network looks at, 80x60."
    assert not do(lambda tab: tab.is_visible("#wbc-try-result"))  # nothing of the last answer is left
    assert give(do, good) == said[:1]
    assert do(lambda tab: tab.is_visible("#wbc-try-result"))


DROP = """([name, content]) => {
    const transfer = new DataTransfer();
    if (name) transfer.items.add(new File([Uint8Array.from(atob(content), (c) => c.charCodeAt(0))], name));
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    const zone = document.getElementById("wbc-try-zone");
    zone.dispatchEvent(new DragEvent("dragover", options));
    const over = zone.className.includes("is-over");
    return [over, !zone.dispatchEvent(new DragEvent("drop", options)), zone.className.includes("is-over")];
}"""


def drop(do, name, content):
    handled = do(lambda tab: tab.evaluate(DROP, [name, base64.b64encode(content).decode()]))
    assert handled == [True, True, False]  # the zone lights up, takes what is dropped, and goes out
    return read_answer(do)


def test_a_dropped_picture_is_answered_and_a_dropped_text_refused(do, phantom_set):
    file = images_of(phantom_set, "TEST", 1)[0]
    assert drop(do, "notes.txt", b"Dear diary").startswith("notes.txt is no picture")
    assert drop(do, "cell.jpg", file.read_bytes()) == give(do, file)[0].replace(file.name, "cell.jpg")
    assert drop(do, "", b"").startswith("What was dropped is no file")


def test_without_a_run_the_page_says_so(open_page, study, tmp_path):
    page = make_page(tmp_path / "site", Study(study.data, study.profile, Store(tmp_path / "none")))
    with open_page(page) as do:
        do(lambda tab: tab.click("#wbc-try-example"))
        said = read_answer(do)
    assert said == "No run of the final model is recorded for this build."


def read_script(content):
    head, body = content.decode("ascii").split(" = ", 1)
    assert head == "globalThis.wbcModel"
    return json.loads(body.removesuffix(";\n"))


def test_the_script_holds_the_recorded_weights_to_the_bit_and_an_example_of_each_class(study, small_run):
    script = browser_model.export(study)
    model = read_script(script)
    values = np.frombuffer(base64.b64decode(model["weights"]), "<f4")
    assert values.size == small_run.record["parameters"]
    for shape, recorded in zip(model["shapes"], small_run.weights(), strict=True):
        assert np.array_equal(values[: recorded.size].reshape(shape), recorded)
        values = values[recorded.size :]
    assert (model["run"], model["threshold"]) == (small_run.name, picture.choose_threshold(small_run))
    assert browser_model.export(study) == script
    drawn = {base64.b64decode(e["jpeg"]) for e in model["examples"]}
    assert [images.jpeg_size(content, "example") for content in drawn] == [(*dataset.IMAGE_SIZE, 3)] * 4


def test_building_the_book_puts_script_and_licences_where_the_page_looks_for_them(study, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "STAGING", tmp_path)
    monkeypatch.setattr(build, "_hash_surroundings", lambda _: "0")  # of all of results/: it takes long
    build._stage(study)
    assert (tmp_path / "book" / browser_model.PLACE).read_bytes() == browser_model.export(study)
    assert {p.name for p in TRY.iterdir()} <= {p.name for p in (tmp_path / "book/_static/try").iterdir()}
    before = (tmp_path / "book" / browser_model.PLACE).stat().st_mtime_ns
    time.sleep(0.01)
    build._stage(study)  # unchanged, so untouched
    assert (tmp_path / "book" / browser_model.PLACE).stat().st_mtime_ns == before


def test_what_is_not_ours_is_the_release_with_its_licence_and_small():
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in TRY.glob("*.min.js")}
    assert found == SHA256
    licences = (TRY / "LICENSES.txt").read_text(encoding="utf-8")
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in licences and "David Bau" in licences
    assert all(name in licences for name in SHA256)
    assert sum(p.stat().st_size for p in TRY.iterdir()) < 500_000
    assert not (TRY / "model.js").exists()  # made when the book is built, never committed


@pytest.mark.slow
def test_in_the_browser_test_files_get_the_recorded_class_but_for_a_few_on_the_border(
    open_page, real_set, tmp_path, monkeypatch
):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", FINAL)
    store = Store(paths.ROOT / "results")
    study = Study(real_set, PROFILES["paper"], store, may_train=False)
    recorded = picture.find_run(store)
    assert recorded.key == Plan(FINAL, FINAL.epochs, 0, study.data_sha256).key  # the full-length run of seed 0
    some = slice(None, None, 5)
    files = [real_set.image_path(name) for name in recorded.names("test")[some]]
    with open_page(make_page(tmp_path / "site", study)) as do:
        pixels, found = read_and_ask(do, files)
    same = found.argmax(axis=1) == recorded.predicted("test")[some]
    assert same.mean() >= 0.99
    assert np.abs(pixels - study.images.of("TEST")[0][some].astype(int)).max() <= PIXELS
    assert np.abs(found - recorded.probabilities("test")[some]).mean() < 0.005
