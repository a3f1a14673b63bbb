"""From the configuration to a node's line to NATS; a single process never loads this."""

import socket
import ssl

from csms.bus.nats import LineOptions
from csms.core.errors import ConfigError
from csms.gateway_setup import secret
from csms.settings import BusSettings, Settings


def line_options(settings: Settings) -> LineOptions:
    """Return how to reach NATS; raises ConfigError."""
    bus = settings.bus
    if bus.type != "nats":
        raise ConfigError(f"bus.type is {bus.type!r}; a role of its own needs 'nats'")
    password = secret(bus.password, bus.password_file)
    if bus.user and password is None:
        raise ConfigError("bus.user needs bus.password or bus.password_file")
    token = secret(bus.token, bus.token_file)
    return LineOptions(
        servers=tuple(bus.url.split(",")),
        prefix=bus.prefix,
        user=bus.user,
        password=(password or b"").decode(),
        token=(token or b"").decode(),
        tls=_bus_tls(bus),
    )


def _bus_tls(bus: BusSettings) -> ssl.SSLContext | None:
    if bus.ca_file is None and bus.certificate_file is None and not bus.url.startswith("tls://"):
        return None
    try:
        context = ssl.create_default_context(cafile=bus.ca_file)
        if bus.certificate_file is not None:
            context.load_cert_chain(bus.certificate_file, bus.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"bus: TLS cannot use {bus.ca_file or bus.certificate_file}: {error}"
        ) from error
    return context


def node_name(settings: Settings) -> str:
    """Return what this node is called."""
    return settings.gateway.name or socket.gethostname()
