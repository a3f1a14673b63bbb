"""An OCSP responder on loopback, and the contract certificates that it knows."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from csms.identity.certificates import hash_data


@dataclass
class Signer:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate as text."""
        return self.certificate.public_bytes(Encoding.PEM).decode()


def made(
    name: str,
    issuer: Signer | None = None,
    *,
    is_authority: bool = False,
    signs_answers: bool = False,
    responder: str = "",
    days: tuple[int, int] = (-1, 30),
) -> Signer:
    """Return a certificate of `issuer`, or one signed by itself; `days` are its ends from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if signs_answers:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
        builder = builder.add_extension(usage, critical=False)
    if responder:
        where = x509.UniformResourceIdentifier(responder)
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
        builder = builder.add_extension(x509.AuthorityInformationAccess([access]), critical=False)
    signed = builder.sign(key if issuer is None else issuer.key, hashes.SHA256())
    return Signer(signed, key)


@dataclass
class Responder:
    """Answers for the certificates in `known`, each with its issuer; counts what it is asked."""

    signer: Signer | None = None
    """Who signs the answers instead of each certificate's issuer."""
    known: list[tuple[Signer, Signer]] = field(default_factory=list)
    revoked: set[int] = field(default_factory=set)
    asked: list[int] = field(default_factory=list)
    is_silent: bool = False
    port: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://localhost:{self.port}/ocsp"

    def answer(self, question: bytes) -> bytes:
        """Return the answer (DER) to a question (DER)."""
        request = ocsp.load_der_ocsp_request(question)
        self.asked.append(request.serial_number)
        found = next(
            (k for k in self.known if k[0].certificate.serial_number == request.serial_number), None
        )
        if found is None:
            return ocsp.OCSPResponseBuilder.build_unsuccessful(
                ocsp.OCSPResponseStatus.UNAUTHORIZED
            ).public_bytes(Encoding.DER)
        asked, issuer = found
        now, is_revoked = datetime.now(UTC), request.serial_number in self.revoked
        signer = self.signer or issuer
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=asked.certificate,
            issuer=issuer.certificate,
            algorithm=request.hash_algorithm,
            cert_status=ocsp.OCSPCertStatus.REVOKED if is_revoked else ocsp.OCSPCertStatus.GOOD,
            this_update=now,
            next_update=now + timedelta(hours=1),
            revocation_time=now if is_revoked else None,
            revocation_reason=None,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.NAME, signer.certificate)
        builder = builder.certificates([signer.certificate, issuer.certificate])
        return builder.sign(signer.key, hashes.SHA256()).public_bytes(Encoding.DER)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().casefold()
            assert "content-type: application/ocsp-request" in head
            length = int(head.partition("content-length:")[2].split()[0])
            question = await reader.readexactly(length)
            if self.is_silent:
                self.asked.append(0)
                await reader.read()
            else:
                body = self.answer(question)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\n")
                writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def responding(responder: Responder) -> AsyncIterator[Responder]:
    """Run a responder on a free port of loopback."""
    server = await asyncio.start_server(responder._serve, "localhost", 0)
    responder.port = server.sockets[0].getsockname()[1]
    async with server:
        yield responder


def named(
    chain: Sequence[tuple[Signer, Signer]], url: str, algorithm: str = "SHA256"
) -> list[dict[str, str]]:
    """Return certificates, each with its issuer, as OCSPRequestDataType."""
    found = []
    for certificate, issuer in chain:
        data = hash_data(certificate.certificate, issuer.certificate, algorithm)
        found.append(
            {
                "hashAlgorithm": data.hash_algorithm,
                "issuerNameHash": data.issuer_name_hash,
                "issuerKeyHash": data.issuer_key_hash,
                "serialNumber": data.serial_number,
                "responderURL": url,
            }
        )
    return found
