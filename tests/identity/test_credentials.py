"""The first concept's payloads: read completely, or refused with the key and what is right."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from csms.core.errors import InvalidInput
from csms.core.model import Credential, Vehicle
from csms.identity.credentials import (
    charger_from_concept,
    claim,
    holder_from_concept,
    vehicle_from_concept,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
DRIVER: dict[str, Any] = {
    "did": "did:denso:driver:abc123",
    "credentials": ["Employee:TechCorp", "FleetDriver:FleetY"],
    "preferences": {"priority": "high", "carbon_conscious": True},
    "allowed_sites": ["s1", "s2"],
}
VEHICLE: dict[str, Any] = {
    "did": "did:denso:vehicle:ev-1",
    "battery_capacity_kwh": 75,
    "nominal_consumption_wh_per_km": 180,
    "max_charge_power_kw": 150,
    "current_soc_percent": 35,
}
CHARGER: dict[str, Any] = {
    "did": "did:denso:charger:cp-7",
    "site_id": "s1",
    "max_power_kw": 150.0,
    "location": {"latitude": 35.0, "longitude": 137.0},
    "availability": "available",
    "tariff": 0.25,
}


def test_a_driver_is_read_with_unverified_claims_for_the_allowed_sites() -> None:
    holder = holder_from_concept(DRIVER)
    assert (holder.did, holder.kind, holder.organisation) == (DRIVER["did"], "driver", "TechCorp")
    assert holder.allowed_sites == ("s1", "s2")
    assert holder.carbon_conscious
    assert holder.credentials[0] == Credential(
        credential_id="did:denso:driver:abc123#Employee:TechCorp",
        kind="Employee",
        issuer="TechCorp",
        subject="did:denso:driver:abc123",
        sites=("s1", "s2"),
        organisation="TechCorp",
    )
    assert [(c.kind, c.is_verified) for c in holder.credentials] == [
        ("Employee", False),
        ("FleetDriver", False),
    ]


@pytest.mark.parametrize("sites", [{"allowed_sites": []}, {}])
def test_empty_allowed_sites_mean_none_unless_the_caller_says_all(sites: dict[str, Any]) -> None:
    payload = {key: value for key, value in DRIVER.items() if key != "allowed_sites"} | sites
    assert holder_from_concept(payload).allowed_sites == ()
    assert holder_from_concept(payload).credentials[0].sites == ()
    assert holder_from_concept(payload, empty_sites="all").allowed_sites == ("*",)
    assert holder_from_concept(payload, empty_sites="all").credentials[0].sites == ("*",)
    assert holder_from_concept(DRIVER, empty_sites="all").allowed_sites == ("s1", "s2")


@pytest.mark.parametrize(
    ("wish", "priority"), [(5, 0), ("high", 0), ("low", -1), (-3, -3), (-30, -9), (0, 0)]
)
def test_a_wish_never_raises_a_priority(wish: int | str, priority: int) -> None:
    assert holder_from_concept({**DRIVER, "preferences": {"priority": wish}}).priority == priority


def test_a_vehicle_is_read_in_our_units() -> None:
    assert vehicle_from_concept(VEHICLE, at=NOW, owner_did="did:denso:driver:abc123") == Vehicle(
        vehicle_id="did:denso:vehicle:ev-1",
        battery_kwh=75.0,
        consumption_wh_per_km=180.0,
        max_kw=150.0,
        max_dc_kw=150.0,
        soc=0.35,
        soc_at=NOW,
        soc_source="declared",
        owner_did="did:denso:driver:abc123",
    )


def test_a_vehicle_that_says_nothing_has_usual_values_and_no_state_of_charge() -> None:
    vehicle = vehicle_from_concept({"did": "did:denso:vehicle:ev-2"}, at=NOW)
    assert vehicle == Vehicle(vehicle_id="did:denso:vehicle:ev-2")
    assert vehicle_from_concept({**VEHICLE, "current_soc_percent": 0}).soc == 0.0


def test_a_charger_is_read_with_its_place_and_tariff() -> None:
    charger = charger_from_concept(CHARGER)
    assert (charger.site_id, charger.evse.station_id, charger.evse.max_kw) == ("s1", "cp-7", 150.0)
    assert charger.evse.status == "Available"
    assert charger.location == "latitude 35.0, longitude 137.0"
    assert charger.eur_per_kwh == 0.25
    other = charger_from_concept(
        {**CHARGER, "tariff": {"price_per_kwh": 0.3}, "availability": False}
    )
    assert (other.eur_per_kwh, other.evse.status) == (0.3, "Unavailable")


@pytest.mark.parametrize(
    ("read", "payload", "changed", "named"),
    [
        (holder_from_concept, DRIVER, {"did": "driver-1"}, "driver.did"),
        (holder_from_concept, DRIVER, {"did": VEHICLE["did"]}, "driver"),
        (holder_from_concept, DRIVER, {"did": 7}, "driver.did"),
        (holder_from_concept, DRIVER, {"credentials": ["Employee"]}, "Employee:TechCorp"),
        (holder_from_concept, DRIVER, {"credentials": "Employee:TechCorp"}, "credentials"),
        (holder_from_concept, DRIVER, {"allowed_sites": "s1"}, "allowed_sites"),
        (holder_from_concept, DRIVER, {"allowed_sites": [""]}, "allowed_sites"),
        (holder_from_concept, DRIVER, {"preferences": []}, "preferences"),
        (holder_from_concept, DRIVER, {"preferences": {"priority": 1.5}}, "preferences.priority"),
        (
            holder_from_concept,
            DRIVER,
            {"preferences": {"carbon_conscious": "yes"}},
            "preferences.carbon_conscious",
        ),
        (vehicle_from_concept, VEHICLE, {"current_soc_percent": 101}, "between 0 and 100"),
        (vehicle_from_concept, VEHICLE, {"current_soc_percent": True}, "must be a number"),
        (vehicle_from_concept, VEHICLE, {"battery_capacity_kwh": -1}, "battery_capacity_kwh"),
        (vehicle_from_concept, VEHICLE, {"battery_capacity_kwh": float("nan")}, "number"),
        (vehicle_from_concept, VEHICLE, {"max_charge_power_kw": "11"}, "max_charge_power_kw"),
        (charger_from_concept, CHARGER, {"site_id": ""}, "charger.site_id"),
        (charger_from_concept, CHARGER, {"max_power_kw": None}, "charger.max_power_kw"),
        (charger_from_concept, CHARGER, {"tariff": {"currency": "EUR"}}, "eur_per_kwh"),
        (charger_from_concept, CHARGER, {"tariff": {"rate": "cheap"}}, "tariff.rate"),
        (charger_from_concept, CHARGER, {"availability": 3}, "availability"),
        (charger_from_concept, CHARGER, {"location": 3}, "location"),
    ],
)
def test_a_bad_value_is_refused_by_its_key(
    read: Callable[[dict[str, Any]], object],
    payload: dict[str, Any],
    changed: dict[str, Any],
    named: str,
) -> None:
    with pytest.raises(InvalidInput, match=named):
        read({**payload, **changed})


def test_a_payload_without_a_did_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"vehicle\.did is missing"):
        vehicle_from_concept({})


def test_a_claim_names_its_type_and_organisation() -> None:
    assert claim(" Employee : Tech:Corp ", subject="did:ex:a", sites=()).organisation == "Tech:Corp"
    for text in ("", ":", "Employee:", ":TechCorp"):
        with pytest.raises(InvalidInput):
            claim(text, subject="did:ex:a", sites=())
