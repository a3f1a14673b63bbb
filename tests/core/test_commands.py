"""Commands as values."""

import pytest

from csms.core.commands import RawCall


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"id": 3, "evse": {"id": 1}}', {"id": 3, "evse": {"id": 1}}),
        ("{}", {}),
        # No station is sent any of these.
        ("", {}),
        ("[1]", {}),
        ("{'id': 3}", {}),
        ("7" * 5000, {}),
    ],
)
def test_a_raw_call_says_what_its_text_holds(text: str, says: dict[str, object]) -> None:
    assert RawCall(station_id="CS-1", action="Reset", payload_json=text).payload() == says
