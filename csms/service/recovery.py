"""What a process that was killed left half done comes to an end when the next one starts.

One process decides: whatever is under way on record at its start is not under way any more. Orders
to many stations go on by themselves (csms.service.bulk), a password that was sent counts until it
is used or refused, and a signed certificate is sent when its station is back.
"""

from datetime import datetime, timedelta

import structlog

from csms.core.device import Kind
from csms.core.model import Event
from csms.service.links import FLAPPING_ALERT
from csms.store import alerts, commands, journal, links, requests, stations
from csms.store.requests import DeviceRequest
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

RESTARTED = "central system restarted"
_NO_NEWS = timedelta(days=1)
_NO_NEWS_OF_FIRMWARE = timedelta(days=7)
"""A station may wait for its car to leave before it installs."""


def settle_interrupted(tx: Tx, *, at: datetime) -> None:
    """End what the last process left under way; for a start."""
    links.close_all_links(tx, at=at, reason=RESTARTED)
    alerts.close_everywhere(tx, subject=FLAPPING_ALERT, at=at)
    commands_ended = commands.finish_interrupted(tx, at=at)
    requests_ended = requests.fail_unsent(tx, at=at, why=RESTARTED)
    uploads = requests.reopen_uploads(tx)
    if commands_ended or requests_ended or uploads:
        log.warning(
            "interrupted work ended",
            commands=commands_ended,
            requests=requests_ended,
            uploads=uploads,
        )


def give_up_silent(tx: Tx, *, now: datetime) -> list[int]:
    """End the jobs of which nothing was heard for so long that nothing will be; return their keys.

    A station that is replaced, or forgets a job in a restart of its own, never says so.
    """
    ended = []
    for request in requests.all_open(tx, asked_before=now - _NO_NEWS):
        is_slow = request.kind in (Kind.FIRMWARE, Kind.PUBLISH)
        if now - _last_news(tx, request) < (_NO_NEWS_OF_FIRMWARE if is_slow else _NO_NEWS):
            continue
        requests.change_request(tx, request.request_key, state="failed", finished_at=now)
        journal.add_event(
            tx,
            Event(
                at=now,
                kind="job given up",
                level="warning",
                site_id=stations.site_id_of_station(tx, request.station_id),
                station_id=request.station_id,
                detail={"job": request.request_key, "kind": str(request.kind)},
            ),
        )
        ended.append(request.request_key)
    return ended


def _last_news(tx: Tx, request: DeviceRequest) -> datetime:
    """Return when a job last moved, or is to move: an image may be due in a month."""
    known = [request.asked_at]
    known += [step.received_at for step in requests.list_steps(tx, request.request_key)]
    known += [part.received_at for part in requests.list_parts(tx, request.request_key)[-1:]]
    for name in ("retrieve_at", "install_at"):
        due = request.detail.get(name)
        if isinstance(due, str):
            known.append(datetime.fromisoformat(due))
    return max(known)
