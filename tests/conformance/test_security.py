"""Block A of the conformance cases, with S48 and S55-S58 of OCPP 1.6: who may connect, and how."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from websockets.exceptions import InvalidStatus

from csms.gateway.tls import TLS_1_2_SUITES
from tests.conformance.conftest import Lab
from tests.conformance.raw import SILENCE, basic, linked
from tests.conformance.secure import PASSWORD, SecureLab, foreign_root, secure_lab
from tests.scenarios.world import eventually


@pytest.fixture
async def secure(sqlite_url: str, tmp_path: Path) -> AsyncIterator[SecureLab]:
    """A system with TLS and an authority of its own."""
    async with secure_lab(sqlite_url, tmp_path) as found:
        yield found


# --- profile 1 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.6", "2.0.1", "2.1"])
async def test_a01_a_station_with_its_password_is_linked_and_shown_with_its_profile(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, password=PASSWORD) as station:
        protocol = {"1.6": "ocpp1.6", "2.0.1": "ocpp2.0.1", "2.1": "ocpp2.1"}[version]
        assert station.socket.subprotocol == protocol
        shown = await lab.get("stations/CS-1")
        assert (shown["link_state"], shown["security_profile"]) == ("online", 1)
        assert (shown["links"][0]["closed_at"], shown["links"][0]["security_profile"]) == (None, 1)


async def test_a02_another_user_name_is_refused_and_logged_once(lab: Lab, version: str) -> None:
    await lab.world.register("CS-1", password=PASSWORD)
    with pytest.raises(InvalidStatus) as refused:
        async with linked(
            lab.world.url, "CS-1", version, additional_headers=basic("CS-2", PASSWORD)
        ):
            pass
    assert refused.value.response.status_code == 401
    shown = await lab.get("stations/CS-1")
    assert (shown["link_state"], shown["links"]) == ("offline", [])
    events = await lab.get("log", station_id="CS-1")
    assert [e["event"]["kind"] for e in events["items"]].count("credential refused") == 1


async def test_a12_an_identity_may_be_percent_encoded_once(lab: Lab, version: str) -> None:
    await lab.world.register("RDAM|123", password=PASSWORD)
    header = basic("RDAM|123", PASSWORD)
    async with linked(lab.world.url, "RDAM%7C123", version, additional_headers=header) as station:
        await station.boot()
        assert (await lab.get("stations/RDAM%7C123"))["link_state"] == "online"
    with pytest.raises(InvalidStatus) as refused:
        async with linked(lab.world.url, "RDAM%257C123", version, additional_headers=header):
            pass
    assert refused.value.response.status_code == 404


async def test_a13_an_identity_is_the_same_in_any_case_and_ends_at_48(
    lab: Lab, version: str
) -> None:
    body = {"site_id": "main", "password": PASSWORD[:16]}
    first = await lab.api.post("/api/v1/stations", json={"station_id": "Depot-A", **body})
    assert first.status_code == 201
    again = await lab.api.post("/api/v1/stations", json={"station_id": "DEPOT-a", **body})
    assert again.status_code == 409
    long = await lab.api.post("/api/v1/stations", json={"station_id": "x" * 49, **body})
    assert long.status_code == 422
    header = {"additional_headers": basic("depot-a", PASSWORD[:16])}
    async with linked(lab.world.url, "Depot-A", version, **header) as first_link:
        await first_link.boot()
        async with linked(lab.world.url, "dEPOT-a", version, **header) as second:
            await second.boot(serialNumber="X") if version != "1.6" else await second.boot()
            assert (await first_link.ended())[0] == 1000
            assert (await lab.get("stations/Depot-A"))["link_state"] == "online"
            outcome = await lab.command("ClearCache", {}, station_id="Depot-A")
            assert outcome["outcome"] == "accepted"
            await second.called("ClearCache")


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"Authorization": "Digest x"},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"CS-1").decode()},
        {"Authorization": "Basic "},
    ],
)
async def test_a14_a_broken_credential_is_told_the_scheme(
    lab: Lab, version: str, header: dict[str, str]
) -> None:
    await lab.world.register("CS-1", password=PASSWORD)
    with pytest.raises(InvalidStatus) as refused:
        async with linked(lab.world.url, "CS-1", version, additional_headers=header):
            pass
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["WWW-Authenticate"].startswith("Basic")


async def test_s55_a_key_comes_as_hex_text_or_as_its_bytes(lab: Lab) -> None:
    key = "00FF102030405060708090A0B0C0D0E0F03A0A55"
    await lab.world.register("CS-1", password=key)
    for password in (key, key.lower(), bytes.fromhex(key)):
        async with linked(lab.world.url, "CS-1", "1.6", password=password) as station:
            assert (await station.boot())["status"] == "Accepted"
    for options in ({}, {"password": "00" * 20}):
        with pytest.raises(InvalidStatus) as refused:
            async with linked(lab.world.url, "CS-1", "1.6", **options):
                pass
        assert refused.value.response.status_code == 401


async def test_s58_only_a_subprotocol_that_was_offered_is_chosen(lab: Lab) -> None:
    await lab.world.register("CS-1")
    with pytest.raises(InvalidStatus) as refused:
        async with linked(lab.world.url, "CS-1", "1.6", offers=["ocpp0.1"]):
            pass
    assert refused.value.response.status_code == 400
    async with linked(lab.world.url, "CS-1", "1.6", offers=["ocpp0.1", "ocpp1.6"]) as station:
        assert station.socket.subprotocol == "ocpp1.6"
        assert (await station.boot())["status"] == "Accepted"


# --- TLS -----------------------------------------------------------------------------------------


@pytest.mark.case("A03", "S56")
@pytest.mark.parametrize("suite", TLS_1_2_SUITES)
async def test_a03_s56_each_suite_of_tls_1_2_is_served_with_a_sound_certificate(
    secure: SecureLab, version: str, suite: str
) -> None:
    await secure.world.register("CS-1", password=PASSWORD, security_profile=2)
    context = secure.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    async with secure.secured(version, password=PASSWORD, ssl=context) as station:
        tls = station.socket.transport.get_extra_info("ssl_object")
        assert tls.cipher()[0] == suite
        assert tls.compression() is None
        shown = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
        key = shown.public_key()
        if "ECDSA" in suite:
            assert isinstance(key, ec.EllipticCurvePublicKey)
            assert key.key_size >= 224
        else:
            assert isinstance(key, rsa.RSAPublicKey)
            assert key.key_size >= 2048
        assert shown.serial_number > 0
        names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "localhost" in names.get_values_for_type(x509.DNSName)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1:DeprecationWarning")
async def test_a04_tls_1_1_is_refused_in_the_handshake(secure: SecureLab, version: str) -> None:
    await secure.world.register("CS-1", password=PASSWORD, security_profile=2)
    old = secure.client()
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    assert await secure.refused(version, password=PASSWORD, ssl=old) == 0
    new = secure.client()
    new.maximum_version = ssl.TLSVersion.TLSv1_2
    async with secure.secured(version, password=PASSWORD, ssl=new):
        pass


@pytest.mark.parametrize("suite", ["AES128-SHA", "ECDHE-RSA-AES128-GCM-SHA256"])
async def test_other_suites_of_tls_1_2_are_refused(secure: SecureLab, suite: str) -> None:
    await secure.world.register("CS-1", password=PASSWORD, security_profile=2)
    context = secure.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{suite}:@SECLEVEL=0")
    assert await secure.refused("2.0.1", password=PASSWORD, ssl=context) == 0


async def test_a_tls_handshake_that_stalls_is_cut_and_counted(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", password=PASSWORD, security_profile=2)
    port = secure.world.system.gateway.tls_port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x16\x03\x01")
    async with secure.secured(version, password=PASSWORD):
        pass
    writer.close()
    assert await reader.read() == b""


# --- profile 3 -----------------------------------------------------------------------------------


@pytest.mark.case("A05", "S57")
async def test_a05_s57_a_certificate_of_our_authority_needs_no_password(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3, serial_number="SN-1")
    async with secure.secured(version, holding=secure.signed("SN-1")) as station:
        assert "Authorization" not in station.socket.request.headers
        link = (await secure.get("stations/CS-1"))["links"][0]
        assert (link["security_profile"], link["certificate_cn"]) == (3, "SN-1")


@pytest.mark.case("A06", "S57")
async def test_a06_s57_other_certificates_are_refused_before_any_frame_with_an_event_each(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    await secure.world.register("CS-2", security_profile=3)
    ago = datetime.now(UTC) - timedelta(days=3)
    unknown = secure.signed("CS-1", root=foreign_root())
    expired = secure.signed("CS-1", at=ago, days=1)
    for holding in (unknown, expired):
        assert await secure.refused(version, holding=holding) == 0
    assert await secure.refused(version, holding=secure.signed("CS-2")) == 401

    async def all_told() -> bool:
        return len(await secure.events("client certificate refused")) == 3

    await eventually(all_told)
    whys = {e["event"]["detail"]["why"] for e in await secure.events("client certificate refused")}
    assert "certificate has expired" in whys
    assert "the common name is another station's" in whys
    assert len(whys) == 3
    assert (await secure.get("stations/CS-1"))["links"] == []
    async with secure.secured(version, holding=secure.signed("CS-1")):
        pass


async def test_a15_a_boot_with_another_serial_number_closes_the_link(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3, serial_number="SN-1")
    name = "chargePointSerialNumber" if version == "1.6" else "serialNumber"
    holding = secure.signed("SN-1")
    async with secure.secured(version, holding=holding, boots=False) as station:
        await station.boot(**{name: "SN-1"})
    before = await secure.get("stations/CS-1")
    async with secure.secured(version, holding=holding, boots=False) as station:
        boot = asyncio.create_task(station.boot(**{name: "SN-2"}))
        assert (await station.ended())[0] == 1008
        boot.cancel()
    after = await secure.get("stations/CS-1")
    kept = ("serial_number", "booted_at", "vendor", "model", "firmware_version", "registration")
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    assert len(await secure.events("serial number differs from certificate", "CS-1")) == 1


async def test_a15_where_the_name_is_the_identity_the_first_serial_number_is_kept(
    secure: SecureLab,
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    holding = secure.signed("CS-1")
    async with secure.secured("2.0.1", holding=holding, boots=False) as station:
        assert (await station.boot(serialNumber="SN-7"))["status"] == "Accepted"
        boot = asyncio.create_task(station.boot(serialNumber="SN-8"))
        assert (await station.ended())[0] == 1008
        boot.cancel()
    assert (await secure.get("stations/CS-1"))["serial_number"] == "SN-7"


async def test_a16_a_certificate_of_another_operator_is_refused(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", security_profile=3)
    holding = secure.signed("CS-1", operator="Another Operator")
    assert await secure.refused(version, holding=holding) == 401
    assert len(await secure.events("client certificate refused", "CS-1")) == 1


async def test_a17_a_station_has_one_profile(secure: SecureLab, version: str) -> None:
    await secure.world.register("CS-3", password=PASSWORD, security_profile=3)
    assert await secure.refused(version, "CS-3", password=PASSWORD) == 401
    assert await secure.refused(version, "CS-3", password=PASSWORD, url=secure.world.url) == 401
    await secure.world.register("CS-1", password=PASSWORD, security_profile=1)
    # The plain port cannot take a certificate; the other one does not, for this station.
    assert await secure.refused(version, url=secure.world.url) == 401
    assert await secure.refused(version, holding=secure.signed("CS-1")) == 401
    assert (await secure.get("stations/CS-1"))["security_profile"] == 1


async def test_a11_a_profile_is_raised_by_connecting_higher_and_never_lowered(
    secure: SecureLab, version: str
) -> None:
    await secure.world.register("CS-1", password=PASSWORD, security_profile=1)
    url = secure.world.url
    async with linked(url, "CS-1", version, password=PASSWORD) as station:
        await station.boot()
        await _tell_profile(secure, version, 2)
    async with secure.secured(version, password=PASSWORD) as station:
        assert (await secure.get("stations/CS-1"))["security_profile"] == 2
        assert await secure.refused(version, password=PASSWORD, url=url) == 401
        await _tell_profile(secure, version, 3)
    async with secure.secured(version, holding=secure.signed("CS-1")):
        assert (await secure.get("stations/CS-1"))["security_profile"] == 3
    assert await secure.refused(version, password=PASSWORD) == 401
    assert await secure.refused(version, password=PASSWORD, url=url) == 401
    raised = await secure.events("security profile raised", "CS-1")
    assert [e["event"]["detail"] for e in raised] == [{"from": 2, "to": 3}, {"from": 1, "to": 2}]


async def _tell_profile(secure: SecureLab, version: str, profile: int) -> None:
    if version == "1.6":
        told = {"key": "SecurityProfile", "value": str(profile)}
        assert (await secure.command("ChangeConfiguration", told))["outcome"] == "accepted"
        return
    connection = {
        "ocppVersion": "OCPP20",
        "ocppTransport": "JSON",
        "ocppCsmsUrl": secure.wss,
        "messageTimeout": 30,
        "securityProfile": profile,
        "ocppInterface": "Wired0",
    }
    slot = {"configurationSlot": 1, "connectionData": connection}
    assert (await secure.command("SetNetworkProfile", slot))["outcome"] == "accepted"
    priority = {
        "component": {"name": "OCPPCommCtrlr"},
        "variable": {"name": "NetworkConfigurationPriority"},
        "attributeValue": "1",
    }
    assert (await secure.command("SetVariables", {"setVariableData": [priority]}))["outcome"] == (
        "accepted"
    )
    assert (await secure.command("Reset", {"type": "Immediate"}))["outcome"] == "accepted"


async def test_a_station_that_is_removed_or_gets_another_password_loses_its_link(
    lab: Lab, version: str
) -> None:
    async with lab.station(version, password=PASSWORD) as station:
        changed = await lab.api.patch(
            "/api/v1/stations/CS-1", json={"password": "another password!"}
        )
        assert changed.is_success
        assert (await station.ended())[0] == 1008
    async with linked(lab.world.url, "CS-1", version, password="another password!") as station:
        await station.boot()
        assert (await lab.api.delete("/api/v1/stations/CS-1")).status_code == 204
        assert (await station.ended())[0] == 1008


# --- passwords -----------------------------------------------------------------------------------


def _new_password(version: str, value: str) -> tuple[str, dict[str, Any]]:
    """Return the raw command that gives a station a password."""
    if version == "1.6":
        return "ChangeConfiguration", {"key": "AuthorizationKey", "value": value}
    item = {
        "component": {"name": "SecurityCtrlr"},
        "variable": {"name": "BasicAuthPassword"},
        "attributeValue": value,
    }
    return "SetVariables", {"setVariableData": [item]}


async def _may_connect(lab: Lab, version: str, password: str | bytes) -> bool:
    try:
        async with linked(lab.world.url, "CS-1", version, password=password) as station:
            return "currentTime" in await station.call("Heartbeat", {})
    except InvalidStatus as error:
        if error.response.status_code != 401:
            raise
        return False


def _database(folder: Path) -> list[bytes]:
    """Return the content of the database's files, the log of its latest writes included."""
    return [file.read_bytes() for file in folder.iterdir() if file.name.startswith("tasco.db")]


