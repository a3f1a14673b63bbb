"""The 20-character names that stand for a DID on the wire, and what stations present.

A name is `Z`, a class character and 18 characters of Crockford base32 (90 bits): a digit for a
keyed fingerprint of a DID (one per key epoch), `S` for a one-time session token, `G` for a group.
`Z` is no hexadecimal digit, so a name never equals a card's UID. OCPP fields are case-insensitive:
every normal form has one case. A name tells who is meant; it proves nothing.
"""

import hmac
import re
from enum import StrEnum
from typing import Final

from csms.core.errors import InvalidInput
from csms.core.model import IdToken
from csms.identity.did import fold

CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
MAX_TOKEN: Final = 255
"""Characters of an OCPP 2.1 token; 1.6 and 2.0.1 allow fewer, which their schemas check."""

_NAME: Final = re.compile(r"Z([1-9SG])[0-9A-HJKMNP-TV-Z]{18}")
_PRINTABLE: Final = re.compile(r"[\x20-\x7e]+")
_IDENTIFIER: Final = re.compile(r"[0-9A-Za-z*\-_=:+|@.]+")
"""The characters of an OCPP 2.x identifier; a DID with others ("%") never goes on the wire."""
_SEPARATORS: Final = re.compile(r"[ :.\-]")
_UID: Final = re.compile(r"(?:[0-9A-F]{8}|[0-9A-F]{14}|[0-9A-F]{16}|[0-9A-F]{20})")
_MAC: Final = re.compile(r"(?:[0-9A-F]{12}|[0-9A-F]{16})")
_EMAID: Final = re.compile(r"([A-Z]{2}[0-9A-Z]{3}[0-9A-Z]{9})[0-9A-Z]?")
_VIN: Final = re.compile(r"[0-9A-HJ-NPR-Z]{17}")
_MIN_KEY_BYTES: Final = 16


class TokenKind(StrEnum):
    """What a normalised value is; `TokenRecord.kind` holds one of these."""

    FINGERPRINT = "fingerprint"
    SESSION = "session"
    GROUP = "group"
    DID = "did"
    RFID = "rfid"
    MAC = "mac"
    VIN = "vin"
    EMAID = "emaid"
    KEY_CODE = "key_code"
    TEXT = "text"
    """A plain token enrolled without a type: found whatever type a station gives it."""
    CENTRAL = "central"
    """A token that a system made up (Central, Local): no card's UID."""


_CLASSES: Final = {"S": TokenKind.SESSION, "G": TokenKind.GROUP}
_WIRE_KINDS: Final = {
    "iso14443": TokenKind.RFID,
    "iso15693": TokenKind.RFID,
    "macaddress": TokenKind.MAC,
    "evccid": TokenKind.MAC,
    "vin": TokenKind.VIN,
    "emaid": TokenKind.EMAID,
    "keycode": TokenKind.KEY_CODE,
    "did": TokenKind.DID,
}
_MADE_UP: Final = ("central", "local")


def fingerprint(did: str, *, key: bytes, epoch: int = 0) -> str:
    """Return the name of `did` under a tenant's `key` of `epoch`.

    `did` is the spelling as registered: DIDs are case-sensitive. Epochs count from 0; the class
    digit repeats after nine of them.
    """
    return f"Z{epoch % 9 + 1}" + _keyed(b"tasco-idtag-v1", did, key)


def group_token(organisation: str, *, key: bytes) -> str:
    """Return the group name of `organisation`, for parentIdTag and groupIdToken."""
    return "ZG" + _keyed(b"tasco-group-v1", organisation, key)


def session_token(random: bytes) -> str:
    """Return a one-time session token of the first 90 bits of `random` (at least 12 bytes)."""
    if len(random) < 12:
        raise ValueError(f"random has {len(random)} bytes; a session token needs 12")
    return "ZS" + _base32(random)


def name_kind(value: str) -> TokenKind | None:
    """Return the kind of a name we mint, in any case, or None for everything else."""
    match = _NAME.fullmatch(value.upper()) if value.isascii() else None
    return None if match is None else _CLASSES.get(match[1], TokenKind.FINGERPRINT)


def is_anonymous(token: IdToken) -> bool:
    """Return whether the station says that nobody identified (NoAuthorization, or no value)."""
    return token.kind.lower() == "noauthorization" or not token.value.strip()


def is_sendable(text: str, *, kind: str = "") -> bool:
    """Return whether a station can present `text`: a DID only in an OCPP identifier's characters.

    Cards and codes are taken in whatever characters stations write them.
    """
    is_did = kind.lower() == "did" or text[:4].upper() == "DID:"
    return not is_did or _IDENTIFIER.fullmatch(text) is not None


