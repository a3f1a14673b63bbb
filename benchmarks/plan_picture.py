"""Draw a real plan as docs/plan.svg: a workplace on a Wednesday morning, with prices and the limit.

Run: python benchmarks/plan_picture.py [FILE]. The plan is the one of the fullest moment before noon
of 2015-08-19, replayed under 30 kW with the prices of DK1 on 2024-08-21 (Energinet, CC BY 4.0).
"""

import asyncio
import sys
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from csms.core.plan import Plan, PlanningCase
from csms.planning.grid import grid_of
from csms.planning.planner import plan
from csms.planning.replayed_day import replay_days
from csms.replay_day import forecast_of
from csms.replay_past import Asked, past_of
from csms.settings import load

ZONE = ZoneInfo("Europe/Copenhagen")
LIMIT_KW = 30.0
SLOTS = 24
WIDTH, LEFT, RIGHT = 920, 56, 16
POWER_TOP, POWER_H = 58, 270
PRICE_TOP, PRICE_H = 372, 90
HEIGHT = 512
COLOURS = (
    *("#1f6f8b", "#e07a5f", "#3d8b5a", "#d4a017", "#7b5ea7", "#b5494d"),
    *("#4a90c2", "#8a9a3b", "#c2748f", "#5f6b7a", "#2a9d8f", "#a0673a"),
    *("#f2b5a0", "#1b3a57", "#a8d5ba", "#e3a6d8", "#6e2c3a", "#b8c4d6"),
)


def a_real_plan() -> tuple[PlanningCase, Plan]:
    """Return the fullest case of a morning with its plan."""
    asked = Asked(
        file="workplace_us",
        starts_on=date(2015, 8, 19),
        as_from=date(2024, 8, 21),
        shift_h=-6.0,
        time_zone=str(ZONE),
        limits_kw=(LIMIT_KW,),
        tariff="dk1_prices_2024",
    )
    past = asyncio.run(past_of(None, load(None, {}), asked))
    forecast = forecast_of(past, seed=0)
    seen: list[tuple[PlanningCase, Plan]] = []
    world = past.world
    replay_days(
        past.visits,
        world.__class__(
            limit_kw=LIMIT_KW,
            until=world.until,
            prices=world.prices,
            time_zone=world.time_zone,
        ),
        planner=plan,
        reserve=lambda now: forecast.reserve(now, quantile=0.9),
        watch=lambda case, made: seen.append((case, made)),
    )
    morning = [s for s in seen if s[0].now_at.astimezone(ZONE).hour < 10]
    return max(morning, key=lambda s: sum(x.required_kwh > 1.0 for x in s[0].sessions))


def drawn(case: PlanningCase, made: Plan) -> str:
    """Return the picture."""
    edges, top_kw = case.edges_at[: SLOTS + 1], LIMIT_KW * 1.12
    span = (edges[-1] - edges[0]).total_seconds()
    prices = case.price_eur_per_kwh[:SLOTS]
    low, high = min(0.0, *prices), max(prices) * 1.1

    def x(at: datetime) -> float:
        return LEFT + (at - edges[0]).total_seconds() / span * (WIDTH - LEFT - RIGHT)

    def y(kw: float) -> float:
        return POWER_TOP + POWER_H * (1.0 - kw / top_kw)

    def price_y(eur: float) -> float:
        return PRICE_TOP + PRICE_H * (1.0 - (eur - low) / (high - low))

    cars = [s for s in made.sessions if sum(s.power_kw[:SLOTS]) > 0.1]
    kept_kw = grid_of(case).reserved_kw
    parts = [*_frame(case, edges, x, y, len(cars)), *_axis(edges, x)]
    for k in range(SLOTS):
        left, wide, bottom = x(edges[k]), x(edges[k + 1]) - x(edges[k]), 0.0
        for i, row in enumerate(cars):
            kw = row.power_kw[k]
            if kw <= 0:
                continue
            parts.append(_box(left, y(bottom + kw), wide, y(bottom) - y(bottom + kw), COLOURS[i]))
            bottom += kw
        kept = min(float(kept_kw[k]), max(LIMIT_KW - bottom, 0.0))
        if kept > 0.05:
            parts.append(
                _box(left, y(bottom + kept), wide, y(bottom) - y(bottom + kept), "url(#kept)")
            )
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(LIMIT_KW):.1f}" y2="{y(LIMIT_KW):.1f}" '
        'stroke="#a4243b" stroke-width="2"/>'
    )
    for session in case.sessions:
        if x(session.departs_at) < WIDTH - RIGHT and session.departs_at > edges[0]:
            at = x(session.departs_at)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(0):.1f}" y2="{y(0) + 7:.1f}" '
                'stroke="#222" stroke-width="1.5"/>'
            )
    steps = " ".join(
        f"{x(edges[k]):.1f},{price_y(p):.1f} {x(edges[k + 1]):.1f},{price_y(p):.1f}"
        for k, p in enumerate(prices)
    )
    parts.append(f'<polyline points="{steps}" fill="none" stroke="#1b1b1b" stroke-width="2"/>')
    for eur in (low, max(prices)):
        parts.append(_text(LEFT - 6, price_y(eur) + 4, f"{eur * 1000:.0f}", anchor="end"))
    parts.append(_text(LEFT, PRICE_TOP - 8, "price, EUR/MWh (DK1)"))
    return _svg(parts)


def _frame(
    case: PlanningCase, edges: Sequence[datetime], x: object, y: object, cars: int
) -> list[str]:
    assert callable(y)
    now = case.now_at.astimezone(ZONE)
    lines = [
        _text(LEFT, 22, f"One plan: {cars} cars to charge under {LIMIT_KW:g} kW", size=16),
        _text(
            LEFT,
            42,
            f"as seen at {now:%H:%M}. A colour is a car, hatched is room kept for cars yet to "
            "arrive, ticks are when cars are to be ready",
        ),
        _text(WIDTH - RIGHT, y(LIMIT_KW) - 6, f"limit {LIMIT_KW:g} kW", anchor="end"),
    ]
    for kw in range(0, int(LIMIT_KW) + 1, 10):
        lines.append(_text(LEFT - 6, y(kw) + 4, f"{kw}", anchor="end"))
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(kw):.1f}" y2="{y(kw):.1f}" '
            'stroke="#ddd"/>'
        )
    lines.append(_text(LEFT - 6, POWER_TOP + 2, "kW", anchor="end"))
    return lines


def _axis(edges: Sequence[datetime], x: object) -> list[str]:
    assert callable(x)
    return [
        part
        for at in edges
        if at.minute == 0 and at.second == 0
        for part in (
            _text(x(at), PRICE_TOP + PRICE_H + 20, f"{at.astimezone(ZONE):%H}", anchor="middle"),
            f'<line x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{PRICE_TOP}" '
            f'y2="{PRICE_TOP + PRICE_H + 4}" stroke="#eee"/>',
        )
    ]


def _box(left: float, top: float, wide: float, high: float, fill: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.2f}" height="{high:.1f}" '
        f'fill="{fill}" stroke="#fff" stroke-width="0.4"/>'
    )


def _text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="#222">{words}</text>'
    )


def _svg(parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif"><defs><pattern id="kept" width="6" height="6" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" '
        'fill="#f4f1e8"/><line x1="0" y1="0" x2="0" y2="6" stroke="#c9bfa5" stroke-width="2"/>'
        f'</pattern></defs><rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    )
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def main() -> None:
    """Write the picture."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs/plan.svg"
    file.write_text(drawn(*a_real_plan()), encoding="utf-8")
    print(f"{file} written")


if __name__ == "__main__":
    main()