def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    """Log at the finest level, with the libraries as quiet as the program keeps them."""
    for library in ("websockets", "httpx", "httpcore", "uvicorn"):
        caplog.set_level("WARNING", logger=library)
    # Last, since it is the handler's level as well.
    caplog.set_level("DEBUG")


def _sent(version: str, payload: dict[str, Any]) -> str:
    item = payload if version == "1.6" else payload["setVariableData"][0]
    return str(item["value" if version == "1.6" else "attributeValue"])


@pytest.mark.case("A07", "S48")
@pytest.mark.parametrize("by_hand", [True, False], ids=["raw call", "rotated"])
async def test_a07_s48_a_new_password_replaces_the_old_one_once_it_is_accepted(
    lab: Lab, version: str, by_hand: bool
) -> None:
    old = "AABBCCDDEEFF00112233445566778899AABBCCDD"
    action, payload = _new_password(version, "0123456789abcdef0123456789abcdef01234567")
    async with lab.station(version, password=old) as station:
        if by_hand:
            outcome = await lab.command(action, payload)
        else:
            asked = await lab.api.post("/api/v1/stations/CS-1/password/rotate")
            outcome = asked.json()
        assert outcome["outcome"] == "accepted", outcome
        new = _sent(version, (await station.called(action)).payload)
        assert await _may_connect(lab, version, new)
        assert not await _may_connect(lab, version, old)
        if version == "1.6":
            # 16 to 20 bytes, spelled with up to 40 hexadecimal digits.
            assert 16 <= len(bytes.fromhex(new)) <= 20
            assert await _may_connect(lab, version, bytes.fromhex(new))
        else:
            assert 16 <= len(new) <= 40


