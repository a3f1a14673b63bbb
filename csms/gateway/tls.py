"""TLS of stations: the suites, the client certificates, and a handshake whose failure is seen.

The event loop's own TLS server tells nobody of a handshake that failed, and of no connection
before it. Here the socket is accepted first and secured afterwards, so that half-open handshakes
are limited and a refused certificate becomes an event with its address.
"""

import asyncio
import os
import socket
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

TLS_1_2_SUITES = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
)
"""What OCPP demands of a central system: two with an ECDSA key, two with RSA key exchange."""

_CERTIFICATE_REASONS = frozenset(
    {"CERTIFICATE_VERIFY_FAILED", "EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"}
)
_MINUTE_S = 60.0
_REMEMBERED = 1_000


def server_context(
    chains: Sequence[tuple[Path, Path | None]], *, station_ca_files: Sequence[Path] = ()
) -> ssl.SSLContext:
    """Return the context of the station port: TLS 1.2 with OCPP's suites, and TLS 1.3.

    `chains` are certificate chains with their keys, one for each kind of key. With
    `station_ca_files` a station is asked for a certificate; whether it needs one is its security
    profile's matter. Raises OSError or SSLError for files that cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Level 2: no RSA key under 2048 bits, no EC key under 224, no SHA-1 in a chain.
    context.set_ciphers(":".join(TLS_1_2_SUITES) + ":@SECLEVEL=2")
    context.options |= (
        ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    )
    for certificate, key in chains:
        context.load_cert_chain(certificate, key)
    if station_ca_files:
        for file in station_ca_files:
            context.load_verify_locations(file)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def is_about_certificate(error: BaseException) -> bool:
    """Return whether a handshake failed because of the peer's certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return True
    return isinstance(error, ssl.SSLError) and error.reason in _CERTIFICATE_REASONS


def why_refused(error: BaseException) -> str:
    """Return in a few words why a handshake failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return str(error) or type(error).__name__


def taken_from(transport: asyncio.Transport) -> socket.socket:
    """Return the socket of a transport that was made just now, for the transport to be dropped.

    It is another descriptor of the same connection, so closing the transport ends nothing.
    """
    fileno = transport.get_extra_info("socket").fileno()
    taken = socket.socket(fileno=os.dup(fileno))
    taken.setblocking(False)
    return taken


class Seldom:
    """Says yes once a minute for each key, so that a flood of refusals stays one event a minute."""

    def __init__(self) -> None:
        self._last_at: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def may(self, now: float, *key: str) -> bool:
        """Return whether `key` may be told of at `now`."""
        last_at = self._last_at.get(key)
        if last_at is not None and now - last_at < _MINUTE_S:
            return False
        self._last_at[key] = now
        self._last_at.move_to_end(key)
        while len(self._last_at) > _REMEMBERED:
            self._last_at.popitem(last=False)
        return True
