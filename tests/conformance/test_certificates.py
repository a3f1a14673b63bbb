"""Blocks A and M of the conformance cases, S49-S51 of 1.6: certificates and security events."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from csms.identity import ca
from csms.identity.certificates import certificates_in, hash_data
from csms.service.authority import STATION_ROOT, V2G_ROOT
from tests.conformance.conftest import Lab
from tests.conformance.raw import RawStation
from tests.conformance.secure import OPERATOR, SecureLab, csr_pem, secure_lab
from tests.scenarios.world import eventually

EVENTS = (
    "FirmwareUpdated FailedToAuthenticateAtCsms CsmsFailedToAuthenticate SettingSystemTime "
    "StartupOfTheDevice ResetOrReboot SecurityLogWasCleared ReconfigurationOfSecurityParameters "
    "MemoryExhaustion InvalidMessages AttemptedReplayAttacks TamperDetectionActivated "
    "InvalidFirmwareSignature InvalidFirmwareSigningCertificate InvalidCsmsCertificate "
    "InvalidChargingStationCertificate InvalidTLSVersion InvalidTLSCipherSuite "
    "MaintenanceLoginAccepted MaintenanceLoginFailed"
).split()


@pytest.fixture
async def secure(sqlite_url: str, tmp_path: Path) -> AsyncIterator[SecureLab]:
    """A system with TLS and an authority of its own."""
    async with secure_lab(sqlite_url, tmp_path) as found:
        yield found


async def ask(station: RawStation, pem: str, kind: str = "") -> str:
    """Send a SignCertificate and return the status of its answer."""
    payload = {"csr": pem} | ({"certificateType": kind} if kind else {})
    return str((await station.call("SignCertificate", payload))["status"])


# --- a station's own certificate -----------------------------------------------------------------


@pytest.mark.case("A08", "S49")
async def test_a08_s49_a_station_renews_its_certificate_and_connects_with_it(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    key = ca.new_key("ec")
    async with secure.secured(version, holding=secure.signed("CS-1")) as station:
        asked = await secure.api.post("/api/v1/stations/CS-1/certificates/renew", json={})
        assert asked.json()["outcome"] == "accepted", asked.text
        if version == "1.6":
            call = await station.called("ExtendedTriggerMessage")
            assert call.payload == {"requestedMessage": "SignChargePointCertificate"}
        else:
            call = await station.called("TriggerMessage")
            assert call.payload == {"requestedMessage": "SignChargingStationCertificate"}
        assert station.seen("CertificateSigned") == []
        assert await ask(station, csr_pem("CS-1", key)) == "Accepted"
        signed = (await station.called("CertificateSigned")).payload
        if version != "1.6":
            assert signed["certificateType"] == "ChargingStationCertificate"
        own, root = certificates_in(signed["certificateChain"])
        own.verify_directly_issued_by(root)
        assert ca.pem_of(root) == secure.root(STATION_ROOT).pem
        assert own.public_key() == key.public_key()

        async def accepted() -> bool:
            shown = await secure.get("stations/CS-1/certificates")
            newest = shown["own"][0]
            return (newest["kind"], newest["state"]) == ("ChargingStationCertificate", "accepted")

        # Leaving at once could cut the answer off.
        await eventually(accepted, "the station's answer is not on record")
    holding = (signed["certificateChain"], key)
    async with secure.secured(version, holding=holding):
        assert await accepted()


async def test_a09_a_v2g_certificate_comes_under_the_v2g_root(secure: SecureLab) -> None:
    await secure.world.register("CS-1", security_profile=3)
    key = ca.new_key("ec")
    async with secure.secured("2.0.1", holding=secure.signed("CS-1")) as station:
        asked = await secure.api.post(
            "/api/v1/stations/CS-1/certificates/renew", json={"kind": "V2GCertificate"}
        )
        assert asked.json()["outcome"] == "accepted"
        call = await station.called("TriggerMessage")
        assert call.payload == {"requestedMessage": "SignV2GCertificate"}
        assert await ask(station, csr_pem("CS-1", key), "V2GCertificate") == "Accepted"
        signed = (await station.called("CertificateSigned")).payload
        assert signed["certificateType"] == "V2GCertificate"
        own, root = certificates_in(signed["certificateChain"])
        own.verify_directly_issued_by(root)
        assert ca.pem_of(root) == secure.root(V2G_ROOT).pem


async def test_a10_a_certificate_that_is_rejected_is_not_sent_again(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    old = secure.signed("CS-1")
    answers = {"CertificateSigned": {"status": "Rejected"}}
    async with secure.secured(version, holding=old, answers=answers) as station:
        assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Accepted"
        await station.called("CertificateSigned")
        event = {
            "type": "InvalidChargingStationCertificate",
            "timestamp": "2026-03-02T12:00:00Z",
        }
        assert await station.call("SecurityEventNotification", event) == {}

        async def told() -> list[dict[str, Any]]:
            return await secure.events("certificate not accepted", "CS-1")

        assert len(await eventually(told)) == 1
        listed = await secure.get("security-events", station_id="CS-1")
        assert [e["kind"] for e in listed["items"]] == ["InvalidChargingStationCertificate"]
        await station.call("Heartbeat", {})
        assert len(station.seen("CertificateSigned")) == 1
    async with secure.secured(version, holding=old) as station:
        await station.call("Heartbeat", {})
        assert station.seen("CertificateSigned") == []


async def test_a19_without_an_authority_a_request_is_rejected_at_once(
    lab: Lab, version: str
) -> None:
    async with lab.station(version) as station:
        assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Rejected"


async def test_a19_an_authority_that_cannot_be_reached_rejects_at_once(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    async with secure.secured(version, holding=secure.signed("CS-1")) as station:
        (secure.authority.folder / f"{STATION_ROOT}.key").rename(secure.folder / "away")
        assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Rejected"
        refused = await secure.events("certificate request refused", "CS-1")
        assert len(refused) == 1


async def test_requests_for_another_name_a_weak_key_or_a_broken_signature_are_rejected(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    key = ca.new_key("ec")
    good = csr_pem("CS-1", key)
    broken = x509.load_pem_x509_csr(csr_pem("CS-9", key).encode())
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    swapped = good.replace(good.split("\n")[-3][-8:], "AAAAAAAA")
    assert broken.is_signature_valid
    async with secure.secured(version, holding=secure.signed("CS-1")) as station:
        for pem in (
            csr_pem("CS-9", key),
            csr_pem("CS-1", key, operator="Another Operator"),
            csr_pem("CS-1", key, operator=""),
            csr_pem("CS-1", weak),
            swapped,
            "no request at all",
        ):
            assert await ask(station, pem) == "Rejected", pem
        assert station.seen("CertificateSigned") == []
        # The same request twice is a repeat after a lost answer: one certificate.
        assert await ask(station, good) == "Accepted"
        first = (await station.called("CertificateSigned")).payload
        assert await ask(station, good) == "Accepted"
        assert (await station.called("CertificateSigned")).payload == first
        for _ in range(9):
            assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Accepted"
        assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Rejected"


async def test_a_revoked_certificate_ends_its_link_and_opens_none(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    holding = secure.signed("CS-1")
    async with secure.secured(version, holding=holding) as station:
        own = (await secure.get("stations/CS-1/certificates"))["own"]
        assert [c["state"] for c in own] == ["seen"]
        revoked = await secure.api.post(f"/api/v1/certificates/{own[0]['certificate_id']}/revoke")
        assert revoked.is_success
        async with asyncio.timeout(5):
            assert (await station.ended())[0] == 1008
    assert await secure.refused(version, holding=holding) == 401


async def test_a_certificate_that_ends_soon_is_told_once_and_renewed(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    action = "ExtendedTriggerMessage" if version == "1.6" else "TriggerMessage"
    watch = secure.world.system.certificates.watch
    async with secure.secured(version, holding=secure.signed("CS-1", days=20)) as station:
        assert await watch() == 1
        await station.called(action)
        assert await watch() == 1
        assert len(await secure.events("certificate ends soon", "CS-1")) == 1
        assert len(station.seen(action)) == 1
        assert await ask(station, csr_pem("CS-1", ca.new_key("ec"))) == "Accepted"
        await station.called("CertificateSigned")

        async def is_renewed() -> bool:
            return await watch() == 0

        await eventually(is_renewed)


# --- security events -----------------------------------------------------------------------------


async def test_a18_every_security_event_is_answered_and_shown_in_the_stations_time(
    lab: Lab, version: str
) -> None:
    began = datetime(2026, 3, 2, 12, tzinfo=UTC)
    kinds = [*EVENTS, "SomethingOfTheVendors"]
    async with lab.station(version) as station:
        # The newest first: what counts is the station's own time, not when it came.
        for number, kind in reversed(list(enumerate(kinds))):
            at = began + timedelta(minutes=number)
            payload = {"type": kind, "timestamp": at.isoformat().replace("+00:00", "Z")}
            if number == 3:
                payload["techInfo"] = "x" * 255
            assert await station.call("SecurityEventNotification", payload) == {}
    shown = (await lab.get("security-events", station_id="CS-1", limit=100))["items"]
    assert [e["kind"] for e in reversed(shown)] == kinds
    assert [datetime.fromisoformat(e["at"]) for e in reversed(shown)] == [
        began + timedelta(minutes=n) for n in range(len(kinds))
    ]
    assert shown[-4]["tech_info"] == "x" * 255


# --- what stations trust -------------------------------------------------------------------------


async def install(lab: Lab, kind: str, pem: str) -> dict[str, Any]:
    """Install a certificate by the API."""
    body = {"kind": kind, "certificate": pem}
    done = await lab.api.post("/api/v1/stations/CS-1/certificates/install", json=body)
    assert done.is_success, done.text
    found: dict[str, Any] = done.json()
    return found


def root(name: str = "root") -> ca.Authority:
    """Return a root to install."""
    return ca.new_root(name=name, operator=OPERATOR, now=datetime.now(UTC), days=100)


def listed(authority: ca.Authority, algorithm: str = "SHA256") -> dict[str, str]:
    """Return how a station lists a root."""
    named = hash_data(authority.certificate, authority.certificate, algorithm)
    return {
        "hashAlgorithm": named.hash_algorithm,
        "issuerNameHash": named.issuer_name_hash,
        "issuerKeyHash": named.issuer_key_hash,
        "serialNumber": named.serial_number,
    }


@pytest.mark.case("M01", "M02", "M03")
@pytest.mark.parametrize(
    "kind", ["CSMSRootCertificate", "ManufacturerRootCertificate", "MORootCertificate"]
)
async def test_m01_m02_m03_a_root_is_sent_as_pem_and_listed_as_installed(
    lab: Lab, kind: str
) -> None:
    pem = root().pem
    async with lab.station("2.0.1") as station:
        assert (await install(lab, kind, pem))["outcome"] == "accepted"
        call = await station.called("InstallCertificate")
        assert call.payload == {"certificateType": kind, "certificate": pem}
        shown = (await lab.get("stations/CS-1/certificates"))["installed"]
        assert [(c["kind"], c["certificate"]) for c in shown] == [(kind, pem)]


async def test_m04_a_failed_installation_is_shown_and_not_listed(lab: Lab) -> None:
    async with lab.station("2.0.1", answers={"InstallCertificate": {"status": "Failed"}}):
        outcome = await install(lab, "CSMSRootCertificate", root().pem)
        assert (outcome["outcome"], outcome["status"]) == ("rejected", "Failed")
        assert (await lab.get("stations/CS-1/certificates"))["installed"] == []


async def test_s50_a_root_of_1_6_is_sent_by_its_own_name_and_listed(lab: Lab) -> None:
    made = root()
    answers = {
        "GetInstalledCertificateIds": lambda payload: (
            {"status": "Accepted", "certificateHashData": [listed(made)]}
            if payload["certificateType"] == "CentralSystemRootCertificate"
            else {"status": "NotFound"}
        )
    }
    async with lab.station("1.6", answers=answers) as station:
        assert (await install(lab, "CSMSRootCertificate", made.pem))["outcome"] == "accepted"
        call = await station.called("InstallCertificate")
        assert call.payload["certificateType"] == "CentralSystemRootCertificate"
        done = await lab.api.post("/api/v1/stations/CS-1/certificates/read", json={})
        shown = done.json()["installed"]
        assert [(c["kind"], c["certificate"]) for c in shown] == [("CSMSRootCertificate", made.pem)]
        assert len(station.seen("GetInstalledCertificateIds")) == 2


@pytest.mark.case("M05", "M07", "M08")
@pytest.mark.parametrize(
    "kinds",
    [["ManufacturerRootCertificate"], ["CSMSRootCertificate", "ManufacturerRootCertificate"], []],
)
async def test_m05_m07_m08_the_kinds_asked_for_are_sent_and_none_asks_for_all(
    lab: Lab, kinds: list[str]
) -> None:
    async with lab.station("2.0.1") as station:
        done = await lab.api.post("/api/v1/stations/CS-1/certificates/read", json={"kinds": kinds})
        assert done.json()["outcome"] == "accepted"
        call = await station.called("GetInstalledCertificateIds")
        assert call.payload == ({"certificateType": kinds} if kinds else {})


async def test_m06_a_chain_is_shown_with_its_children(lab: Lab) -> None:
    child = {**listed(root()), "serialNumber": "c1"}
    chain = {
        "certificateType": "V2GCertificateChain",
        "certificateHashData": listed(root()),
        "childCertificateHashData": [child],
    }
    answers = {
        "GetInstalledCertificateIds": {"status": "Accepted", "certificateHashDataChain": [chain]}
    }
    async with lab.station("2.0.1", answers=answers):
        done = await lab.api.post(
            "/api/v1/stations/CS-1/certificates/read", json={"kinds": ["V2GCertificateChain"]}
        )
        shown = done.json()["installed"]
        assert [(c["kind"], c["children"]) for c in shown] == [("V2GCertificateChain", ["c1"])]


async def test_m09_nothing_installed_is_an_empty_list(lab: Lab) -> None:
    async with lab.station("2.0.1"):
        await install(lab, "CSMSRootCertificate", root().pem)
        done = await lab.api.post("/api/v1/stations/CS-1/certificates/read", json={})
        found = done.json()
        assert (found["outcome"], found["status"], found["installed"]) == (
            "accepted",
            "NotFound",
            [],
        )


@pytest.mark.case("M10", "S51")
@pytest.mark.parametrize("algorithm", ["SHA256", "SHA384", "SHA512"])
async def test_m10_s51_a_certificate_is_deleted_by_the_very_hashes_it_is_listed_with(
    lab: Lab, version: str, algorithm: str
) -> None:
    made = root()
    kind = "CSMSRootCertificate"
    answer: dict[str, Any] = {"status": "Accepted"}
    if version == "1.6":
        answer["certificateHashData"] = [listed(made, algorithm)]
    else:
        item = {"certificateType": kind, "certificateHashData": listed(made, algorithm)}
        answer["certificateHashDataChain"] = [item]
    async with lab.station(version, answers={"GetInstalledCertificateIds": answer}) as station:
        await install(lab, kind, made.pem)
        done = await lab.api.post("/api/v1/stations/CS-1/certificates/read", json={"kinds": [kind]})
        (shown,) = done.json()["installed"]
        assert (shown["hash_algorithm"], shown["certificate"]) == (algorithm, made.pem)
        names = ("hash_algorithm", "issuer_name_hash", "issuer_key_hash", "serial_number")
        deleted = await lab.api.post(
            "/api/v1/stations/CS-1/certificates/delete", json={n: shown[n] for n in names}
        )
        assert deleted.json()["outcome"] == "accepted"
        call = await station.called("DeleteCertificate")
        assert call.payload == {"certificateHashData": listed(made, algorithm)}
        assert (await lab.get("stations/CS-1/certificates"))["installed"] == []


@pytest.mark.case("M13", "M14")
@pytest.mark.parametrize(
    "url", ["http://192.0.2.1:1/ocsp", "http://127.0.0.1:1/", "http://10.0.0.1/"]
)
async def test_m13_m14_ocsp_and_contracts_are_failed_at_once_wherever_they_point(
    lab: Lab, url: str
) -> None:
    asked = {**listed(root()), "responderURL": url}
    async with lab.station("2.0.1") as station, asyncio.timeout(5):
        answer = await station.call("GetCertificateStatus", {"ocspRequestData": asked})
        assert answer == {"status": "Failed"}
        wanted = {
            "iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef",
            "action": "Install",
            "exiRequest": "AAAA",
        }
        answer = await station.call("Get15118EVCertificate", wanted)
        assert answer == {"status": "Failed", "exiResponse": ""}


def test_the_hashes_are_those_of_openssl() -> None:
    """The two hashes as `openssl ocsp -req_text` prints them for this very certificate."""
    pem = (Path(__file__).parent / "root.pem").read_text()
    (certificate,) = certificates_in(pem)
    named = hash_data(certificate, certificate, "SHA256")
    wanted = (Path(__file__).parent / "root.hashes").read_text().split()
    assert [named.issuer_name_hash, named.issuer_key_hash, named.serial_number] == wanted