async def test_a_password_is_pending_from_before_it_is_sent_until_it_is_used(
    lab: Lab, version: str
) -> None:
    old, new = "an old password....", "0123456789abcdef0123456789abcdef"
    action, payload = _new_password(version, new)
    async with lab.station(version, password=old, answers={action: SILENCE}) as station:
        asking = asyncio.create_task(lab.command(action, payload, wait_s=1))
        await station.called(action)
        # On the wire and not answered: it is on record already.
        assert (await asking)["outcome"] == "no_answer"
        assert await _may_connect(lab, version, old)
        assert await _may_connect(lab, version, new)
        assert not await _may_connect(lab, version, old)


async def test_a_password_that_the_station_refuses_never_works(lab: Lab, version: str) -> None:
    old, new = "an old password....", "0123456789abcdef0123456789abcdef"
    action, payload = _new_password(version, new)
    answer: Any = {"status": "Rejected"}
    if version != "1.6":
        result = {k: payload["setVariableData"][0][k] for k in ("component", "variable")}
        answer = {"setVariableResult": [{"attributeStatus": "Rejected", **result}]}
    async with lab.station(version, password=old, answers={action: answer}):
        await lab.command(action, payload)
        assert not await _may_connect(lab, version, new)
        assert await _may_connect(lab, version, old)


