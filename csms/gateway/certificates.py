"""Certificates and security events in the words of each version.

1.6 (security whitepaper) says what 2.x says with other names: ChargePoint and CentralSystem for
ChargingStation and CSMS, ExtendedTriggerMessage for TriggerMessage.
"""

from collections.abc import Callable, Mapping, Sequence

from csms.core.commands import Command, CommandResult, Outcome
from csms.core.model import OcppVersion
from csms.core.security import HashData, ListedCertificate, OcspQuestion
from csms.core.security_messages import (
    CertificateAsked,
    CertificateReply,
    ContractAsked,
    ContractReply,
    DeleteCertificate,
    InstallCertificate,
    ListCertificates,
    SecurityEventReported,
    SendCertificate,
    StatusAsked,
    StatusReply,
)
from csms.gateway.adapter import (
    Exchange,
    Origin,
    Payload,
    Step,
    Unsendable,
    nothing,
    read_status,
    step,
)
from csms.gateway.frames import Call
from csms.gateway.values import instant

_STATION = "ChargingStationCertificate"
_MAX_RESULT = 5_500
"""Characters of an OCSP response that every version of 2.x takes."""
_MAX_EXI: Mapping[OcppVersion, int] = {OcppVersion.V201: 7_500, OcppVersion.V21: 17_000}
"""Characters of a contract service's answer that a version takes."""
_NAMES_16: Mapping[str, str] = {
    "CSMSRootCertificate": "CentralSystemRootCertificate",
    "ManufacturerRootCertificate": "ManufacturerRootCertificate",
}
_KINDS_16 = {name: kind for kind, name in _NAMES_16.items()}
EXTENDED_TRIGGERS_16: Mapping[str, str] = {
    "SignChargingStationCertificate": "SignChargePointCertificate",
}
"""Messages that 1.6 is asked for with ExtendedTriggerMessage, by their 2.0.1 names."""


def asked(call: Call, origin: Origin) -> Exchange:
    """Return SignCertificate as a question; without a type it is the station's own."""
    report = CertificateAsked(
        **origin._asdict(),
        request=call.payload["csr"],
        kind=call.payload.get("certificateType", _STATION),
    )
    return Exchange(report, _asked_answer)


def status_asked(call: Call, origin: Origin) -> Exchange:
    """Return GetCertificateStatus as a question."""
    report = StatusAsked(**origin._asdict(), question=question(call.payload["ocspRequestData"]))
    return Exchange(report, _status_answer)


def _status_answer(reply: StatusReply) -> Payload:
    if not 0 < len(reply.result) <= _MAX_RESULT:
        return {"status": "Failed"}
    return {"status": "Accepted", "ocspResult": reply.result}


def contract_asked(version: OcppVersion) -> Callable[[Call, Origin], Exchange]:
    """Return how Get15118EVCertificate becomes a question."""

    def answer(reply: ContractReply) -> Payload:
        if not 0 < len(reply.exi_response) <= _MAX_EXI[version]:
            return {"status": "Failed", "exiResponse": ""}
        found: Payload = {"status": "Accepted", "exiResponse": reply.exi_response}
        if version is OcppVersion.V21 and reply.remaining_contracts is not None:
            found["remainingContracts"] = reply.remaining_contracts
        return found

    def ask(call: Call, origin: Origin) -> Exchange:
        payload = call.payload
        report = ContractAsked(
            **origin._asdict(),
            schema_version=payload["iso15118SchemaVersion"],
            action=payload["action"],
            exi_request=payload["exiRequest"],
            most_chains=payload.get("maximumContractCertificateChains"),
            first_emaids=tuple(payload.get("prioritizedEMAIDs", ())),
        )
        return Exchange(report, answer)

    return ask


def question(data: Payload) -> OcspQuestion:
    """Return an OCSPRequestDataType."""
    return OcspQuestion(
        certificate=HashData(
            hash_algorithm=data["hashAlgorithm"],
            issuer_name_hash=data["issuerNameHash"],
            issuer_key_hash=data["issuerKeyHash"],
            serial_number=data["serialNumber"],
        ),
        responder_url=data["responderURL"],
    )


