"""What of a planning case is no number, or names two cars alike: told, or refused.

`grid` and `limits` work around numbers that are none; what they put in their place is named here,
so that no plan leaves anybody guessing.
"""

from collections import Counter
from math import isfinite
from operator import attrgetter

from csms.core.errors import InvalidInput
from csms.core.plan import PlanningCase, PlanningSession

_FACTOR, _ANGLE = attrgetter("factor"), attrgetter("angle_deg")
_OF_SITE = ("demand_charge_eur_per_kw", "billed_peak_kw", "peak_hint_kw", "idle_guard_kw")


def odd_input(case: PlanningCase) -> list[str]:
    """Return what is wrong with single numbers of `case`, and what counts instead.

    Raises InvalidInput where two sessions have one name, or a limit row has a term that is none:
    which limits hold for whom cannot be read then.
    """
    _refuse(case)
    found = [
        f"{name} is {value:g}: taken as 0"
        for name in _OF_SITE
        if not 0 <= (value := getattr(case, name)) < float("inf")
    ]
    if not (isfinite(case.days_left) and case.days_left > 0):
        found.append(f"days_left is {case.days_left:g}: taken as 1")
    for session in case.sessions:
        found += _of_session(session)
    return found


def _of_session(session: PlanningSession) -> list[str]:
    found, name = [], session.session_id
    if session.max_price_per_kwh is not None and not isfinite(session.max_price_per_kwh):
        found.append(f"max_price_per_kwh of {name} is {session.max_price_per_kwh:g}: none assumed")
    if not 0 <= session.carbon_weight_eur_per_kg < float("inf"):
        weight = session.carbon_weight_eur_per_kg
        found.append(f"carbon_weight_eur_per_kg of {name} is {weight:g}: taken as 0")
    if not 0 < session.voltage_v < float("inf"):
        found.append(f"voltage_v of {name} is {session.voltage_v:g}: taken as 230")
    if not 1 <= session.phases <= 3:
        used = min(max(session.phases, 1), 3)
        found.append(f"phases of {name} is {session.phases}: counted as {used}")
    return found


def _refuse(case: PlanningCase) -> None:
    names = [s.session_id for s in case.sessions]
    if len(set(names)) < len(names):
        name = Counter(names).most_common(1)[0][0]
        raise InvalidInput(f"session_id {name!r} is not unique in the case")
    for row in case.limit_rows:
        # One that is no number makes the sum none.
        if isfinite(sum(map(_FACTOR, row.terms)) + sum(map(_ANGLE, row.terms))):
            continue
        for term in row.terms:
            if not (isfinite(term.factor) and isfinite(term.angle_deg)):
                raise InvalidInput(
                    f"{row.row_id}: {term.factor:g} A at {term.angle_deg:g} degrees is no term of "
                    f"{term.session_id}; both must be numbers"
                )