async def test_a_late_word_on_one_password_is_no_word_on_a_newer_one(
    lab: Lab, version: str
) -> None:
    old, first, second = (f"{n}123456789abcdef0123456789abcdef" for n in "abc")
    action, _ = _new_password(version, first)
    async with lab.station(version, password=old, answers={action: SILENCE}) as station:
        for new in (first, second):
            assert (await lab.command(*_new_password(version, new), wait_s=1))["outcome"] == (
                "no_answer"
            )
        calls = station.seen(action)
        assert [_sent(version, c.payload) for c in calls] == [first, second]
        await station.send([3, calls[0].message_id, _accepted(version, calls[0].payload)])

        async def changes() -> list[Any]:
            return await lab.world.events("password changed")

        await eventually(changes, "the late answer is not kept")
        # The station has the first one, and perhaps the second: nobody has heard.
        assert await _may_connect(lab, version, first)
        assert not await _may_connect(lab, version, old)
        assert await _may_connect(lab, version, second)
        assert not await _may_connect(lab, version, first)


async def test_a_late_no_to_one_password_leaves_a_newer_one_as_it_is(
    lab: Lab, version: str
) -> None:
    old, first, second = (f"{n}123456789abcdef0123456789abcdef" for n in "abc")
    action, _ = _new_password(version, first)
    async with lab.station(version, password=old, answers={action: SILENCE}) as station:
        for new in (first, second):
            await lab.command(*_new_password(version, new), wait_s=1)
        calls = station.seen(action)
        await station.send([4, calls[0].message_id, "InternalError", "", {}])
        await eventually(
            lambda: lab.world.events("password refused by station"), "the late answer is not kept"
        )
        assert not await _may_connect(lab, version, first)
        assert await _may_connect(lab, version, old)
        assert await _may_connect(lab, version, second)


