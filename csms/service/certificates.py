"""Certificates of stations: signed when they ask, watched until they end; what stations trust.

A request is signed and on record before its answer leaves; the certificate follows once the answer
is out, because a link answers before it commands. One that the station rejects is not sent again:
the station has to ask anew.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from csms.bus import Bus
from csms.clock import Clock
from csms.core.commands import CommandResult, EndLink, Outcome, Trigger
from csms.core.errors import InvalidInput, ProviderError
from csms.core.messages import Noted, RecordReceived
from csms.core.model import Event, LinkState, OcppVersion, Station
from csms.core.security import HashData, ListedCertificate
from csms.core.security_messages import (
    CertificateAsked,
    CertificateReply,
    DeleteCertificate,
    InstallCertificate,
    ListCertificates,
    SecurityEventReported,
    SendCertificate,
)
from csms.identity.certificates import certificates_in, hash_data, info, issuer_among
from csms.service.background import Background
from csms.service.devices import Devices
from csms.store import certificates, journal, stations
from csms.store.certificates import STATION, V2G, InstalledCertificate, StationCertificate
from csms.store.database import Store
from csms.store.statements import Tx

log = structlog.get_logger(__name__)

KINDS_16 = ("CSMSRootCertificate", "ManufacturerRootCertificate")
_TRIGGERS = {STATION: "SignChargingStationCertificate", V2G: "SignV2GCertificate"}
_MOST_AN_HOUR = 10
_RETRY_RENEWAL = timedelta(days=1)
_REPEATED_WITHIN = timedelta(hours=1)
_SENT_WITHIN = timedelta(days=1)
"""Within this time a station still waits for what it asked for; later it asks anew."""
_STATES = {Outcome.ACCEPTED: "accepted", Outcome.NO_ANSWER: "unknown", Outcome.NOT_SENT: "unknown"}


class CertificateAuthority(Protocol):
    """Whoever signs the requests of stations."""

    async def sign(
        self, request_pem: str, *, kind: str, names: Sequence[str], now: datetime
    ) -> str:
        """Return the chain (PEM, the station's own first) for a request.

        Raises InvalidInput for one that may not be signed, ProviderError if it cannot be done now.
        """
        ...


class Certificates:
    """The desk for everything a station asks about certificates, and an operator of it."""

    def __init__(
        self,
        *,
        store: Store,
        bus: Bus,
        devices: Devices,
        clock: Clock,
        background: Background,
        authority: CertificateAuthority | None,
        renew_before: timedelta,
    ) -> None:
        self.store = store
        self.bus = bus
        self.devices = devices
        self.clock = clock
        self.background = background
        self.authority = authority
        self.renew_before = renew_before

    # --- what stations ask -----------------------------------------------------------------------

    async def asked(self, report: CertificateAsked) -> CertificateReply:
        """Sign a station's request and send the certificate after the answer, or refuse."""
        digest = hashlib.sha256(report.request.encode()).hexdigest()
        since = report.received_at - timedelta(hours=1)
        station, known, count, others = await self.store.read(
            lambda tx: (
                station := stations.get_station(tx, report.station_id),
                certificates.of_request(tx, report.station_id, digest),
                certificates.signed_since(tx, report.station_id, since),
                stations.others_named(tx, station.serial_number, than=station.station_id),
            )
        )
        if known is not None and self._is_repeated(known, report.received_at):
            # It repeats itself after a lost answer: the same certificate, not another one.
            self._push_later(known.certificate_id, station.station_id)
            return CertificateReply(is_accepted=True)
        try:
            chain = await self._signed(report, station, count, is_shared=bool(others))
        except (InvalidInput, ProviderError) as error:
            await self._note(station, "certificate request refused", str(error), level="warning")
            return CertificateReply(is_accepted=False)
        made = info(certificates_in(chain)[0])
        certificate_id = await self.store.write(
            lambda tx: certificates.add_signed(
                tx,
                station.station_id,
                made,
                kind=report.kind,
                request_digest=digest,
                chain=chain,
                at=report.received_at,
            )
        )
        self._push_later(certificate_id, station.station_id)
        return CertificateReply(is_accepted=True)

    def _is_repeated(self, known: StationCertificate, now: datetime) -> bool:
        """Return whether a request that was signed before asks for that certificate again.

        A station that renews with the key it has may send the same request a year later: then the
        certificate of then is about to end, and it is given a new one.
        """
        is_fresh = known.valid_until - self.renew_before > now
        return known.state != "revoked" and (is_fresh or now - known.at < _REPEATED_WITHIN)

    async def _signed(
        self, report: CertificateAsked, station: Station, count: int, *, is_shared: bool
    ) -> str:
        if self.authority is None:
            raise ProviderError("no certificate authority is configured")
        if report.kind not in _TRIGGERS:
            raise InvalidInput(f"{report.kind} is not signed here")
        if count >= _MOST_AN_HOUR:
            raise InvalidInput(f"{count} certificates were signed in the last hour")
        # Its serial number is what a station says of itself: where it is another's name as well,
        # a certificate on it would open the other's links.
        names = (station.station_id, "" if is_shared else station.serial_number)
        now = report.received_at
        return await self.authority.sign(report.request, kind=report.kind, names=names, now=now)

    def _push_later(self, certificate_id: int, station_id: str) -> None:
        async def push() -> None:
            await self._push(certificate_id)

        self.background.start(f"certificate {station_id} {certificate_id}", push)

    async def station_up(self, station_id: str) -> None:
        """Send what was signed for a station and never left: the process ended in between."""
        since = self.clock.now() - _SENT_WITHIN
        for kept in await self.store.read(
            lambda tx: certificates.list_certificates(tx, station_id)
        ):
            if kept.state == "signed" and kept.at >= since:
                self._push_later(kept.certificate_id, station_id)

    async def _push(self, certificate_id: int) -> None:
        kept = await self.store.read(lambda tx: certificates.get_certificate(tx, certificate_id))
        command = SendCertificate(station_id=kept.station_id, chain=kept.chain, kind=kept.kind)
        _, result = await self.devices.run(command, asked_by="tasco")
        state = _STATES.get(result.outcome, "rejected")
        await self.store.write(lambda tx: certificates.set_state(tx, certificate_id, state))
        station = await self.store.read(lambda tx: stations.get_station(tx, kept.station_id))
        kind = "certificate renewed" if state == "accepted" else "certificate not accepted"
        level = "info" if state == "accepted" else "warning"
        why = result.status or result.error_code or str(result.outcome)
        await self._note(station, kind, why, level=level)

    async def security_event(self, report: SecurityEventReported) -> Noted:
        """Keep what a station reports of its security, under its own time."""

        def work(tx: Tx) -> None:
            journal.add_record(
                tx,
                RecordReceived(
                    station_id=report.station_id,
                    link_id=report.link_id,
                    received_at=report.received_at,
                    version=report.version,
                    action="SecurityEventNotification",
                    payload=report.payload,
                ),
            )
            certificates.add_security_event(
                tx,
                report.station_id,
                version=report.version,
                kind=report.kind,
                at=report.at,
                received_at=report.received_at,
                tech_info=report.tech_info,
            )

        await self.store.write(work)
        return Noted()

    # --- what operators ask ----------------------------------------------------------------------

    async def renew(self, station_id: str, *, kind: str, by: str) -> tuple[int, CommandResult]:
        """Ask a station for a certificate request; raise InvalidInput for an unknown kind."""
        if kind not in _TRIGGERS:
            raise InvalidInput(f"kind is {kind!r:.40}; permitted: {', '.join(_TRIGGERS)}")
        command = Trigger(station_id=station_id, message=_TRIGGERS[kind])
        return await self.devices.run(command, asked_by=by)

    async def install(
        self, station_id: str, *, kind: str, certificate: str, by: str
    ) -> tuple[int, CommandResult]:
        """Put a certificate (PEM) into a station's trust store; kept once the station took it."""
        given = certificates_in(certificate)
        issuer = issuer_among(given[0], given[1:])
        named = hash_data(given[0], issuer or given[0])
        command = InstallCertificate(station_id=station_id, kind=kind, certificate=certificate)
        command_id, result = await self.devices.run(command, asked_by=by)
        if result.is_accepted:
            kept = _installed(kind, named, certificate, installed_at=self.clock.now())
            await self.store.write(lambda tx: certificates.put_installed(tx, station_id, kept))
        return command_id, result

    async def read(
        self, station: Station, *, kinds: Sequence[str], by: str
    ) -> tuple[int, CommandResult]:
        """Ask a station what it trusts, of `kinds` or of all, and keep what it lists."""
        groups: Sequence[tuple[str, ...]] = [tuple(kinds)]
        if station.version is OcppVersion.V16:
            groups = [(kind,) for kind in kinds or KINDS_16]
        listed: list[ListedCertificate] = []
        command_id, result = 0, CommandResult(outcome=Outcome.NOT_SENT)
        for group in groups:
            command = ListCertificates(station_id=station.station_id, kinds=group)
            command_id, result = await self.devices.run(command, asked_by=by)
            if not result.is_accepted:
                return command_id, result
            listed += result.certificates
            await self._keep_listed(station.station_id, group, result.certificates)
        return command_id, result

    async def _keep_listed(
        self, station_id: str, kinds: Sequence[str], listed: Sequence[ListedCertificate]
    ) -> None:
        now = self.clock.now()

        def work(tx: Tx) -> None:
            known = certificates.list_installed(tx, station_id)
            rows = [_as_listed(item, known, now) for item in listed]
            certificates.replace_installed(tx, station_id, kinds, rows)

        await self.store.write(work)

    async def delete(
        self, station_id: str, *, named: HashData, by: str
    ) -> tuple[int, CommandResult]:
        """Take a certificate out of a station's trust store, named as the station lists it."""
        command = DeleteCertificate(station_id=station_id, hash_data=named)
        command_id, result = await self.devices.run(command, asked_by=by)
        if result.is_accepted or result.status == "NotFound":
            await self.store.write(
                lambda tx: certificates.drop_installed(
                    tx,
                    station_id,
                    issuer_key_hash=named.issuer_key_hash,
                    issuer_name_hash=named.issuer_name_hash,
                    serial_number=named.serial_number,
                )
            )
        return command_id, result

    async def revoke(self, certificate_id: int, *, by: str) -> StationCertificate:
        """Take a station's certificate back: it opens no link any more; raise NotFound."""

        def work(tx: Tx) -> tuple[StationCertificate, Station]:
            certificates.set_state(tx, certificate_id, "revoked")
            kept = certificates.get_certificate(tx, certificate_id)
            return kept, stations.get_station(tx, kept.station_id)

        kept, station = await self.store.write(work)
        await self._note(station, "certificate revoked", f"by {by}", level="warning")
        if kept.kind == STATION:
            await self.bus.command(
                EndLink(station_id=kept.station_id, reason="certificate revoked")
            )
        return kept

    # --- the clock -------------------------------------------------------------------------------

    async def watch(self) -> int:
        """Tell of certificates that end soon, once each, and renew them where automation is on.

        Returns how many there are.
        """
        now = self.clock.now()
        found = await self.store.read(
            lambda tx: [
                (c, stations.find_station(tx, c.station_id))
                for c in certificates.expiring(tx, now + self.renew_before)
            ]
        )
        count = 0
        for kept, station in found:
            if station is None:
                continue
            count += 1
            if kept.alarmed_at is None:
                await self._note(station, "certificate ends soon", _until(kept), level="warning")
                await self.store.write(
                    lambda tx, c=kept: certificates.note_alarm(tx, c.certificate_id, now)  # type: ignore[misc]
                )
            if self._may_renew(kept, station, now):
                await self.store.write(
                    lambda tx, c=kept: certificates.note_renewal(tx, c.certificate_id, now)  # type: ignore[misc]
                )
                await self.renew(station.station_id, kind=kept.kind, by="tasco")
        return count

    def _may_renew(self, kept: StationCertificate, station: Station, now: datetime) -> bool:
        is_due = kept.renewal_at is None or now - kept.renewal_at >= _RETRY_RENEWAL
        may_send = self.devices.automation and station.automation
        return is_due and may_send and station.link_state is LinkState.ONLINE

    async def _note(self, station: Station, kind: str, why: str, *, level: str) -> None:
        now = self.clock.now()
        await self.store.write(
            lambda tx: journal.add_event(
                tx,
                Event(
                    at=now,
                    kind=kind,
                    level=level,
                    site_id=station.site_id,
                    station_id=station.station_id,
                    detail={"why": why},
                ),
            )
        )
        log.info(kind, station_id=station.station_id, why=why)


def _until(kept: StationCertificate) -> str:
    return f"{kept.kind} until {kept.valid_until:%Y-%m-%d}"


def _installed(
    kind: str,
    named: HashData,
    pem: str,
    *,
    children: tuple[str, ...] = (),
    installed_at: datetime | None = None,
    listed_at: datetime | None = None,
) -> InstalledCertificate:
    said = info(certificates_in(pem)[0]) if pem else None
    return InstalledCertificate(
        kind=kind,
        hash_algorithm=named.hash_algorithm,
        issuer_name_hash=named.issuer_name_hash,
        issuer_key_hash=named.issuer_key_hash,
        serial_number=named.serial_number,
        children=children,
        subject="" if said is None else said.common_name,
        certificate=pem,
        valid_until=None if said is None else said.valid_until,
        installed_at=installed_at,
        listed_at=listed_at,
    )


def _as_listed(
    item: ListedCertificate, known: Sequence[InstalledCertificate], now: datetime
) -> InstalledCertificate:
    """Return what a station lists, with the certificate itself where we know it."""
    for kept in known:
        if not kept.certificate:
            continue
        given = certificates_in(kept.certificate)
        issuer = issuer_among(given[0], given[1:]) or given[0]
        named = hash_data(given[0], issuer, item.hash_data.hash_algorithm)
        if _same(named, item.hash_data):
            break
    else:
        kept = None
    return _installed(
        item.kind,
        item.hash_data,
        "" if kept is None else kept.certificate,
        children=tuple(child.serial_number for child in item.children),
        installed_at=None if kept is None else kept.installed_at,
        listed_at=now,
    )


def _same(ours: HashData, theirs: HashData) -> bool:
    return (
        ours.issuer_name_hash.casefold(),
        ours.issuer_key_hash.casefold(),
        ours.serial_number.lstrip("0").casefold(),
    ) == (
        theirs.issuer_name_hash.casefold(),
        theirs.issuer_key_hash.casefold(),
        theirs.serial_number.lstrip("0").casefold(),
    )
