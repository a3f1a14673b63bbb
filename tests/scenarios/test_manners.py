"""Stations that speak in their own manner charge and are metered all the same (stations.md)."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from csms.core.model import Session, SessionState
from simulators.battery import Vehicle
from simulators.dialect import Dialect
from simulators.faults import FaultPlan
from simulators.manners import JUMP_WH, Manners
from simulators.simulated import SimulatedStation
from tests.scenarios.world import World, eventually, living, settings

CAR = Vehicle(battery_kwh=60.0)
BOTH, FIRST, SECOND = ("1.6", "2.0.1"), ("1.6",), ("2.0.1",)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One station: how it speaks, in which versions that was seen, and whether its link breaks."""

    manners: Manners
    versions: tuple[str, ...] = BOTH
    breaks: bool = False
    given: dict[str, Any]


def case(*, versions: tuple[str, ...] = BOTH, breaks: bool = False, **manners: Any) -> Case:
    return Case(manners=Manners(**manners), versions=versions, breaks=breaks, given={})


def built(*, versions: tuple[str, ...] = BOTH, breaks: bool = False, **given: Any) -> Case:
    return Case(manners=Manners(), versions=versions, breaks=breaks, given=given)


HANDSHAKES = {
    "a long path": case(path="cpo/depot-1", trailing_slash=True),
    "headers in lower case": case(lower_case=True),
    "compression": case(deflates=True),
    "two subprotocols": case(offers=("ocpp1.5", "ocpp0.9")),
    "pings before its boot": case(pings=True),
    "status before the boot is answered": case(hasty=True),
    "no status in its close frame": case(closes_silently=True),
    "a password with colons": built(password="a:password:with:colons"),
    "a password of bytes": built(password=bytes(range(176, 196))),
    "ids that start over": built(breaks=True, dialect=Dialect(message_ids="counter")),
    "boots in mid-session": built(breaks=True, dialect=Dialect(boots_on_reconnect=True)),
}
CALLS = {
    "errors with the whole request": case(errors="long"),
    "error details that are a text": case(errors="text_details"),
    "errors that say nothing": case(errors="empty"),
    "error codes of another version": case(errors="other_version"),
    "errors for no call": case(errors="lost_id"),
    "triggers accepted and forgotten": case(does_triggers=False),
    "a call that it does not survive": case(dies_of=("GetDiagnostics", "CustomerInformation")),
    "settings that need a reboot": case(needs_reboot=True),
    "keys without values": case(versions=FIRST, bare_keys=True),
    "a boot in words of 1.6": case(versions=SECOND, foreign_boot=True),
}
CONTENT = {
    "whole seconds": case(times="seconds"),
    "no zone": case(times="no_zone"),
    "no clock yet": case(times="unset"),
    "a clock minutes ahead": built(faults=FaultPlan(clock_offset_s=240.0)),
    "numbers always 0": case(versions=SECOND, numbers="zero"),
    "numbers that stick": case(versions=SECOND, numbers="stuck"),
    "numbers from 1": case(versions=SECOND, numbers="from_one"),
    "values of the EVSE": case(updates="by_evse"),
    "next to nothing": case(versions=SECOND, updates="sparse"),
    "kWh": case(meter="kwh"),
    "kWh and Wh": case(meter="mixed"),
    "Wh called kWh": case(versions=SECOND, meter="mislabelled"),
    "energy per phase, power without a unit": case(meter="per_phase"),
    "all digits of a float": case(meter="float"),
    "no values at all": case(versions=FIRST, meter="empty"),
    "values after the end": case(versions=FIRST, samples_after_end=True),
    "one reason for everything": case(versions=SECOND, loose_triggers=True),
    "no short states": case(versions=FIRST, short_states=True),
    "a register that jumps": case(meter="jumps"),
    "the status of EVSE 0": case(versions=SECOND, tells_whole=True),
}
OUTAGES = {
    "a queue in turn": case(breaks=True),
    "live samples first": case(breaks=True, replay="overtaken"),
    "all at once": case(breaks=True, replay="at_once"),
    "no mark of what was offline": case(versions=SECOND, breaks=True, marks_offline=False),
}
PARTS = {"handshakes": HANDSHAKES, "calls": CALLS, "content": CONTENT, "outages": OUTAGES}


async def powered(world: World, number: int, version: str, one: Case) -> SimulatedStation:
    """Return a station that is up, guarded and known."""
    password = one.given.get("password")
    if isinstance(password, bytes):
        password = password.hex()
    await world.register(f"c{number}", **({"password": password} if password else {}))
    station = world.station(f"c{number}", version, boots=True, manners=one.manners, **one.given)
    await station.power_up()
    await station.ready()
    return station


