"""A data set in a zip: looked over before anything is written, then unpacked into the user cache, whole or not at all.

Its members have plain names and are small; whatever else an archive may hold (ways out of the folder, links, devices,
members without end) is refused by name.
"""

import hashlib
import io
import re
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from wbc_lib import paths
from wbc_lib.errors import BadDataError

# The published archive has 13,000 members of at most 24 kB, 110 MB in all, and hardly shrinks when packed.
MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 20_000_000
MAX_BYTES = 1_000_000_000
MAX_RATIO = 100
#: Of the table of contents, which is read in one piece and grows a hundredfold in memory.
_MAX_CONTENTS = 6_000_000

# Letters of any script, digits and a few signs; not the names of devices, nor the ends that Windows drops.
_PART = re.compile(r"(?!(?i:con|prn|aux|nul|com\d|lpt\d)(\.|$))[\w .,()\[\]+@~-]{0,59}[\w,()\[\]+@~-]")
_FILE, _FOLDER = (stat.S_IFREG, 0), (stat.S_IFDIR, 0)
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_UNREADABLE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def unpack(archive: Path) -> Path:
    """Unpack a zip into the user cache, unless the very same zip lies there; gives the folder that its content is in.

    Raises `BadDataError` if it is no zip, is damaged, or holds what a data set of images does not (then nothing is left
    of it), and `OSError` if the user cache cannot be written to.
    """
    try:
        with _Cautious(archive.open("rb", buffering=0)) as file:
            if file.seek(0, io.SEEK_END) > MAX_BYTES:
                raise BadDataError(f"{archive} is larger than {MAX_BYTES:,} bytes; the published archive is not.")
            file.seek(0)
            name = hashlib.file_digest(file, "sha256").hexdigest()[:32]
            folder = _unpack(file, archive, paths.cache() / "archives" / name)
    except (*_UNREADABLE, UnicodeDecodeError) as error:
        if what := _other_kind(archive):
            raise BadDataError(f"{archive} is {what}") from error
        reason = str(error).rstrip(".") or type(error).__name__
        raise BadDataError(f"{archive} is no readable zip ({reason:.200}); download it again.") from error
    # Whoever packs a folder, rather than what is in it, gets an archive with that one folder.
    children = [p for p in folder.iterdir() if not p.name.startswith((".", "__MACOSX"))]
    return children[0] if len(children) == 1 and children[0].is_dir() else folder


def _other_kind(file: Path) -> str:
    # What a file is that is taken for a zip, and what to do about it; "" if it is none of these.
    with file.open("rb") as opened:
        start = opened.read(512).lstrip().lower()
    if start.startswith((b"<!doc", b"<html")):
        return "a web page, not a zip; download the archive itself, signed in at kaggle.com if it asks for that."
    if start.startswith(b"\xff\xd8\xff"):
        return "a JPEG, not the data set; name the folder or the zip that the whole set is in."
    try:
        is_tar = tarfile.is_tarfile(file)
    except (*_UNREADABLE, OSError):
        is_tar = False
    return "a tar, not a zip; unpack it with `tar -xf` and name the folder that comes out of it." if is_tar else ""


class _Cautious(io.BufferedReader):
    """A file that is read in no large piece and nowhere but inside, whatever sizes and places an archive states."""

    def read(self, size: int | None = -1) -> bytes:
        wanted = _MAX_CONTENTS + 1 if size is None or size < 0 else size
        content = super().read(min(wanted, _MAX_CONTENTS + 1))
        if wanted > _MAX_CONTENTS and len(content) == _MAX_CONTENTS + 1:
            raise zipfile.BadZipFile("its table of contents is too large")
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and not 0 <= offset <= MAX_BYTES:
            raise zipfile.BadZipFile("a part of it would lie outside")
        return super().seek(offset, whence)


def _unpack(file: _Cautious, archive: Path, target: Path) -> Path:
    with zipfile.ZipFile(file) as packed:
        _look_over(packed.infolist(), archive)
        members = [m for m in packed.infolist() if not m.is_dir()]
        if _is_whole(target, members):
            return target
        with paths.named(target), paths.temporary_folder(target) as temporary:
            for member in members:
                path = temporary / member.filename
                path.parent.mkdir(parents=True, exist_ok=True)
                # No more than the stated size is unpacked, and it must have the stated checksum.
                with packed.open(member) as source, path.open("xb") as copy:
                    shutil.copyfileobj(source, copy)
            shutil.rmtree(target, ignore_errors=True)
            try:
                temporary.rename(target)
            except OSError:
                if not _is_whole(target, members):
                    raise  # else another process was quicker
    return target


def _look_over(members: list[zipfile.ZipInfo], archive: Path) -> None:
    if len(members) > MAX_MEMBERS:
        raise BadDataError(f"{archive} holds {len(members):,} members; a blood-cell data set has about 13,000.")
    files: set[str] = set()
    folders: set[str] = set()
    for member in members:
        if fault := _fault(member):
            raise BadDataError(f"{archive}: {member.orig_filename!a:.200} {fault}; download the archive again.")
        # Names that differ only in case or in how letters are composed are one name on some disks.
        path = PurePosixPath(unicodedata.normalize("NFC", member.filename).casefold())
        folders |= {str(parent) for parent in path.parents}
        if member.is_dir():
            folders.add(str(path))
        elif str(path) in files:
            raise BadDataError(f"{archive}: {member.filename!a:.200} is there twice; download the archive again.")
        else:
            files.add(str(path))
    if both := files & folders:
        raise BadDataError(f"{archive}: {min(both)!a:.200} is a file and a folder; download the archive again.")
    total = sum(member.file_size for member in members)
    if total > MAX_BYTES or total > MAX_RATIO * archive.stat().st_size:
        raise BadDataError(f"{archive} would unpack to {total:,} bytes, which no set of JPEGs does; download it again.")


def _fault(member: zipfile.ZipInfo) -> str | None:
    parts = member.filename.removesuffix("/").split("/")
    kind = stat.S_IFMT(member.external_attr >> 16)
    size, method = member.file_size, member.compress_type
    faults = {
        "leads out of its folder": ".." in parts or "" in parts,
        # zipfile cuts a name at a NUL, and takes a backslash for a slash on Windows.
        "has a name that no data set has": member.orig_filename != member.filename
        or not all(_PART.fullmatch(part) for part in parts)
        or len(member.filename) > 300,
        "is a link or a device": kind not in (_FOLDER if member.filename.endswith("/") else _FILE),
        "is locked with a password": bool(member.flag_bits & 0x1),
        f"is packed by a method (number {method}) that is not read here": method not in _METHODS,
        f"would unpack to {size:,} bytes": size > MAX_MEMBER_BYTES,
    }
    return next((fault for fault, applies in faults.items() if applies), None)


def _is_whole(folder: Path, members: list[zipfile.ZipInfo]) -> bool:
    try:
        return folder.is_dir() and all((folder / m.filename).stat().st_size == m.file_size for m in members)
    except OSError:
        return False
