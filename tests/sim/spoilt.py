"""What crashes and decay do to the bytes of a data directory.

A disk writes sectors, each as a whole, in whatever order it likes until the next sync. So of two states with no sync in
between, a power failure may leave any mixture of sectors; and in a sector that was being written, anything.

Left out is what nothing inside of a directory could tell: that **all** of it is as it was some time ago. An old
watermark is therefore put back by itself or not at all, since with an older database or a shorter log it says that they
are as they should be; and every old copy is of the present life of the data, but for what is ``from_another_life``.
"""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from concoord_ray.storage.database import FILE_NAME, log_of
from concoord_ray.storage.files import LOCK_NAME
from concoord_ray.storage.watermark import FILE_NAME as WATERMARK

LOG = log_of(Path(FILE_NAME)).name
#: The content of every file, by name.
Image = dict[str, bytes]

#: Of the databases here: in small pages, little data has all of the structure that much has in large ones.
PAGES_BYTES = (512, 4096)

_SECTOR_BYTES = 512
_DATABASE_HEADER_BYTES = 100
#: SQLite syncs the header of a log that begins anew before it writes anything behind it.
_LOG_HEADER_BYTES = 32


def read_image(directory: Path) -> Image:
    """What a directory holds now; nothing if there is none."""
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())} if directory.exists() else {}


def write_image(directory: Path, image: Image) -> None:
    """Make a directory hold exactly this."""
    shutil.rmtree(directory, ignore_errors=True)
    if image:
        directory.mkdir(parents=True)
    for name, content in image.items():
        (directory / name).write_bytes(content)


def torn_log(before: bytes, after: bytes, rng: random.Random) -> bytes:
    """A log that the power failed in, while ``before`` became ``after``."""
    both = enumerate(zip(before, after, strict=False))
    first = next((at for at, (old, new) in both if old != new), min(len(before), len(after)))
    if first < _LOG_HEADER_BYTES:
        first, before = _LOG_HEADER_BYTES, after[:_LOG_HEADER_BYTES] + before[_LOG_HEADER_BYTES:]
    if before == after:
        return after
    end = rng.randint(first, len(after))
    how = rng.choice(("cut", "mixed", "flipped", "zeroed"))
    if how == "cut":
        return after[:end] + before[end:]
    if how == "mixed":
        return mixed(before, after, rng)
    if how == "flipped":
        return flipped(after, rng, first)
    return after[:end] + bytes(len(after) - end)


def mixed(before: bytes, after: bytes, rng: random.Random) -> bytes:
    """Some sectors of the one, some of the other."""
    size = rng.choice((len(before), len(after)))
    share = rng.choice((0.1, 0.5, 0.9))
    before, after = before.ljust(size, b"\0"), after.ljust(size, b"\0")
    sectors = range(0, size, _SECTOR_BYTES)
    return b"".join((after if rng.random() < share else before)[at : at + _SECTOR_BYTES] for at in sectors)[:size]


def flipped(content: bytes, rng: random.Random, first: int = 0) -> bytes:
    """A few bits the other way round, from byte ``first`` on."""
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        spoilt[first + int(rng.random() * (len(content) - first))] ^= 1 << rng.randrange(8)
    return bytes(spoilt)


def damaged(image: Image, old: Sequence[Image], rng: random.Random) -> tuple[Image, str]:
    """A directory after some time in which nobody looked, and what has happened to it."""
    image, stories = dict(image), []
    if old and rng.random() < 0.03:
        image[WATERMARK] = rng.choice(old)[WATERMARK]
        return image, "an old watermark"
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        # Of the lock's file nothing matters, and its size is that of a process number: it leaves no trace in a trace.
        name = rng.choice([each for each in image if each in (FILE_NAME, LOG)] * 3 + [WATERMARK, LOCK_NAME])
        how = rng.choice(_WAYS)
        content = how(image.get(name, b""), name, old, rng)
        if content is None:
            image.pop(name, None)
        else:
            image[name] = content
        stories.append(f"{name} {how.__name__.strip('_')}")
        if not image:
            break
    return image, ", ".join(stories)


def from_another_life(image: Image, past: Image) -> Image:
    """A directory into which somebody has copied a database, with its log, that was set aside."""
    kept = {name: content for name, content in image.items() if name not in (FILE_NAME, LOG)}
    return {**kept, **{name: past[name] for name in (FILE_NAME, LOG) if name in past}}


def _flipped(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    return flipped(content, rng) if content else b"\0"


def _header_flipped(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    return flipped(content[:_DATABASE_HEADER_BYTES], rng) + content[_DATABASE_HEADER_BYTES:] if content else b"\0"


def _cut(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    return content[: int(rng.random() * len(content))]


def _gone(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> None:
    return None


def _grown(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    return content + rng.randbytes(rng.choice((1, 100, *PAGES_BYTES, 10_000)))


def _page_zeroed(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    page = _some_page(content, rng)
    return content[: page.start] + bytes(len(content[page])) + content[page.stop :]


def _write_lost(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    """A page is as it was before, if there is any that has changed. Of a log, pages are not where its frames begin."""
    size, before = rng.choice(PAGES_BYTES), _before(content, name, old, rng)
    pages = [slice(at, at + size) for at in range(0, min(len(before), len(content)), size)]
    changed = [page for page in pages if before[page] != content[page]]
    if not changed:
        return content
    page = rng.choice(changed)
    return content[: page.start] + before[page] + content[page.stop :]


def _value_flipped(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    """Something that was accepted reads otherwise, and everything around it as before."""
    places = [match.start() for match in re.finditer(rb"replica\d#", content)]
    if not places:
        return content
    at = rng.choice(places)
    return content[:at] + flipped(content[at : at + 20], rng) + content[at + 20 :]


def _free_pages_flipped(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    """What nobody reads until there is something new to be written: the list of a database's free pages."""
    if name != FILE_NAME or len(content) < _DATABASE_HEADER_BYTES:
        return content
    page_bytes, page = int.from_bytes(content[16:18], "big"), int.from_bytes(content[32:36], "big")
    at = (page - 1) * page_bytes
    part = slice(at, at + 16) if 0 < at < len(content) - 16 else slice(32, 40)  # If there are none: where it says so.
    return content[: part.start] + flipped(content[part], rng) + content[part.stop :]


def _some_page(content: bytes, rng: random.Random) -> slice:
    size = rng.choice(PAGES_BYTES)
    at = int(rng.random() * len(content)) // size * size
    return slice(at, at + size)


def _old(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    return _before(content, name, old, rng)


def _before(content: bytes, name: str, old: Sequence[Image], rng: random.Random) -> bytes:
    """What was in the file at some time when it was not the same, if that is known."""
    others = [image[name] for image in old if name != WATERMARK and image.get(name, content) != content]
    return rng.choice(others) if others else content


_WAYS: tuple[Callable[[bytes, str, Sequence[Image], random.Random], bytes | None], ...] = (
    _flipped, _header_flipped, _value_flipped, _free_pages_flipped, _cut, _gone, _grown, _page_zeroed, _write_lost,
    _write_lost, _old,
)  # fmt: skip
