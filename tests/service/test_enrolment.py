"""Enrolment by value and by file; the API's tests cover the paths through HTTP."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.clock import Clock
from csms.core.errors import Conflict, DidSyntaxError, InvalidInput, NotFound, UnknownSite
from csms.core.model import (
    AuthorizationStatus,
    Holder,
    IdToken,
    OcppVersion,
    Session,
    Site,
    TokenRecord,
    Trip,
    Vehicle,
)
from csms.identity import alias
from csms.service import csv_import
from csms.service.authorization import TenantKeys
from csms.service.enrolment import Enrolment, StationRegistration
from csms.store import identities, journal, sessions, stations, trips
from csms.store.database import Store
from csms.store.statements import Tx

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DRIVER = "did:denso:driver:one"


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(f"sqlite:///{tmp_path / 'e.sqlite3'}")
    await opened.write(lambda tx: stations.upsert_site(tx, Site(site_id="depot", limit_kw=50)))
    yield opened
    await opened.close()


@pytest.fixture
def enrolment(store: Store) -> Enrolment:
    return Enrolment(store=store, keys=TenantKeys(key=b"k" * 32), clock=Clock(start=NOON))


def open_session(tx: Tx) -> Session:
    return sessions.open_session(
        tx,
        Session(
            session_id="s-1", number=0, site_id="depot", station_id="CP1", evse_id=1,
            version=OcppVersion.V16, transaction_id="1", holder_did=DRIVER,
            status=AuthorizationStatus.ACCEPTED, started_at=NOON, received_at=NOON,
        ),
    )  # fmt: skip


async def test_every_name_of_a_holder_leads_back_to_it(store: Store, enrolment: Enrolment) -> None:
    await enrolment.put_holders([Holder(did=DRIVER)], by="test")
    names = [enrolment.keys.fingerprint(DRIVER), DRIVER, DRIVER.upper()]

    def look(tx: Tx) -> list[str]:
        found = []
        for name in names:
            pairs = alias.normalise(IdToken(value=name))
            found += [t.did for k, v in pairs if (t := identities.find_token(tx, k, v))]
        return found

    assert await store.read(look) == [DRIVER] * 3


async def test_holders_come_all_or_none(store: Store, enrolment: Enrolment) -> None:
    with pytest.raises(DidSyntaxError):
        await enrolment.put_holders([Holder(did=DRIVER), Holder(did="one")], by="test")
    with pytest.raises(Conflict):
        await enrolment.put_holders(
            [Holder(did=DRIVER), Holder(did=DRIVER.replace("one", "ONE"))], by="test"
        )
    assert await store.read(lambda tx: identities.list_holders(tx)) == []


async def test_a_did_whose_key_is_everybodys_is_not_enrolled(enrolment: Enrolment) -> None:
    # The Ed25519 point (0, 1), of order 1: every forged signature verifies under it.
    everybodys = "did:key:z6MkeXATEjyXENzBXBxgC5EHk2JE5aqd7qMGGtDpLUH1e2Sj"
    with pytest.raises(DidSyntaxError, match="small order"):
        await enrolment.put_holders([Holder(did=everybodys)], by="t")


async def test_a_trip_names_the_sites_whose_plans_it_concerns(
    store: Store, enrolment: Enrolment
) -> None:
    vehicle = Vehicle(vehicle_id="van", soc=0.5)
    await enrolment.put_vehicles([vehicle], by="test")
    await enrolment.put_holders([Holder(did=DRIVER, vehicle_id="van")], by="test")
    await store.write(open_session)
    departs_at = NOON + timedelta(hours=9)
    trip = Trip(trip_id="t", holder_did=DRIVER, departs_at=departs_at, distance_km=300)
    changed = await enrolment.put_trips([trip], by="test")
    assert changed.site_ids == ("depot",)
    session = await store.read(lambda tx: sessions.get(tx, "s-1"))
    assert session.departs_at == departs_at
    # 300 km x 180 Wh/km x 1.2 is 64.8 kWh, more than the battery's 60; 30 of them are there.
    assert session.need_wh == pytest.approx(30.0 / 0.9 * 1000)


async def test_a_trip_of_nobody_or_for_nothing_is_refused(enrolment: Enrolment) -> None:
    at = NOON + timedelta(hours=1)
    with pytest.raises(NotFound):
        await enrolment.put_trips(
            [Trip(trip_id="t", holder_did=DRIVER, departs_at=at, distance_km=1)], by="test"
        )
    await enrolment.put_holders([Holder(did=DRIVER)], by="test")
    with pytest.raises(InvalidInput, match="no need"):
        await enrolment.put_trips([Trip(trip_id="t", holder_did=DRIVER, departs_at=at)], by="test")


async def test_tokens_come_all_or_none(store: Store, enrolment: Enrolment) -> None:
    good = TokenRecord(value="04A1B2C3", kind="", did="")
    with pytest.raises(NotFound):
        await enrolment.put_tokens([good, TokenRecord(value="X", kind="", did=DRIVER)], by="test")
    assert await store.read(lambda tx: identities.list_tokens(tx)) == []
    (kept,) = await enrolment.put_tokens([good], by="test")
    assert kept.kind == "rfid"
    with pytest.raises(InvalidInput):
        await enrolment.put_tokens(
            [TokenRecord(value="X", kind="", did="", valid_from=NOON, valid_until=NOON)], by="test"
        )


async def test_a_station_of_no_site_is_refused_and_leaves_nothing(
    store: Store, enrolment: Enrolment
) -> None:
    with pytest.raises(UnknownSite):
        await enrolment.register_station(
            StationRegistration(station_id="A", site_id="none"), by="test"
        )
    assert await store.read(lambda tx: stations.list_stations(tx)) == []


async def test_a_charger_that_belongs_elsewhere_is_not_moved_by_a_file(
    store: Store, enrolment: Enrolment
) -> None:
    await store.write(lambda tx: stations.upsert_site(tx, Site(site_id="yard", limit_kw=50)))
    await enrolment.register_station(StationRegistration(station_id="A", site_id="yard"), by="t")
    charger = {"did": "did:denso:charger:A", "site_id": "depot", "max_power_kw": 50}
    with pytest.raises(Conflict, match="belongs to site yard"):
        await enrolment.import_concept({"chargers": [charger]}, by="test")


@pytest.mark.parametrize(
    "payload",
    [{"people": []}, {"drivers": {}}, {"drivers": ["x"]}, {"vehicles": [{"owner_did": 5}]}],
)
async def test_a_concept_file_that_cannot_be_read_is_refused(
    enrolment: Enrolment, payload: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        await enrolment.import_concept(payload, by="test")


async def test_every_change_is_logged_without_personal_data(
    store: Store, enrolment: Enrolment
) -> None:
    await enrolment.put_holders([Holder(did=DRIVER, name="N. N.")], by="operator x")
    await enrolment.put_tokens([TokenRecord(value="04A1B2C3", kind="", did=DRIVER)], by="op")
    await enrolment.remove_holder(DRIVER, by="operator x")
    events = (await store.read(lambda tx: journal.list_events(tx))).items
    assert [e.event.kind for e in events] == ["holder removed", "token kept", "holder enrolled"]
    assert all("by" in e.event.detail for e in events)
    text = str([e.event.detail for e in events])
    for personal in (DRIVER, "N. N.", "04A1B2C3"):
        assert personal not in text


async def test_files_of_every_kind_are_taken(store: Store, enrolment: Enrolment) -> None:
    files = {
        "vehicles": "vehicle_id,battery_kwh,soc\nvan,75,0.4\n",
        "holders": f"did,vehicle_id\n{DRIVER},van\n",
        "trips": f"holder_did,departs_at,distance_km\n{DRIVER},2026-03-03T07:00:00+01:00,80\n",
        "tokens": f"value,kind,did\n04:A1:B2:C3,ISO14443,{DRIVER}\n",
    }
    for kind, text in files.items():
        count, _ = await enrolment.import_csv(kind, text, by="test")
        assert count == 1
    vehicle = await store.read(lambda tx: identities.get_vehicle(tx, "van"))
    assert (vehicle.soc, vehicle.soc_source) == (0.4, "declared")
    (trip,) = await store.read(lambda tx: trips.list_trips(tx, holder_did=DRIVER))
    assert trip.departs_at == datetime(2026, 3, 3, 6, tzinfo=UTC)
    with pytest.raises(InvalidInput, match="permitted: holders"):
        await enrolment.import_csv("cats", "", by="test")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("did,did\n", "given twice"),
        ("name\nx\n", "column did is missing"),
        ("did,colour\n", "'colour' is not known"),
        (f"did\n{DRIVER},x\n", "line 2 has 2 cells"),
        (f"did,name\n{DRIVER},a\n,b\n", "line 3: did is empty"),
        (f"did,priority\n{DRIVER},99\n", "line 2, priority is '99'"),
        (f"did,carbon_conscious\n{DRIVER},maybe\n", "true or false"),
        ('did\n"broken\n', "line"),
    ],
)
def test_a_file_that_cannot_be_read_names_its_line(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        csv_import.holders(text)


def test_a_cell_over_several_lines_still_names_the_right_line() -> None:
    with pytest.raises(InvalidInput, match="line 4, priority"):
        csv_import.holders(f'did,name,priority\n{DRIVER},"two\nlines",1\n{DRIVER},x,high\n')


CELL = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=20)


@given(name=CELL, organisation=CELL, delimiter=st.sampled_from(",;"))
def test_what_a_spreadsheet_writes_is_what_is_read(
    name: str, organisation: str, delimiter: str
) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    head = delimiter.join(("did", "name", "organisation"))
    row = delimiter.join((DRIVER, quoted(name), quoted(organisation)))
    (holder,) = csv_import.holders(f"{head}\r\n{row}\r\n")
    assert (holder.did, holder.name, holder.organisation) == (
        DRIVER, name.strip(), organisation.strip(),
    )  # fmt: skip
