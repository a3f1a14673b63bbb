"""Planning cases and plans survive JSON exactly, and a wrong file is answered with the field."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.circuit import Cap, Circuit, LimitRow, Term
from csms.core.errors import InvalidInput
from csms.core.plan import Plan, PlannedSession, PlanningCase, PlanningSession, Strategy

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
EDGES = tuple(NOON + timedelta(minutes=15 * i) for i in range(4))


def case(price: float = 0.3, power_kw: float = 11.0) -> PlanningCase:
    return PlanningCase(
        site_id="s",
        now_at=NOON,
        edges_at=EDGES,
        limit_kw=(44.0,) * 3,
        base_load_kw=(0.0,) * 3,
        reserved_kw=(0.0,) * 3,
        price_eur_per_kwh=(price,) * 3,
        co2_kg_per_kwh=(0.1,) * 3,
        sessions=(
            PlanningSession(
                session_id="a",
                station_id="c",
                evse_id=1,
                available_at=NOON,
                departs_at=EDGES[-1],
                required_kwh=5.0,
                preferred_kwh=6.0,
                max_kw=power_kw,
                min_kw=1.38,
                fixed_kw=(1.0, power_kw, 0.0),
            ),
        ),
    )


@given(price=st.floats(-1, 1), power_kw=st.floats(0, 350))
def test_a_case_survives_json_bit_for_bit(price: float, power_kw: float) -> None:
    known = case(price, power_kw)
    assert PlanningCase.from_json(known.to_json()) == known
    assert PlanningCase.from_json(known.to_json()).to_json() == known.to_json()


def test_a_tree_of_circuits_survives_json() -> None:
    known = replace(
        case(),
        circuits=(
            Circuit(
                circuit_id="hall", limit_a=((63.0,),), load_a=((1.0,), (2.0,), (0.5, 1.0, 2.0))
            ),
            Circuit(circuit_id="row", parent_id="hall", limit_kw=(11.0,), idle_guard_a=(6.0,) * 3),
        ),
        limit_rows=(
            LimitRow(row_id="A", limit_a=(83.3,), terms=(Term(session_id="a", angle_deg=30.0),)),
        ),
        caps=(Cap(source="grid", starts_at=NOON, ends_at=EDGES[1], limit_kw=10.0),),
    )
    known = replace(
        known, sessions=(replace(known.sessions[0], phases_used=(2,), levels_a=(8.0, 16.0)),)
    )
    assert PlanningCase.from_json(known.to_json()) == known


@pytest.mark.parametrize(
    ("circuit", "words"),
    [
        ({"circuit_id": "x", "limit": 1}, r"case.circuits\[0\].limit is not known"),
        ({"limit_kw": [1]}, r"case.circuits\[0\].circuit_id is missing"),
        ({"circuit_id": "x", "limit_a": [["a"]]}, r"case.circuits\[0\].limit_a"),
        ({"circuit_id": "x", "limit_a": 16}, r"case.circuits\[0\].limit_a .* a list"),
    ],
)
def test_a_wrong_circuit_is_answered_with_its_place(circuit: dict[str, object], words: str) -> None:
    raw = json.loads(case().to_json()) | {"circuits": [circuit]}
    with pytest.raises(InvalidInput, match=words):
        PlanningCase.from_json(json.dumps(raw))


def test_a_plan_survives_json() -> None:
    plan = Plan(
        site_id="s",
        made_at=NOON,
        strategy=Strategy.OPTIMAL,
        status="optimal",
        edges_at=EDGES,
        sessions=(PlannedSession(session_id="a", power_kw=(0.1, 0.2, 0.30000000000000004)),),
        binding_slots=(1, 2),
    )
    assert Plan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"limitkw": 1}, "case.limitkw is not known"),
        ({"strategy": "magic"}, "case.strategy is 'magic'"),
        ({"now_at": "2026-01-01T00:00:00"}, "case.now_at"),
        ({"limit_kw": ["x"]}, "case.limit_kw"),
        ({"limit_kw": None}, "case.limit_kw"),
    ],
)
def test_a_wrong_case_is_answered_with_its_field(change: dict[str, object], words: str) -> None:
    raw = json.loads(case().to_json()) | change
    with pytest.raises(InvalidInput, match=words):
        PlanningCase.from_json(json.dumps(raw))


def test_a_missing_member_is_named() -> None:
    raw = json.loads(case().to_json())
    del raw["sessions"][0]["max_kw"]
    with pytest.raises(InvalidInput, match=r"sessions\[0\].max_kw is missing"):
        PlanningCase.from_json(json.dumps(raw))


def test_what_is_no_json_is_said_so() -> None:
    with pytest.raises(InvalidInput, match="not JSON"):
        PlanningCase.from_json("{")