async def stayed(world: World, station: SimulatedStation, card: str, *, breaks: bool) -> float:
    """Let a car charge for six minutes; return the Wh that its station counted."""
    began_at = world.clock.now()
    await station.plug_in(1, CAR, soc=0.2)
    assert await station.present(card) == "Accepted"
    await eventually(lambda: world.clock.now() - began_at > timedelta(minutes=3))
    if breaks:
        station.cut()
    await eventually(lambda: world.clock.now() - began_at > timedelta(minutes=6))
    tx = await station.stop(1, token=card)
    await station.unplug(1)
    if breaks:
        await station.reconnect()
    await station.drained()
    return tx.energy_wh


UNKNOWN = {
    "1.6": {"action": "GetDiagnostics", "payload": {"location": "ftp://logs.example/"}},
    "2.0.1": {
        "action": "CustomerInformation",
        "payload": {"requestId": 1, "report": False, "clear": False},
    },
}
TRIGGER = {"action": "TriggerMessage", "payload": {"requestedMessage": "Heartbeat"}}


async def asked(world: World, version: str, cases: dict[str, Case]) -> dict[str, str]:
    """Return what comes of a call that no station knows, or of a trigger, by station."""
    found = {}
    async with world.operator() as api:
        for number, (name, one) in enumerate(cases.items(), start=1):
            call = UNKNOWN[version] if one.manners.does_triggers else TRIGGER
            path = f"/api/v1/stations/c{number}/commands"
            answer = await api.post(path, json={**call, "wait_s": 2})
            found[name] = answer.json()["outcome"]
    return found


async def ended(world: World, station_id: str) -> Session:
    """Return the only session of a station, once it has ended."""

    async def found() -> Session | None:
        mine = [s for s in await world.sessions() if s.station_id == station_id]
        return mine[0] if len(mine) == 1 and mine[0].state is SessionState.ENDED else None

    session: Session = await eventually(found, f"{station_id} has no session that ended")
    return session


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("part", PARTS)
async def test_stations_are_served_in_whatever_manner_they_speak(
    part: str, version: str, sqlite_url: str
) -> None:
    cases = {name: one for name, one in PARTS[part].items() if version in one.versions}
    async with living(settings(sqlite_url, limit_kw=400.0), speed=60) as world:
        found = [
            await powered(world, number, version, one)
            for number, one in enumerate(cases.values(), start=1)
        ]
        if part == "calls":
            outcomes = await asked(world, version, cases)
            odd = {
                "error codes of another version": "call_error",
                "errors for no call": "no_answer",
                "a call that it does not survive": "no_answer",
                "triggers accepted and forgotten": "accepted",
            }
            assert outcomes == {name: odd.get(name, "not_supported") for name in cases}
        cards = [await world.driver(number) for number in range(1, len(cases) + 1)]
        counted_wh = await asyncio.gather(
            *(
                stayed(world, station, card, breaks=one.breaks)
                for station, card, one in zip(found, cards, cases.values(), strict=True)
            )
        )
        wrong = {}
        for (name, one), station, energy_wh in zip(cases.items(), found, counted_wh, strict=True):
            session = await ended(world, station.station_id)
            expected = {"stray_answers"} | ({"call_errors"} if one.manners.foreign_boot else set())
            errors = station.link.errors.keys() - expected
            if one.manners.meter == "jumps":
                # It is what the meter says: marked, and left to people.
                assert "register_jump" in session.flags
                energy_wh += JUMP_WH
            missed_wh = energy_wh - session.energy_wh
            # Without a reading at its start a session begins with the first one.
            may_miss_wh = 0.2 * energy_wh if "meter_start_assumed" in session.flags else 1.0
            if errors or not -1.0 < missed_wh < may_miss_wh or energy_wh < 100.0:
                wrong[name] = (session.energy_wh, energy_wh, station.link.errors, session.flags)
        assert not wrong


@pytest.mark.parametrize("version", ["2.0.1", "2.1"])
async def test_an_end_that_is_never_told_is_taken_from_the_status(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url, limit_kw=50.0), speed=120) as world:
        station = await powered(world, 1, version, case(tells_end=False))
        card = await world.driver(1)
        energy_wh = await stayed(world, station, card, breaks=True)
        session = await ended(world, "c1")
        assert session.is_estimated
        assert session.energy_wh <= energy_wh + 1.0
