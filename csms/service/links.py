"""Links: who may connect, what a boot is answered, and which stations are there.

A station has one security profile. It may raise it, by Basic authentication over TLS or by a
certificate that it was asked to use, and never lowers it: what it has shown once it has to show
from then on.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

import structlog

from csms.clock import Clock
from csms.core.errors import InvalidInput
from csms.core.messages import (
    CALM,
    FLAPPING,
    BootReply,
    LinkClosed,
    LinkOffered,
    LinkRefusal,
    LinkReply,
    Noted,
    SecurityNoticed,
    StationBooted,
    StationSeen,
    StatusChanged,
)
from csms.core.model import Event, Station
from csms.core.security import CertificateInfo
from csms.identity.certificates import info_of_der
from csms.service.boots import keep_boot
from csms.service.passwords import CredentialCheck
from csms.service.states import keep_state
from csms.store import alerts, certificates, journal, links, stations
from csms.store.database import Store
from csms.store.links import Applicant
from csms.store.statements import Tx

FLAPPING_ALERT = "Link.Flapping"

_REMEMBERED = 50_000

log = structlog.get_logger(__name__)

NO_SECURITY, BASIC, BASIC_OVER_TLS, CERTIFICATE = range(4)
"""The security profiles of OCPP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shown:
    """What a station has shown at its handshake, and found good."""

    profile: int
    certificate: CertificateInfo | None = None
    pending_hash: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Refused:
    refusal: LinkRefusal
    kind: str = "credential refused"
    why: str = ""


