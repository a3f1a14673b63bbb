"""Reports and commands about certificates, in the words of OCPP 2.0.1."""

from dataclasses import dataclass
from datetime import datetime

from csms.core.commands import Command
from csms.core.messages import Noted, Report
from csms.core.model import OcppVersion
from csms.core.security import HashData, OcspQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateReply:
    """Whether a request is signed; the certificate itself follows as a command of its own."""

    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAsked(Report[CertificateReply]):
    """SignCertificate. `kind` is the 2.0.1 certificate type; `request` is a PKCS#10 in PEM."""

    request: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReply:
    """A responder's answer, base64 of DER; "" where there is none."""

    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAsked(Report[StatusReply]):
    """GetCertificateStatus."""

    question: OcspQuestion


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractReply:
    """What a contract service answers to a vehicle, EXI in base64; "" where there is none."""

    exi_response: str
    remaining_contracts: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractAsked(Report[ContractReply]):
    """Get15118EVCertificate: a vehicle asks for a contract certificate, or for a newer one.

    `exi_request` goes to the contract service as it came. `most_chains` and `first_emaids` are
    those of 2.1.
    """

    schema_version: str
    action: str
    exi_request: str
    most_chains: int | None = None
    first_emaids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityEventReported(Report[Noted]):
    """SecurityEventNotification; `at` is by the station's clock."""

    version: OcppVersion
    kind: str
    at: datetime
    tech_info: str = ""
    payload: str = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCertificate(Command):
    """CertificateSigned: `chain` is PEM, the station's own certificate first."""

    chain: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallCertificate(Command):
    """Put a certificate (PEM) into the station's trust store. `kind` is its 2.0.1 use."""

    kind: str
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteCertificate(Command):
    """Take a certificate out of the station's trust store."""

    hash_data: HashData


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCertificates(Command):
    """Ask what the station trusts; the answer is CommandResult.certificates.

    Without `kinds` all are asked for; 1.6 takes exactly one.
    """

    kinds: tuple[str, ...] = ()
