"""The gateway's numbers: what a station, an address or a command may take of it."""

from dataclasses import dataclass
from ssl import SSLContext


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """Limits and time-outs, in machine seconds; the defaults are those of the reliability design.

    `port` 0 takes any free one. With `tls` stations connect securely: on `tls_port` beside the
    plain `port` where it is given, else on `port` alone. `behind_tls_proxy` says that what comes
    in plainly was secured by a proxy in front.
    """

    host: str = "127.0.0.1"
    port: int = 9000
    tls: SSLContext | None = None
    tls_port: int | None = None
    behind_tls_proxy: bool = False
    compression: bool = True

    handshake_s: float = 10.0
    handshakes_open: int = 1000
    handshakes_per_address: int = 64
    limit_loopback: bool = False
    """Count loopback as one address too: off, since a proxy in front speaks for every station."""
    admitted_per_s: float = 100.0
    admission_wait_s: float = 30.0
    takeovers_per_minute: int = 6
    links_per_minute: int = 12
    """New links of one station; beyond it the station is refused and shown as flapping."""

    ping_s: float = 30.0
    frames_per_s: float = 20.0
    """Steady rate of one link; 0 lifts the limit. Beyond it reading pauses."""
    frames_burst: int = 200
    calls_queued: int = 50
    commands_queued: int = 20

    send_s: float = 20.0
    ask_s: float = 20.0
    """Longest the centre may take: its own hold of 15 s and some."""
    call_timeout_s: float = 30.0
    seen_every_s: float = 60.0
    drain_s: float = 10.0
    close_s: float = 5.0
    outage_probe_s: float = 5.0
    """While the centre is out, one handshake in this time is let through to try it."""
