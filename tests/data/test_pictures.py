"""Every form of picture is read right, or refused in one sentence that names it; nothing is printed meanwhile."""

import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from wbc_lib.data import dataset, images, pictures
from wbc_lib.errors import BadDataError


@pytest.fixture
def picture(phantom_set):
    """A phantom of TEST."""
    listed = dataset.list_images(phantom_set)
    return phantom_set.image_path(listed.image[listed.split == "TEST"].iloc[0])


@pytest.fixture
def pixels(picture):
    """Its pixels, at a size that is not the data set's; the brightest is white."""
    pixels = cv2.resize(images.read_image(picture), (480, 360))
    pixels[0, 0] = 255
    return pixels


def write(path, image, ending=".png"):
    _, encoded = cv2.imencode(ending, image[..., ::-1])
    path.write_bytes(encoded.tobytes())
    return path


def encode(pixels, file_format, mode="RGB", **options):
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.convert(mode).save(stream, file_format, **options)
    return stream.getvalue()


def deep(pixels, factor, ending=".tif"):
    return cv2.imencode(ending, pixels[..., ::-1].astype(np.uint16) * factor)[1].tobytes()


def tiff(pixels, **stated):
    """A plain TIFF of the dtype and channels of an array, with further tags: each a SHORT of one value or several."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    tags = {256: pixels.shape[1], 257: pixels.shape[0], 258: [pixels.itemsize * 8] * channels, 259: 1}
    tags |= {262: 2 if channels > 1 else 1, 273: 0, 277: channels, 278: pixels.shape[0], 279: pixels.nbytes}
    tags |= {int(tag.strip("t")): value for tag, value in stated.items()}
    behind = 8 + 2 + 12 * len(tags) + 4
    entries, long = b"", b""
    tags[273] = behind + sum(2 * len(v) for v in tags.values() if isinstance(v, list) and len(v) > 2)
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        raw = struct.pack(f"<{len(values)}{'L' if tag in (273, 279) else 'H'}", *values)
        if len(raw) > 4:
            raw, long = struct.pack("<L", behind + len(long)), long + raw
        entries += struct.pack("<HHL", tag, 4 if tag in (273, 279) else 3, len(values)) + raw.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + long + pixels.tobytes()


def chunk(kind, content):
    return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)


def promise(width, height):
    """A PNG that has a header of grey pixels and none of them."""
    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def with_chunk(png, kind, content):
    return png[:33] + chunk(kind, content) + png[33:]


def profile(name):
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def exif(**tags):
    made = Image.Exif()
    for tag, value in tags.items():
        made[int(tag.strip("t"))] = value
    return made


def read_as_it_is(pixels):
    """Forms that are to be read to the pixels they were made of, or to their grey."""
    clear = np.dstack([pixels, np.full_like(pixels[..., :1], 255)])
    framed = np.pad(clear, ((0, 0), (60, 60), (0, 0)))  # with columns beside the middle that are transparent
    small = Image.fromarray(pixels[::4, ::4])
    small.encoderinfo = {"tiffinfo": {254: 1}}  # a smaller copy
    png, sixteen = encode(pixels, "PNG"), pixels.astype("<u2")
    jpeg = encode(pixels, "JPEG", quality=100, subsampling=0)
    return {
        "12 bits stated": tiff(sixteen * 16, t281=[4095] * 3),
        "16 bits": tiff(sixteen * 257),
        "16 bits in a PNG": deep(pixels, 257, ".png"),
        "16 bits and a clear alpha": tiff(clear.astype("<u2") * 257, t338=2),
        "8 bits": tiff(pixels),
        "clear alpha": encode(clear, "PNG", "RGBA"),
        "transparent beyond the middle": encode(framed, "PNG", "RGBA"),
        "a fourth channel without meaning": tiff(clear, t338=0),
        "LZW": encode(pixels, "TIFF", compression="tiff_lzw"),
        "deflate": encode(pixels, "TIFF", compression="tiff_adobe_deflate"),
        "a damaged comment": with_chunk(png, b"tIME", b"?"),
        "a page and its small copy": encode(pixels, "TIFF", save_all=True, append_images=[small]),
        "a JPEG and more": jpeg + b"\xff\xda",
        "a JPEG and zeros": jpeg + bytes(5000),
        "a JPEG of RGB": encode(pixels, "JPEG", quality=100, keep_rgb=True),
        "a phone's JPEG and its preview": with_another(pixels),
        "a PNG and more": png + b"more",
        "a gamma that is that of sRGB": with_chunk(png, b"gAMA", (45455).to_bytes(4)),
        "sRGB by a profile": encode(pixels, "PNG", icc_profile=profile("sRGB")),
        "a JPEG and a profile": encode(pixels, "JPEG", quality=100, subsampling=0, icc_profile=profile("sRGB")),
    }


def with_another(pixels, kind=0):
    """A JPEG that is followed by a small one: of no kind, as a phone's preview, or of that kind of the MP format."""
    made = bytearray(
        encode(pixels, "MPO", save_all=True, append_images=[Image.fromarray(pixels[::4, ::4])], quality=100)
    )
    first = made.index(struct.pack("<L", 0x030000), made.index(b"0100"))
    made[first + 16 : first + 20] = struct.pack("<L", kind)
    return bytes(made)


