"""X.509 certificates as stations use them: what they say, and how OCPP names them by hashes."""

import hashlib
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from csms.core.errors import InvalidInput
from csms.core.security import CertificateInfo, HashData

ALGORITHMS: Final = {"SHA256": hashlib.sha256, "SHA384": hashlib.sha384, "SHA512": hashlib.sha512}
MIN_RSA_BITS: Final = 2048
MIN_EC_BITS: Final = 224
MAX_PEM: Final = 20_000


def certificates_in(pem: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, in order; raise InvalidInput if there are none."""
    if len(pem) > MAX_PEM:
        raise InvalidInput(f"the certificate has {len(pem)} characters; permitted: {MAX_PEM}")
    try:
        found = x509.load_pem_x509_certificates(pem.encode())
    except ValueError as error:
        raise InvalidInput(f"the text is no certificate in PEM: {error}") from error
    if "PRIVATE KEY" in pem:
        raise InvalidInput("the text holds a private key beside the certificate; leave it out")
    try:
        for certificate in found:
            certificate.public_key()
            info(certificate)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"the certificate cannot be read: {error}") from error
    return found


def info(certificate: x509.Certificate) -> CertificateInfo:
    """Return what a certificate says."""
    return CertificateInfo(
        common_name=first_name(certificate.subject, NameOID.COMMON_NAME),
        organisation=first_name(certificate.subject, NameOID.ORGANIZATION_NAME),
        issuer=first_name(certificate.issuer, NameOID.COMMON_NAME),
        serial_number=f"{certificate.serial_number:x}",
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        valid_from=certificate.not_valid_before_utc,
        valid_until=certificate.not_valid_after_utc,
    )


def info_of_der(der: bytes) -> CertificateInfo:
    """Return what a certificate in DER says; raise InvalidInput if it is none."""
    try:
        return info(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidInput(f"the certificate cannot be read: {error}") from error


def first_name(name: x509.Name, oid: x509.ObjectIdentifier) -> str:
    """Return the first attribute of a name, "" without one."""
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else ""


def hash_data(
    certificate: x509.Certificate, issuer: x509.Certificate, algorithm: str = "SHA256"
) -> HashData:
    """Return how OCPP names `certificate`, whose issuer is `issuer` (itself for a root).

    The issuer's name is hashed as DER, its key as the bits of its public key without their tag
    and length (RFC 6960 §4.1.1, OCPP 2.0.1 CertificateHashDataType); the serial number is
    hexadecimal without leading zeros. Raises InvalidInput for an unknown algorithm.
    """
    if algorithm not in ALGORITHMS:
        raise InvalidInput(
            f"hash algorithm is {algorithm!r:.20}; permitted: {', '.join(ALGORITHMS)}"
        )
    digest = ALGORITHMS[algorithm]
    return HashData(
        hash_algorithm=algorithm,
        issuer_name_hash=digest(certificate.issuer.public_bytes()).hexdigest(),
        issuer_key_hash=digest(_key_bits(issuer)).hexdigest(),
        serial_number=f"{certificate.serial_number:x}",
    )


def issuer_among(
    certificate: x509.Certificate, others: Sequence[x509.Certificate]
) -> x509.Certificate | None:
    """Return the one of `others`, or itself, that signed `certificate`; None if none did."""
    for candidate in (certificate, *others):
        if candidate.subject != certificate.issuer:
            continue
        try:
            certificate.verify_directly_issued_by(candidate)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return candidate
    return None


def check_key(key: object) -> None:
    """Raise InvalidInput for a public key that is too weak, or of a kind that OCPP has not."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MIN_RSA_BITS:
            raise InvalidInput(f"an RSA key has {key.key_size} bits; it needs {MIN_RSA_BITS}")
        return
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.key_size < MIN_EC_BITS:
            raise InvalidInput(f"an EC key has {key.key_size} bits; it needs {MIN_EC_BITS}")
        return
    raise InvalidInput("the key is neither RSA nor EC")


def _key_bits(certificate: x509.Certificate) -> bytes:
    """Return the bits of a certificate's public key, without the DER around them."""
    key = certificate.public_key()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return key.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    if isinstance(key, rsa.RSAPublicKey):
        return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    return x509.SubjectKeyIdentifier.from_public_key(key).digest
