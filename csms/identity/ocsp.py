"""Whether a certificate was revoked: questions and answers of RFC 6960, judged without a network.

An answer counts only if the issuer of the certificate signed it, or somebody whom the issuer
allows to (RFC 6960 §4.2.2.2), if it speaks of the certificate in question, and at its time. The
issuer itself has to lead to an authority that the operator trusts: whoever answers on the way to a
responder could say anything.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from csms.core.errors import InvalidInput
from csms.core.security import HashData
from csms.identity.certificates import hash_data, issuer_among

_ALGORITHMS: Final = {
    "SHA256": hashes.SHA256(),
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
}
Known = Sequence[x509.Certificate]
_LEEWAY: Final = timedelta(minutes=5)
"""Clocks of responders differ."""
UNDATED: Final = timedelta(minutes=10)
"""How long an answer counts that does not say."""
_DEEPEST: Final = 5


class Revocation(StrEnum):
    """What a responder says of a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What holds of a certificate, until when."""

    revocation: Revocation
    until: datetime


def question(asked: HashData) -> bytes:
    """Return the request (DER) about a certificate; raise InvalidInput for hashes that are none."""
    try:
        built = ocsp.OCSPRequestBuilder().add_certificate_by_hash(
            bytes.fromhex(asked.issuer_name_hash),
            bytes.fromhex(asked.issuer_key_hash),
            int(asked.serial_number, 16),
            _ALGORITHMS[asked.hash_algorithm],
        )
        return built.build().public_bytes(Encoding.DER)
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidInput(f"the hash data names no certificate: {error}") from error


def verdict(
    answer: bytes,
    asked: HashData,
    *,
    trusted: Sequence[x509.Certificate],
    others: Sequence[x509.Certificate] = (),
    now: datetime,
) -> Verdict:
    """Return what `answer` (DER) says of `asked`; raise InvalidInput if it proves nothing.

    `others` are certificates that came along, such as the chain in question: they may lead to
    `trusted` and are not trusted themselves.
    """
    try:
        told = ocsp.load_der_ocsp_response(answer)
        if told.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            raise InvalidInput(f"the responder says {told.response_status.name.lower()}")
        single = next((s for s in told.responses if _is_about(s, asked)), None)
        came_along = [*others, *told.certificates]
    except ValueError as error:
        raise InvalidInput(f"the answer of the responder cannot be read: {error}") from error
    if single is None:
        raise InvalidInput("the answer of the responder is about another certificate")
    issuer = _issuer(asked, [*trusted, *came_along], trusted, now)
    if issuer is None:
        raise InvalidInput("the issuer of the certificate leads to no authority that is trusted")
    if not any(_signed(told, signer) for signer in _signers(issuer, came_along, now)):
        raise InvalidInput("the answer of the responder is not signed by whom it has to be")
    until = single.next_update_utc or single.this_update_utc + UNDATED
    if single.this_update_utc - _LEEWAY > now or until + _LEEWAY < now:
        raise InvalidInput("the answer of the responder is of another time")
    words = {
        ocsp.OCSPCertStatus.GOOD: Revocation.GOOD,
        ocsp.OCSPCertStatus.REVOKED: Revocation.REVOKED,
    }
    return Verdict(revocation=words.get(single.certificate_status, Revocation.UNKNOWN), until=until)


def responder_of(certificate: x509.Certificate) -> str:
    """Return the URL of the responder that a certificate names, "" for none."""
    try:
        access = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess)
    except (x509.ExtensionNotFound, ValueError):
        return ""
    for description in access.value:
        where = description.access_location
        is_ocsp = description.access_method == AuthorityInformationAccessOID.OCSP
        if is_ocsp and isinstance(where, x509.UniformResourceIdentifier):
            return where.value
    return ""


def path_to(
    certificate: x509.Certificate,
    others: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
) -> list[x509.Certificate] | None:
    """Return the certificates above `certificate` up to a trusted one; None if none leads there.

    Each one above has to be an authority. Times are not looked at.
    """
    found: list[x509.Certificate] = []
    below = certificate
    while below not in trusted:
        if len(found) == _DEEPEST:
            return None
        above = issuer_among(below, trusted) if below.subject != below.issuer else None
        above = above if above not in (None, below) else issuer_among(below, others)
        if above is None or above == below or not _is_authority(above):
            return None
        found.append(above)
        below = above
    return found


def _is_about(single: ocsp.OCSPSingleResponse, asked: HashData) -> bool:
    """Return whether a part of an answer is about `asked`; responders repeat the question's id."""
    algorithm = {"sha256": "SHA256", "sha384": "SHA384", "sha512": "SHA512"}
    return (
        algorithm.get(single.hash_algorithm.name) == asked.hash_algorithm
        and single.issuer_name_hash.hex() == asked.issuer_name_hash.lower()
        and single.issuer_key_hash.hex() == asked.issuer_key_hash.lower()
        and single.serial_number == int(asked.serial_number, 16)
    )


def _issuer(
    asked: HashData,
    known: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    now: datetime,
) -> x509.Certificate | None:
    """Return the authority that the hashes name, if it leads to one that is trusted."""
    digest = getattr(hashlib, asked.hash_algorithm.lower())
    for candidate in known:
        if digest(candidate.subject.public_bytes()).hexdigest() != asked.issuer_name_hash.lower():
            continue
        own = hash_data(candidate, candidate, asked.hash_algorithm)
        if own.issuer_key_hash != asked.issuer_key_hash.lower() or not _is_authority(candidate):
            continue
        above = path_to(candidate, known, trusted)
        if above is not None and all(is_valid_at(c, now) for c in (candidate, *above)):
            return candidate
    return None


def _signers(
    issuer: x509.Certificate, came_along: Sequence[x509.Certificate], now: datetime
) -> list[x509.Certificate]:
    """Return who may sign for `issuer`: itself, and whom it allows to by a certificate."""
    return [
        issuer,
        *(
            c
            for c in came_along
            if _may_sign_answers(c) and is_valid_at(c, now) and issuer_among(c, [issuer]) == issuer
        ),
    ]


def _may_sign_answers(certificate: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage.value


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        found = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        return False
    return bool(found.value.ca)


def is_valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Return whether `now` lies in a certificate's time."""
    return certificate.not_valid_before_utc - _LEEWAY <= now <= certificate.not_valid_after_utc


def _signed(told: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, algorithm = signer.public_key(), told.signature_hash_algorithm
    if algorithm is None or algorithm.name in ("md5", "sha1"):
        return False
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(told.signature, told.tbs_response_bytes, ec.ECDSA(algorithm))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(told.signature, told.tbs_response_bytes, padding.PKCS1v15(), algorithm)
        else:
            return False
    except InvalidSignature:
        return False
    return True
