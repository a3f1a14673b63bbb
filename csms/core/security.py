"""Certificates as values: what one says of itself, and how OCPP names it."""

from dataclasses import dataclass
from datetime import datetime

STATION_ROOT = "station-root"
"""File name of the root of stations' certificates, in the authority's folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInfo:
    """What a certificate says; `serial_number` is hexadecimal, `fingerprint` its SHA-256."""

    common_name: str
    organisation: str
    issuer: str
    serial_number: str
    fingerprint: str
    valid_from: datetime
    valid_until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HashData:
    """A certificate as OCPP names it (CertificateHashDataType)."""

    hash_algorithm: str
    issuer_name_hash: str
    issuer_key_hash: str
    serial_number: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCertificate:
    """A certificate as a station lists it; `kind` is its 2.0.1 use."""

    kind: str
    hash_data: HashData
    children: tuple[HashData, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OcspQuestion:
    """A certificate whose state somebody wants to know, and who can tell."""

    certificate: HashData
    responder_url: str