def _asked_answer(reply: CertificateReply) -> Payload:
    return {"status": "Accepted" if reply.is_accepted else "Rejected"}


def security_event(version: OcppVersion) -> Callable[[Call, Origin], Exchange]:
    """Return how SecurityEventNotification becomes a report; all versions spell it alike."""

    def report(call: Call, origin: Origin) -> Exchange:
        payload = call.payload
        return Exchange(
            SecurityEventReported(
                **origin._asdict(),
                version=version,
                kind=payload["type"],
                at=instant(payload["timestamp"], "timestamp"),
                tech_info=payload.get("techInfo", ""),
                payload=call.payload_json,
            ),
            nothing,
        )

    return report


def steps(command: Command, version: OcppVersion) -> Sequence[Step] | None:
    """Return the calls that carry out a command of this module's, None for any other."""
    is_16 = version is OcppVersion.V16
    match command:
        case SendCertificate():
            payload: Payload = {"certificateChain": command.chain}
            if not is_16:
                payload["certificateType"] = command.kind
            return (step("CertificateSigned", payload),)
        case InstallCertificate():
            kind = _name_16(command.kind) if is_16 else command.kind
            payload = {"certificateType": kind, "certificate": command.certificate}
            return (step("InstallCertificate", payload),)
        case DeleteCertificate():
            payload = {"certificateHashData": _spelled(command.hash_data)}
            return (step("DeleteCertificate", payload),)
        case ListCertificates():
            return _listing_16(command) if is_16 else _listing(command)
    return None


def _name_16(kind: str) -> str:
    if kind not in _NAMES_16:
        raise Unsendable(f"not valid: 1.6 has no {kind}; permitted: {', '.join(_NAMES_16)}")
    return _NAMES_16[kind]


def _listing_16(command: ListCertificates) -> Sequence[Step]:
    if len(command.kinds) != 1:
        raise Unsendable("not valid: 1.6 lists one kind of certificate at a time")
    name = _name_16(command.kinds[0])

    def read(answer: Payload) -> CommandResult:
        listed = tuple(
            ListedCertificate(kind=_KINDS_16[name], hash_data=_read(item))
            for item in answer.get("certificateHashData", ())
        )
        return _read_listing(answer, listed)

    return (step("GetInstalledCertificateIds", {"certificateType": name}, read),)


def _listing(command: ListCertificates) -> Sequence[Step]:
    def read(answer: Payload) -> CommandResult:
        listed = tuple(
            ListedCertificate(
                kind=item["certificateType"],
                hash_data=_read(item["certificateHashData"]),
                children=tuple(_read(c) for c in item.get("childCertificateHashData", ())),
            )
            for item in answer.get("certificateHashDataChain", ())
        )
        return _read_listing(answer, listed)

    payload: Payload = {"certificateType": list(command.kinds)} if command.kinds else {}
    return (step("GetInstalledCertificateIds", payload, read),)


def _read_listing(answer: Payload, listed: tuple[ListedCertificate, ...]) -> CommandResult:
    result = read_status(answer)
    # Nothing found is an empty list, not a refusal.
    outcome = Outcome.ACCEPTED if result.status == "NotFound" else result.outcome
    return CommandResult(outcome=outcome, status=result.status, answer=answer, certificates=listed)


def _spelled(hash_data: HashData) -> Payload:
    return {
        "hashAlgorithm": hash_data.hash_algorithm,
        "issuerNameHash": hash_data.issuer_name_hash,
        "issuerKeyHash": hash_data.issuer_key_hash,
        "serialNumber": hash_data.serial_number,
    }


def _read(item: Payload) -> HashData:
    return HashData(
        hash_algorithm=item["hashAlgorithm"],
        issuer_name_hash=item["issuerNameHash"],
        issuer_key_hash=item["issuerKeyHash"],
        serial_number=item["serialNumber"],
    )
