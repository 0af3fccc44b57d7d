"""Whatever happens to a file on its way, reading it ends in one of our sentences or in a reading, soon."""

import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st

from wbc_lib.data import archive, check, dataset, images
from wbc_lib.errors import WbcError


@st.composite
def damages(draw):
    """A function that damages bytes: cuts them, turns some of them, or puts others between them."""
    place = draw(st.floats(0, 1))
    put = draw(st.binary(max_size=40))
    is_cut = draw(st.booleans())

    def damage(content: bytes) -> bytes:
        at = round(place * len(content))
        return content[:at] + put + (b"" if is_cut else content[at + len(put) :])

    return damage


def read_or_refuse(read, *arguments):
    try:
        return read(*arguments)
    except WbcError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return None


@given(damage=damages())
def test_a_jpeg(damage, phantom_set, tmp_path_factory):
    path = phantom_set.image_path(dataset.list_images(phantom_set).image[0])
    damaged = tmp_path_factory.mktemp("jpeg") / path.name
    damaged.write_bytes(damage(path.read_bytes()))
    pixels = read_or_refuse(images.read_image, damaged)
    assert pixels is None or (pixels.shape[2:] == (3,) and pixels.dtype == "uint8")
    problem = check.check_jpeg(damaged, dataset.IMAGE_SIZE)
    assert pixels is not None or problem


@given(damage=damages())
def test_labels(damage, phantom_set):
    text = damage(phantom_set.labels_path.read_bytes()).decode("utf-8", "replace")
    labels = read_or_refuse(dataset.parse_labels, text)
    assert labels is None or all(isinstance(number, int) for number in labels)


@given(damage=damages())
def test_boxes(damage, phantom_set):
    path = phantom_set.annotation_path(dataset.list_annotations(phantom_set)[0])
    boxes = read_or_refuse(dataset.parse_boxes, damage(path.read_bytes()), path.name)
    assert boxes is None or (boxes.xmin.between(0, 640) & boxes.ymax.between(0, 480)).all()


@given(damage=damages(), name=st.sampled_from(["photo.txt", "../outside", "/absolute", "a/../../b", "C:x"]))
@settings(max_examples=50)
def test_an_archive(damage, name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("zip")
    with zipfile.ZipFile(folder / "set.zip", "w") as packed:
        packed.writestr(name, b"content" * 100)
        packed.writestr("second.txt", b"more")
    (folder / "set.zip").write_bytes(damage((folder / "set.zip").read_bytes()))
    read_or_refuse(archive.unpack, folder / "set.zip")
    assert not list(folder.parent.glob("outside")) and not list(folder.parent.glob("b"))
