"""Secrets are found wherever an OCPP payload may carry one, and nothing else is touched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.masking import (
    MASK,
    holds_secret,
    is_secret_setting,
    masked,
    masked_text,
    without_tokens,
)

SECRET = "correct-horse-battery"
CARRIERS = [
    {"key": "AuthorizationKey", "value": SECRET},
    {"key": "authorizationkey", "value": SECRET},
    {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": SECRET}]},
    {
        "setVariableData": [
            {
                "component": {"name": "SecurityCtrlr"},
                "variable": {"name": "BasicAuthPassword"},
                "attributeValue": SECRET,
            }
        ]
    },
    {"connectionData": {"basicAuthPassword": SECRET, "identity": "CS-1"}},
    {"connectionData": {"apn": {"apn": "x", "apnPassword": SECRET, "simPin": 1234}}},
    {
        "connectionData": {
            "vpn": {"server": "s", "user": "u", "password": SECRET, "key": SECRET, "type": "IPSec"}
        }
    },
    {"values": [["SecurityCtrlr.BasicAuthPassword", SECRET], ["AuthorizationKey", SECRET]]},
    {"location": f"ftp://user:{SECRET}@files.example/log"},
    {"log": {"remoteLocation": f"https://user:{SECRET}@files.example/x"}},
]


@pytest.mark.parametrize("payload", CARRIERS, ids=lambda p: next(iter(p)))
def test_a_secret_is_masked_wherever_it_travels(payload: dict[str, object]) -> None:
    text = json.dumps(payload)
    assert SECRET not in masked_text(text)
    assert "1234" not in masked_text(text)
    assert MASK in masked_text(text)
    assert holds_secret(text)


def test_what_is_no_secret_keeps_its_spelling() -> None:
    for text in (
        '{"key": "HeartbeatInterval",  "value": "1e1"}',
        '{"vendorId":"a@b","data":"password"}',
        '{"idTag":"04A1","limit":16.10}',
    ):
        assert masked_text(text) == text
        assert not holds_secret(text)
    assert not is_secret_setting("OCPPCommCtrlr.HeartbeatInterval")
    assert is_secret_setting("SecurityCtrlr.BasicAuthPassword")


@pytest.mark.parametrize("depth", [300, 900, 5_000, 500_000])
def test_a_text_nested_beyond_all_reason_is_masked_and_fails_nobody(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    assert SECRET not in masked_text(f'{{"password":"{SECRET}","a":{nested}}}')
    shown = without_tokens(f'[{{"idTag":"{SECRET}"}},{nested}]', lambda token: "hint")
    assert SECRET not in str(shown)


def test_a_broken_text_that_may_hold_a_secret_is_masked_whole() -> None:
    assert masked_text('{"AuthorizationKey": "x') == MASK


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_JSON)
def test_masking_twice_changes_nothing_more(value: object) -> None:
    once = masked(value)
    assert masked(once) == once


def hint(value: str) -> str:
    return f"~{len(value)}"


@pytest.mark.parametrize(
    ("value", "masked_value"),
    [
        ({"idTag": "04A1", "connectorId": 1}, {"idTag": "~4", "connectorId": 1}),
        (
            {"idToken": {"idToken": "04A1", "type": "ISO14443"}},
            {"idToken": {"idToken": "~4", "type": "ISO14443"}},
        ),
        (
            {"idTokenInfo": {"groupIdToken": {"idToken": "G", "type": "Central"}}},
            {"idTokenInfo": {"groupIdToken": {"idToken": "~1", "type": "Central"}}},
        ),
        (
            {"idToken": {"idToken": "a", "additionalInfo": [{"additionalIdToken": "bb"}]}},
            {"idToken": {"idToken": "~1", "additionalInfo": [{"additionalIdToken": "~2"}]}},
        ),
        ({"id_token": {"value": "04A1", "kind": ""}}, {"id_token": {"value": "~4", "kind": ""}}),
        ({"id_token": None, "parentIdTag": ""}, {"id_token": None, "parentIdTag": ""}),
        (
            {"frame": '[2,"1","Authorize",{"idT\\u0061g":"04A1"}]'},
            {"frame": '[2,"1","Authorize",{"idTag":"~4"}]'},
        ),
        ({"frame": '[2,"1","Heartbeat", {}]'}, {"frame": '[2,"1","Heartbeat", {}]'}),
        ({"frame": '[2,"1","Authorize",{"idTag":"04A1"'}, {"frame": MASK}),
        ({"frame": ' [2,"1","x",{"idTag":"04A1"}]'}, {"frame": '[2,"1","x",{"idTag":"~4"}]'}),
        ({"frame": "[2, no JSON"}, {"frame": "[2, no JSON"}),
        ({"kind": "rfid", "value": "04A1", "assurance": "A0"}, {"value": "~4", "kind": "rfid"}),
        ({"kind": "Actual", "value": "04A1"}, {"kind": "Actual", "value": "04A1"}),
    ],
)
def test_a_viewer_is_shown_no_whole_id_token(
    value: dict[str, object], masked_value: dict[str, object]
) -> None:
    shown = without_tokens(value, hint)
    assert isinstance(shown, dict)
    assert {n: v for n, v in shown.items() if n != "assurance"} == masked_value
