"""SendLocalList of each version: the payload of one update."""

import json
from datetime import UTC, datetime
from typing import Any

from csms.core.local_list import ListEntry, ListUpdate
from csms.core.model import AuthorizationStatus, OcppVersion


def payload(version: OcppVersion | None, message: ListUpdate) -> dict[str, Any]:
    """Return the payload of SendLocalList; entries without their info are taken off."""
    kind = "Full" if message.is_full else "Differential"
    if version is OcppVersion.V16:
        return {
            "listVersion": message.version,
            "updateType": kind,
            "localAuthorizationList": [
                *({"idTag": e.value, "idTagInfo": _info_16(e)} for e in message.entries),
                *({"idTag": e.value} for e in message.removed),
            ],
        }
    return {
        "versionNumber": message.version,
        "updateType": kind,
        "localAuthorizationList": [
            *({"idToken": _token(e), "idTokenInfo": _info_201(e)} for e in message.entries),
            *({"idToken": _token(e)} for e in message.removed),
        ],
    }


def size(version: OcppVersion | None, message: ListUpdate) -> int:
    """Return how many bytes the payload of `message` takes."""
    return len(json.dumps(payload(version, message), separators=(",", ":")))


def _token(entry: ListEntry) -> dict[str, str]:
    return {"idToken": entry.value, "type": entry.kind}


def _info_16(entry: ListEntry) -> dict[str, str]:
    info = {"status": _STATUS_16.get(entry.status, "Invalid")}
    if entry.expires_at is not None:
        info["expiryDate"] = _text(entry.expires_at)
    if entry.group:
        info["parentIdTag"] = entry.group
    return info


def _info_201(entry: ListEntry) -> dict[str, Any]:
    info: dict[str, Any] = {"status": entry.status.value}
    if entry.expires_at is not None:
        info["cacheExpiryDateTime"] = _text(entry.expires_at)
    if entry.group:
        info["groupIdToken"] = {"idToken": entry.group, "type": "Central"}
    return info


_STATUS_16 = {
    AuthorizationStatus.ACCEPTED: "Accepted",
    AuthorizationStatus.BLOCKED: "Blocked",
    AuthorizationStatus.EXPIRED: "Expired",
}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
