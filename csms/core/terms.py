"""The terms of a session on OCPP 2.1: limits, tariff, priority, costs. Beyond what 2.0.1 says."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionLimit:
    """What ends a transaction by itself; None where it does not. `soc` is 0..1."""

    cost: float | None = None
    energy_wh: float | None = None
    time_s: int | None = None
    soc: float | None = None

    def within(self, supported: frozenset[str]) -> "TransactionLimit | None":
        """Return what of it a station takes that supports these kinds, None if nothing is left.

        `supported` holds members of TxCtrlr.SupportedLimits: MaxCost, MaxEnergy, MaxTime, MaxSoC.
        """
        kept = TransactionLimit(
            cost=self.cost if "MaxCost" in supported else None,
            energy_wh=self.energy_wh if "MaxEnergy" in supported else None,
            time_s=self.time_s if "MaxTime" in supported else None,
            soc=self.soc if "MaxSoC" in supported else None,
        )
        return None if kept == TransactionLimit() else kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Particulars:
    """What a TransactionEvent of 2.1 says beyond 2.0.1. `costs` is a CostDetails as it came."""

    limit: TransactionLimit | None = None
    operation_mode: str = ""
    tariff_id: str = ""
    costs: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The terms of one session.

    `limit` is what we set, `limit_sent` what of it the station was told at `limit_sent_at`: what it
    supports; `station_limit` what the station
    says it keeps to. `tariff_id` is the one in use. `is_prioritised` says that the driver charges
    at full power whatever the plan. `allowed_modes` empty means the site's own rule.
    """

    session_id: str
    limit: TransactionLimit | None = None
    limit_sent: TransactionLimit | None = None
    limit_sent_at: datetime | None = None
    station_limit: TransactionLimit | None = None
    operation_mode: str = ""
    tariff_id: str = ""
    is_prioritised: bool = False
    allowed_modes: tuple[str, ...] = ()
    settlement: Mapping[str, Any] | None = None
    costs: Mapping[str, Any] | None = None
    costs_verdict: str = ""
    costs_own: str = ""
    limit_seq_no: int | None = None
    """The message whose answer carried the limit: a repeat of it gets the same answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Abilities:
    """What a station of 2.1 says it can do beyond 2.0.1; the defaults are those of silence."""

    dynamic_profiles: bool = False
    additional_purposes: frozenset[str] = field(default_factory=frozenset)
    max_external_constraints_id: int = 0
    supported_limits: frozenset[str] = field(default_factory=frozenset)
    tariffs: bool = False
    max_tariff_elements: int = 0
    operation_modes: frozenset[str] = field(default_factory=frozenset)


def limit_from(stored: Mapping[str, Any] | None) -> TransactionLimit | None:
    """Return a limit as it was stored, whatever a newer version added to it."""
    if stored is None:
        return None
    names = {f.name for f in fields(TransactionLimit)}
    return TransactionLimit(**{name: stored[name] for name in names & set(stored)})
