"""What makes of stations do with charging profiles: each was seen on the wire (stations.md 1)."""

from dataclasses import dataclass

PURPOSES = ("ChargingStationMaxProfile", "TxDefaultProfile", "TxProfile")
_CHOICES: dict[str, tuple[str, ...]] = {
    "same_level": ("", "replace", "refuse", "keep_old"),
    "same_id": ("replace", "refuse"),
    "message_ids": ("uuid", "counter"),
    "unknown_transaction": ("refuse", "ignore"),
    "offset_start": ("ok", "never_active", "error"),
    "zero": ("ok", "sleeps", "ends_session"),
    "cascade": ("least", "tx_only", "max_only"),
    "composite": ("ok", "none", "empty", "minus_one", "default", "first_second"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What one make of station takes of charging profiles, and what it does with the rest.

    `same_level` says what a second id on an occupied level does: "replace", "refuse" or "keep_old"
    (accepted, and the old one stays in force); empty is the version's own rule. `same_id` "refuse"
    wants an id cleared before it comes again. With `fractions` false a limit such as 6.1 is a
    CALLERROR; above `silent_above` periods (0: never) there is no answer at all, above
    `max_periods` a refusal; `level_error` makes one of that a CALLERROR for a stack level too high.
    `tells_limits` false leaves the questions for all of that unanswered.

    `unknown_transaction` "ignore" accepts a TxProfile for a transaction that is not there, without
    effect. `offset_start` is for a startSchedule that is not in UTC; one without a zone is then an
    error too. `accepts_disorder` takes periods that do not begin at 0 or rise. With
    `whole_second_clock` times have no fractions, and a schedule is in force from the first whole
    second after its start. `refused_purposes` are those of which no profile is taken, in the words
    of 2.0.1.

    With `returns_after_close` false a station that gets a close frame stays away until somebody
    reconnects it; a link that merely vanishes it opens again.

    A limit takes effect `effect_delay_s` late, in `whole_amperes` only, as nothing below `least_w`.
    At a limit of 0 `zero` "ends_session" ends the transaction; "sleeps" gives a car that charged
    nothing more until a profile is set or cleared, whatever its schedule says. `cascade` says
    which profiles count: the least of all, the transaction's alone ("tx_only": without one nothing
    limits a car), or the station's maximum alone. `composite` is the shape of the answer
    to GetCompositeSchedule: without a schedule, with an empty list, with -1, with a default of 48 A
    whatever is in force, or with an unlimited first second.
    """

    rate_units: tuple[str, ...] = ("A", "W")
    max_periods: int = 24
    silent_above: int = 0
    max_stack_level: int = 8
    level_error: bool = False
    max_profiles: int = 10
    fractions: bool = True
    whole_amperes: bool = False
    least_w: float = 0.0
    effect_delay_s: float = 0.0
    whole_second_clock: bool = False
    supports_profiles: bool = True
    tells_limits: bool = True
    refused_purposes: tuple[str, ...] = ()
    strict: bool = False
    accepts_disorder: bool = False
    same_level: str = ""
    same_id: str = "replace"
    unknown_transaction: str = "refuse"
    offset_start: str = "ok"
    zero: str = "ok"
    cascade: str = "least"
    composite: str = "ok"
    boots_on_reconnect: bool = False
    returns_after_close: bool = True
    message_ids: str = "uuid"

    def __post_init__(self) -> None:
        for name, permitted in _CHOICES.items():
            if getattr(self, name) not in permitted:
                raise ValueError(f"{name} is {getattr(self, name)!r}; permitted: {permitted}")
        if not set(self.rate_units) <= {"A", "W"} or not self.rate_units:
            raise ValueError(f"rate_units is {self.rate_units}; permitted: A, W")
        if not set(self.refused_purposes) <= set(PURPOSES):
            raise ValueError(
                f"refused_purposes is {self.refused_purposes}; permitted: {', '.join(PURPOSES)}"
            )