def _accepted(version: str, payload: dict[str, Any]) -> dict[str, Any]:
    if version == "1.6":
        return {"status": "Accepted"}
    result = {k: payload["setVariableData"][0][k] for k in ("component", "variable")}
    return {"setVariableResult": [{"attributeStatus": "Accepted", **result}]}


async def test_a_password_that_waits_for_a_reboot_leaves_the_old_one_in_force(lab: Lab) -> None:
    old, new = "an old password....", "0123456789abcdef0123456789abcdef"
    action, payload = _new_password("1.6", new)
    async with lab.station("1.6", password=old, answers={action: {"status": "RebootRequired"}}):
        await lab.command(action, payload)
        assert await _may_connect(lab, "1.6", old)
        assert await _may_connect(lab, "1.6", new)
        assert not await _may_connect(lab, "1.6", old)


async def test_no_password_is_in_the_database_or_in_a_log(
    lab: Lab, version: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    _log_everything(caplog)
    secret = "5ec4e7b33f5ec4e7b33f5ec4e7b33f5ec4e7b33f"
    action, payload = _new_password(version, secret)
    async with lab.station(version, password=PASSWORD) as station:
        await lab.command(action, payload)
        assert _sent(version, (await station.called(action)).payload) == secret
        asked = await lab.api.post("/api/v1/stations/CS-1/password/rotate")
        assert asked.is_success
        rotated = _sent(version, (await station.called(action)).payload)
        kept = await lab.get("stations/CS-1/commands", limit=50)
        assert [c for c in kept["items"] if "***" in c["payload"]]
        # What would have to wait in clear is not kept at all.
        waits = {"action": action, "payload": payload, "expires_s": 60}

    async def is_away() -> bool:
        return bool((await lab.get("stations/CS-1"))["link_state"] == "offline")

    await eventually(is_away)
    refused = await lab.api.post("/api/v1/stations/CS-1/commands", json=waits)
    assert refused.status_code == 422, refused.text
    files = _database(tmp_path)
    told = caplog.text
    assert files
    assert "link opened" in told
    for text in (secret, rotated, PASSWORD):
        assert text not in told
        assert not any(text.encode() in data for data in files)


async def test_v01_a_network_profile_carries_identity_and_password_and_keeps_neither_in_logs(
    lab: Lab, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    _log_everything(caplog)
    secret = "x" * 20 + "-network-profile-" + "y" * 27
    connection = {
        "ocppTransport": "JSON",
        "ocppCsmsUrl": "wss://localhost/ocpp",
        "messageTimeout": 30,
        "securityProfile": 2,
        "ocppInterface": "Wired0",
        "identity": "i" * 48,
        "basicAuthPassword": secret,
    }
    slot = {"configurationSlot": 1, "connectionData": connection}
    async with lab.station("2.1") as station:
        assert (await lab.command("SetNetworkProfile", slot))["outcome"] == "accepted"
        sent = (await station.called("SetNetworkProfile")).payload["connectionData"]
        assert (sent["identity"], sent["basicAuthPassword"]) == ("i" * 48, secret)
    assert len(secret) == 64
    files = _database(tmp_path)
    assert files
    assert not any(secret.encode() in data for data in files)
    assert secret not in caplog.text
