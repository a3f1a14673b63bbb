"""A small certificate authority: roots, certificates for stations and for the central system.

The caller brings the time; keys and serial numbers are random. What a station may have signed is
decided here: its request proves that it holds the key, the key is strong enough, and the subject
names the station and the operator and nobody else.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from csms.core.errors import InvalidInput
from csms.identity.certificates import check_key, first_name

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_BACKDATED: Final = timedelta(minutes=10)
"""A station whose clock is behind must not find its new certificate not yet valid."""
_MAX_CSR: Final = 5_500
_MAX_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Authority:
    """A root that signs."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def pem(self) -> str:
        """The root as text."""
        return pem_of(self.certificate)


def pem_of(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def new_key(kind: str) -> PrivateKey:
    """Return a new private key, "ec" (P-256) or "rsa" (2048 bits); raise InvalidInput."""
    if kind == "ec":
        return ec.generate_private_key(ec.SECP256R1())
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    raise InvalidInput(f"kind of key is {kind!r:.20}; permitted: ec, rsa")


def key_pem(key: PrivateKey) -> str:
    """Return a private key as PEM, unencrypted: its file has to be readable by its owner only."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def authority_from(certificate_pem: str, private_key_pem: str) -> Authority:
    """Return a root read from its files; raise InvalidInput if they do not belong together."""
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
        key = serialization.load_pem_private_key(private_key_pem.encode(), password=None)
    except (ValueError, TypeError) as error:
        raise InvalidInput(
            f"a file of the certificate authority cannot be read: {error}"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InvalidInput("the key of the certificate authority is neither RSA nor EC")
    if key.public_key() != certificate.public_key():
        raise InvalidInput("certificate and key of the certificate authority differ")
    return Authority(certificate, key)


def new_root(*, name: str, operator: str, now: datetime, days: int) -> Authority:
    """Return a new self-signed root with a P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name, operator)
    builder = (
        _builder(subject, subject, key.public_key(), now=now, days=days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
        )
    )
    return Authority(builder.sign(key, hashes.SHA256()), key)


def server_certificate(
    root: Authority,
    hosts: Sequence[str],
    key: PrivateKey,
    *,
    operator: str,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """Return a certificate for the station port, for every name and address in `hosts`."""
    builder = (
        _issued(root, _subject(hosts[0], operator), key.public_key(), now=now, days=days)
        .add_extension(x509.SubjectAlternativeName([_general_name(h) for h in hosts]), False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            _usage(signs_certificates=False, encrypts=isinstance(key, rsa.RSAPrivateKey)),
            critical=True,
        )
    )
    return builder.sign(root.key, hashes.SHA256())


def checked_request(
    csr_pem: str, *, names: Sequence[str], operator: str
) -> x509.CertificateSigningRequest:
    """Return a station's request once it may be signed; raise InvalidInput saying why not.

    `names` are the identity and serial number of the station that asks: its common name has to be
    one of them. `operator` "" takes a request of any organisation, as for a V2G certificate.
    """
    if len(csr_pem) > _MAX_CSR:
        raise InvalidInput(f"the request has {len(csr_pem)} characters; permitted: {_MAX_CSR}")
    try:
        request = x509.load_pem_x509_csr(csr_pem.encode())
    except ValueError:
        # OCPP 1.6 and 2.0.1 say PEM; some stations leave its lines out.
        raise InvalidInput("the request is no PKCS#10 in PEM") from None
    try:
        is_signed, key, subject = request.is_signature_valid, request.public_key(), request.subject
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Its parts are looked at one by one, only when they are asked for.
        raise InvalidInput("the request's key, signature or subject cannot be read") from None
    if not is_signed:
        raise InvalidInput("the request's signature does not fit its key")
    check_key(key)
    common_name = first_name(subject, NameOID.COMMON_NAME)
    if common_name.casefold() not in {name.casefold() for name in names if name}:
        raise InvalidInput(f"the request is for {common_name!r:.70}, which is not this station")
    if len(subject.get_attributes_for_oid(NameOID.COMMON_NAME)) != 1:
        raise InvalidInput("the request has more than one common name")
    if operator and len(subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)) > 1:
        raise InvalidInput("the request has more than one organisation")
    organisation = first_name(subject, NameOID.ORGANIZATION_NAME)
    if operator and organisation != operator:
        raise InvalidInput(
            f"the request's organisation is {organisation!r:.70}; it must be {operator}"
        )
    return request


def station_certificate(
    root: Authority, request: x509.CertificateSigningRequest, *, now: datetime, days: int
) -> x509.Certificate:
    """Return the certificate for a checked request; of the request only name and key are taken."""
    key = request.public_key()
    builder = (
        _issued(root, request.subject, key, now=now, days=days)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
            ),
            critical=False,
        )
        .add_extension(
            _usage(signs_certificates=False, encrypts=isinstance(key, rsa.RSAPublicKey)),
            critical=True,
        )
    )
    return builder.sign(root.key, hashes.SHA256())


def _subject(name: str, operator: str) -> x509.Name:
    if not 1 <= len(name) <= _MAX_NAME:
        raise InvalidInput(
            f"{name!r:.70} is no common name; it must have 1 to {_MAX_NAME} characters"
        )
    if not 1 <= len(operator) <= _MAX_NAME:
        raise InvalidInput(
            f"operator is {operator!r:.70}; it must have 1 to {_MAX_NAME} characters"
        )
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, operator),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _issued(
    root: Authority, subject: x509.Name, key: object, *, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        _builder(subject, root.certificate.subject, key, now=now, days=days, root=root)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.key.public_key()),
            critical=False,
        )
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: object,
    *,
    now: datetime,
    days: int,
    root: Authority | None = None,
) -> x509.CertificateBuilder:
    check_key(key)
    assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey)
    until = now + timedelta(days=days)
    if root is not None:
        # A chain is good for as long as its shortest part.
        until = min(until, root.certificate.not_valid_after_utc)
    if until <= now:
        raise InvalidInput("the certificate authority's own root has expired")
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool, encrypts: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=encrypts,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
