"""What stands before and around the words of the bus: who says it, to which centre, until when.

A line of plain text, then the word. Two clocks never have to agree: every instant here is the
centre's monotonic one, and gateways learn what it shows when they greet the centre.
"""

import dataclasses
import hashlib
import typing
import zlib
from base64 import b32encode
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from csms.bus.wire import Unreadable, classes
from csms.core.errors import BusError

REPORT, COMMAND, NOTICE, FRAMES, NODE = "report", "command", "notice", "frames", "node"

GREET_S = 2.0
"""Gateways greet the centre this often."""
LOST_S = 10.0
"""A gateway that has not greeted for so long is given up, with its links."""
VALID_S = 20.0
"""A question that is older is not answered, an order that is older not carried out."""
ORDER_LOST_S = 5.0
"""An order that its gateway has not told of for so long never came, or its answer did not."""
LIST_EVERY = 15
"""Of so many greetings one lists all links of the gateway."""

_SQUEEZED_FROM = 1 << 15
_MOST_BYTES = 1 << 26
_ZLIB = b"x"


class OtherCentre(BusError):
    """The centre is another than the one that was asked, or does not know who asks: greet it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What a gateway tells of itself.

    `links` are the ids of all its links, None where not told; `orders` the numbers of the orders
    that it has and has not answered.
    """

    node: str
    name: str
    words: str
    """Fingerprint of the words that it knows."""
    links: tuple[int, ...] | None = None
    orders: tuple[int, ...] = ()
    is_leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The centre's answer.

    `centre` names this run of it, `now_s` is its monotonic clock. The gateway ends its links up to
    the id `unknown_to`, and those of `unknown`. `problem` says why it is not welcome.
    """

    centre: str
    now_s: float
    unknown_to: int = 0
    unknown: tuple[int, ...] = ()
    problem: str = ""


GREETINGS: TypeAdapter[Greeting] = TypeAdapter(Greeting)
WELCOMES: TypeAdapter[Welcome] = TypeAdapter(Welcome)


def token(name: str) -> str:
    """Return any text as one token of a subject: base32, since an identity may hold dots."""
    return b32encode(name.encode()).decode().rstrip("=").lower() or "-"


def packed(head: tuple[str, ...], word: bytes) -> bytes:
    """Return a message; a long word is squeezed."""
    if len(word) > _SQUEEZED_FROM:
        word = zlib.compress(word, 1)
    return " ".join(head).encode() + b"\n" + word


def unpacked(message: bytes, heads: int = 1) -> tuple[list[str], bytes]:
    """Return the `heads` words of the head (one empty one for none) and the word itself.

    Raises Unreadable.
    """
    head, _, word = message.partition(b"\n")
    before = head.decode("ascii", "replace").split(" ")
    if len(before) != heads:
        raise Unreadable(f"a message with {len(before)} words before it, not {heads}")
    if word[:1] == _ZLIB:
        reader = zlib.decompressobj()
        try:
            word = reader.decompress(word, _MOST_BYTES)
        except zlib.error as error:
            raise Unreadable(f"squeezed wrongly: {error}") from error
        if reader.unconsumed_tail:
            raise Unreadable(f"longer than {_MOST_BYTES} bytes")
    return before, word


def fingerprint() -> str:
    """Return what tells words of one version from those of another: all fields of all classes."""
    seen: dict[str, list[str]] = {}

    def look(kind: Any) -> None:
        for part in _parts(kind):
            if not dataclasses.is_dataclass(part) or not isinstance(part, type):
                continue
            if part.__name__ not in seen:
                hints = typing.get_type_hints(part)
                fields = dataclasses.fields(part)
                seen[part.__name__] = [f"{f.name}:{hints[f.name]}" for f in fields]
                for hint in hints.values():
                    look(hint)

    for kind in classes().values():
        look(kind)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:16]


def _parts(kind: Any) -> Iterator[Any]:
    yield kind
    for argument in typing.get_args(kind):
        yield from _parts(argument)
