"""Stations that mean harm: another's name, another's share of the power, and more than fits."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import func, select
from websockets.exceptions import InvalidStatus

from csms.core.device import Kind
from csms.core.errors import InvalidInput
from csms.identity import ca
from csms.identity.certificates import certificates_in
from csms.service.locations import LocationPolicy
from csms.settings import GatewaySettings
from csms.store import bounds, device_tables, requests, tables
from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation, linked
from tests.conformance.secure import OPERATOR, SecureLab, csr_pem, secure_lab
from tests.scenarios.world import eventually, living, settings

AT = "2026-03-02T12:00:00Z"
INVERTER = {"component": {"name": "C"}, "variable": {"name": "V"}}


@pytest.fixture
async def lab(sqlite_url: str) -> AsyncIterator[Lab]:
    """A running system with an operator."""
    async with living(settings(sqlite_url)) as world, world.operator() as api:
        yield Lab(world, api)


@pytest.fixture
async def secure(sqlite_url: str, tmp_path: Path) -> AsyncIterator[SecureLab]:
    """The same with TLS and an authority of its own."""
    async with secure_lab(sqlite_url, tmp_path) as found:
        yield found


async def count(lab: Lab, table: Any, station_id: str) -> int:
    """Return how many rows a station has in a table."""
    found = select(func.count()).select_from(table).where(table.c.station_id == station_id)
    return int(await lab.world.store.read(lambda tx: tx.execute(found).scalar_one()))


# --- names of others -----------------------------------------------------------------------------


@pytest.mark.parametrize("claimed", ["VICTIM", "victim", "SERIAL-OF-VICTIM"])
async def test_a_station_gets_no_certificate_for_another_by_claiming_its_serial_number(
    claimed: str, secure: SecureLab
) -> None:
    await secure.world.register("VICTIM", security_profile=3, serial_number="SERIAL-OF-VICTIM")
    await secure.world.register("THIEF", password="sixteen letters..")
    async with secure.secured(
        "2.0.1", "THIEF", password="sixteen letters..", boots=False
    ) as station:
        assert (await station.boot(serialNumber=claimed[:25]))["status"] == "Accepted"
        payload = {"csr": csr_pem(claimed, ca.new_key("ec"))}
        assert (await station.call("SignCertificate", payload))["status"] == "Rejected"


async def test_a_certificate_signed_here_opens_no_link_of_another_station(
    secure: SecureLab,
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    key = ca.new_key("ec")
    async with secure.secured("2.0.1", holding=secure.signed("CS-1")) as station:
        await station.boot(serialNumber="S-1")
        await station.call("SignCertificate", {"csr": csr_pem("S-1", key)})
        chain = (await station.called("CertificateSigned")).payload["certificateChain"]
    # Another station with the same serial number, as two of a careless maker may have.
    await secure.world.register("CS-2", security_profile=3, serial_number="S-1")
    assert await secure.refused("2.0.1", "CS-2", holding=(chain, key)) in (0, 401)
    (event,) = await secure.events("client certificate refused", "CS-2")
    assert "another station" in json.dumps(event)


async def test_a_station_behind_a_proxy_is_no_station_on_this_machine(sqlite_url: str) -> None:
    given = settings(sqlite_url, gateway=GatewaySettings(port=0, behind_tls_proxy=True))
    async with living(given) as world, world.operator() as api:
        lab = Lab(world, api)
        await world.register("CS-1")
        with pytest.raises(InvalidStatus, match="401"):
            async with linked(lab.world.url, "CS-1", "2.0.1"):
                pass


# --- certificate requests ------------------------------------------------------------------------


def odd_requests() -> dict[str, str]:
    """Return requests whose parts cannot be read, each one bytes away from a good one."""
    key = ec.generate_private_key(ec.SECP256R1())
    good = x509.load_pem_x509_csr(csr_pem("CS-1", key).encode())
    der = good.public_bytes(serialization.Encoding.DER)
    curve, key_kind = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06072a8648ce3d0201")
    algorithm = bytes.fromhex("06082a8648ce3d040302")
    found = {
        "unknown curve": der.replace(curve, bytes.fromhex("06082a8648ce3d03017f")),
        "unknown kind of key": der.replace(key_kind, bytes.fromhex("06072a8648ce3d027f")),
        "unknown signature": der.replace(algorithm, bytes.fromhex("06082a8648ce3d04037f")),
        "point not on the curve": der.replace(b"\x03\x42\x00\x04", b"\x03\x42\x00\x05"),
    }
    return {name: _pem(body) for name, body in found.items()}


def _pem(der: bytes) -> str:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE REQUEST-----\n{text}-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize("name", sorted(odd_requests()))
def test_a_certificate_request_that_cannot_be_read_is_refused_as_such(name: str) -> None:
    with pytest.raises(InvalidInput):
        ca.checked_request(odd_requests()[name], names=["CS-1"], operator=OPERATOR)


def test_a_private_key_is_never_taken_along_with_a_certificate() -> None:
    key = ca.new_key("ec")
    root = ca.new_root(name="r", operator=OPERATOR, now=datetime.now(UTC), days=10)
    with pytest.raises(InvalidInput, match="private key"):
        certificates_in(root.pem + ca.key_pem(key))


# --- more than fits ------------------------------------------------------------------------------


async def test_a_last_part_with_a_huge_number_costs_nothing(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await lab.api.post("/api/v1/stations/CS-1/reports", json={})
        call = await station.called("GetBaseReport")
        assert asked.is_success, asked.text
        report = {
            "requestId": call.payload["requestId"],
            "generatedAt": AT,
            "seqNo": 2**31 - 1,
            "tbc": False,
        }
        # The numbers up to the last one were once made into a list: 16 GB.
        assert await station.call("NotifyReport", report) == {}
        job = await lab.get(f"jobs/{asked.json()['job']['request_key']}")
        assert job["state"] in ("accepted", "running")
        assert await station.call("NotifyReport", {**report, "seqNo": 0}) == {}
        job = await lab.get(f"jobs/{asked.json()['job']['request_key']}")
        assert job["state"] == "done"


async def test_parts_beyond_the_bound_are_answered_and_not_kept(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "MAX_PARTS", 3)
    async with lab.station("2.0.1", automation=False) as station:
        request = await lab.world.store.write(
            lambda tx: requests.add_request(
                tx, "CS-1", Kind.CUSTOMER, detail={}, by="test", at=lab.world.clock.now()
            )
        )
        part = {"requestId": request.wire_id, "generatedAt": AT, "tbc": True, "data": "x" * 500}
        for number in range(6):
            assert await station.call("NotifyCustomerInformation", {**part, "seqNo": number}) == {}
    parts = await lab.world.store.read(lambda tx: requests.list_parts(tx, request.request_key))
    assert [p.seq_no for p in parts] == [0, 1, 2]


async def test_a_station_cannot_grow_evses_until_the_others_have_no_power(
    lab: Lab, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MAX_EVSES", 4)
    monkeypatch.setattr(bounds, "MAX_CONNECTORS", 6)
    async with lab.station(version, automation=False) as station:
        for number in range(1, 12):
            if version == "1.6":
                payload: dict[str, Any] = {"errorCode": "NoError", "status": "Available"}
            else:
                payload = {"timestamp": AT, "connectorStatus": "Available", "evseId": number}
            payload["connectorId"] = number
            assert await station.call("StatusNotification", payload) == {}
        assert await count(lab, tables.evse, "CS-1") == 4
        # What is known goes on changing.
        changed = {"connectorId": 1} | (
            {"errorCode": "NoError", "status": "Charging"}
            if version == "1.6"
            else {"timestamp": AT, "connectorStatus": "Occupied", "evseId": 1}
        )
        await station.call("StatusNotification", changed)
        shown = await lab.get("stations/CS-1")
        assert shown["evses"][0]["status"] in ("Charging", "Occupied")
    assert await count(lab, device_tables.connector_state, "CS-1") <= 6


@pytest.fixture(params=("1.6", "2.0.1"))
def version(request: pytest.FixtureRequest) -> str:
    """A version."""
    return str(request.param)


async def _floods(station: RawStation) -> None:
    for number in range(0, 40, 4):
        names = [
            {"component": {"name": "C"}, "variable": {"name": f"V{number + n}"}} for n in range(4)
        ]
        await station.call(
            "NotifyReport",
            {
                "requestId": 1,
                "generatedAt": AT,
                "seqNo": number,
                "reportData": [{**n, "variableAttribute": [{"value": "1"}]} for n in names],
            },
        )
        monitors = [
            {"id": number + n, "transaction": False, "value": 1, "type": "Delta", "severity": 3}
            for n in range(4)
        ]
        await station.call(
            "NotifyMonitoringReport",
            {
                "requestId": 1,
                "generatedAt": AT,
                "seqNo": number,
                "monitor": [{**INVERTER, "variableMonitoring": monitors}],
            },
        )
        events = [
            {
                "eventId": number + n,
                "timestamp": AT,
                "trigger": "Alerting",
                "actualValue": "1",
                "eventNotificationType": "HardWiredMonitor",
                **names[n],
            }
            for n in range(4)
        ]
        await station.call("NotifyEvent", {"generatedAt": AT, "seqNo": 0, "eventData": events})
        messages = [
            {
                "id": number + n,
                "priority": "NormalCycle",
                "message": {"format": "UTF8", "content": "x"},
            }
            for n in range(4)
        ]
        await station.call("NotifyDisplayMessages", {"requestId": 1, "messageInfo": messages})
        for n in range(4):
            profile = {
                "id": 1000 + number + n,
                "stackLevel": 0,
                "chargingProfilePurpose": "TxDefaultProfile",
                "chargingProfileKind": "Absolute",
                "chargingSchedule": [
                    {
                        "id": 1,
                        "chargingRateUnit": "A",
                        "chargingSchedulePeriod": [{"startPeriod": 0, "limit": 6.0}],
                    }
                ],
            }
            page = {"requestId": 1, "chargingLimitSource": "CSO", "evseId": 1}
            await station.call("ReportChargingProfiles", {**page, "chargingProfile": [profile]})
            limit = {"chargingLimitSource": "Other"}
            await station.call(
                "NotifyChargingLimit", {"chargingLimit": limit, "evseId": number + n}
            )


async def test_what_a_station_tells_of_itself_has_bounds_and_is_always_answered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {
        "MAX_ATTRIBUTES": device_tables.device_attribute,
        "MAX_MONITORS": device_tables.device_monitor,
        "MAX_OPEN_ALERTS": device_tables.alert,
        "MAX_DISPLAY_MESSAGES": tables.metadata.tables["display_message"],
        "MAX_PROFILES": tables.metadata.tables["reported_profile"],
        "MAX_LIMITS": tables.metadata.tables["external_limit"],
    }
    for name in kept:
        monkeypatch.setattr(bounds, name, 10)
    async with lab.station("2.0.1", automation=False) as station:
        await _floods(station)
        # What is there already still changes.
        await station.call(
            "NotifyReport",
            {
                "requestId": 1,
                "generatedAt": AT,
                "seqNo": 0,
                "reportData": [
                    {
                        "component": {"name": "C"},
                        "variable": {"name": "V0"},
                        "variableAttribute": [{"value": "changed"}],
                    }
                ],
            },
        )
    for name, table in kept.items():
        assert await count(lab, table, "CS-1") == 10, name
    found = await lab.world.store.read(
        lambda tx: tx.execute(
            select(device_tables.device_attribute.c.value).where(
                device_tables.device_attribute.c.variable == "V0"
            )
        ).scalar()
    )
    assert found == "changed"


# --- clocks --------------------------------------------------------------------------------------


async def test_a_clock_that_stood_in_the_year_9999_stops_no_transaction(lab: Lab) -> None:
    async with lab.station("1.6", automation=False) as station:
        status = {"connectorId": 1, "errorCode": "NoError", "status": "Available"}
        late = {**status, "timestamp": "9999-12-31T23:59:59Z"}
        assert await station.call("StatusNotification", late) == {}
        start = {"connectorId": 1, "idTag": "04A1", "meterStart": 0, "timestamp": AT}
        for at in ("0001-01-01T00:00:00Z", AT, "9999-12-31T23:59:59Z"):
            answer = await station.call("StartTransaction", {**start, "timestamp": at})
            assert answer["transactionId"] > 0


# --- where stations are sent ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "ftp://files.example/logs/%2e%2e/secret",
        "ftp://files.example/logs/%2E./secret",
        "ftp://files.example/logs/..%2fsecret",
        "https://files.example\\@127.0.0.1/logs",
        "ftp://files.example\\.evil.example/logs/x",
    ],
)
async def test_an_allowed_folder_is_not_left_by_another_spelling(url: str) -> None:
    policy = LocationPolicy(
        schemes=("https",), allowed_urls=("ftp://files.example/logs/",), allow_unresolved=True
    )
    await policy.check("ftp://files.example/logs/a.log")
    with pytest.raises(InvalidInput):
        await policy.check(url)


# --- secrets -------------------------------------------------------------------------------------


async def test_a_viewer_cannot_read_where_a_file_may_be_put(lab: Lab) -> None:
    async with lab.station("2.0.1", automation=False) as station:
        asked = await lab.api.post("/api/v1/stations/CS-1/logs", json={})
        assert asked.is_success, asked.text
        location = (await station.called("GetLog")).payload["log"]["remoteLocation"]
    token = location.rpartition("/uploads/")[2]
    assert len(token) > 20

    async def shown() -> str:
        found = await lab.api.get("/api/v1/stations/CS-1/frames", params={"action": "GetLog"})
        return found.text if "GetLog" in found.text else ""

    assert token not in await eventually(shown)
    exported = await lab.api.get("/api/v1/stations/CS-1/frames/export")
    assert "GetLog" in exported.text
    assert token not in exported.text


async def test_a_password_for_many_stations_is_not_kept_once_they_have_it(lab: Lab) -> None:
    secret = "0011223344556677889900112233445566778899"
    async with lab.station("1.6", automation=False):
        body = {
            "stations": ["CS-1"],
            "action": "ChangeConfiguration",
            "payload": {"key": "AuthorizationKey", "value": secret},
        }
        made = await lab.api.post("/api/v1/commands", json=body)
        assert made.status_code == 202, made.text

        async def ended() -> bool:
            found = await lab.get(f"campaigns/{made.json()['bulk_id']}")
            return bool(found["state"] == "done")

        await eventually(ended)
    rows = await lab.world.store.read(
        lambda tx: [tuple(r) for r in tx.execute(select(device_tables.bulk.c.payload))]
    )
    assert secret not in str(rows)
