"""Secrets are found wherever an OCPP payload may carry one, and nothing else is touched."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms.core.masking import MASK, holds_secret, is_secret_setting, masked, masked_text

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