class LinkDesk:
    """Answers what concerns a station as such: its link, its boot, its connectors' states."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        allow_profile_0: bool,
        operator: str = "",
    ) -> None:
        """`operator` is the organisation that station certificates have to name."""
        self.store = store
        self.clock = clock
        self.allow_profile_0 = allow_profile_0
        self.operator = operator
        self.credentials = CredentialCheck()
        self.site_ids: dict[str, str] = {}
        """The site of each station that has a link, since it was granted."""
        self._applicants: OrderedDict[str, Applicant] = OrderedDict()
        # As they were last read: they are compared in the transaction that opens the link, which
        # saves a reconnect a read of its own.

    async def offered(self, report: LinkOffered) -> LinkReply:
        """Decide on a handshake; a granted link has its id before the station hears of it."""
        fold = report.station_id.casefold()
        remembered = self._applicants.get(fold)
        if remembered is not None and self._was_verified(report, remembered):
            reply = await self._decided(report, remembered, is_certain=False)
            if reply is not None:
                return reply
        known = await self.store.read(lambda tx: links.find_applicant(tx, report.station_id))
        if known is None:
            self._applicants.pop(fold, None)
            await self.store.write(
                lambda tx: links.note_unknown_station(
                    tx,
                    report.station_id,
                    remote_address=report.remote_address,
                    at=report.received_at,
                )
            )
            return LinkReply(refusal=LinkRefusal.UNKNOWN_STATION)
        self._applicants[fold] = known
        while len(self._applicants) > _REMEMBERED:
            self._applicants.popitem(last=False)
        reply = await self._decided(report, known, is_certain=True)
        # What was just read has changed meanwhile: refused this once, the station asks again.
        return reply or LinkReply(refusal=LinkRefusal.BAD_CREDENTIAL)

    async def _decided(
        self, report: LinkOffered, known: Applicant, *, is_certain: bool
    ) -> LinkReply | None:
        """Decide by what is known of the station; return None if that holds no longer."""
        shown = await self._check(report, known)
        if isinstance(shown, _Refused):
            if not is_certain:
                return None
            await self._refuse(report, known, shown)
            return LinkReply(refusal=shown.refusal)
        granted = await self.store.write(lambda tx: _grant(tx, report, known, shown))
        if granted is None:
            return None
        link_id, found = granted
        self.site_ids[known.station_id] = known.site_id
        return LinkReply(
            station_id=known.station_id,
            link_id=link_id,
            heartbeat_interval_s=known.heartbeat_interval_s,
            is_registered=known.registration == "Accepted",
            returns_after_close=found.returns_after_close,
        )

    def _was_verified(self, report: LinkOffered, known: Applicant) -> bool:
        """Return whether this is the reconnect of a station that has shown the same before."""
        if report.certificate:
            return False
        if report.password is None or not known.hashes:
            return not known.hashes
        name = (report.username or "").casefold()
        return name == known.station_id.casefold() and self.credentials.remembers(
            known.station_id, report.password, known.hashes
        )

    async def _refuse(self, report: LinkOffered, station: Applicant, refused: _Refused) -> None:
        log.warning(
            "station refused",
            station_id=station.station_id,
            why=refused.why or refused.refusal.value,
            address=report.remote_address,
        )
        if refused.refusal is LinkRefusal.TOO_MANY_ATTEMPTS:
            return
        await self.store.write(
            lambda tx: journal.add_event(
                tx,
                Event(
                    at=report.received_at,
                    kind=refused.kind,
                    level="warning",
                    site_id=station.site_id,
                    station_id=station.station_id,
                    detail={"address": report.remote_address, "why": refused.why},
                ),
            )
        )

    async def _check(self, report: LinkOffered, station: Applicant) -> _Shown | _Refused:
        """Return the profile that a station has shown, or why it may not connect."""
        if report.certificate and report.password is None:
            return await self._check_certificate(report, station)
        if station.security_profile == CERTIFICATE:
            why = "the station's profile asks for a certificate"
            return _Refused(refusal=LinkRefusal.BAD_CREDENTIAL, why=why)
        if station.security_profile == BASIC_OVER_TLS and not report.is_tls:
            why = "the station's profile asks for TLS"
            return _Refused(refusal=LinkRefusal.PROFILE_TOO_LOW, why=why)
        return await self._check_password(report, station)

    async def _check_password(self, report: LinkOffered, station: Applicant) -> _Shown | _Refused:
        station_id, hashes = station.station_id, station.hashes
        if not hashes:
            if report.is_loopback or self.allow_profile_0:
                return _Shown(profile=NO_SECURITY)
            why = "the station has no password"
            return _Refused(refusal=LinkRefusal.PROFILE_TOO_LOW, why=why)
        now_s = asyncio.get_running_loop().time()
        if self.credentials.is_blocked(station_id, report.remote_address, now_s):
            return _Refused(refusal=LinkRefusal.TOO_MANY_ATTEMPTS)
        matched = None
        if (
            report.password is not None
            and (report.username or "").casefold() == station_id.casefold()
        ):
            matched = await self.credentials.verify(station_id, report.password, hashes)
        if matched is None:
            self.credentials.failed(station_id, report.remote_address, now_s)
            return _Refused(refusal=LinkRefusal.BAD_CREDENTIAL)
        return _Shown(
            profile=BASIC_OVER_TLS if report.is_tls else BASIC,
            pending_hash="" if matched == station.credential_hash else matched,
        )

    async def _check_certificate(
        self, report: LinkOffered, station: Applicant
    ) -> _Shown | _Refused:
        """Judge a certificate that TLS has verified up to the stations' authority."""

        def refused(why: str) -> _Refused:
            kind = "client certificate refused"
            return _Refused(refusal=LinkRefusal.BAD_CERTIFICATE, kind=kind, why=why)

        try:
            shown = info_of_der(report.certificate)
        except InvalidInput as error:
            return refused(str(error))
        names = {station.station_id.casefold(), station.serial_number.casefold()} - {""}
        if shown.common_name.casefold() not in names:
            return refused("the common name is another station's")
        if shown.organisation != self.operator:
            return refused("the organisation is another operator's")
        # A session that TLS resumes was verified when it began.
        if not shown.valid_from <= report.received_at < shown.valid_until:
            return refused("the certificate is not valid now")
        is_revoked, is_of_other = await self.store.read(
            lambda tx: (
                certificates.is_revoked(tx, shown.fingerprint),
                certificates.is_of_other(tx, shown.fingerprint, station.station_id),
            )
        )
        if is_revoked:
            return refused("the certificate is revoked")
        if is_of_other:
            return refused("the certificate was signed for another station")
        if CERTIFICATE not in (station.security_profile, station.asked_profile):
            why = "the station was not asked to use a certificate"
            return _Refused(refusal=LinkRefusal.NOT_ASKED_FOR, why=why)
        return _Shown(profile=CERTIFICATE, certificate=shown)

    async def noticed(self, report: SecurityNoticed) -> Noted:
        """Keep what the gateway saw."""
        at, station_id = report.received_at, report.station_id
        event = Event(
            at=at,
            kind=report.kind,
            level="info" if report.kind == CALM else "warning",
            station_id=report.station_id,
            detail=dict(report.detail),
        )

        def work(tx: Tx) -> None:
            site_id = stations.site_id_of_station(tx, report.station_id)
            journal.add_event(tx, replace(event, site_id=site_id))
            if report.kind == FLAPPING:
                why = "its link comes and goes; new links of it are limited"
                alerts.open_alert(
                    tx,
                    site_id=site_id,
                    station_id=station_id,
                    subject=FLAPPING_ALERT,
                    detail=why,
                    at=at,
                )
            elif report.kind == CALM:
                alerts.close_alert(tx, station_id=station_id, subject=FLAPPING_ALERT, at=at)

        await self.store.write(work)
        return Noted()

    async def closed(self, report: LinkClosed) -> bool:
        """Mark the station away, unless a newer link has taken over; return whether it is away."""
        return await self.store.write(
            lambda tx: links.close_link(
                tx, report.station_id, report.link_id, at=report.received_at, reason=report.reason
            )
        )

    async def seen(self, report: StationSeen) -> Noted:
        """Keep when the station was last heard of."""
        await self.store.write(lambda tx: stations.seen(tx, report.station_id, report.received_at))
        return Noted()

    async def booted(self, report: StationBooted) -> BootReply:
        """Keep what the station says of itself; it is Accepted unless the operator decided else."""

        def work(tx: Tx) -> Station | None:
            station = stations.get_station(tx, report.station_id)
            if station.security_profile == CERTIFICATE and _is_other_device(tx, report, station):
                journal.add_event(
                    tx,
                    Event(
                        at=report.received_at,
                        kind="serial number differs from certificate",
                        level="warning",
                        site_id=station.site_id,
                        station_id=station.station_id,
                        detail={"serial_number": report.serial_number},
                    ),
                )
                return None
            return keep_boot(tx, report, before=station)

        station = await self.store.write(work)
        if station is None:
            why = "serial number differs from certificate"
            return BootReply(status="Rejected", at=self.clock.now(), interval_s=0, ends_link=why)
        return BootReply(
            status=station.registration,
            at=self.clock.now(),
            interval_s=station.heartbeat_interval_s,
        )

    async def status_changed(self, report: StatusChanged) -> bool:
        """Keep the state of a connector; return whether its EVSE was not known before."""

        kept = await self.store.write(lambda tx: keep_state(tx, report))
        return kept.is_new_evse


