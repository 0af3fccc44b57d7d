"""Thousands of bad (and odd but good) inputs, each with what a reading of it must agree with; `test_fuzz` runs them.

A case writes its input into a folder of its own and reads it as the project does. It passes if that ends in a
`WbcError`, or in a reading that an independent one confirms; anything else is an exception that fails the case.
"""

import contextlib
import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

from wbc_lib.data import archive, check, dataset, hashes, images
from wbc_lib.data.dataset import IMAGE_SIZE, PHOTO_SIZE, DataSet
from wbc_lib.errors import BadDataError, WbcError


@dataclass(frozen=True)
class Case:
    """One input; ``must`` is "refused", "read", or "" where either will do."""

    kind: str
    name: str
    run: Callable[[Path], None]
    must: str = ""


def corpus(data: DataSet) -> Iterator[Case]:
    """All cases, made of a small phantom data set; the same set gives the same cases."""
    yield from damaged_jpegs(data)
    yield from odd_jpegs(data)
    yield from other_formats(data)
    yield from box_files(data)
    yield from label_files(data)
    yield from archives(data)
    yield from data_sets(data)


# --- JPEGs ------------------------------------------------------------------------------------------------------------


def read_jpeg(folder: Path, content: bytes, size: tuple[int, int] = IMAGE_SIZE) -> None:
    """Write, check and read a JPEG; if the check lets it pass, the pixels must be those that Pillow sees."""
    path = folder / "image.jpeg"
    path.write_bytes(content)
    problem = check.check_jpeg(path, size)
    for read in (images.read_image, images.read_small):
        try:
            assert read(path).size < 3.1e7
        except BadDataError as error:
            assert str(path) in str(error)
            problem = problem or f"passed the check, but {error}"
    if problem:
        assert "passed the check" not in problem or size != IMAGE_SIZE, problem
        raise BadDataError(problem)
    try:
        with Image.open(io.BytesIO(content)) as opened:
            reference = np.asarray(ImageOps.exif_transpose(opened).convert("RGB")).astype(int)
    except (OSError, SyntaxError, ValueError, struct.error):  # Pillow reads the header by its own rules
        return
    image = images.read_image(path).astype(int)
    assert image.shape == reference.shape == (size[1], size[0], 3)
    assert np.abs(image - reference).max() <= 3
    means = reference.reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))
    # Decoding at half size rounds and clips otherwise where pixels are beyond all that a camera gives.
    assert np.abs(images.read_small(path) - means).mean() < 8


def jpeg(kind: str, name: str, content: bytes, must: str = "") -> Case:
    return Case(kind, name, lambda folder: read_jpeg(folder, content), must)


def some_images(data: DataSet) -> list[bytes]:
    """An image of each class, one of them in black borders."""
    listed = dataset.list_images(data)
    return [data.image_path(listed.image[listed.cell == cell].iloc[2]).read_bytes() for cell in dataset.CLASSES]


def flipped(content: bytes, rng: np.random.Generator, first: int, last: int, n: int) -> bytes:
    damaged = bytearray(content)
    for at in rng.integers(first, last, n):
        damaged[at] ^= 1 << rng.integers(8)
    return bytes(damaged)


def damaged_jpegs(data: DataSet) -> Iterator[Case]:
    for number, good in enumerate(some_images(data)):
        rng = np.random.default_rng(number)
        scan = good.index(b"\xff\xda") + 14
        yield jpeg("truncated JPEG", f"{number} whole", good, "read")
        for cut in np.linspace(1, len(good) - 20, 50).astype(int):
            yield jpeg("truncated JPEG", f"{number} at {cut}", good[:cut], "refused")
            yield jpeg("truncated JPEG", f"{number} at {cut}, end put on", good[:cut] + b"\xff\xd9", "refused")
        for n in range(50):
            yield jpeg("flipped bits", f"{number} header {n}", flipped(good, rng, 2, scan, 1 + n % 3))
            yield jpeg("flipped bits", f"{number} scan {n}", flipped(good, rng, scan, len(good) - 2, 1 + n % 8))
        for n in range(20):
            at, length = rng.integers(scan, len(good) - 600), rng.integers(64, 512)
            lost, rest = good[:at], good[at + length :]
            noise = rng.integers(0, 255, length, dtype=np.uint8).tobytes()  # without 255: no markers
            yield jpeg("damaged inside", f"{number} zeroed {n}", lost + bytes(length) + rest)
            yield jpeg("damaged inside", f"{number} noise {n}", lost + noise + rest)
            yield jpeg("damaged inside", f"{number} left out {n}", lost + rest)
            yield jpeg("damaged inside", f"{number} twice {n}", good[: at + length] + good[at:])


