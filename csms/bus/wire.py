"""What goes over a wire between nodes, as JSON: every report, reply, command, result and notice.

A value is the list of its class's name and its fields, so a reader knows the class before it reads
a field. The classes are those of csms.core, found by walking the subclasses: a new one needs no
word here. Bytes go as base64, instants in ISO 8601. The codec is pydantic's over the same
dataclasses, made when a class is met first.

Both ends have to be of one version: a field that the other does not know is an error, since to
drop it could change what is decided.
"""

import sys
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

from csms.core import errors
from csms.core.commands import Command, CommandResult
from csms.core.messages import Notice, Report

_TEXT: TypeAdapter[list[str]] = TypeAdapter(list[str])
_CONFIG = ConfigDict(
    ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants", extra="forbid"
)
_ERROR = "!"

Value = Any
"""A report, a reply, a command, a command's result or a notice."""


class Unreadable(errors.BusError):
    """What came is no value that this version knows."""


def subclasses(root: type[Any]) -> Iterator[type[Any]]:
    """Yield every class below `root` that is loaded by now."""
    for child in root.__subclasses__():
        yield child
        yield from subclasses(child)


def _replies(report: type[Any]) -> Iterator[type[Any]]:
    for base in getattr(report, "__orig_bases__", ()):
        if get_origin(base) is Report:
            yield from (a for a in get_args(base) if is_dataclass(a) and isinstance(a, type))


def classes() -> dict[str, type[Any]]:
    """Return every class that may go over the wire, by its tag.

    A dataclass with slots is made twice by `dataclass`, and the first is not gone at once: the
    one that its module holds is the one that counts.
    """
    found: dict[str, type[Any]] = {}
    for kind in (*subclasses(Report), *subclasses(Command), CommandResult, Notice):
        for one in (kind, *_replies(kind)):
            if _is_of_its_module(one):
                found[one.__name__] = one
    return found


def _is_of_its_module(kind: type[Any]) -> bool:
    return getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind


class Codec:
    """Values to bytes and back."""

    def __init__(self) -> None:
        self._known: dict[str, type[Any]] = {}
        self._adapters: dict[type[Any], tuple[bytes, TypeAdapter[Any]]] = {}

    def encode(self, value: Value) -> bytes:
        """Return `value` as JSON with its tag."""
        tag, adapter = self._adapter(type(value))
        # In a list of one, whose brackets hold the tag as well: `[value]` -> `[tag,value]`.
        return tag + adapter.dump_json([value])[1:]

    def decode(self, text: bytes) -> Value:
        """Return the value in `text`; raises Unreadable, or the error that is in it."""
        quoted, comma, rest = text.partition(b",")
        if not comma or quoted[:2] != b'["' or quoted[-1:] != b'"':
            raise Unreadable(f"no value begins with {text[:40]!r}")
        tag = quoted[2:-1].decode("ascii", "replace")
        if tag == _ERROR:
            raise _error(rest)
        _, adapter = self._adapter(self._class(tag))
        try:
            return adapter.validate_json(b"[" + rest)[0]
        except ValidationError as error:
            # Never with the input, which may be a secret.
            found = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in found["loc"][1:])
            raise Unreadable(f"{tag}.{where}: {found['msg']}") from None

    def _class(self, tag: str) -> type[Any]:
        found = self._known.get(tag)
        if found is None:
            self._known = classes()
            found = self._known.get(tag)
        if found is None:
            raise Unreadable(f"{tag[:60]} is no class of this version")
        return found

    def _adapter(self, kind: type[Any]) -> tuple[bytes, TypeAdapter[Any]]:
        known = self._adapters.get(kind)
        if known is None:
            # A dataclass takes its configuration from what holds it, here the list.
            adapter: TypeAdapter[Any] = TypeAdapter(list[kind], config=_CONFIG)  # type: ignore[valid-type]
            known = self._adapters[kind] = f'["{kind.__name__}",'.encode(), adapter
        return known


def encode_error(error: Exception) -> bytes:
    """Return what stands in place of a reply where there is none.

    Our own errors keep their class; of any other nothing is told but that there was one.
    """
    if isinstance(error, errors.TascoError):
        kind, why = type(error).__name__, str(error)
    else:
        kind, why = errors.TascoError.__name__, "the centre failed on this message"
    return _TEXT.dump_json([_ERROR, kind, why])


def _error(rest: bytes) -> errors.TascoError:
    try:
        kind, why = _TEXT.validate_json(b"[" + rest)
    except ValueError:
        return Unreadable("an error that cannot be read")
    known: dict[str, type[errors.TascoError]] = {
        c.__name__: c for c in subclasses(errors.TascoError)
    }
    return known.get(kind, errors.TascoError)(why)