def _grant(
    tx: Tx, report: LinkOffered, station: Applicant, shown: _Shown
) -> tuple[int, Applicant] | None:
    """Open the link; a password that was used is in force, a profile that was raised stays.

    Return its id and the station as it is stored, or None for one that is not what was judged.
    """
    found = links.find_applicant(tx, report.station_id)
    if found is None or found != station:
        return None
    station_id, certificate = station.station_id, shown.certificate
    if shown.pending_hash:
        links.confirm_credential(tx, station_id, shown.pending_hash)
    if shown.profile > station.security_profile:
        stations.raise_profile(tx, station_id, shown.profile)
        journal.add_event(
            tx,
            Event(
                at=report.received_at,
                kind="security profile raised",
                site_id=station.site_id,
                station_id=station_id,
                detail={"from": station.security_profile, "to": shown.profile},
            ),
        )
    if certificate is not None:
        certificates.note_seen(tx, station_id, certificate, at=report.received_at)
    link_id = links.open_link(
        tx,
        station_id,
        version=report.version,
        remote_address=report.remote_address,
        at=report.received_at,
        security_profile=shown.profile,
        certificate_cn="" if certificate is None else certificate.common_name,
    )
    return link_id, found


def _is_other_device(tx: Tx, report: StationBooted, station: Station) -> bool:
    """Return whether a boot names another device than the certificate of its link does.

    The common name is the serial number. Where an operator's certificates name the identity
    instead, the serial number on record is the one that counts, the first to be reported.
    """
    name = links.certificate_cn(tx, report.link_id)
    if not name or not report.serial_number:
        return False
    is_identity = name.casefold() == station.station_id.casefold()
    expected = (station.serial_number or report.serial_number) if is_identity else name
    return report.serial_number.casefold() != expected.casefold()
