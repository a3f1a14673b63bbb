"""Identifiers of our own records: in order of time, unguessable, short enough to read out."""

import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str, at: datetime) -> str:
    """Return `prefix-` and 22 base32 characters: 48 bits of milliseconds, then 60 random bits."""
    number = (int(at.timestamp() * 1000) & (1 << 48) - 1) << 62 | secrets.randbits(62)
    digits = []
    for _ in range(22):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return f"{prefix}-{''.join(reversed(digits))}"
