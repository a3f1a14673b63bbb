"""DIDs: syntax, documents of the methods that need no network, and keys that must be refused."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from csms.core.errors import DidNotResolved, DidSyntaxError
from csms.identity import did as dids
from csms.identity import keys
from csms.identity.did import DidDocument

VECTORS = Path(__file__).parent.parent / "data" / "did-vectors"
RELATIONSHIPS = (
    "authentication",
    "assertionMethod",
    "capabilityInvocation",
    "capabilityDelegation",
    "keyAgreement",
)
P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text(encoding="utf-8"))


def key_vectors() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ("ed25519-x25519", "nist-curves", "secp256k1"):
        for text, case in load(f"did-key/{name}.json").items():
            yield text, case["didDocument"]
    yield from load("did-key/x25519.json")["didDocument"].items()


def expected_key(method: dict[str, Any], document: DidDocument) -> bytes:
    if "publicKeyJwk" in method:
        return keys.from_jwk(method["publicKeyJwk"]).raw
    return keys._unbase58(method["publicKeyBase58"])


@pytest.mark.parametrize(("text", "expected"), list(key_vectors()))
def test_a_did_key_resolves_to_the_published_document(text: str, expected: dict[str, Any]) -> None:
    document = dids.document(text)
    found = document.to_json()
    assert document.id == expected["id"] == text
    assert [m.id for m in document.verification_methods] == [
        m["id"] for m in expected["verificationMethod"]
    ]
    assert [m.public_key.raw for m in document.verification_methods] == [
        expected_key(m, document) for m in expected["verificationMethod"]
    ]
    assert dids.key_did(document.verification_methods[0].public_key).text == text
    for name in RELATIONSHIPS:
        assert found.get(name) == expected.get(name), name


def test_all_22_published_did_keys_are_covered() -> None:
    assert len(list(key_vectors())) == 22


@pytest.mark.parametrize("case", load("did-jwk/spec-examples.json"), ids=lambda c: c["name"])
def test_a_did_jwk_resolves_to_the_published_document(case: dict[str, Any]) -> None:
    expected = json.loads(json.dumps(case["didDocument"]).replace("did:jwk:$", "did:jwk:"))
    found = dids.document(case["did"]).to_json()
    for name in ("id", *RELATIONSHIPS):
        assert found.get(name) == expected.get(name), name
    (mine,), (theirs,) = found["verificationMethod"], expected["verificationMethod"]  # type: ignore[misc]
    theirs["publicKeyJwk"].pop("use", None)
    assert mine == theirs


READABLE = {
    "z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH",
    "z82Lkytz3HqpWiBmt2853ZgNgNG8qVoUJnyoMvGw6ZEBktGcwUVdKpUNJHct1wvp9pXjr7Y",
    "zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169",
    "zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
    "z2J9gcGbsEDUmANXS8iJTVefK5t4eCx9x5k8jr8EyXWekTiEet6Jt6gwup2aWawzhHyMadvVMFcQ3ruwqg1Y8rYzjto1ccQu",
}


@pytest.mark.parametrize("text", load("resolver-samples/test-identifiers.json")["identifiers"])
def test_identifiers_seen_in_the_wild_resolve_or_are_refused_by_name(text: str) -> None:
    did = dids.parse(text)
    if did.method == "jwk" or did.identifier in READABLE:
        assert dids.document(did).verification_methods[0].public_key.algorithms
    elif did.method == "key":
        with pytest.raises(DidSyntaxError, match="supported"):
            dids.document(did)
    else:
        with pytest.raises(DidNotResolved, match="not supported"):
            dids.document(did)


@pytest.mark.parametrize(
    "text",
    [
        "did:denso:driver:abc123",
        "did:denso:charger:site1:cp1",
        "did:web:example.com%3A3000:user:alice",
        "did:example:a:b::c",
        "did:example::c",
        "did:3:A-._9",
    ],
)
def test_a_well_formed_did_is_read_as_it_stands(text: str) -> None:
    assert str(dids.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "did",
        "did:",
        "did:key",
        "did:key:",
        "did::abc",
        "did:Key:z6Mk",
        "DID:key:z6Mk",
        "did:key:z6Mk\n",
        " did:key:z6Mk",
        "did:key:z6Mk#frag",
        "did:key:z6Mk?x=1",
        "did:key:z6Mk/path",
        "did:ex:a%2",
        "did:ex:a%zz",
        "did:ex:abc:",
        "did:ex:ä",
        "did:ex:" + "a" * 2048,
        "did:denso:driver",
        "did:denso:driver:",
        "did:denso:driver:a::b",
        "did:denso:pilot:abc",
        "did:denso:abc",
    ],
)
def test_what_is_no_did_is_refused(text: str) -> None:
    with pytest.raises(DidSyntaxError):
        dids.parse(text)


def test_a_did_denso_names_its_kind_and_proves_nothing() -> None:
    did = dids.parse("did:denso:vehicle:EV-1")
    assert did.kind == "vehicle"
    assert dids.document(did) == DidDocument(id="did:denso:vehicle:EV-1")


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["key", "jwk"]))
def test_every_ed25519_key_round_trips_through_its_did(seed: bytes, method: str) -> None:
    raw = Ed25519PrivateKey.from_private_bytes(seed).public_key()
    key = keys.PublicKey(curve="Ed25519", x=raw.public_bytes(Encoding.Raw, PublicFormat.Raw))
    did = dids.key_did(key) if method == "key" else dids.jwk_did(key)
    assert dids.document(did).verification_methods[0].public_key == key


@pytest.mark.parametrize("curve", ["P-256", "P-384", "P-521", "secp256k1"])
@given(data=st.data())
def test_every_curve_key_round_trips_through_its_did(curve: str, data: st.DataObject) -> None:
    private = ec.derive_private_key(data.draw(st.integers(1, 2**250)), keys._EC_CURVES[curve])
    point = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    half = len(point) // 2
    key = keys.PublicKey(curve=curve, x=point[1 : 1 + half], y=point[1 + half :])
    for did in (dids.key_did(key), dids.jwk_did(key)):
        assert dids.document(did).verification_methods[0].public_key == key


def test_a_key_is_found_only_under_a_relationship_that_lists_it() -> None:
    document = dids.document("did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp")
    signing, agreement = (m.id for m in document.verification_methods)
    assert document.key(signing, relationship="authentication") is not None
    assert document.key(agreement, relationship="authentication") is None
    assert document.key("did:key:other#0", relationship="authentication") is None


def multikey(prefix: str, raw: bytes) -> str:
    return "did:key:z" + keys._base58(bytes.fromhex(prefix) + raw)


def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Add two points of edwards25519 (RFC 8032 section 5.1.4, affine)."""
    (x1, y1), (x2, y2) = a, b
    cross = D * x1 * x2 * y1 * y2 % P
    x = (x1 * y2 + x2 * y1) * pow(1 + cross, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - cross, -1, P)
    return x % P, y % P


