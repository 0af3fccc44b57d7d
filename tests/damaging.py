"""Damage as files meet it on their way: reading them must end in one of our sentences or in a reading, soon."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import strategies as st

from wbc_lib.errors import WbcError

T = TypeVar("T")


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A function that damages bytes: cuts them, turns some of them, or puts others between them."""
    place = draw(st.floats(0, 1))
    put = draw(st.binary(max_size=40))
    is_cut = draw(st.booleans())

    def damage(content: bytes) -> bytes:
        at = round(place * len(content))
        return content[:at] + put + (b"" if is_cut else content[at + len(put) :])

    return damage


def read_or_refuse(read: Callable[..., T], *arguments: object) -> T | None:
    """What is read, or nothing if it is refused in a sentence."""
    try:
        return read(*arguments)
    except WbcError as error:
        assert str(error).isprintable() and len(str(error)) < 1000
        return None
