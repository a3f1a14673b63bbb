"""Offers: what a driver is promised is less than what the site saves by it."""

from datetime import timedelta

import pytest

from csms.core.model import Offer
from csms.core.plan import PlanningCase
from csms.planning.incentives import DRIVER_SHARE, offers
from csms.planning.planner import plan, uncontrolled
from tests.planning.cases import NOW, at, car, case


def made(of: PlanningCase, name: str = "a", **more: object) -> dict[str, Offer]:
    """Return the offers to one driver by kind."""
    found = offers(of, plan(of), name, holder_did="did:key:z", **more)  # type: ignore[arg-type]
    return {o.kind: o for o in found}


def test_staying_into_a_cheap_hour_earns_half_of_what_it_saves() -> None:
    site = case(car(required_kwh=11.0, leaves_h=4.0), price=(0.40,) * 16 + (0.10,) * 16)
    offer = made(site)["later_departure"]
    # 11 kWh at 0.40 now, at 0.10 in the hour after.
    assert offer.discount_eur == pytest.approx(3.3 * DRIVER_SHARE)
    assert (offer.starts_at, offer.until) == (at(4), at(5))
    assert offer.holder_did == "did:key:z"
    assert "1 h later" in offer.reason


def test_staying_longer_is_worth_the_energy_others_would_miss() -> None:
    site = case(
        car("a", required_kwh=20.0, leaves_h=4.0),
        car("b", required_kwh=30.0, leaves_h=4.0),
        limit_kw=11.0,
    )
    offer = made(site)["later_departure"]
    assert "kWh more" in offer.reason
    # Never more than the energy itself costs: 20 kWh at 0.20.
    assert 0.1 <= offer.discount_eur <= 4.0


def test_a_start_that_waits_for_cheap_hours_is_rewarded() -> None:
    site = case(
        car(required_kwh=22.0, leaves_h=8.0),
        price=(0.30,) * 16 + (0.10,) * 16,
        base_kw=(40.0,) * 4 + (5.0,) * 28,
    )
    offer = made(site)["delayed_start"]
    saved = uncontrolled(site).sessions[0].cost_eur - plan(site).sessions[0].cost_eur
    assert offer.discount_eur == pytest.approx(saved * DRIVER_SHARE)
    assert (offer.starts_at, offer.until) == (NOW, at(4))
    assert "predicted peak" in offer.reason
    calm = case(car(required_kwh=22.0), price=(0.30,) * 16 + (0.10,) * 16)
    assert "cheaper" in made(calm)["delayed_start"].reason


def test_clean_hours_earn_points_for_the_carbon_avoided() -> None:
    green = car(required_kwh=11.0, leaves_h=8.0, carbon_weight_eur_per_kg=0.1)
    offer = made(case(green, co2=(0.6,) * 16 + (0.1,) * 16))["clean_hours"]
    assert offer.points == 55
    assert "5.5 kg" in offer.reason


def test_sunny_hours_earn_points_for_energy_from_the_roof() -> None:
    sun = (0.0,) * 8 + (5.0,) * 24
    offer = made(case(car(required_kwh=10.0), solar_kw=sun))["sunny_hours"]
    assert offer.points == 20
    assert offer.starts_at == at(2)


def test_nothing_is_offered_where_nothing_is_gained() -> None:
    flat = case(car(required_kwh=11.0, leaves_h=4.0))
    assert offers(flat, plan(flat), "a") == ()
    tiny = case(car(required_kwh=0.2, leaves_h=4.0), price=(0.40,) * 16 + (0.10,) * 16)
    assert offers(tiny, plan(tiny), "a") == ()
    assert offers(flat, plan(flat), "somebody else") == ()
    gone = case(car(required_kwh=11.0, leaves_h=-1.0, arrives_h=-3.0), limit_kw=5.0)
    assert offers(gone, plan(gone), "a") == ()
    wild = case(car(fixed_kw=(5.0,) * 32), price=(0.40,) * 16 + (0.10,) * 16)
    assert offers(wild, plan(wild), "a") == ()


def test_a_departure_beyond_the_horizon_is_not_offered() -> None:
    site = case(car(required_kwh=11.0, leaves_h=8.0), car("b", required_kwh=90.0), limit_kw=11.0)
    assert all(o.until <= site.edges_at[-1] for o in made(site).values())
    assert site.edges_at[-1] == NOW + timedelta(hours=8)
    assert "later_departure" not in made(site)


def test_the_same_case_makes_the_same_offers() -> None:
    site = case(car(required_kwh=11.0, leaves_h=4.0), price=(0.40,) * 16 + (0.10,) * 16)
    assert made(site) == made(site)