def refused(pixels, picture):
    """Forms that are to be refused, by a word of the sentence."""
    grey, sixteen = pixels[..., 1], pixels.astype("<u2")
    half = np.dstack([pixels, np.full_like(grey, 99)])
    both = {"save_all": True, "append_images": [Image.fromarray(pixels[::-1])]}
    data_set = picture.read_bytes()
    lzw, deflated, png = (
        encode(pixels, "TIFF", compression="tiff_lzw"),
        encode(pixels, "TIFF", compression="tiff_adobe_deflate"),
        encode(pixels, "PNG"),
    )

    def damaged(content):
        middle = len(content) // 2
        is_jpeg = content.startswith(b"\xff\xd8")  # which may well go on after other damage than a gap
        return content[:middle] + (content[middle + 500 :] if is_jpeg else bytes(64) + content[middle + 64 :])

    return {
        "12 of its 16 bits": [tiff(sixteen * 16), deep(pixels, 16, ".png"), tiff(grey.astype("<u2") * 16)],
        "14 of its 16 bits": [tiff(sixteen * 64), tiff(sixteen * 64, t281=[16000] * 3)],
        "8 of its 16 bits": [tiff(sixteen)],
        "a range up to 1023": [tiff(sixteen * 16, t281=[1023] * 3)],
        "floating-point": [tiff(grey.astype("<f4"), t339=3)],
        "signed or of 32 bits": [tiff(grey.astype("<i2"), t339=2), tiff(grey.astype("<u4"), t339=1)],
        "inverted or in planes": [tiff(grey.astype("<u2") * 257, t262=0)],
        "print": [
            encode(pixels, "JPEG", "CMYK"),
            encode(pixels[:240, :320], "JPEG", "CMYK"),
            encode(pixels, "TIFF", "CMYK"),
        ],
        "Lab": [tiff(pixels, t262=8)],
        "YCbCr": [encode(pixels, "TIFF", "YCbCr")],
        "transparent": [encode(half, "PNG", "RGBA"), encode(half, "WEBP", "RGBA"), encode(half, "TIFF", "RGBA")],
        "2 pages or frames": [encode(pixels, kind, **both) for kind in ("TIFF", "PNG", "WEBP")]
        + [with_another(pixels, 0x020002)],
        "preview": [tiff(pixels, t254=1)],
        "JPEG inside": [encode(pixels, "TIFF", compression="jpeg")],
        "profile": [
            encode(pixels, "JPEG", icc_profile=b"x" * 500),
            with_chunk(png, b"iCCP", b"x\0\0" + zlib.compress(b"junk")),
        ],
        "gamma": [with_chunk(png, b"gAMA", (100000).to_bytes(4))],
        "Adobe RGB": [encode(pixels, "JPEG", exif=exif(t34665={40965: {1: "R03"}}))],
        "ends too early": [data_set[:-2], encode(pixels, "JPEG")[:-900], png[: len(png) // 2]],
        "damaged": [damaged(data_set), damaged(encode(pixels, "JPEG")), damaged(lzw), damaged(deflated), damaged(png)],
        "pixels; cut out": [promise(50_000, 50_000)],
        "cannot be decoded": [promise(300, 200)],
        "too small": [encode(pixels[:59, :200], "PNG")],
        "the file is empty": [b""],
        "is no picture": [encode(pixels, kind) for kind in ("GIF", "JPEG2000", "AVIF")] + [b"\0\0\0\x18ftypheic"],
    }


def test_what_can_be_read_is_read_to_its_pixels(tmp_path, pixels, capfd):
    expected = images.shrink(pixels).astype(int)
    for name, content in read_as_it_is(pixels).items():
        (tmp_path / "a.dat").write_bytes(content)
        off = np.abs(pictures.read_picture(tmp_path / "a.dat").astype(int) - expected)
        assert off.max() <= 4 and off.mean() < 1, name
    for content in (tiff(pixels[..., 1]), tiff(255 - pixels[..., 1], t262=0), tiff(pixels[..., 1].astype("<u2") * 257)):
        (tmp_path / "a.dat").write_bytes(content)
        off = np.abs(pictures.read_picture(tmp_path / "a.dat").astype(int) - expected[..., 1:2])
        assert off.max() <= 1
    assert capfd.readouterr().err == ""


def test_what_would_have_to_be_guessed_is_refused_in_a_sentence(tmp_path, pixels, picture):
    path = tmp_path / "a.dat"
    for complaint, contents in refused(pixels, picture).items():
        for i, content in enumerate(contents):
            path.write_bytes(content)
            with pytest.raises(BadDataError) as error:
                pytest.fail(f"{complaint} {i}: read, mean {pictures.read_picture(path).mean():.0f}")
            text = str(error.value)
            assert text.startswith(f"{path}: ") and complaint in text and text.endswith(".") and "\n" not in text, i
            assert "archive" not in text


def test_colours_of_another_profile_are_brought_to_srgb(tmp_path, pixels):
    # Red and blue change places in this profile.
    content = bytearray(profile("sRGB"))
    red, blue = content.index(b"rXYZ"), content.index(b"bXYZ")
    content[red : red + 4], content[blue : blue + 4] = b"bXYZ", b"rXYZ"
    (tmp_path / "a.png").write_bytes(encode(pixels[..., ::-1], "PNG", icc_profile=bytes(content)))
    off = np.abs(pictures.read_picture(tmp_path / "a.png").astype(int) - images.shrink(pixels).astype(int))
    assert off.max() <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("depth", [8, 16])
def test_a_tiff_is_turned_as_it_says(tmp_path, pixels, orientation, depth):
    stored = pixels if depth == 8 else pixels.astype("<u2") * 257
    (tmp_path / "a.tif").write_bytes(tiff(stored, t274=orientation))
    turned = {1: (), 2: (1,), 3: (0, 1), 4: (0,)}
    expected = np.flip(pixels, turned[orientation]) if orientation < 5 else pixels.transpose(1, 0, 2)
    expected = {6: expected[:, ::-1], 7: expected[::-1, ::-1], 8: expected[::-1]}.get(orientation, expected)
    expected = images.shrink(np.ascontiguousarray(pictures.cut(expected, (60, 80))))
    off = np.abs(pictures.read_picture(tmp_path / "a.tif").astype(int) - expected.astype(int))
    assert off.max() <= 1


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp", ".webp", ".jpg"])
def test_any_picture_is_cut_to_its_middle_and_averaged(tmp_path, picture, ending):
    wide = np.zeros((480, 1000, 3), np.uint8)  # what is beyond 4:3 is not looked at
    wide[:, 180:820] = cv2.resize(images.read_image(picture), (640, 480), interpolation=cv2.INTER_LINEAR)
    read = pictures.read_picture(write(tmp_path / f"a{ending}", wide, ending))
    expected = wide[:, 180:820].reshape(60, 8, 80, 8, 3).mean(axis=(1, 3))  # the definition, in plain numpy
    assert read.shape == (60, 80, 3)
    off = np.abs(read - expected)
    assert off.max() <= 0.5 if ending in {".png", ".tif", ".bmp"} else off.mean() < 3


@given(height=st.integers(20, 400), width=st.integers(20, 400), rows=st.integers(1, 60), columns=st.integers(1, 80))
def test_a_cut_is_in_the_middle_as_large_as_can_be_and_of_the_right_proportions(height, width, rows, columns):
    at = np.indices((height, width)).transpose(1, 2, 0)
    part = pictures.cut(at, (rows, columns))
    if not part.size:
        return
    h, w = part.shape[:2]
    assert h == height or w == width
    assert abs(h * columns - w * rows) < max(rows, columns)
    (top, left), (bottom, right) = part[0, 0], part[-1, -1]
    assert 0 <= (height - 1 - bottom) - top <= 1
    assert 0 <= (width - 1 - right) - left <= 1


def test_pictures_are_found_by_file_folder_and_pattern_each_once(tmp_path):
    for name in ("b.png", "a.JPG", "deep/c.tiff", "deep/d.JPE", "deep/e.jfif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()

    def find(*names):
        found = pictures.find_pictures([str(tmp_path / name) for name in names])
        return [str(p.relative_to(tmp_path)) for p in found.pictures], found.problems

    everything = ["a.JPG", "b.png", "deep/c.tiff", "deep/d.JPE", "deep/e.jfif"]
    assert find(".") == (everything, [])
    assert find("b.png", ".") == (["b.png", "a.JPG", *everything[2:]], [])
    assert find("*.png", "**/*.tiff") == (["b.png", "deep/c.tiff"], [])
    found, problems = find("nope.png", "*.webp", "empty", "b.png", "\0", "x" * 5000)
    assert found == ["b.png"] and len(problems) == 5
    assert [p.rsplit(": ", 1)[1][:14] for p in problems[:3]] == ["there is no su", "there is no su", "holds no pictu"]
    for name in ("f[1].png", "f1.png"):  # a name that looks like a pattern is that file
        (tmp_path / name).touch()
    assert find("f[1].png") == (["f[1].png"], [])


def test_what_is_passed_over_in_a_folder_is_counted_and_named(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/z.png").touch()
    for name in ("a.png", "b.heic", "c.GIF", "d", "deep/.e.png", "notes\x1b.txt"):
        (tmp_path / "in" / name).touch()
    (tmp_path / "in/linked").symlink_to(tmp_path / "other")
    (tmp_path / "in/f.png").symlink_to(tmp_path / "other/z.png")  # a linked file is read
    found = pictures.find_pictures([str(tmp_path / "in")])
    assert [p.name for p in found.pictures] == ["a.png", "f.png"] and found.problems == []
    over = ["b.heic", "c.GIF", "d", ".e.png", "linked", "notes\x1b.txt"]
    assert [p.name for p in found.passed_over] == over
    said = found.describe_passed_over()
    assert "Passed over 6 " in said and said.isprintable()
    assert all(pictures.printable(tmp_path / "in" / p) in said for p in ("b.heic", "linked", "notes\x1b.txt"))
    named = pictures.find_pictures([str(tmp_path / "in" / name) for name in ("", "d", "linked")])
    assert [p.name for p in named.pictures] == ["a.png", "f.png", "d", "z.png"]
    assert [p.name for p in named.passed_over if p.name == "d"] == []
    assert pictures.find_pictures([str(tmp_path / "other")]).describe_passed_over() == ""


def test_a_photo_that_lies_on_its_side_is_turned_by_what_its_exif_data_say(tmp_path, picture):
    upright = Image.fromarray(images.read_image(picture))
    lying = upright.transpose(Image.Transpose.ROTATE_90)
    # 6: to be turned by 90 degrees to the right.
    lying.save(tmp_path / "a.jpg", quality=100, subsampling=0, exif=exif(t274=6))
    read = pictures.read_picture(tmp_path / "a.jpg")
    assert np.abs(read.astype(int) - images.shrink(np.asarray(upright)).astype(int)).mean() < 2


def test_a_name_that_a_terminal_would_obey_is_not_printed_as_it_is(tmp_path):
    with pytest.raises(BadDataError) as error:
        pictures.read_picture(tmp_path / "a\x1b[2Jb.png")
    assert "\x1b" not in str(error.value)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    (tmp_path / "a.png").touch()
    real = os.scandir

    def scan(place):
        if str(place).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(place))
        return real(place)

    monkeypatch.setattr(os, "scandir", scan)
    found = pictures.find_pictures([str(tmp_path)])
    assert [p.name for p in found.pictures] == ["a.png"]
    assert [str(tmp_path / "closed") in p and "Permission denied" in p for p in found.problems] == [True]
