"""The archive of frames: appended by a thread, found again, thinned out, without passwords."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from csms.store import archive
from csms.store.archive import FrameArchive

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[FrameArchive]:
    found = FrameArchive(tmp_path / "frames", max_bytes=2**40, max_age=timedelta(days=3))
    yield found
    found.close()


def add(kept: FrameArchive, second: float, station_id: str, direction: str, text: str) -> None:
    kept.add(START.timestamp() + second, station_id, direction, text)


def test_calls_are_paired_with_their_answers_though_ids_start_over(kept: FrameArchive) -> None:
    for n, (direction, text) in enumerate(
        [
            ("in", '[2,"1","BootNotification",{}]'),
            ("out", '[3,"1",{"first":true}]'),
            ("in", '[2,"1","Heartbeat",{}]'),
            ("out", '[2,"1","ClearCache",{}]'),
            ("in", '[3,"1",{"status":"Accepted"}]'),
            ("out", '[3,"1",{"second":true}]'),
            ("in", "not JSON at all"),
            ("out", '[2,"x","Reset",{}]'),
        ]
    ):
        add(kept, n, "CS 1", direction, text)
        add(kept, n, "CS 11", "in", '[2,"9","Heartbeat",{}]')
    found = kept.exchanges(station_id="CS 1")
    assert [(e.action, e.answer.text if e.answer else None) for e in found] == [
        ("Reset", None),
        ("", None),
        ("ClearCache", '[3,"1",{"status":"Accepted"}]'),
        ("Heartbeat", '[3,"1",{"second":true}]'),
        ("BootNotification", '[3,"1",{"first":true}]'),
    ]
    (beat,) = kept.exchanges(station_id="CS 1", action="Heartbeat")
    assert beat.frame.at == START + timedelta(seconds=2)
    assert len(kept.exchanges(station_id="CS 1", limit=2)) == 2


def test_frames_are_found_by_time_in_either_order(kept: FrameArchive) -> None:
    for n in range(10):
        add(kept, n, "A", "in", f"frame {n}")
    since, until = START + timedelta(seconds=3), START + timedelta(seconds=6)
    found = [f.text for f in kept.frames(station_id="A", since=since, until=until)]
    assert found == ["frame 5", "frame 4", "frame 3"]
    ahead = kept.frames(since=since, until=until, oldest_first=True)
    assert [f.text for f in ahead] == found[::-1]


@pytest.mark.parametrize("text", ["a\tb\nc", "back\\slash \\n \\t", "ünï \U0001f50c", "\ud800", ""])
def test_any_text_comes_back_as_it_was(kept: FrameArchive, text: str) -> None:
    add(kept, 0, "tab\there", "in", text)
    (found,) = kept.frames(station_id="tab\there")
    assert (found.text, found.station_id, found.direction) == (text, "tab\there", "in")


def test_passwords_never_reach_a_file(kept: FrameArchive) -> None:
    frames = [
        '[2,"1","ChangeConfiguration",{"key":"AuthorizationKey","value":"SECRET1234567890"}]',
        '[2,"2","SetVariables",{"setVariableData":[{"attributeValue":"SECRET1234567890",'
        '"component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}]',
        '[2,"3","SetNetworkProfile",{"configurationSlot":1,"connectionData":'
        '{"basicAuthPassword":"SECRET1234567890"}}]',
        '[2,"4","GetLog",{"log":{"remoteLocation":"ftp://user:SECRET1234567890@host/x"}}]',
    ]
    for n, text in enumerate(frames):
        add(kept, n, "A", "out", text)
    kept.flush()
    written = b"".join(p.read_bytes() for p in kept.folder.iterdir())
    assert written.count(b"***") >= len(frames)
    assert b"SECRET" not in written
    assert [e.action for e in kept.exchanges(station_id="A")][-1] == "ChangeConfiguration"


@pytest.mark.parametrize("message_id", ["MeterValues", "TransactionEvent"])
def test_no_message_id_hides_a_password(kept: FrameArchive, message_id: str) -> None:
    secret = {"key": "AuthorizationKey", "value": "a secret of theirs"}
    texts = [
        json.dumps([2, message_id, "NotifyReport", secret]),
        json.dumps([2, message_id, "ChangeConfiguration", secret], separators=(",", ":")),
        json.dumps([3, message_id, {"configurationKey": [secret]}]),
        json.dumps([4, message_id, message_id, "", secret]),
        json.dumps([message_id, message_id, secret]),
    ]
    for n, text in enumerate(texts):
        add(kept, n, "A", "in", text)
    kept.close()
    written = b"".join(p.read_bytes() for p in kept.folder.glob("*.log")).decode()
    assert len(written.splitlines()) == len(texts)
    assert secret["value"] not in written


def test_old_segments_go_by_size_and_by_age(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "SEGMENT_BYTES", 1000)
    kept = FrameArchive(tmp_path, max_bytes=5000, max_age=timedelta(days=1))
    for n in range(50):
        add(kept, n, "A", "in", "x" * 400)
        kept.flush()
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) <= 5000
    assert next(f.at for f in kept.frames()) == START + timedelta(seconds=49)
    add(kept, 3 * 86400, "A", "in", "x" * 900)
    kept.flush()
    assert len(list(kept.frames())) <= 3, "a segment is kept until all of it is too old"
    kept.close()


def test_frames_survive_the_process(tmp_path: Path) -> None:
    first = FrameArchive(tmp_path, max_bytes=2**30, max_age=timedelta(days=1))
    add(first, 0, "A", "in", "before")
    first.close()
    second = FrameArchive(tmp_path, max_bytes=2**30, max_age=timedelta(days=1))
    add(second, 1, "A", "in", "after")
    assert [f.text for f in second.frames()] == ["after", "before"]
    second.close()
