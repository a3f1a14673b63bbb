"""Compare what stations were told is done with what a store holds.

A record is a transaction message of a journal; it is *answered* once a CALLRESULT came for it. The
store is given as plain rows. Rows of events have `station_id`, `kind` ("start", "update", "stop",
"meter"), `transaction_id`, `at`, and where known `seq_no` (2.0.1), `evse_id`, `register_wh` and
`digest`. Rows of sessions have `station_id`, `transaction_id`, and where known `energy_wh` and
`ended_at` (None while open).
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from simulators.clock import iso, parse_iso

Row = Mapping[str, Any]
Key = tuple[Any, ...]
STUCK_AFTER_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A transaction message as its station sent it, repeats of it folded into one."""

    station_id: str
    version: str
    kind: str
    transaction_id: str | None
    seq_no: int | None
    evse_id: int | None
    at: datetime
    register_wh: float | None
    digest: str
    is_answered: bool = False
    is_dropped: bool = False
    attempts: int = 1

    @property
    def key(self) -> Key:
        """What identifies the record, whatever its content."""
        return _key(
            self.station_id, self.kind, self.transaction_id, self.seq_no, self.evse_id, self.at
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is wrong with a store, in words; `dropped` are records the stations gave up."""

    lost: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()
    phantom: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    answered: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.doubled or self.phantom or self.changed or self.stuck)


def _key(
    station_id: str,
    kind: str,
    transaction_id: str | None,
    seq_no: int | None,
    evse_id: int | None,
    at: datetime,
) -> Key:
    if seq_no is not None:
        return (station_id, "event", transaction_id, seq_no)
    if kind == "start":
        # The station does not know the id yet; one EVSE starts once at an instant.
        return (station_id, kind, evse_id, iso(at))
    if kind == "stop":
        return (station_id, kind, transaction_id)
    return (station_id, "meter", transaction_id, iso(at))


def digest(action: str, payload: Mapping[str, Any]) -> str:
    """Return the fingerprint of a message's content."""
    text = json.dumps([action, payload], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def journal_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal file, or of all `*.journal` files of a folder.

    A last line torn by a kill is left out.
    """
    files = sorted(path.glob("*.journal")) if path.is_dir() else [path]
    lines = []
    for file in files:
        for text in file.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                continue
    return lines


def records(lines: Iterable[Mapping[str, Any]]) -> list[Record]:
    """Return the transaction records in journal lines, in the order first sent."""
    found: dict[tuple[str, str], Record] = {}
    open_calls: dict[tuple[str, int, str], tuple[str, str]] = {}
    for line in lines:
        frame, station = line.get("frame"), line["station"]
        if line["dir"] in ("sent", "drop") and frame and frame[0] == 2:
            record = _record(station, line["version"], frame[2], frame[3])
            if record is None:
                continue
            place = (station, record.digest)
            known = found.get(place)
            if line["dir"] == "drop":
                found[place] = replace(known or record, is_dropped=True)
                continue
            found[place] = replace(known, attempts=known.attempts + 1) if known else record
            open_calls[station, line["link"], frame[1]] = place
        elif line["dir"] == "got" and frame and frame[0] == 3:
            answered = open_calls.get((station, line["link"], frame[1]))
            if answered is not None:
                found[answered] = _answered(found[answered], frame[2])
    return list(found.values())


def _answered(record: Record, answer: Mapping[str, Any]) -> Record:
    if record.version == "1.6" and record.kind == "start" and not record.is_answered:
        number = answer.get("transactionId")
        return replace(record, is_answered=True, transaction_id=str(number))
    return replace(record, is_answered=True)


def _record(station: str, version: str, action: str, payload: Mapping[str, Any]) -> Record | None:
    common: dict[str, Any] = {
        "station_id": station,
        "version": version,
        "digest": digest(action, payload),
    }
    number = payload.get("transactionId")
    transaction = None if number is None else str(number)
    match action:
        case "StartTransaction" | "StopTransaction":
            is_start = action == "StartTransaction"
            return Record(
                kind="start" if is_start else "stop",
                transaction_id=transaction,
                seq_no=None,
                evse_id=payload.get("connectorId"),
                at=parse_iso(payload["timestamp"]),
                register_wh=payload["meterStart" if is_start else "meterStop"],
                **common,
            )
        case "MeterValues" if transaction is not None and payload["meterValue"]:
            return Record(
                kind="meter",
                transaction_id=transaction,
                seq_no=None,
                evse_id=payload.get("connectorId"),
                at=parse_iso(payload["meterValue"][0]["timestamp"]),
                register_wh=_register(payload["meterValue"]),
                **common,
            )
        case "TransactionEvent":
            kinds = {"Started": "start", "Updated": "update", "Ended": "stop"}
            return Record(
                kind=kinds[payload["eventType"]],
                transaction_id=payload["transactionInfo"]["transactionId"],
                seq_no=payload["seqNo"],
                evse_id=payload.get("evse", {}).get("id"),
                at=parse_iso(payload["timestamp"]),
                register_wh=_register(payload.get("meterValue", [])),
                **common,
            )
    return None


def _register(values: Sequence[Mapping[str, Any]]) -> float | None:
    for value in values:
        for sample in value["sampledValue"]:
            if sample.get("measurand") == "Energy.Active.Import.Register":
                return float(sample["value"])
    return None


def check(
    found: Iterable[Record],
    rows: Iterable[Row],
    *,
    sessions: Iterable[Row] = (),
    now: datetime | None = None,
    tolerance_wh: float = 1.0,
) -> Verdict:
    """Return what of `found` a store's `rows` and `sessions` do not hold as it was said.

    `now` is the simulated instant of the dump; without it nothing is called stuck. A record that
    was sent but not answered may be in the store or not.
    """
    said = {r.key: r for r in found}
    held: dict[Key, list[Row]] = defaultdict(list)
    for row in rows:
        held[_row_key(row)].append(row)
    answered = [r for r in said.values() if r.is_answered]
    doubled = [_name(k) for k, same in held.items() if len(same) > 1]
    doubled += _energies(said.values(), list(sessions := list(sessions)), tolerance_wh)
    return Verdict(
        lost=tuple(_name(r.key) for r in answered if r.key not in held),
        doubled=tuple(doubled),
        phantom=tuple(_name(k) for k in held if k not in said),
        changed=tuple(
            f"{_name(k)}: {difference}"
            for k, same in held.items()
            if k in said
            for row in same[:1]
            for difference in _differences(said[k], row, tolerance_wh)
        ),
        stuck=tuple(_stuck(answered, sessions, now)) if now is not None else (),
        dropped=tuple(_name(r.key) for r in said.values() if r.is_dropped and not r.is_answered),
        answered=len(answered),
    )


def _instant(value: Any) -> datetime:
    return value if isinstance(value, datetime) else parse_iso(str(value))


def _row_key(row: Row) -> Key:
    number = row.get("transaction_id")
    return _key(
        row["station_id"],
        row["kind"],
        None if number is None else str(number),
        row.get("seq_no"),
        row.get("evse_id"),
        _instant(row["at"]),
    )


def _name(key: Key) -> str:
    return "/".join(str(part) for part in key)


def _differences(record: Record, row: Row, tolerance_wh: float) -> list[str]:
    found = []
    at = _instant(row["at"])
    if iso(at) != iso(record.at):
        found.append(f"at is {iso(at)}, said {iso(record.at)}")
    register = row.get("register_wh")
    if (
        register is not None
        and record.register_wh is not None
        and abs(register - record.register_wh) > tolerance_wh
    ):
        found.append(f"register_wh is {register}, said {record.register_wh}")
    if row["kind"] != record.kind and {row["kind"], record.kind} != {"meter", "update"}:
        found.append(f"kind is {row['kind']}, said {record.kind}")
    is_named = record.is_answered and record.transaction_id is not None
    if is_named and str(row.get("transaction_id")) != record.transaction_id:
        found.append(f"transaction_id is {row.get('transaction_id')}, said {record.transaction_id}")
    if row.get("digest") is not None and row["digest"] != record.digest:
        found.append("digest differs")
    return found


def _energies(said: Iterable[Record], sessions: Sequence[Row], tolerance_wh: float) -> list[str]:
    """Name the sessions held twice, or whose energy is not last minus first register."""
    registers: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for r in said:
        if r.kind in ("start", "stop") and r.is_answered and r.register_wh is not None:
            registers[r.station_id, str(r.transaction_id)][r.kind] = r.register_wh
    found = []
    counts = Counter((s["station_id"], str(s["transaction_id"])) for s in sessions)
    found += [f"session {_name(k)} is held {n} times" for k, n in counts.items() if n > 1]
    for session in sessions:
        known = registers.get((session["station_id"], str(session["transaction_id"])), {})
        energy_wh = session.get("energy_wh")
        if energy_wh is None or set(known) != {"start", "stop"}:
            continue
        said_wh = known["stop"] - known["start"]
        if abs(energy_wh - said_wh) > tolerance_wh:
            found.append(
                f"session {session['station_id']}/{session['transaction_id']}: "
                f"energy_wh is {energy_wh}, registers say {said_wh}"
            )
    return found


def _stuck(answered: Iterable[Record], sessions: Iterable[Row], now: datetime) -> list[str]:
    stopped = {(r.station_id, str(r.transaction_id)): r.at for r in answered if r.kind == "stop"}
    limit = timedelta(seconds=STUCK_AFTER_S)
    found = []
    for session in sessions:
        at = stopped.get((session["station_id"], str(session["transaction_id"])))
        if at is not None and session.get("ended_at") is None and now - at > limit:
            found.append(f"session {session['station_id']}/{session['transaction_id']}")
    return found
