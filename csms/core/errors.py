"""The exception tree. Refusals, shortfalls and station answers are values, never exceptions."""


class TascoError(Exception):
    """Root of everything TASCO raises on purpose."""


class ConfigError(TascoError):
    """The configuration cannot be used; the message names the key, the value and what is right."""


class InvalidInput(TascoError):
    """A value from an operator, a file or a provider breaks a rule; the message names it."""


class IdentityError(TascoError):
    """An identity cannot be used."""


class DidSyntaxError(IdentityError):
    """The text is no DID, or no DID of a method TASCO can read."""


class DidNotResolved(IdentityError):
    """The DID is well formed but no document is known for it."""


class NotFound(TascoError):
    """A named thing does not exist (mapped to 404 by the API)."""


class UnknownStation(NotFound):
    """No station of this id is registered."""


class UnknownSite(NotFound):
    """No site of this id is configured."""


class UnknownSession(NotFound):
    """No session of this id exists."""


class Conflict(TascoError):
    """The request contradicts what is stored (mapped to 409 by the API)."""


class NotSent(TascoError):
    """A command never reached the wire: the station is away, or its queue is full."""


class StoreUnavailable(TascoError):
    """Nothing was recorded, so nothing may be answered; the sender has to try again."""


class BusError(TascoError):
    """The other side of the bus cannot be reached in time."""


class LinkUnknown(TascoError):
    """The centre knows nothing of a station's link: it has to end, so that the station returns."""


class ProviderError(TascoError):
    """An outside source failed; the message names the provider and the field."""
