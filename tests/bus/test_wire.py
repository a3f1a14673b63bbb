"""Every word between gateway and centre comes out of the wire as it went in."""

import dataclasses
import importlib
import pkgutil
import types
import typing
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import csms.core
from csms.bus.wire import Codec, Unreadable, classes, encode_error
from csms.core import errors
from csms.core.messages import LinkOffered, Notice, SessionUpdated
from csms.core.model import OcppVersion

for _module in pkgutil.iter_modules(csms.core.__path__, "csms.core."):
    # A class that only one adapter imports has to be known here as well.
    importlib.import_module(_module.name)

CLASSES = classes()
CODEC = Codec()
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)

_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False),
    bool: st.booleans(),
    bytes: st.binary(),
    datetime: st.datetimes(timezones=st.just(UTC)),
    type(None): st.none(),
    object: _json,
    Any: _json,
}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return the values of an annotation; fails for one that the wire was never tried with."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return instances_of(kind)
    origin, given_types = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values_of(k) for k in given_types))
    if origin is tuple and given_types[-1:] == (...,):
        return st.lists(values_of(given_types[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(k) for k in given_types))
    if origin is frozenset:
        return st.frozensets(values_of(given_types[0]), max_size=3)
    if origin in (Mapping, dict):
        return st.dictionaries(values_of(given_types[0]), values_of(given_types[1]), max_size=3)
    raise AssertionError(f"nothing is known of {kind}: can it go over the wire?")


def instances_of(kind: type[Any]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {f.name: values_of(hints[f.name]) for f in dataclasses.fields(kind)}
    return st.fixed_dictionaries(fields).map(lambda given_fields: kind(**given_fields))


def test_all_kinds_of_words_are_found() -> None:
    assert {"LinkOffered", "VariablesReported", "LimitNotified", "Reset"} <= set(CLASSES)
    assert {"Noted", "LinkReply", "ContractReply", "CommandResult", "Notice"} <= set(CLASSES)
    assert len(CLASSES) > 70


@pytest.mark.parametrize("name", sorted(CLASSES))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_is_read_is_what_was_written(name: str, data: st.DataObject) -> None:
    value = data.draw(instances_of(CLASSES[name]))
    found = CODEC.decode(CODEC.encode(value))
    assert type(found) is type(value)
    assert found == value


def test_a_value_that_was_made_without_its_constructor_is_written_whole() -> None:
    report = object.__new__(SessionUpdated)
    plain = SessionUpdated(
        station_id="CS-1",
        received_at=NOON,
        version=OcppVersion.V201,
        action="TransactionEvent",
        at=NOON,
    )
    vars(report).update(vars(plain))
    codec = Codec()
    assert codec.decode(codec.encode(report)) == plain


def test_instants_keep_their_microseconds_and_compare_with_ours() -> None:
    at = datetime(2026, 3, 2, 12, 0, 0, 1, tzinfo=UTC)
    notice = Notice(kind="station", site_id="main", at=at)
    found = Codec().decode(Codec().encode(notice))
    assert found.at == at
    assert found.at.isoformat() == at.isoformat()


def test_a_secret_that_is_no_text_survives_and_shows_in_no_error() -> None:
    codec, secret = Codec(), bytes(range(256))
    offered = LinkOffered(
        station_id="CS-1", received_at=NOON, password=secret, version=OcppVersion.V16
    )
    text = codec.encode(offered)
    assert codec.decode(text).password == secret
    broken = text.replace(b'"version":"', b'"version":"x')
    with pytest.raises(Unreadable, match=r"LinkOffered.version") as caught:
        codec.decode(broken)
    assert "password" not in repr(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"[]",
        b'["Nobody",{}]',
        b'["Noted"]',
        b'["Noted",{"more":1}]',
        b'["Reset",{}]',
        b'["Noted",{}',
        b'["!"]',
        b'["!","BusError"]',
        b"\xff\xfe,",
    ],
)
def test_what_is_no_word_of_ours_is_an_error_of_the_bus(text: bytes) -> None:
    with pytest.raises(errors.BusError):
        Codec().decode(text)


@pytest.mark.parametrize(
    "error",
    [
        errors.StoreUnavailable("full"),
        errors.BusError("away"),
        errors.UnknownStation("no station CS-1"),
        errors.InvalidInput("wrong"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_an_error_of_ours_keeps_its_class_and_its_words(error: errors.TascoError) -> None:
    with pytest.raises(type(error), match=str(error)) as caught:
        Codec().decode(encode_error(error))
    assert type(caught.value) is type(error)


def test_of_any_other_error_nothing_is_told() -> None:
    with pytest.raises(errors.TascoError) as caught:
        Codec().decode(encode_error(ValueError("04A1B2C3D4E5F6")))
    assert type(caught.value) is errors.TascoError
    assert "04A1" not in str(caught.value)
