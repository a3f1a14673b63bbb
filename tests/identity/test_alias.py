"""Names on the wire, and what stations make of them."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from csms.core.errors import InvalidInput
from csms.core.model import IdToken
from csms.identity import alias
from csms.identity.alias import TokenKind, enrolled, is_sendable, normalise

KEY = bytes(range(32))
OTHER_KEY = bytes(range(1, 33))
DRIVER = "did:denso:driver:abc123"
KEY_DID = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"

texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=40)
kinds = st.sampled_from(
    ["", "Central", "Local", "ISO14443", "ISO15693", "MacAddress", "eMAID", "KeyCode", "VIN",
     "EVCCID", "DID", "DirectPayment", "something new"]
)  # fmt: skip


def first(value: str, kind: str = "", *, reversed_bytes: bool = False) -> tuple[TokenKind, str]:
    return normalise(IdToken(value=value, kind=kind), reversed_bytes=reversed_bytes)[0]


def test_a_fingerprint_is_the_top_90_bits_of_the_keyed_hash() -> None:
    # printf 'tasco-idtag-v1\0did:denso:driver:abc123' | openssl dgst -sha256 -mac HMAC
    #   -macopt hexkey:000102…1f, its first 90 bits in Crockford base32.
    assert alias.fingerprint(DRIVER, key=KEY) == "Z14PFFNMQ1QH98H6C56B"


@given(st.text(min_size=1, max_size=60), st.integers(0, 30))
def test_a_fingerprint_is_stable_and_legal_in_every_version(did: str, epoch: int) -> None:
    name = alias.fingerprint(did, key=KEY, epoch=epoch)
    assert name == alias.fingerprint(did, key=KEY, epoch=epoch)
    assert re.fullmatch(r"Z[1-9][0-9A-HJKMNP-TV-Z]{18}", name)
    assert alias.name_kind(name.lower()) is TokenKind.FINGERPRINT


@given(st.text(min_size=1, max_size=60))
def test_another_tenants_key_gives_another_fingerprint(did: str) -> None:
    ours, theirs = alias.fingerprint(did, key=KEY), alias.fingerprint(did, key=OTHER_KEY)
    assert ours[2:] != theirs[2:]


def test_a_new_epoch_shows_in_the_class_digit() -> None:
    names = [alias.fingerprint(DRIVER, key=KEY, epoch=epoch) for epoch in range(10)]
    assert [name[1] for name in names] == list("1234567891")


@given(st.text(max_size=30), st.binary(min_size=12, max_size=16))
def test_no_two_classes_and_no_card_ever_collide(text: str, random: bytes) -> None:
    names = {
        TokenKind.FINGERPRINT: alias.fingerprint(text, key=KEY),
        TokenKind.GROUP: alias.group_token(text, key=KEY),
        TokenKind.SESSION: alias.session_token(random),
    }
    assert len(set(names.values())) == 3
    for kind, name in names.items():
        assert normalise(IdToken(value=name)) == [(kind, name)]
    assert first(random[:10].hex())[1] not in names.values()


def test_session_tokens_keep_90_of_the_random_bits() -> None:
    assert alias.session_token(bytes(12)) == "ZS" + "0" * 18
    assert alias.session_token(b"\xff" * 12) == "ZS" + "Z" * 18
    flipped = {alias.session_token((1 << bit).to_bytes(12, "big")) for bit in range(6, 96)}
    assert len(flipped) == 90


def test_short_keys_and_short_randomness_are_refused() -> None:
    with pytest.raises(ValueError, match="16"):
        alias.fingerprint(DRIVER, key=b"short")
    with pytest.raises(ValueError, match="12"):
        alias.session_token(b"short")


@pytest.mark.parametrize(
    "value",
    ["04A1B2C3D4E5F6", "04a1b2c3d4e5f6", "04:A1:B2:C3:D4:E5:F6", "04-a1-b2-c3-d4-e5-f6",
     "04 A1 B2 C3 D4 E5 F6", "04.A1.B2.C3.D4.E5.F6"],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", "ISO14443", "ISO15693"])
def test_a_card_is_found_whatever_its_spelling(value: str, kind: str) -> None:
    assert first(value, kind) == (TokenKind.RFID, "04A1B2C3D4E5F6")
    assert enrolled(value, kind="ISO14443") == enrolled(value) == first(value, kind)


@pytest.mark.parametrize(
    ("uid", "backwards"),
    [
        ("04A1B2C3", "c3b2a104"),
        ("04A1B2C3D4E5F6", "F6:E5:D4:C3:B2:A1:04"),
        ("E004015012345678", "78563412500104E0"),
        ("00112233445566778899", "99887766554433221100"),
    ],
)
@pytest.mark.parametrize("kind", ["", "ISO14443", "ISO15693"])
def test_a_station_that_reverses_the_bytes_finds_the_same_card(
    uid: str, backwards: str, kind: str
) -> None:
    assert first(backwards, kind, reversed_bytes=True) == first(uid, kind)
    assert (TokenKind.RFID, uid) not in normalise(
        IdToken(value=uid, kind=kind), reversed_bytes=True
    )


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("VID:001122aabbcc", "", (TokenKind.MAC, "001122AABBCC")),
        ("00:11:22:aa:bb:cc", "MacAddress", (TokenKind.MAC, "001122AABBCC")),
        ("001122AABBCC", "EVCCID", (TokenKind.MAC, "001122AABBCC")),
        ("vid:001122fffeaabbcc", "Local", (TokenKind.MAC, "001122FFFEAABBCC")),
        ("DE-8AA-C1A2B3C4D-5", "eMAID", (TokenKind.EMAID, "DE8AAC1A2B3C4D")),
        ("de8aac1a2b3c4d", "eMAID", (TokenKind.EMAID, "DE8AAC1A2B3C4D")),
        ("wvwzzz1jzxw000001", "VIN", (TokenKind.VIN, "WVWZZZ1JZXW000001")),
        ("1234", "KeyCode", (TokenKind.KEY_CODE, "1234")),
        ("test-tag", "ISO14443", (TokenKind.RFID, "TEST-TAG")),
        (KEY_DID, "DID", (TokenKind.DID, KEY_DID.lower())),
        (DRIVER.upper(), "Central", (TokenKind.DID, DRIVER)),
        (DRIVER.upper(), "", (TokenKind.DID, DRIVER)),
    ],
)
def test_each_kind_has_one_normal_form(
    value: str, kind: str, expected: tuple[TokenKind, str]
) -> None:
    assert first(value, kind) == expected


@pytest.mark.parametrize(
    ("value", "kind"),
    [("", "NoAuthorization"), ("", ""), ("   ", "Central"), ("04A1B2C3", "NoAuthorization"),
     ("a\tb", ""), ("ä", ""), ("\x00", ""), ("a" * 256, "Central")],
)  # fmt: skip
def test_nobody_and_the_unprintable_are_looked_up_as_nothing(value: str, kind: str) -> None:
    assert normalise(IdToken(value=value, kind=kind)) == []


def test_a_type_that_is_stated_keeps_to_its_kind() -> None:
    found = normalise(IdToken(value="04A1B2C3", kind="KeyCode"))
    assert found == [(TokenKind.KEY_CODE, "04A1B2C3"), (TokenKind.TEXT, "04A1B2C3")]
    assert (TokenKind.KEY_CODE, "12345678") in normalise(IdToken(value="12345678"))


@given(texts, kinds, st.booleans(), st.data())
def test_case_never_changes_what_is_looked_up(
    value: str, kind: str, backwards: bool, data: st.DataObject
) -> None:
    flips = data.draw(st.lists(st.booleans(), min_size=len(value), max_size=len(value)))
    mangled = "".join(c.swapcase() if f else c for c, f in zip(value, flips, strict=True))
    assert normalise(IdToken(value=value, kind=kind), reversed_bytes=backwards) == normalise(
        IdToken(value=mangled, kind=kind), reversed_bytes=backwards
    )


@given(texts, st.sampled_from(["", "Central", "ISO14443", "MacAddress", "eMAID", "KeyCode", "DID"]))
def test_what_was_enrolled_is_found_again_on_both_versions(value: str, kind: str) -> None:
    assume(value == value.strip() and value and alias.name_kind(value.strip()) is None)
    assume(is_sendable(value, kind=kind))
    stored = enrolled(value, kind=kind)
    assert stored in normalise(IdToken(value=value, kind=kind))
    if kind != "DID":
        on_16 = {found for _, found in normalise(IdToken(value=value))}
        assert stored[1] in on_16 or kind in ("MacAddress", "eMAID")


@pytest.mark.parametrize(
    ("value", "kind"),
    [("", ""), ("ä", ""), ("a\nb", ""), ("04A1", "Fob"), ("ZS" + "0" * 18, "KeyCode")],
)
def test_what_no_station_can_present_is_not_enrolled(value: str, kind: str) -> None:
    with pytest.raises(InvalidInput):
        enrolled(value, kind=kind)


def test_a_plain_token_is_found_whatever_type_the_station_gives_it() -> None:
    assert enrolled("visitor 7") == (TokenKind.TEXT, "VISITOR 7")
    for kind in ("", "Local", "ISO14443", "KeyCode", "DirectPayment", "eMAID"):
        assert (TokenKind.TEXT, "VISITOR 7") in normalise(IdToken(value="Visitor 7", kind=kind))


def test_the_type_is_part_of_a_token() -> None:
    card, made_up = enrolled("04A1B2C3D4E5F6", kind="ISO14443"), enrolled("APP-7", kind="Central")
    assert card not in normalise(IdToken(value="04A1B2C3D4E5F6", kind="Central"))
    assert card not in normalise(IdToken(value="04A1B2C3D4E5F6", kind="eMAID"))
    assert made_up in normalise(IdToken(value="app-7", kind="Central"))
    assert made_up not in normalise(IdToken(value="app-7", kind="ISO14443"))
    assert made_up in normalise(IdToken(value="app-7"))