def normalise(token: IdToken, *, reversed_bytes: bool = False) -> list[tuple[TokenKind, str]]:
    """Return the (kind, value) pairs to look `token` up by, in order; the first hit counts.

    Empty for NoAuthorization, for an empty value and for characters no OCPP token may hold.
    `reversed_bytes` tells that the station sends card UIDs last byte first. A token without a type
    (1.6) may be of any kind; other types are held to theirs, for the type is part of the token:
    what a system made up (Central, Local) is no card's UID.
    """
    text = token.value
    # Spaces around a value make it another one: trimming would let two tokens pass for one.
    is_padded = text != text.strip()
    if is_padded or is_anonymous(token) or len(text) > MAX_TOKEN or not _PRINTABLE.fullmatch(text):
        return []
    wire = token.kind.lower()
    if not is_sendable(text, kind=wire):
        return []
    if not wire:
        return _of_any_kind(text, reversed_bytes=reversed_bytes)
    if wire in _MADE_UP:
        return _made_up(text)
    kind = _WIRE_KINDS.get(wire)
    if kind is None:
        return [(TokenKind.TEXT, text.upper())]
    value = _normal(kind, text, reversed_bytes=reversed_bytes)
    return [(kind, value), (TokenKind.TEXT, text.upper())]


def enrolled(value: str, *, kind: str = "") -> tuple[TokenKind, str]:
    """Return the (kind, value) under which to store a token that an operator enters.

    `kind` is an OCPP type ("ISO14443"), one of TokenKind, or "" to tell by the value's form.
    Raises InvalidInput for values that no station can present.
    """
    text = value.strip()
    if not text or len(text) > MAX_TOKEN or not _PRINTABLE.fullmatch(text):
        raise InvalidInput(
            f"token has {len(text)} characters; it must have 1 to {MAX_TOKEN}, printable ASCII"
        )
    chosen = kind.lower()
    if not is_sendable(text, kind=chosen):
        raise InvalidInput("a DID with characters such as % is no id token; its name stands for it")
    if not chosen:
        return _of_any_kind(text, reversed_bytes=False)[0] if _has_form(text) else _plain(text)
    if chosen in _MADE_UP:
        return _made_up(text)[0]
    known = _WIRE_KINDS.get(chosen) or next((k for k in TokenKind if k == chosen), None)
    if known is None:
        raise InvalidInput(
            f"token kind is {kind!r:.40}; permitted: {', '.join(TokenKind)}, or an OCPP type"
        )
    minted = name_kind(text)
    if minted is not None and known is not minted:
        raise InvalidInput(f"token has the form of a {minted} name; it cannot be a {known}")
    return known, _normal(known, text, reversed_bytes=False)


def _plain(text: str) -> tuple[TokenKind, str]:
    return TokenKind.TEXT, text.upper()


def _has_form(text: str) -> bool:
    upper = text.upper()
    return (
        name_kind(text) is not None
        or upper.startswith(("DID:", "VID:"))
        or _UID.fullmatch(_SEPARATORS.sub("", upper)) is not None
    )


def _made_up(text: str) -> list[tuple[TokenKind, str]]:
    minted = name_kind(text)
    if minted is not None:
        return [(minted, text.upper())]
    upper = text.upper()
    if upper.startswith("DID:"):
        return [(TokenKind.DID, fold(text))]
    if upper.startswith("VID:"):
        return [(TokenKind.MAC, _normal(TokenKind.MAC, text, reversed_bytes=False))]
    return [(TokenKind.CENTRAL, upper), _plain(text)]


def _of_any_kind(text: str, *, reversed_bytes: bool) -> list[tuple[TokenKind, str]]:
    upper = text.upper()
    minted = name_kind(text)
    if minted is not None:
        return [(minted, upper)]
    if upper.startswith("DID:"):
        return [(TokenKind.DID, fold(text))]
    if upper.startswith("VID:"):
        return [(TokenKind.MAC, _normal(TokenKind.MAC, text, reversed_bytes=False))]
    found = [(TokenKind.RFID, _normal(TokenKind.RFID, text, reversed_bytes=reversed_bytes))]
    for kind, form in ((TokenKind.MAC, _MAC), (TokenKind.EMAID, _EMAID), (TokenKind.VIN, _VIN)):
        value = _normal(kind, text, reversed_bytes=False)
        if form.fullmatch(value):
            found.append((kind, value))
    return [
        *found,
        (TokenKind.KEY_CODE, upper),
        (TokenKind.CENTRAL, upper),
        (TokenKind.TEXT, upper),
    ]


def _normal(kind: TokenKind, text: str, *, reversed_bytes: bool) -> str:
    if kind is TokenKind.DID:
        return fold(text)
    upper = text.upper()
    if kind is TokenKind.RFID:
        uid = _SEPARATORS.sub("", upper)
        if not _UID.fullmatch(uid):
            return upper
        return bytes.fromhex(uid)[::-1].hex().upper() if reversed_bytes else uid
    if kind is TokenKind.MAC:
        bare = _SEPARATORS.sub("", upper.removeprefix("VID:"))
        return bare if _MAC.fullmatch(bare) else upper
    if kind is TokenKind.EMAID:
        # With and without hyphens, with and without the check digit, it is one contract.
        match = _EMAID.fullmatch(re.sub(r"[-*]", "", upper))
        return match[1] if match else upper
    return upper


def _keyed(domain: bytes, text: str, key: bytes) -> str:
    if len(key) < _MIN_KEY_BYTES:
        raise ValueError(f"tenant key has {len(key)} bytes; it needs at least {_MIN_KEY_BYTES}")
    return _base32(hmac.digest(key, domain + b"\0" + text.encode("utf-8"), "sha256"))


def _base32(data: bytes) -> str:
    bits = int.from_bytes(data[:12], "big") >> 6
    return "".join(CROCKFORD[bits >> shift & 31] for shift in range(85, -1, -5))
