"""Contract certificates of vehicles (ISO 15118): whose they are, and what has to be asked."""

from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from cryptography.x509.oid import NameOID

from csms.core.errors import InvalidInput
from csms.core.model import IdToken
from csms.core.security import OcspQuestion
from csms.identity import ocsp
from csms.identity.alias import TokenKind, normalise
from csms.identity.certificates import certificates_in, first_name, hash_data
from csms.identity.ocsp import Known

ACCEPTED: Final = "Accepted"
REVOKED: Final = "CertificateRevoked"
EXPIRED: Final = "CertificateExpired"
BROKEN: Final = "CertChainError"
UNCHECKED: Final = "NoCertificateAvailable"
CANCELLED: Final = "ContractCancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A chain as shown: `fault` is its certificateStatus where nothing needs to be asked any more.

    Otherwise `questions` are to be answered; `others` lead from the contract to an authority.
    """

    fault: str = ""
    questions: tuple[OcspQuestion, ...] = ()
    others: Known = ()


def chain(pem: str, id_token: IdToken, *, trusted: Known, now: datetime) -> Chain:
    """Judge a contract's chain: who signed it, whose it is, when it is valid.

    Raises InvalidInput for a text that is no chain, or where nobody can be asked about the
    contract itself.
    """
    own, *others = certificates_in(pem)
    above = ocsp.path_to(own, others, trusted)
    if not above or not _is_of(first_name(own.subject, NameOID.COMMON_NAME), id_token):
        return Chain(fault=BROKEN)
    whole = [own, *above]
    if not all(ocsp.is_valid_at(c, now) for c in whole):
        return Chain(fault=EXPIRED)
    questions = []
    for certificate, issuer in pairwise(whole):
        url = ocsp.responder_of(certificate)
        if url:
            named = hash_data(certificate, issuer)
            questions.append(OcspQuestion(certificate=named, responder_url=url))
        elif certificate is own:
            raise InvalidInput("the contract certificate names no responder")
    return Chain(questions=tuple(questions), others=tuple(others))


def _is_of(name: str, id_token: IdToken) -> bool:
    """Return whether a contract was made out to the eMAID that was presented."""
    shown = normalise(id_token)
    named = normalise(replace(id_token, value=name))
    return any(kind is TokenKind.EMAID and (kind, value) in named for kind, value in shown)
