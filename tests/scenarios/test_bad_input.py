"""What nobody should send: the link and the process live, and nothing wrong is stored."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from csms.core.model import SessionState
from simulators.battery import Vehicle
from simulators.clock import iso
from tests.scenarios.world import (
    VERSIONS,
    World,
    card_of,
    did_of,
    eventually,
    living,
    settings,
)

PASSWORD = "a station's password"
RAW = (
    "",
    "not json",
    "[]",
    "{}",
    "null",
    "[2]",
    '[2,"x"]',
    '[2,"broken",',
    '[2,"x","StartTransaction"]',
    '[2,"x","StartTransaction",[]]',
    '[2,"x",["StartTransaction"],{}]',
    '[2,1,"Heartbeat",{}]',
    '[2,"","Heartbeat",{}]',
    '[2,"' + "9" * 37 + '","Heartbeat",{}]',
    '[2,"x","NoSuchAction",{}]',
    '[2,"x","RemoteStartTransaction",{"idTag":"A"}]',
    '[2,"x","StartTransaction",{"connectorId":1}]',
    '[2,"x","StartTransaction",{"connectorId":"1","idTag":"A","meterStart":0,"timestamp":"now"}]',
    '[2,"x","TransactionEvent",{"eventType":"Begun"}]',
    '[2,"x","MeterValues",' + "[" * 100_000 + "]" * 100_000 + "]",
    '[2,"x","MeterValues",{"connectorId":' + "9" * 5000 + ',"meterValue":[]}]',
    '[3,"never asked",{}]',
    '[4,"never asked","InternalError","",{}]',
    '[4,"never asked","InternalError"]',
    '[5,"x","StartTransaction",{}]',
    '[9,"x"]',
    "\u0000\u0001",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def beats(link: ClientConnection, message_id: str) -> list[list[Any]]:
    """Send a heartbeat; return the frames that came before its answer."""
    await link.send(f'[2,"{message_id}","Heartbeat",{{}}]')
    before: list[list[Any]] = []
    while True:
        frame = json.loads(await link.recv())
        if frame[1] == message_id:
            assert frame[0] == 3, frame
            return before
        before.append(frame)


async def test_frames_that_are_none_cost_an_error_at_most(version: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        async with world.station("c1", version) as station:
            await station.boot()
        offer = [Subprotocol(f"ocpp{version}")]
        async with connect(f"{world.url}/c1", subprotocols=offer, proxy=None) as link:
            boot = station.client.boot("PowerUp")
            await link.send(json.dumps([2, "boot", *boot]))
            while json.loads(await link.recv())[1] != "boot":
                pass
            for number, text in enumerate(RAW):
                await link.send(text)
                for frame in await beats(link, f"h{number}"):
                    if frame[0] == 2:
                        continue
                    assert frame[0] == 4, (text[:60], frame)
                    assert len(frame) == 5
                    assert len(frame[3]) <= 255
                    assert isinstance(frame[4], dict)
        assert await world.sessions() == []
        assert await world.orphans() == []


async def test_an_unknown_station_is_refused_and_listed_once(version: str, sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        offer = [Subprotocol(f"ocpp{version}")]
        for name in ("stranger", "stranger", "STRANGER", "stranger"):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"{world.url}/{name}", subprotocols=offer, proxy=None)
            assert refused.value.response.status_code == 404
        async with world.operator() as operator:
            listed = (await operator.get("/api/v1/unknown-stations")).json()["items"]
            assert len(listed) == 1, listed
            assert listed[0]["attempts"] == 4
            # Registered from there, it may connect and leaves the list.
            body = {"station_id": "stranger", "site_id": "main", "security_profile": 0}
            answer = await operator.post("/api/v1/stations", json=body)
            assert answer.is_success, answer.text
            async with world.station("stranger", version) as station:
                assert (await station.boot())["status"] == "Accepted"
            assert (await operator.get("/api/v1/unknown-stations")).json()["items"] == []


async def test_guessing_a_password_is_slowed_down_for_the_guesser_only(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1", password=PASSWORD)
        offer = [Subprotocol(f"ocpp{version}")]
        seen = []
        for guess in range(7):
            other = world.station("c1", version, password=f"a wrong password {guess}")
            with pytest.raises(InvalidStatus) as refused:
                await connect(
                    f"{world.url}/c1",
                    subprotocols=offer,
                    additional_headers=other.link.options.headers,
                    proxy=None,
                )
            seen.append(refused.value.response.status_code)
        assert seen[:5] == [401] * 5
        assert set(seen[5:]) <= {401, 429}
        right = world.station("c1", version, password=PASSWORD).link.options.headers
        # From the guesser's address even the right one has to wait; from another it works at once.
        with pytest.raises(InvalidStatus) as refused:
            await connect(
                f"{world.url}/c1", subprotocols=offer, additional_headers=right, proxy=None
            )
        assert refused.value.response.status_code in (401, 429)
        async with connect(
            f"{world.url}/c1",
            subprotocols=offer,
            additional_headers=right,
            proxy=None,
            local_addr=("127.0.0.2", 0),
        ) as link:
            assert link.subprotocol == f"ocpp{version}"
        world.stations.clear()


async def charging(world: World, version: str) -> Any:
    """Return a station whose car charges for a trip of 10 kWh."""
    await world.register("c1")
    card = await world.driver(1, departs_in=timedelta(hours=4), energy_kwh=10.0)
    station = world.station("c1", version, boots=True)
    await station.power_up()
    await station.ready()
    await world.guarded("c1")
    await station.plug_in(1, Vehicle(battery_kwh=60.0), soc=0.2)
    assert await station.present(card) == "Accepted"
    return station


def trip(world: World, **given: Any) -> Mapping[str, Any]:
    departs_at = world.clock.now() + timedelta(hours=4)
    values = {
        "holder_did": did_of(1),
        "vehicle_id": "v1",
        "departs_at": departs_at.isoformat(),
        "energy_kwh": 30.0,
    }
    return {**values, **given}


async def test_a_trip_beyond_the_battery_fills_it_and_says_so(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url), speed=60) as world:
        station = await charging(world, version)
        async with world.operator() as operator:
            answer = await operator.put("/api/v1/trips/t1", json=trip(world, energy_kwh=200.0))
            assert answer.is_success, answer.text

            async def planned() -> bool:
                known = await world.plan()
                if known is None or not known[0].sessions:
                    return False
                # 80 % of 60 kWh at 90 %: what the battery can still take, not 200 kWh.
                return known[0].sessions[0].required_kwh > 45

            await eventually(planned, "it is not planned")
        known = await world.plan()
        assert known is not None
        case, made = known
        assert case.sessions[0].required_kwh == pytest.approx(48 / 0.9, abs=1.0)
        assert made.sessions[0].shortfall_kwh > 5
        assert made.sessions[0].shortfall_reason == "time"
        await eventually(lambda: station.power_w(1) > 10_000)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"energy_kwh": -5.0}, "energy_kwh"),
        ({"energy_kwh": None}, "distance_km"),
        ({"distance_km": float("inf"), "energy_kwh": None}, "distance_km"),
        ({"departs_at": "soon"}, "departs_at"),
        ({"departs_at": "2026-03-02T18:00:00"}, "departs_at"),
        ({"holder_did": "did:denso:driver:nobody"}, "nobody"),
        ({"vehicle_id": "nothing"}, "nothing"),
    ],
)
async def test_a_trip_that_cannot_be_is_refused_with_the_field(
    given: Mapping[str, Any], words: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.driver(1)
        async with world.operator() as operator:
            text = json.dumps(trip(world, **given))
            answer = await operator.post(
                "/api/v1/trips", content=text, headers={"Content-Type": "application/json"}
            )
            assert 400 <= answer.status_code < 500
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert words in answer.text
            assert (await operator.get("/api/v1/trips")).json()["items"] == []


async def test_a_departure_in_the_past_is_no_trip_of_a_session(
    version: str, sqlite_url: str
) -> None:
    async with living(settings(sqlite_url), speed=60) as world:
        station = await charging(world, version)
        past = (world.clock.now() - timedelta(hours=1)).isoformat()
        before = await world.newest_plan()
        async with world.operator() as operator:
            answer = await operator.put("/api/v1/trips/t1", json=trip(world, departs_at=past))
        if answer.is_success:

            async def replanned() -> bool:
                head = await world.newest_plan()
                return bool(head.plan_id > before.plan_id)

            await eventually(replanned)
            session = await world.session()
            assert session.trip_id == ""
            assert session.need_source == "assumed"
            assert session.departs_at is not None
            assert session.departs_at > world.clock.now()
        else:
            assert "departs_at" in answer.text
        assert station.is_online
        await station.stop(1, token=card_of(1))
        await station.drained()
        assert (await world.session()).state is SessionState.ENDED


async def test_negative_and_absurd_meters_give_no_negative_energy(sqlite_url: str) -> None:
    async with living(settings(sqlite_url)) as world:
        await world.register("c1")
        await world.driver(1)
        now = world.clock.now() - timedelta(minutes=9)
        async with world.station("c1", "1.6") as station:
            await station.boot()
            answer = await station.call(
                "StartTransaction",
                {
                    "connectorId": 1,
                    "idTag": card_of(1),
                    "meterStart": -5000,
                    "timestamp": iso(now),
                },
            )
            number = answer["transactionId"]
            for minute, (energy, power, soc) in enumerate(
                [("-4000", "-11000", "-20"), ("-4500", "7000", "250")], start=1
            ):
                at = iso(now + timedelta(minutes=minute))
                values = [
                    {"value": energy, "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
                    {"value": power, "measurand": "Power.Active.Import", "unit": "W"},
                    {"value": soc, "measurand": "SoC", "unit": "Percent"},
                ]
                await station.call(
                    "MeterValues",
                    {
                        "connectorId": 1,
                        "transactionId": number,
                        "meterValue": [{"timestamp": at, "sampledValue": values}],
                    },
                )
            session = await world.session()
            assert session.energy_wh == pytest.approx(1000.0)
            assert session.soc is not None
            assert 0 <= session.soc <= 1
            stop = {
                "transactionId": number,
                "meterStop": -9000,
                "timestamp": iso(now + timedelta(minutes=5)),
            }
            await station.call("StopTransaction", stop)
        session = await world.session()
        assert session.state is SessionState.ENDED
        assert session.energy_wh == pytest.approx(1000.0)
        assert "register_fell" in session.flags