def encoded(picture: Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def odd_jpegs(data: DataSet) -> Iterator[Case]:
    kind = "odd JPEG"
    good = some_images(data)[0]
    picture = Image.open(io.BytesIO(good))
    for orientation in range(10):
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        must = "refused" if 5 <= orientation <= 8 else "read"
        yield jpeg(kind, f"EXIF orientation {orientation}", encoded(picture, exif=exif), must)
        stored_upright = picture.resize(IMAGE_SIZE[::-1])
        yield jpeg(kind, f"EXIF orientation {orientation}, on end", encoded(stored_upright, exif=exif), "refused")
    for quality in (1, 10, 30, 50, 75, 90, 95, 100):
        for subsampling in (0, 1, 2):
            for options in ({}, {"progressive": True}, {"optimize": True}, {"restart_marker_blocks": 7}):
                content = encoded(picture, quality=quality, subsampling=subsampling, **options)
                yield jpeg(kind, f"quality {quality}, subsampling {subsampling}, {options}", content, "read")
    yield jpeg(
        kind, "comment and colour profile", encoded(picture, comment=b"x" * 9999, icc_profile=bytes(999)), "read"
    )
    yield jpeg(kind, "RGB inside", encoded(picture, keep_rgb=True), "read")
    for mode in ("CMYK", "L", "1"):
        yield jpeg(kind, f"mode {mode}", encoded(picture.convert(mode)), "refused")
    for width, height in ((1, 1), (1, 240), (320, 1), (319, 240), (640, 480), (20000, 1), (1, 20000), (20000, 300)):
        content = encoded(Image.new("RGB", (width, height), "red"), quality=30)
        yield jpeg(kind, f"{width}x{height}", content, "refused")

    frame = good.index(b"\xff\xc0")
    sizes = (0, 1, 239, 241, 1000, 20000, 65500, 65535)
    for height, width in ((h, w) for h in sizes for w in (*sizes, 320)):
        stated = good[: frame + 5] + height.to_bytes(2) + width.to_bytes(2) + good[frame + 9 :]
        yield jpeg("bomb", f"states {width}x{height}", stated, "refused")
    padded = b"\xff\xff\xff".join([good[:2], good[2:frame], good[frame:]])
    yield jpeg(kind, "padding before markers", padded, "read")
    huge = b"\xff\xc0\x00\x11\x08" + (20000).to_bytes(2) * 2 + good[frame + 9 : frame + 19]
    for name, before in {
        "after padding": b"\xff" * 5 + huge,
        "within a comment": b"\xff\xfe" + (len(huge) + 2).to_bytes(2) + huge,
        "after a bare marker": b"\xff\xd0" + huge,
        "after a marker without length": b"\xff\x01" + huge,
        "after a length of nought": b"\xff\xfe\x00\x00" + huge,
        "first": huge,
        "after a thumbnail": b"\xff\xe1" + (len(good[:4000]) + 2).to_bytes(2) + good[:4000] + huge,
    }.items():
        must = "" if "comment" in name else "refused"
        yield jpeg("bomb", f"a huge frame {name}", good[:2] + before + good[2:], must)
    for marker in (0x00, 0x01, *range(0xD0, 0xDA)):
        # To libjpeg this marker has no length, the huge frame counts, and the good one lies in a comment.
        comment = b"\xff\xfe" + (len(good[frame : frame + 19]) + 2).to_bytes(2)
        hidden = b"\xff" + bytes([marker]) + (len(huge + comment) + 2).to_bytes(2) + huge + comment
        yield jpeg("bomb", f"a huge frame hidden by {marker:x}", good[:frame] + hidden + good[frame:], "refused")
    progressive = encoded(picture, progressive=True)
    last = progressive.rindex(b"\xff\xda")
    yield jpeg("bomb", "scans", progressive[:-2] + progressive[last:-2] * 150 + b"\xff\xd9", "refused")
    yield jpeg("bomb", "fat", good + bytes(3_000_000), "refused")
    for marker in (*range(0xC1, 0xD0), 0xF7):
        content = good[: frame + 1] + bytes([marker]) + good[frame + 2 :]
        yield jpeg(kind, f"frame of type {marker:x}", content, "read" if marker == 0xC1 else "")
    for bits in (1, 7, 9, 12, 16, 255):
        yield jpeg(kind, f"{bits} bits", good[: frame + 4] + bytes([bits]) + good[frame + 5 :], "refused")
    yield jpeg(kind, "without end", good[:-2], "refused")
    yield jpeg(kind, "zeros behind", good + bytes(60), "read")


def other_formats(data: DataSet) -> Iterator[Case]:
    kind = "other format"
    good = some_images(data)[1]
    colour = Image.open(io.BytesIO(good))
    sixteen = Image.fromarray(np.asarray(colour)[..., 0].astype(np.uint16) * 257)
    for file_format in ("PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "JPEG2000", "ICO", "TGA"):
        yield jpeg(kind, file_format, encoded(colour, file_format), "refused")
    for file_format in ("PNG", "TIFF"):
        yield jpeg(kind, f"{file_format} of 16 bits", encoded(sixteen, file_format), "refused")
        yield jpeg(kind, f"{file_format} with alpha", encoded(colour.convert("RGBA"), file_format), "refused")
        yield jpeg(kind, f"{file_format} of 1 bit", encoded(colour.convert("1"), file_format), "refused")
    yield jpeg("bomb", "PNG of 20000x20000", png_of_nothing(20000), "refused")
    yield jpeg("bomb", "GIF of 65535x65535", b"GIF89a\xff\xff\xff\xff" + encoded(colour, "GIF")[10:], "refused")
    for name, content in {
        "nothing": b"",
        "text": b"no picture\n" * 50,
        "a page": b"<!doctype html><title>404</title>",
        "a pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9000\n",
        "start": b"\xff\xd8\xff",
        "start and end": b"\xff\xd8\xff\xd9",
        "a JPEG behind text": b"text" + good,
        "a JPEG backwards": good[::-1],
        "a zip": zipped({"image.jpeg": good}),
    }.items():
        yield jpeg(kind, name, content, "refused")
    rng = np.random.default_rng(0)
    for n in range(60):
        yield jpeg(kind, f"noise {n}", rng.bytes(rng.integers(1, 9000)), "refused")
        yield jpeg(
            kind, f"noise with a JPEG's start {n}", b"\xff\xd8\xff" + rng.bytes(rng.integers(1, 9000)), "refused"
        )

    def special(make: Callable[[Path], None]) -> Callable[[Path], None]:
        def run(folder: Path) -> None:
            make(folder / "image.jpeg")
            for read in (images.read_image, images.read_small, dataset.read_file):
                with contextlib.suppress(BadDataError):
                    raise AssertionError(read(folder / "image.jpeg"))
            raise BadDataError(check.check_jpeg(folder / "image.jpeg", IMAGE_SIZE) or "")

        return run

    yield Case(kind, "a folder", special(lambda path: path.mkdir()), "refused")
    yield Case(kind, "a named pipe", special(os.mkfifo), "refused")
    yield Case(kind, "a link to nowhere", special(lambda path: path.symlink_to("nowhere")), "refused")
    yield Case(kind, "a link to itself", special(lambda path: path.symlink_to(path)), "refused")
    yield Case(kind, "a device without end", special(lambda path: path.symlink_to("/dev/zero")), "refused")
    yield Case(kind, "nothing at all", special(lambda path: None), "refused")
    yield Case("bomb", "a terabyte of nothing", special(lambda path: sparse(path, 10**12)), "refused")


def png_of_nothing(side: int) -> bytes:
    """A black square in black and white: 50 kB that would unpack to gigabytes."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    parts = {b"IHDR": struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0), b"IDAT": rows, b"IEND": b""}
    chunks = (struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts.items())
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def sparse(path: Path, n_bytes: int) -> None:
    with path.open("wb") as file:
        os.truncate(file.fileno(), n_bytes)


# --- boxes ------------------------------------------------------------------------------------------------------------

Boxes = list[tuple[str, int, int, int, int]]


def voc(*boxes: tuple) -> str:
    items = "".join(
        f"<object><name>{cell}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox>"
        "</object>"
        for cell, a, b, c, d in boxes
    )
    return f"<annotation>{items}</annotation>"


def read_boxes(folder: Path, content: bytes, expected: Boxes | None) -> None:
    """Write and read a box file; without `expected`, another parser must agree."""
    path = folder / "BloodImage_00001.xml"
    path.write_bytes(content)
    try:
        found = dataset.parse_boxes(dataset.read_file(path), str(path))
    except BadDataError as error:
        assert str(path) in str(error)
        raise
    rows = [tuple(row)[:5] for row in found.itertuples(index=False)]
    if expected is None:
        corners = ("xmin", "ymin", "xmax", "ymax")
        expected = [
            (item.find("name").text.strip(), *(int(item.find("bndbox").find(c).text) for c in corners))
            for item in ElementTree.fromstring(content).iter("object")
        ]
    assert rows == expected
    assert all(0 <= a <= c <= PHOTO_SIZE[0] and 0 <= b <= d <= PHOTO_SIZE[1] for _, a, b, c, d in rows)


def boxes(kind: str, name: str, content: bytes | str, must: str = "", expected: Boxes | None = None) -> Case:
    content = content.encode() if isinstance(content, str) else content
    return Case(kind, name, lambda folder: read_boxes(folder, content, expected), must)


def box_files(data: DataSet) -> Iterator[Case]:
    good = data.annotation_path(dataset.list_annotations(data)[0]).read_bytes()
    rng = np.random.default_rng(1)
    for cut in np.linspace(1, len(good) - 3, 80).astype(int):
        yield boxes("broken XML", f"cut at {cut}", good[:cut], "refused")
    for n in range(150):
        yield boxes("broken XML", f"flipped bits {n}", flipped(good, rng, 0, len(good), 1 + n % 4))
    for n in range(20):
        yield boxes("broken XML", f"noise {n}", rng.bytes(int(rng.integers(1, 999))), "refused")
    one, read = voc(("WBC", 1, 2, 300, 400)), [("WBC", 1, 2, 300, 400)]
    yield boxes("broken XML", "whole", one, "read", read)
    for name, text in {
        "nothing": "",
        "two roots": one + one,
        "tail": one + "x",
        "a name in no space": one.replace("name>", "x:name>"),
        "an unknown entity": one.replace("WBC", "&wbc;"),
        "deep": "<a>" * 90_000 + "</a>" * 90_000,
        "deep and open": "<a>" * 300_000,
        "a huge attribute": f'<a b="{"x" * 1_500_000}"/>',
        "too large": "<a>" + " " * 3_000_000 + "</a>",
    }.items():
        yield boxes("broken XML", name, text, "read" if name in {"deep", "a huge attribute"} else "refused", [])

    kind = "entities"
    laughs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
    for name, (declared, used) in {
        "a billion laughs": (f'[<!ENTITY e0 "ha">{laughs}]', "&e9;"),
        "quadratic": (f'[<!ENTITY e "{"x" * 50_000}">]', "&e;" * 9000),
        "in an attribute": (f'[<!ENTITY e0 "ha">{laughs}]', '<a b="&e9;"/>'),
        "harmless": ('[<!ENTITY e "ha">]', "&e;"),
        "parameter": ('[<!ENTITY % p "<!ENTITY e 1>"> %p;]', ""),
        "recursive": ('[<!ENTITY a "&b;"><!ENTITY b "&a;">]', "&a;"),
        "a file": ('[<!ENTITY x SYSTEM "file:///CANARY">]', "&x;"),
        "a relative file": ('[<!ENTITY x SYSTEM "../secret.txt">]', "&x;"),
        "an address": ('[<!ENTITY x SYSTEM "http://127.0.0.1:9/x">]', "&x;"),
        "a public address": ('[<!ENTITY x PUBLIC "x" "http://127.0.0.1:9/x">]', "&x;"),
        "an unparsed file": ('[<!NOTATION n SYSTEM "n"><!ENTITY x SYSTEM "file:///CANARY" NDATA n>]', ""),
        "a parameter from a file": ('[<!ENTITY % p SYSTEM "file:///CANARY"> %p;]', ""),
    }.items():
        for place in ("<name>WBC</name>", "<xmin>1</xmin>"):
            text = f"<!DOCTYPE annotation {declared}>" + one.replace(place, place.replace("><", f">{used}<"))
            text = text.replace(place, place.replace(">", f">{used}", 1))
            yield Case(kind, f"{name} in {place}", with_canary(text), "refused")
    for name, head in {
        "an external grammar": '<!DOCTYPE annotation SYSTEM "file:///CANARY">',
        "a public grammar": '<!DOCTYPE annotation PUBLIC "x" "http://127.0.0.1:9/x.dtd">',
        "a style sheet": '<?xml-stylesheet href="file:///CANARY"?>',
        "an inclusion": '<?x include="file:///CANARY"?>',
    }.items():
        yield Case(kind, name, with_canary(head + one, read), "")

    kind = "encoding of XML"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "ascii", "iso8859-15"):
        declared = f'<?xml version="1.0" encoding="{encoding.removesuffix("-sig")}"?>' + one
        yield boxes(kind, f"{encoding} as declared", declared.encode(encoding), "read", read)
    declared = '<?xml version="1.0" encoding="{}"?>' + one
    for encoding in ("utf-16-le", "utf-16-be", "utf-32", "cp037", "utf-7", "shift_jis", "big5", "hz"):
        yield boxes(kind, encoding, declared.format(encoding).encode(encoding), "", read)
        yield boxes(kind, f"{encoding}, undeclared", one.encode(encoding), "", read)
    for encoding in ("rot13", "base64", "zlib", "no-such", "idna", "undefined", "utf-16", "unicode_escape", "x" * 500):
        yield boxes(kind, f"declared {encoding:.20}", declared.format(encoding), "", read)
    for name, text in {
        "a NUL": one.replace("WBC", "W\0BC"),
        "a NUL behind": one + "\0",
        "bare returns": one.replace("><", ">\r<"),
        "wide space": one.replace(">1<", ">\u3000 1 \u00a0<"),
        "marked data": one.replace(">1<", "><![CDATA[1]]><"),
        "a comment within": one.replace(">1<", "><!-- 9 -->1<"),
        "not UTF-8": one.replace("WBC", "WBC\udcff").encode("utf-8", "surrogateescape"),
    }.items():
        must = "refused" if "NUL" in name or "UTF" in name else "read"
        yield boxes(kind, name, text, must, read)

    numbers = (
        ["nan", "inf", "-inf", "1e3", "1.0", "1.5", "", " ", "-1", "-0", "+5", "0x10", "1_0", "1,0", "٣", "２", "½"]
        + ["641", "99999", "9" * 9, "9" * 10, "9" * 4000, "9" * 5000, "-" + "9" * 4000, "1 2", "--1", "None", "1\n2"]
    )  # fmt: skip
    for corner in range(4):
        for number in numbers:
            box = ["WBC", 0, 0, 640, 480]
            box[corner + 1] = number
            must = "read" if number == "-0" else "refused"
            yield boxes("impossible box", f"{number[:12]!r} ({len(number)}) as corner {corner}", voc(tuple(box)), must)
    for box in ((9, 0, 3, 5), (0, 9, 5, 3), (0, 0, 641, 5), (0, 0, 5, 481), (-1, 0, 3, 5), (640, 480, 0, 0)):
        yield boxes("impossible box", f"{box}", voc(("RBC", *box)), "refused")
    for cell in ("Cat", "", "wbc", "WBC ", "RBC" * 9999):
        yield boxes(
            "impossible box", f"of a {cell:.12}", voc((cell, 1, 2, 3, 4)), "read" if cell == "WBC " else "refused"
        )


def with_canary(text: str, expected: Boxes | None = None) -> Callable[[Path], None]:
    """Refer to a file beside the case's folder; whoever opens it is seen."""

    def run(folder: Path) -> None:
        secret = str(folder.parent / "secret.txt").lstrip("/")
        read_boxes(folder, text.replace("CANARY", secret).encode(), expected)

    return run


# --- labels -----------------------------------------------------------------------------------------------------------

HEADER = ",Image,Category\n"


def read_labels(folder: Path, content: bytes, expected: dict | None) -> None:
    """Write and read a label file; without `expected`, a reading line by line must agree."""
    data = DataSet(folder, folder, folder)
    data.labels_path.write_bytes(content)
    try:
        found = dataset.read_labels(data)
    except BadDataError as error:
        assert "labels.csv" in str(error)
        raise
    if expected is None:
        expected = {}
        for line in re.split("\r\n|\r|\n", content.decode("utf-8-sig"))[1:]:
            if line:
                number, names = re.fullmatch(r",\s*([0-9]{1,5})\s*,(.*)", line).groups()
                expected[int(number)] = tuple(filter(None, (part.strip(' "\t\f\v') for part in names.split(","))))
    assert found == expected


def labels(kind: str, name: str, content: bytes | str, must: str = "", expected: dict | None = None) -> Case:
    content = content.encode() if isinstance(content, str) else content
    return Case(kind, name, lambda folder: read_labels(folder, content, expected), must)


def label_files(data: DataSet) -> Iterator[Case]:
    good = data.labels_path.read_bytes()
    rng = np.random.default_rng(2)
    for n in range(150):
        yield labels("broken labels", f"flipped bits {n}", flipped(good, rng, 0, len(good), 1 + n % 4))
    for cut in np.linspace(0, len(good), 60).astype(int):
        yield labels("broken labels", f"cut at {cut}", good[:cut])
    for n in range(30):
        noise = rng.bytes(int(rng.integers(1, 999)))
        yield labels("broken labels", f"noise {n}", noise, "refused")
        yield labels("broken labels", f"noise behind the header {n}", HEADER.encode() + noise, "refused")
    kind = "encoding of labels"
    text = HEADER + ',0,NEUTROPHIL\n,7,"EOSINOPHIL, MONOCYTE"\n,9,\n'
    read = {0: ("NEUTROPHIL",), 7: ("EOSINOPHIL", "MONOCYTE"), 9: ()}
    for encoding in ("utf-8", "utf-8-sig", "latin-1", "ascii", "cp1252", "utf-7"):
        for end in ("\n", "\r\n", "\r"):
            yield labels(kind, f"{encoding} {end!r}", text.replace("\n", end).encode(encoding), "read", read)
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037"):
        yield labels(kind, encoding, text.encode(encoding), "refused")
    for word in ("NEUTROPHÍL", "ＮＥＵＴＲＯＰＨＩＬ", "NEUTROPHIL\u200b", "Neutrophil", "😀"):
        yield labels(kind, f"{word}, as UTF-8", text.replace("NEUTROPHIL", word), "refused")
    yield labels(kind, "Latin-1", text.replace("NEUTROPHIL", "NEUTROPHÍL").encode("latin-1"), "refused")
    for at in range(0, len(text), 2):
        yield labels(kind, f"a NUL at {at}", text[:at] + "\0" + text[at:], "refused")
    kind = "odd labels"
    for name, rows, must in (
        ("header only", "", "read"),
        ("blank lines", "\n\n,3,MONOCYTE\n\n", "read"),
        ("no last end of line", ",3,MONOCYTE", "read"),
        ("an unknown class", ",3,BASOFIL\n", "refused"),
        ("a photo twice", ",3,MONOCYTE\n,3,MONOCYTE\n", "refused"),
        ("a photo twice, padded", ",3,MONOCYTE\n,0003,EOSINOPHIL\n", "refused"),
        ("a negative photo", ",-3,MONOCYTE\n", "refused"),
        ("a huge photo", f",{'9' * 9999},MONOCYTE\n", "refused"),
        ("an Arabic photo", ",٣,MONOCYTE\n", "refused"),
        ("a fraction of a photo", ",1.5,MONOCYTE\n", "refused"),
        ("too few columns", "3,MONOCYTE\n", "refused"),
        ("too many columns", ",3,MONOCYTE,x\n", "refused"),
        ("semicolons", ";3;MONOCYTE\n", "refused"),
        ("an open quote", ',3,"MONOCYTE\n', "refused"),
        ("an open quote and more", ',3,"MONOCYTE\n,4,EOSINOPHIL\n', "refused"),
        ("a quote in mid-word", ',3,MONO"CYTE\n', "refused"),
        ("a huge field", f",3,{'MONOCYTE,' * 99_999}\n", "refused"),
        ("a huge quoted field", f',3,"{"MONOCYTE," * 99_999}"\n', "refused"),
        ("too large", ",3,MONOCYTE\n" * 200_000, "refused"),
        ("a formula", ',3,"=cmd|calc"\n', "refused"),
    ):
        yield labels(kind, name, HEADER + rows, must)
    for header in ("", "Image,Category\n", ",Image\n", ",image,category\n", "x,Image,Category\n", ",Image,Category,\n"):
        yield labels(kind, f"header {header!r}", header + ",3,MONOCYTE\n", "refused")


# --- archives ---------------------------------------------------------------------------------------------------------


def zipped(files: dict[str, bytes], **options: object) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return stream.getvalue()


def unpack(folder: Path, content: bytes, expected: dict[str, bytes]) -> None:
    """Write and unpack an archive; what comes out must be what went in, and nothing may be left of what is refused."""
    path = folder / "archive.zip"
    path.write_bytes(content)
    place = Path(os.environ["WBC_CACHE"]) / "archives"
    before = set(place.iterdir()) if place.exists() else set()
    try:
        found = archive.unpack(path)
    except BadDataError as error:
        assert str(path) in str(error)
        assert (set(place.iterdir()) if place.exists() else set()) == before
        raise
    assert {str(p.relative_to(found)): p.read_bytes() for p in found.rglob("*") if not p.is_dir()} == expected
    assert not any(p.is_symlink() for p in found.rglob("*"))
    assert len({*place.iterdir()} - before) <= 1


def packed(kind: str, name: str, content: bytes, must: str = "", expected: dict[str, bytes] | None = None) -> Case:
    return Case(kind, name, lambda folder: unpack(folder, content, expected or {}), must)


def archives(data: DataSet) -> Iterator[Case]:
    image = some_images(data)[0]
    files = {
        "dataset-master/JPEGImages/BloodImage_00001.jpg": image,
        "dataset-master/labels.csv": HEADER.encode() * 40,
        "dataset2-master/images/TRAIN/MONOCYTE/_1_2.jpeg": image[::-1],
        "PHANTOMS.txt": b"drawn\n",
    }
    good = zipped(files, compression=zipfile.ZIP_DEFLATED)
    kind = "archive"
    yield packed(kind, "whole", good, "read", files)
    yield packed(kind, "stored", zipped(files), "read", files)
    yield packed(kind, "behind something else", b"#!/bin/sh\n" * 9 + good, "read", files)
    yield packed(kind, "in one folder", zipped({f"photos/{n}": c for n, c in files.items()}), "read", files)
    yield packed(
        kind, "with a Mac's files", zipped({**files, "__MACOSX/._x": b"x"}), "read", {**files, "__MACOSX/._x": b"x"}
    )
    yield packed(kind, "empty", zipped({}), "read")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield packed(kind, f"method {method}", zipped(files, compression=method), "refused")
    for name, content in {"nothing": b"", "text": b"no zip", "an image": image, "zeros": bytes(9999)}.items():
        yield packed(kind, name, content, "refused")

    kind = "name in an archive"
    for name in (
        ["../x", "a/../../x", "a/..", "..", "a/../x", "/x", "//x", "/etc/passwd", "a//x", "./x", "a/./x", "."]
        + ["..\\x", "a\\..\\..\\x", "C:\\x", "C:x", "\\\\host\\x", "a:b", "~/../x", "x\0.jpeg", "\0", "x\n", "x\x1b[2J"]
        + ["x" * 300, "/".join(["x"] * 400), "con", "aux.txt", "a/NUL", "com1.jpeg", "x.", "x ", "a./x", "*", "?", "|"]
        + ["\u202egpj.x", "\u2025/x", "\uff0e\uff0e/x", "a/%2e%2e/x", "…/x", "<x>", '"x"', "$HOME", "`x`", "x;y"]
    ):  # fmt: skip
        for after in ({}, files):
            info = zipfile.ZipInfo("x")
            info.filename = info.orig_filename = name
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as out:
                for other, content in after.items():
                    out.writestr(other, content)
                out.writestr(info, b"out")
            yield packed(kind, f"{name[:20]!r} behind {len(after)}", stream.getvalue(), "refused")
    for first, second in (("x", "x"), ("x", "X"), ("e\u0301", "\u00e9"), ("x", "x/y"), ("x/y", "X"), ("x/", "x")):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as out:
            out.writestr(first, b"1" if not first.endswith("/") else b"")
            out.writestr(second, b"2")
        yield packed(kind, f"{first} and {second}", stream.getvalue(), "refused")

    kind = "link in an archive"
    for target in ("/etc", "..", "../../secret.txt", "x", "CANARY"):
        for mode in (0o120777, 0o020666, 0o060666, 0o010666, 0o140666):
            info = zipfile.ZipInfo("link")
            info.create_system, info.external_attr = 3, mode << 16
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w") as out:
                out.writestr(info, target)
            yield packed(kind, f"{mode:o} to {target}", stream.getvalue(), "refused")
            with zipfile.ZipFile(stream, "a") as out:
                out.writestr("link/x", b"through the link")
            yield packed(kind, f"through {mode:o} to {target}", stream.getvalue(), "refused")

    kind = "huge archive"
    zeros = zipped({"x": bytes(40_000_000)}, compression=zipfile.ZIP_DEFLATED)
    yield packed(kind, "a member that is too large", zeros, "refused")
    many = {f"{n}": bytes(9_000_000) for n in range(3)}
    yield packed(kind, "zeros", zipped(many, compression=zipfile.ZIP_DEFLATED), "refused")
    yield packed(kind, "members", zipped(dict.fromkeys(map(str, range(archive.MAX_MEMBERS + 1)), b"")), "refused")
    directory = good.rindex(b"PK\x01\x02")
    for size in (0, 1, 2**31, 2**32 - 1):
        stated = good[: directory + 24] + struct.pack("<I", size) + good[directory + 28 :]
        yield packed(kind, f"a member that states {size}", stated, "refused")
    end = good.rindex(b"PK\x05\x06")
    for size in (0, 1, 10**6, 10**7, 2**31, 2**32 - 1):
        for at in (12, 16):
            stated = good[: end + at] + struct.pack("<I", size) + good[end + at + 4 :]
            yield packed(kind, f"contents that state {size} at {at}", stated, "", {})
    for size in (10**7, 2**40, 2**63 - 1, 2**64 - 1):
        yield packed(kind, f"contents of {size} in zip64", with_zip64(good, size), "refused")
    for name, n_bytes in (("a terabyte", 10**12), ("all contents", 300_000_000)):
        stated = min(n_bytes, 2**32 - 1) - 30
        yield Case(kind, name, lambda folder, n=n_bytes, size=stated: of_contents(folder / "a.zip", n, size), "refused")

    kind = "damaged archive"
    rng = np.random.default_rng(3)
    for n in range(150):
        # What the name, time or attributes of a member are is not under a checksum: files are compared by content.
        yield Case(kind, f"flipped bits {n}", by_content(flipped(good, rng, 0, len(good), 1 + n % 3), files))
        in_contents = flipped(good, rng, good.index(b"PK\x01\x02"), len(good), 1 + n % 3)
        yield Case(kind, f"flipped bits in its contents {n}", by_content(in_contents, files))
    for cut in np.linspace(1, len(good) - 1, 60).astype(int):
        yield packed(kind, f"cut at {cut}", good[:cut], "refused")
        yield packed(kind, f"without its first {cut}", good[cut:], "refused" if cut > 100 else "", files)


def of_contents(path: Path, n_bytes: int, size: int) -> None:
    """Unpack a file of zeros that says it is all table of contents."""
    sparse(path, n_bytes)
    with path.open("r+b") as file:
        file.seek(-22, os.SEEK_END)
        file.write(struct.pack("<4s4HIIH", b"PK\x05\x06", 0, 0, 9, 9, size, 0, 0))
    archive.unpack(path)


def with_zip64(good: bytes, size: int) -> bytes:
    end = good.rindex(b"PK\x05\x06")
    record = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 4, 4, size, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return good[:end] + record + locator + good[end:]


def by_content(content: bytes, files: dict[str, bytes]) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        path = folder / "archive.zip"
        path.write_bytes(content)
        found = archive.unpack(path)
        assert {p.read_bytes() for p in found.rglob("*") if p.is_file()} <= set(files.values())

    return run


# --- data sets --------------------------------------------------------------------------------------------------------


def data_sets(data: DataSet) -> Iterator[Case]:
    """A whole small set, one file or folder of it bad: all that reads it says which, or reads the rest rightly."""

    def case(name: str, damage: Callable[[DataSet], object], must: str = "refused") -> Case:
        def run(folder: Path) -> None:
            copy = copy_of(data, folder / "set")
            damage(copy)
            read_set(copy)

        return Case("data set", name, run, must)

    image = Path("TRAIN/MONOCYTE")
    yield case("whole", lambda d: None, "read")
    for name, folder in {
        "TRAIN": lambda d: d.augmented / "TRAIN",
        "a class": lambda d: d.augmented / image,
        "JPEGImages": lambda d: d.raw / "JPEGImages",
        "Annotations": lambda d: d.raw / "Annotations",
        "labels.csv": lambda d: d.labels_path,
    }.items():
        yield case(f"{name} missing", lambda d, folder=folder: remove(folder(d)))
        yield case(f"{name} empty", lambda d, folder=folder: (remove(folder(d)), folder(d).mkdir()))
        yield case(f"{name} a file", lambda d, folder=folder: (remove(folder(d)), folder(d).write_bytes(b"x")))
        yield case(f"{name} a pipe", lambda d, folder=folder: (remove(folder(d)), os.mkfifo(folder(d))))
        yield case(f"{name} a ring", lambda d, folder=folder: (remove(folder(d)), folder(d).symlink_to(folder(d))))
    for name, content, must in (
        ("header only", HEADER, "refused"),
        ("one photo", HEADER + ",0,NEUTROPHIL\n", "refused"),
        ("no photo of this set", HEADER + ",99998,NEUTROPHIL\n,99999,NEUTROPHIL\n", "refused"),
        ("blank labels", HEADER + "".join(f",{n},\n" for n in range(99)), "refused"),
    ):
        yield case(f"labels.csv: {name}", lambda d, content=content: d.labels_path.write_text(content), must)
    for name in (b"\xff", "é".encode(), b"a\nb", b"\x1b[2J", "BloodImage_٠٠٠٠١".encode()):
        for ending, place in ((b".jpeg", lambda d: d.augmented / image), (b".jpg", lambda d: d.raw / "JPEGImages")):
            full = os.fsdecode(name + ending)
            yield case(f"file name {full!a}", lambda d, n=full, place=place: (place(d) / n).write_bytes(b"x"))
    for name in ("Thumbs.db", ".DS_Store", "._x.jpeg"):
        # Not one of the images; only the check may complain.
        yield case(name, lambda d, n=name: (d.augmented / image / n).write_bytes(b"x"), "")
    for name in ("~nobody-by-this-name", "a\0b", "x" * 5000, "", "/dev/null/x", "/dev/zero", "file:///etc", "."):
        yield Case("data set", f"--data {name[:20]!r}", lambda folder, name=name: opened(folder, name), "refused")


def opened(folder: Path, name: str) -> None:
    os.chdir(folder)
    dataset.open_folder(name)


def copy_of(data: DataSet, folder: Path) -> DataSet:
    """A data set of an image of each class and split, and the photos that the labels need."""
    copy = DataSet(folder, folder / "dataset-master", folder / "images")
    listed = dataset.list_images(data).groupby(["split", "cell"]).head(1)
    (copy.raw / "JPEGImages").mkdir(parents=True)
    (copy.raw / "Annotations").mkdir()
    pairs = [(data.image_path(name), copy.image_path(name)) for name in listed.image]
    chosen = [p for p, names in dataset.read_labels(data).items() if len(names) == 1 and data.photo_path(p).exists()][
        :5
    ]
    pairs += [(data.photo_path(p), copy.photo_path(p)) for p in chosen]
    pairs += [(data.annotation_path(p), copy.annotation_path(p)) for p in dataset.list_annotations(data) if p in chosen]
    for source, target in pairs:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
    kept = {str(photo) for photo in chosen}
    rows = data.labels_path.read_text().splitlines()
    copy.labels_path.write_text("\n".join([rows[0], *(row for row in rows if row.split(",")[1] in kept)]) + "\n")
    (folder / dataset.PHANTOM_MARK).write_text("drawn\n")
    return copy


def remove(path: Path) -> None:
    if path.is_dir():
        for child in path.iterdir():
            remove(child)
        path.rmdir()
    else:
        path.unlink()


def read_set(data: DataSet) -> None:
    """All that reads a data set, one after the other; the first complaint is raised when all are through."""
    complaints: list[str] = []
    for read in (
        lambda: complaints.extend(check.check(data).problems),
        lambda: hashes.read_manifest(data),
        lambda: dataset.open_folder(data.root),
        lambda: dataset.list_images(data),
        lambda: images.load_images(data, (12, 16)),
        lambda: dataset.read_boxes(data),
        lambda: dataset.index_photos(data),
    ):
        try:
            read()
        except WbcError as error:
            complaints.append(str(error))
    if complaints:
        raise BadDataError(complaints[0])
    index = dataset.index_photos(data)
    assert index.has_photo.all() and set(index.split) == {"TRAIN", "TEST"}
    assert len(dataset.list_images(data)) == len(dataset.SPLITS) * len(dataset.CLASSES)
    loaded = images.load_images(data, (60, 80))
    for pixels, name in zip(loaded.pixels, loaded.index.image, strict=True):
        full = cv2.cvtColor(cv2.imread(str(data.image_path(name))), cv2.COLOR_BGR2RGB).astype(float)
        assert np.abs(pixels - full.reshape(60, 4, 80, 4, 3).mean(axis=(1, 3))).mean() < 1
