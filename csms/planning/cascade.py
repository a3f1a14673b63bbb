"""Which of our profiles limits a car at its station, and what to try where one does not.

By the book the least of the station's maximum and the transaction's profile counts, the
TxProfile going before the TxDefaultProfile (OCPP 1.6 §3.13, 2.0.1 K01). Some stations take or obey
fewer purposes: a plan then goes out under the next one down. Only a station with one EVSE can be
told a plan as its maximum, since a maximum is shared by all its EVSEs.
"""

from csms.core.commands import STATION_MAX, TX_DEFAULT, TX_PROFILE

_PURPOSES = {"default_only": TX_DEFAULT, "max_only": STATION_MAX}
_FOLLOWING = {"least": "default_only", "tx_only": "default_only", "default_only": "max_only"}


def purpose(cascade: str, *, evses: int) -> str:
    """Return the purpose under which plans go to a station of `evses` EVSEs, in 2.0.1's words."""
    if cascade == "max_only" and evses != 1:
        return TX_PROFILE
    return _PURPOSES.get(cascade, TX_PROFILE)


def following(cascade: str, *, evses: int) -> str:
    """Return what to try where `cascade` was found wrong, "" if nothing is left."""
    found = _FOLLOWING.get(cascade, "")
    return "" if found == "max_only" and evses != 1 else found