def small_order_points() -> set[tuple[int, int]]:
    """Find all eight by multiplying arbitrary points by the order of the base point."""
    order = 2**252 + 27742317777372353535851937790883648493
    found = {(0, 1)}
    y = 2
    while len(found) < 8:
        y += 1
        square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
        root = pow(square, (P + 3) // 8, P)
        x = next((r for r in (root, root * pow(2, (P - 1) // 4, P) % P) if r * r % P == square), 0)
        if not x:
            continue
        total, power, bits = (0, 1), (x, y), order
        while bits:
            total = add(total, power) if bits & 1 else total
            power, bits = add(power, power), bits >> 1
        found |= {total, (-total[0] % P, total[1])}
    return found


@pytest.mark.parametrize("method", ["key", "jwk"])
def test_every_small_order_ed25519_point_is_refused_in_every_encoding(method: str) -> None:
    points = small_order_points()
    assert len(points) == 8
    encodings = {
        (value + P * above | sign << 255).to_bytes(32, "little")
        for _, value in points
        for above in (0, 1)
        for sign in (0, 1)
        if value + P * above < 2**255
    }
    for raw in encodings:
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": keys.base64url(raw)}
        did = multikey("ed01", raw) if method == "key" else jwk_text(jwk)
        with pytest.raises(DidSyntaxError, match=r"small order|not canonical"):
            dids.document(did)


def test_every_small_order_x25519_value_is_refused() -> None:
    values = {P - 1} | {(1 + y) * pow(1 - y, -1, P) % P for _, y in small_order_points() if y != 1}
    assert len(values) == 5
    for value in values:
        with pytest.raises(DidSyntaxError, match="small order"):
            dids.document(multikey("ec01", value.to_bytes(32, "little")))
    with pytest.raises(DidSyntaxError, match="not canonical"):
        dids.document(multikey("ec01", (P + 9).to_bytes(32, "little")))


def test_an_ed25519_key_off_the_curve_is_refused() -> None:
    with pytest.raises(DidSyntaxError, match="not a point"):
        dids.document(multikey("ed01", (2).to_bytes(32, "little")))


G256 = ec.derive_private_key(1, ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (multikey("ed01", b"\1" * 31), "must have 32"),
        (multikey("ed01", b"\1" * 33), "must have 32"),
        (
            multikey("8024", G256.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)),
            "compressed",
        ),
        (multikey("8024", b"\2" + b"\xff" * 32), "not a point"),
        (multikey("8024", b"\5" + b"\1" * 32), "compressed"),
        (multikey("8124", b"\2" + b"\1" * 32), "compressed"),
        ("did:key:z", "nothing"),
        ("did:key:z0OIl", "base58btc"),
        ("did:key:f00ed01", "base58btc"),
        ("did:key:z1" + "6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp", "multicodec"),
        ("did:key:z6mkitbz1ymuepaq4hehysf1h8qug5glvvqr3djdx3mdoowp", "base58btc"),
    ],
)
def test_an_unusable_did_key_is_refused_with_what_is_right(text: str, says: str) -> None:
    with pytest.raises(DidSyntaxError, match=says):
        dids.document(text)


def jwk_text(jwk: object) -> str:
    data = jwk if isinstance(jwk, bytes) else json.dumps(jwk).encode()
    return "did:jwk:" + keys.base64url(data)


P256 = {
    "kty": "EC",
    "crv": "P-256",
    "x": "acbIQiuMs3i8_uszEjJ2tpTtRM4EU3yz91PH6CdH2V0",
    "y": "_KcyLj9vWMptnmKtm46GqDz8wf74I5LKgrl2GzH3nSE",
}


@pytest.mark.parametrize(
    "text",
    [
        jwk_text([1]),
        jwk_text(b"not json"),
        jwk_text(b"\xff\xfe"),
        jwk_text(b'{"kty":"OKP","kty":"EC"}'),
        jwk_text(b'{"kty":"EC","n":NaN}'),
        jwk_text(b"[" * 1500),
        jwk_text({**P256, "d": "AQ"}),
        jwk_text({**P256, "y": P256["x"]}),
        jwk_text({**P256, "x": P256["x"] + "="}),
        jwk_text({**P256, "x": P256["x"][:-1] + "1"}),
        jwk_text({**P256, "x": "AQ"}),
        jwk_text({**P256, "use": "both"}),
        jwk_text({**P256, "crv": ["P-256"]}),
        jwk_text({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
        jwk_text({"kty": "oct", "k": "AQAB"}),
        jwk_text({"kty": "OKP", "crv": "Ed448", "x": "AQAB"}),
        jwk_text(P256) + "A",
        "did:jwk:e30%3D",
    ],
)
def test_an_unusable_did_jwk_is_refused(text: str) -> None:
    with pytest.raises(DidSyntaxError):
        dids.document(text)


@pytest.mark.parametrize(
    ("use", "signs", "agrees"), [(None, True, True), ("sig", True, False), ("enc", False, True)]
)
def test_the_use_of_a_did_jwk_limits_its_relationships(
    use: str | None, signs: bool, agrees: bool
) -> None:
    document = dids.document(jwk_text(P256 if use is None else {**P256, "use": use}))
    assert bool(document.authentication) is bool(document.assertion_method) is signs
    assert bool(document.key_agreement) is agrees


def test_keys_verify_the_wycheproof_ed25519_cases_as_expected() -> None:
    checked = 0
    for group in load("wycheproof/ed25519_test.json")["testGroups"]:
        key = keys.verifying_key(keys.from_jwk(group["publicKeyJwk"]))
        assert isinstance(key, Ed25519PublicKey)
        for case in group["tests"]:
            try:
                key.verify(bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
                result = "valid"
            except InvalidSignature:
                result = "invalid"
            assert result == case["result"], case["tcId"]
            checked += 1
    assert checked == 151


def test_keys_verify_the_wycheproof_p256_cases_as_expected() -> None:
    checked = 0
    for group in load("wycheproof/ecdsa_secp256r1_sha256_p1363_test.json")["testGroups"]:
        point = bytes.fromhex(group["publicKey"]["uncompressed"])
        compressed = bytes([2 + (point[-1] & 1)]) + point[1:33]
        key = keys.verifying_key(keys.from_multikey(multikey("8024", compressed)[8:]))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        for case in group["tests"]:
            raw = bytes.fromhex(case["sig"])
            r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
            try:
                if len(raw) != 64:
                    raise InvalidSignature
                key.verify(
                    encode_dss_signature(r, s),
                    bytes.fromhex(case["msg"]),
                    ec.ECDSA(hashes.SHA256()),
                )
                result = "valid"
            except InvalidSignature:
                result = "invalid"
            assert result == case["result"], case["tcId"]
            checked += 1
    assert checked == 262
