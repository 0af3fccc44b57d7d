"""The data set's fingerprint: a sha256 per file, and one for the whole."""

import contextlib
import gzip
import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from wbc_lib import paths
from wbc_lib.data.dataset import DataSet, list_annotations, list_images, list_photos
from wbc_lib.errors import BadDataError

#: sha256 of the whole published data set, as `read_manifest` computes it.
PUBLISHED_SHA256 = "fac8a02aa412c2024bbdb50b90f665ebd29d148b7845462014eefe0b9047bbd2"
#: The hash of each published file, in the form of sha256sum; `PUBLISHED_SHA256` vouches for it.
PUBLISHED_FILES = paths.ROOT / "results" / "manifest" / "published.sha256.gz"

_SHARE = 256  # files


@dataclass(frozen=True)
class Manifest:
    """The hashes of a data set.

    Attributes
    ----------
    files : dict
        Name to sha256 (hex). Names do not depend on how the archive was unpacked: ``images/TRAIN/…``,
        ``JPEGImages/…``, ``Annotations/…``, ``labels.csv``.
    sha256 : str
        Hash of the sorted lines ``name sha256``.
    """

    files: dict[str, str]
    sha256: str

    @property
    def is_published(self) -> bool:
        """Whether these are the published files, bit for bit."""
        return self.sha256 == PUBLISHED_SHA256


def combine(files: dict[str, str]) -> Manifest:
    """Make a manifest of file hashes."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    return Manifest(dict(sorted(files.items())), hashlib.sha256(lines.encode()).hexdigest())


def write_published(manifest: Manifest) -> None:
    """Record the hashes of the published files in the project.

    Raises
    ------
    BadDataError
        If this is the manifest of other files.
    """
    if not manifest.is_published:
        raise BadDataError(f"These are not the published files: their manifest has sha256 {manifest.sha256}.")
    lines = "".join(f"{digest}  {name}\n" for name, digest in manifest.files.items())
    with paths.written_whole(PUBLISHED_FILES) as temporary:
        temporary.write_bytes(gzip.compress(lines.encode(), mtime=0))


def read_published() -> Manifest:
    """Read the recorded hashes of the published files.

    Raises
    ------
    BadDataError
        If the record is missing or is not the one that was made.
    """
    try:
        lines = gzip.decompress(PUBLISHED_FILES.read_bytes()).decode().splitlines()
        manifest = combine({name: digest for digest, name in (line.split("  ", 1) for line in lines)})
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise BadDataError(f"{PUBLISHED_FILES} cannot be read; restore it from the repository.") from error
    if not manifest.is_published:
        raise BadDataError(f"{PUBLISHED_FILES} is not what was recorded; restore it from the repository.")
    return manifest


def data_files(data: DataSet) -> dict[str, Path]:
    """Every file that belongs to the data set, by its name in the manifest."""
    files = {"labels.csv": data.labels_path}
    files |= {f"JPEGImages/{data.photo_path(p).name}": data.photo_path(p) for p in list_photos(data)}
    files |= {f"Annotations/{data.annotation_path(p).name}": data.annotation_path(p) for p in list_annotations(data)}
    files |= {f"images/{image}": data.image_path(image) for image in list_images(data).image}
    return files


def hash_file(path: Path) -> str:
    """Sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(files: Iterable[Path]) -> list[str]:
    """Sha256 of each file, read on two threads (hashing releases the interpreter's lock)."""
    files = list(files)
    # A share of the files at a time: handing over each by itself costs more than to hash it.
    shares = [files[i : i + _SHARE] for i in range(0, len(files), _SHARE)]
    with ThreadPoolExecutor(2) as pool:
        return [
            digest for digests in pool.map(lambda share: [hash_file(f) for f in share], shares) for digest in digests
        ]


def read_manifest(data: DataSet, *, anew: bool = False) -> Manifest:
    """Hash the data set, or read the hashes from the cache if no file's size or time has changed.

    Parameters
    ----------
    data : DataSet
    anew : bool
        Whether to hash in any case: a disk that loses bits changes neither size nor time.

    Raises
    ------
    BadDataError
        If a file vanishes or cannot be read.
    """
    try:
        files = data_files(data)
        cached = paths.cache() / "manifests" / f"{_listing_signature(data, files)}.json"
        if cached.exists() and not anew:
            with contextlib.suppress(ValueError):
                recorded = json.loads(cached.read_text())
                if isinstance(recorded, dict) and recorded.keys() == files.keys():
                    return combine(recorded)
        manifest = combine(dict(zip(files, hash_files(files.values()), strict=True)))
    except OSError as error:
        raise BadDataError(f"{error.filename} cannot be read ({error.strerror}); unpack the archive again.") from error
    paths.write_text(cached, json.dumps(manifest.files))
    return manifest


def _listing_signature(data: DataSet, files: dict[str, Path]) -> str:
    digest = hashlib.sha256(str(data.root.resolve()).encode())
    for name, path in files.items():
        found = os.stat(path)  # noqa: PTH116 - an os.stat costs a third of a Path.stat, and there are 13,000
        if not stat.S_ISREG(found.st_mode):  # reading a named pipe would wait for ever
            raise BadDataError(f"{path} cannot be read (it is no plain file); unpack the archive again.")
        digest.update(f"{name} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
