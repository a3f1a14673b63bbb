"""Contract certificates (C10-C12, M11, M13, M14): checked with a real responder on loopback."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509 import ocsp

from csms.core.errors import ConfigError
from csms.core.model import TokenRecord
from csms.security import contracts
from csms.settings import SecuritySettings, Settings
from tests.conformance.conftest import Lab
from tests.conformance.devices import lab_with
from tests.conformance.responder import Responder, Signer, made, named, responding
from tests.conformance.story import Story
from tests.providers.conftest import SampleServer
from tests.scenarios.world import did_of

EMAID = "DE8ACC12E46L89"
TOKEN = {"idToken": EMAID, "type": "eMAID"}


@dataclass
class Contract:
    """A system that trusts a root, a responder of its sub-authority, and a contract of it."""

    lab: Lab
    responder: Responder
    root: Signer
    sub: Signer
    own: Signer

    @property
    def hashes(self) -> list[dict[str, str]]:
        """The chain as a station names it: the contract, and the authority that issued it."""
        return named([(self.own, self.sub), (self.sub, self.root)], self.responder.url)

    @property
    def chain(self) -> str:
        """The chain in PEM, without its root."""
        return self.own.pem + self.sub.pem


@pytest.fixture
async def contract(sqlite_url: str, tmp_path: Path) -> AsyncIterator[Contract]:
    async with responding(Responder()) as responder:
        root = made("MO Root", is_authority=True)
        sub = made("MO Sub", root, is_authority=True, responder=responder.url)
        own = made(EMAID, sub, responder=responder.url)
        responder.known = [(own, sub), (sub, root)]
        file = tmp_path / "contract-roots.pem"
        file.write_text(root.pem)
        security = SecuritySettings(
            contract_roots_file=file, ocsp_hosts=("localhost",), ocsp_allow_local=True
        )
        async with lab_with(sqlite_url, security=security) as lab:
            await lab.world.driver(1)
            token = TokenRecord(value=EMAID, kind="emaid", did=did_of(1))
            await lab.world.system.enrolment.put_tokens([token], by="test")
            yield Contract(lab, responder, root, sub, own)


async def authorize(station: Any, **shown: Any) -> tuple[str, str]:
    answer = await station.call("Authorize", {"idToken": TOKEN, **shown})
    return answer["certificateStatus"], answer["idTokenInfo"]["status"]


async def test_c10_a_contract_that_the_responder_calls_good_charges(contract: Contract) -> None:
    async with contract.lab.station("2.0.1") as station:
        story = Story(contract.lab, station)
        await story.plug()
        shown = {"iso15118CertificateHashData": contract.hashes}
        assert await authorize(station, **shown) == ("Accepted", "Accepted")
        serials = [c.certificate.serial_number for c in (contract.own, contract.sub)]
        assert contract.responder.asked == serials
        answer = await story.event("Updated", "Authorized", card=TOKEN)
        assert answer["idTokenInfo"]["status"] == "Accepted"
        await story.event("Updated", "ChargingStateChanged", state="Charging", energy_wh=1100)
        assert (await story.shown())["authorization"] == "Accepted"
        # What a responder said counts until its next update.
        assert await authorize(station, **shown) == ("Accepted", "Accepted")
        assert contract.responder.asked == serials


@pytest.mark.parametrize("is_whole", [False, True])
async def test_c11_a_revoked_contract_is_refused_and_stays_so(
    contract: Contract, is_whole: bool
) -> None:
    contract.responder.revoked = {contract.own.certificate.serial_number}
    async with contract.lab.station("2.0.1") as station:
        hashes: dict[str, Any] = {"iso15118CertificateHashData": contract.hashes}
        shown = {"certificate": contract.chain} if is_whole else hashes
        assert await authorize(station, **shown) == ("CertificateRevoked", "Invalid")
        assert contract.responder.asked
        decision = (await contract.lab.get("decisions"))["items"][0]
        assert decision["reason"] == "certificate_refused"
        story = Story(contract.lab, station)
        answer = await story.event("Started", "Authorized", card=TOKEN)
        assert answer["idTokenInfo"]["status"] == "Invalid"


async def test_c12_a_whole_chain_is_verified_and_asked_about(contract: Contract) -> None:
    async with contract.lab.station("2.0.1") as station:
        shown = {"certificate": contract.chain}
        assert await authorize(station, **shown) == ("Accepted", "Accepted")
        serials = [c.certificate.serial_number for c in (contract.own, contract.sub)]
        assert contract.responder.asked == serials


@pytest.mark.case("C12")
async def test_a_chain_that_proves_nothing_is_refused_with_its_fault(contract: Contract) -> None:
    other = made("Other Root", is_authority=True)
    url, sub = contract.responder.url, contract.sub
    faults = {
        "CertChainError": [
            made(EMAID, other, responder=url).pem + other.pem,
            made("DE8ACC99999999", sub, responder=url).pem + sub.pem,
            made(EMAID, contract.own, responder=url).pem + contract.chain,
        ],
        "CertificateExpired": [made(EMAID, sub, responder=url, days=(-9, -2)).pem + sub.pem],
        "NoCertificateAvailable": [made(EMAID, sub).pem + sub.pem, "no certificate"],
    }
    async with contract.lab.station("2.0.1") as station:
        for fault, chains in faults.items():
            for chain in chains:
                assert await authorize(station, certificate=chain) == (fault, "Invalid")
        assert contract.responder.asked == []
        assert await authorize(station, certificate=contract.chain) == ("Accepted", "Accepted")


@pytest.mark.case("C10")
async def test_an_answer_counts_only_if_its_signer_may_give_it(contract: Contract) -> None:
    stranger = made("Somebody", contract.root)
    delegate = made("Responder", contract.sub, signs_answers=True)
    shown = {"iso15118CertificateHashData": contract.hashes[:1]}
    async with contract.lab.station("2.0.1") as station:
        contract.responder.signer = stranger
        assert await authorize(station, **shown) == ("NoCertificateAvailable", "Invalid")
        contract.responder.signer = delegate
        assert await authorize(station, **shown) == ("Accepted", "Accepted")


@pytest.mark.case("C10")
async def test_a_blocked_contract_is_told_cancelled_and_one_used_elsewhere_is_not(
    contract: Contract,
) -> None:
    async with contract.lab.station("2.0.1") as station:
        token = TokenRecord(value=EMAID, kind="emaid", did=did_of(1), state="blocked")
        await contract.lab.world.system.enrolment.put_tokens([token], by="test")
        shown = {"iso15118CertificateHashData": contract.hashes}
        assert await authorize(station, **shown) == ("ContractCancelled", "Blocked")


async def test_m11_what_a_responder_says_is_passed_on_and_kept(contract: Contract) -> None:
    async with contract.lab.station("2.0.1") as station:
        (asked, _) = contract.hashes
        answers = [
            await station.call("GetCertificateStatus", {"ocspRequestData": asked}) for _ in range(2)
        ]
        assert answers[0] == answers[1]
        assert answers[0]["status"] == "Accepted"
        told = ocsp.load_der_ocsp_response(base64.b64decode(answers[0]["ocspResult"]))
        assert told.certificate_status is ocsp.OCSPCertStatus.GOOD
        assert told.serial_number == contract.own.certificate.serial_number
        assert len(contract.responder.asked) == 1, "kept until its next update"
        contract.lab.world.clock.follow(datetime.now(UTC) + timedelta(hours=1))
        await station.call("GetCertificateStatus", {"ocspRequestData": asked})
        assert len(contract.responder.asked) == 2, "and asked again after it"


@pytest.mark.case("M13", "M14", "C10", "C16")
async def test_a_responder_that_is_silent_or_not_listed_is_an_answer_in_time(
    contract: Contract,
) -> None:
    contract.responder.is_silent = True
    contract.lab.world.system.central.contracts.within_s = 0.3
    async with contract.lab.station("2.0.1") as station:
        (asked, _) = contract.hashes
        answer = await station.call("GetCertificateStatus", {"ocspRequestData": asked})
        assert answer == {"status": "Failed"}
        assert contract.responder.asked == [0]
        shown = {"iso15118CertificateHashData": contract.hashes}
        async with asyncio.timeout(5):
            assert await authorize(station, **shown) == ("NoCertificateAvailable", "Invalid")
        decision = (await contract.lab.get("decisions"))["items"][0]
        assert decision["reason"] == "certificate_refused"
        count = len(contract.responder.asked)
        for host in ("127.0.0.1", "10.0.0.1", "ocsp.example"):
            url = f"http://{host}:{contract.responder.port}/ocsp"
            answer = await station.call(
                "GetCertificateStatus", {"ocspRequestData": {**asked, "responderURL": url}}
            )
            assert answer == {"status": "Failed"}
        assert len(contract.responder.asked) == count


# --- new contracts -------------------------------------------------------------------------------

WANTED = {
    "iso15118SchemaVersion": "urn:iso:15118:2:2013:MsgDef",
    "action": "Install",
    "exiRequest": "gJgCAAA=",
}
FAILED = {"status": "Failed", "exiResponse": ""}


@contextlib.asynccontextmanager
async def issuing(url: str, tmp_path: Path) -> AsyncIterator[tuple[Lab, SampleServer]]:
    """Run a system whose vehicles get their contracts from a service on loopback."""
    service = SampleServer()
    listening = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    service.port = listening.sockets[0].getsockname()[1]
    token = tmp_path / "token"
    token.write_text("the service knows us\n")
    security = SecuritySettings(
        contract_service_url=service.url("ev"),
        contract_service_token_file=token,
        contract_service_allow_local=True,
    )
    async with listening, lab_with(url, security=security) as lab:
        yield lab, service
        service.release.set()


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_m12_a_vehicle_gets_what_the_contract_service_answers(
    version: str, sqlite_url: str, tmp_path: Path
) -> None:
    async with issuing(sqlite_url, tmp_path) as (lab, service), lab.station(version) as station:
        service.says("ev", {"exiResponse": "gJgEAAA=", "remainingContracts": 2})
        more = {"maximumContractCertificateChains": 3, "prioritizedEMAIDs": [EMAID]}
        asked = WANTED if version == "2.0.1" else {**WANTED, "action": "Update", **more}
        answer = await station.call("Get15118EVCertificate", asked)
        rest = {} if version == "2.0.1" else {"remainingContracts": 2}
        assert answer == {"status": "Accepted", "exiResponse": "gJgEAAA=", **rest}
        ((line, headers, body),) = service.requests
        assert (line, headers["authorization"]) == ("POST /ev", "bearer the service knows us")
        assert json.loads(body) == asked


@pytest.mark.parametrize(
    "says", [{}, {"exiResponse": ""}, {"exiResponse": "A" * 17_001}, [], b"no json", "hangs", 500]
)
async def test_m13_a_contract_service_that_gives_nothing_is_a_no_in_time(
    says: object, sqlite_url: str, tmp_path: Path
) -> None:
    async with issuing(sqlite_url, tmp_path) as (lab, service), lab.station("2.1") as station:
        service.says("ev", {} if says == 500 else says, status=500 if says == 500 else 200)
        service.answers["/ev"].hangs = says == "hangs"
        async with asyncio.timeout(5):
            assert await station.call("Get15118EVCertificate", WANTED) == FAILED
            # The link has lived through it.
            assert "currentTime" in await station.call("Heartbeat", {})


@pytest.mark.parametrize("url", ["no url", "ftp://contracts.example/", "https://[::1"])
def test_a_contract_service_that_cannot_be_asked_is_a_wrong_configuration(url: str) -> None:
    with pytest.raises(ConfigError, match="contract_service_url"):
        contracts(Settings(security=SecuritySettings(contract_service_url=url)))


async def test_a_contract_service_in_our_own_network_has_to_be_permitted(
    sqlite_url: str,
) -> None:
    security = SecuritySettings(contract_service_url="https://127.0.0.1:9/ev")
    async with lab_with(sqlite_url, security=security) as lab, lab.station("2.0.1") as station:
        assert await station.call("Get15118EVCertificate", WANTED) == FAILED
