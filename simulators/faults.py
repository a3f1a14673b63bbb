"""Faults a station commits on purpose, drawn from a seed.

Shares (0..1) are chances per message or command. The same seed, station and order of messages
gives the same faults.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultPlan:
    """How often a station misbehaves.

    `drop_share`: the link is cut before a call, for `outage_s` simulated seconds.
    `delay_share`, `delay_s`: an answer to a command waits (simulated seconds).
    `duplicate_share`, `duplicate_new_id_share`: a call is sent again after its answer.
    `refuse_profile_share`: SetChargingProfile is answered Rejected; `ignore_profile_share`:
    Accepted and forgotten. `mute_share`: a command is never answered. `malformed_share`: a broken
    frame goes out before a call. `clock_offset_s`: the station's clock is ahead.
    """

    drop_share: float = 0.0
    outage_s: float = 60.0
    delay_share: float = 0.0
    delay_s: float = 5.0
    duplicate_share: float = 0.0
    duplicate_new_id_share: float = 0.0
    refuse_profile_share: float = 0.0
    ignore_profile_share: float = 0.0
    mute_share: float = 0.0
    malformed_share: float = 0.0
    clock_offset_s: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_share") and not 0 <= value <= 1:
                raise ValueError(f"{item.name} is {value}; it must be in 0..1")
            if item.name in ("outage_s", "delay_s") and value < 0:
                raise ValueError(f"{item.name} is {value}; it must not be negative")


MALFORMED = (
    '[2,"broken",',
    "not json",
    '{"messageTypeId":2}',
    '[2,"x"]',
    '[9,"unknown-type","Heartbeat",{}]',
    "[]",
)


@dataclass(slots=True)
class Faults:
    """The plan of one station with its own dice. `counts` says what was done."""

    plan: FaultPlan = field(default_factory=FaultPlan)
    seed: int = 0
    station_id: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    _dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._dice = random.Random(f"{self.seed}/{self.station_id}")

    def _falls(self, name: str, share: float) -> bool:
        if share <= 0 or self._dice.random() >= share:
            return False
        self.counts[name] = self.counts.get(name, 0) + 1
        return True

    def drops_link(self) -> bool:
        """Whether the link is cut now."""
        return self._falls("drop", self.plan.drop_share)

    def duplicate(self) -> str:
        """Return "same" or "new" (message id) if the call is repeated, else ""."""
        if self._falls("duplicate", self.plan.duplicate_share):
            return "same"
        return "new" if self._falls("duplicate_new", self.plan.duplicate_new_id_share) else ""

    def malformed(self) -> str:
        """Return a broken frame to send, or ""."""
        falls = self._falls("malformed", self.plan.malformed_share)
        return self._dice.choice(MALFORMED) if falls else ""

    def answer_delay_s(self) -> float:
        """Return how long the answer to a command waits, in simulated seconds."""
        return self.plan.delay_s if self._falls("delay", self.plan.delay_share) else 0.0

    def is_mute(self) -> bool:
        """Whether a command stays without an answer."""
        return self._falls("mute", self.plan.mute_share)

    def profile_fate(self) -> str:
        """Return "refuse", "ignore" or "" for a SetChargingProfile."""
        if self._falls("refuse", self.plan.refuse_profile_share):
            return "refuse"
        return "ignore" if self._falls("ignore", self.plan.ignore_profile_share) else ""


def fault_plan(section: Mapping[str, Any]) -> FaultPlan:
    """Return a plan from a scenario's section. Raises ValueError naming an unknown key."""
    permitted = sorted(f.name for f in fields(FaultPlan))
    for key in section:
        if key not in permitted:
            raise ValueError(f"{key} is unknown; permitted: {', '.join(permitted)}")
    return FaultPlan(**{k: float(v) for k, v in section.items()})
