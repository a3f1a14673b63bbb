"""Kept cases give the plans kept beside them.

A plan that changes is either a fault or a decision: `python -m tests.planning.test_golden_plans`
writes the plans anew, and the difference is reviewed like any other.
"""

import json
from pathlib import Path

import pytest

from csms.core.plan import Plan, PlanningCase
from csms.planning.planner import plan
from tests.planning.cases import broken_laws

FOLDER = Path(__file__).parent.parent / "golden" / "planning"
CASES = sorted(FOLDER.glob("*.case.json"))


def kept_plan(case_file: Path) -> Path:
    """Return where the plan of a case is kept."""
    return case_file.with_name(case_file.name.replace(".case.json", ".plan.json"))


def test_there_are_golden_cases() -> None:
    assert len(CASES) >= 4


@pytest.mark.parametrize("case_file", CASES, ids=lambda p: p.name.removesuffix(".case.json"))
def test_a_kept_case_gives_its_kept_plan(case_file: Path) -> None:
    case = PlanningCase.from_json(case_file.read_text(encoding="utf-8"))
    kept = Plan.from_json(kept_plan(case_file).read_text(encoding="utf-8"))
    made = plan(case)
    assert broken_laws(case, made) == []
    assert (made.status, made.notes, made.binding_slots) == (
        kept.status,
        kept.notes,
        kept.binding_slots,
    )
    # Another build of the solver may differ in the last digits, never in what is planned.
    assert made.cost_eur == pytest.approx(kept.cost_eur, abs=1e-6)
    for new, old in zip(made.sessions, kept.sessions, strict=True):
        assert (new.session_id, new.reason, new.shortfall_reason, new.finishes_at) == (
            old.session_id,
            old.reason,
            old.shortfall_reason,
            old.finishes_at,
        )
        assert new.power_kw == pytest.approx(old.power_kw, abs=1e-6)
        assert new.shortfall_kwh == pytest.approx(old.shortfall_kwh, abs=1e-6)


def _write() -> None:
    for case_file in CASES:
        case = PlanningCase.from_json(case_file.read_text(encoding="utf-8"))
        text = json.dumps(json.loads(plan(case).to_json()), indent=1)
        kept_plan(case_file).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
