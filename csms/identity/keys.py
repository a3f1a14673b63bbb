"""Public keys as did:key and did:jwk carry them: base58btc, multicodec, JWK.

A key that everybody could sign with (small-order Ed25519, `cryptography` takes those) or that has
two spellings is refused here, so nothing behind this module ever sees one.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from csms.core.errors import DidSyntaxError

_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {letter: value for value, letter in enumerate(_ALPHABET)}
_MAX_MULTIKEY: Final = 256

# Unsigned-varint prefixes of the multicodec table.
_CODES: Final = {
    b"\xed\x01": "Ed25519",
    b"\xec\x01": "X25519",
    b"\x80\x24": "P-256",
    b"\x81\x24": "P-384",
    b"\x82\x24": "P-521",
    b"\xe7\x01": "secp256k1",
}
_PREFIXES: Final = {curve: code for code, curve in _CODES.items()}

_EC_CURVES: Final[Mapping[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "secp256k1": ec.SECP256K1(),
}
_ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "Ed25519": ("Ed25519", "EdDSA"),
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "secp256k1": ("ES256K",),
}

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P
# The eight points of small order have these y (RFC 7748 section 6.1 names their X25519 twins);
# order 1 and 2: 1, p-1; order 4: 0; order 8: the last two.
_SMALL_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    }
)
# (1 + y) / (1 - y) of the same points, and p-1, which has order 4 on the curve's twist.
_SMALL_ORDER_U: Final = frozenset(
    {0, 1, _P - 1} | {(1 + y) * pow(1 - y, -1, _P) % _P for y in _SMALL_ORDER_Y if y != 1}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A checked public key. `curve` is the JWK name; `y` is empty for Ed25519 and X25519."""

    curve: str
    x: bytes
    y: bytes = b""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """JOSE algorithms this key may verify with; empty for X25519, which cannot sign."""
        return _ALGORITHMS.get(self.curve, ())

    @property
    def raw(self) -> bytes:
        """The key as a multikey carries it: 32 bytes, or a compressed point."""
        return bytes([2 + (self.y[-1] & 1)]) + self.x if self.y else self.x

    def jwk(self) -> dict[str, str]:
        """Return the JWK members that define the key."""
        if not self.y:
            return {"kty": "OKP", "crv": self.curve, "x": base64url(self.x)}
        return {"kty": "EC", "crv": self.curve, "x": base64url(self.x), "y": base64url(self.y)}

    def multikey(self) -> str:
        """Return the base58btc multikey, which is what follows `did:key:`."""
        return "z" + _base58(_PREFIXES[self.curve] + self.raw)


def from_multikey(text: str) -> PublicKey:
    """Read a base58btc multikey (`z…`).

    Raises DidSyntaxError for another encoding, an unknown key type, and an unsafe or ambiguous key.
    """
    if not text.startswith("z"):
        raise DidSyntaxError(f"multikey starts with {text[:1]!r}; it must be base58btc, 'z'")
    if len(text) > _MAX_MULTIKEY:
        raise DidSyntaxError(
            f"multikey has {len(text)} characters; at most {_MAX_MULTIKEY} (RSA and BLS keys "
            f"are not supported)"
        )
    data = _unbase58(text[1:])
    curve = _CODES.get(data[:2])
    if curve is None:
        raise DidSyntaxError(
            f"multikey has multicodec {data[:2].hex() or 'nothing'}; "
            f"supported keys: {', '.join(_PREFIXES)}"
        )
    return _from_raw(curve, data[2:])


def from_jwk(jwk: Mapping[str, object]) -> PublicKey:
    """Read the public key of a JWK; members that do not define the key are left alone.

    Raises DidSyntaxError for private members, other key types, and unsafe keys.
    """
    secret = sorted({"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & jwk.keys())
    if secret:
        raise DidSyntaxError(f"JWK holds private members {', '.join(secret)}; it must be public")
    curve = jwk.get("crv")
    if jwk.get("kty") == "OKP" and curve in ("Ed25519", "X25519"):
        return _from_raw(str(curve), unbase64url(jwk.get("x"), where="JWK x"))
    if jwk.get("kty") == "EC" and isinstance(curve, str) and curve in _EC_CURVES:
        x = unbase64url(jwk.get("x"), where="JWK x")
        y = unbase64url(jwk.get("y"), where="JWK y")
        size = _coordinate_size(curve)
        if len(x) != size or len(y) != size:
            raise DidSyntaxError(
                f"JWK x and y have {len(x)} and {len(y)} bytes; {curve} needs {size} each"
            )
        _on_curve(curve, b"\x04" + x + y)
        return PublicKey(curve=curve, x=x, y=y)
    raise DidSyntaxError(
        f"JWK has kty {jwk.get('kty')!r:.40} and crv {curve!r:.40}; "
        f"supported: {', '.join(_PREFIXES)}"
    )


def x25519_from_ed25519(key: PublicKey) -> PublicKey:
    """Return the X25519 key that did:key derives from an Ed25519 one (RFC 7748 section 4.1)."""
    y = int.from_bytes(key.x, "little") & (2**255 - 1)
    u = (1 + y) * pow(1 - y, -1, _P) % _P
    return PublicKey(curve="X25519", x=u.to_bytes(32, "little"))


def verifying_key(key: PublicKey) -> Ed25519PublicKey | ec.EllipticCurvePublicKey:
    """Return the `cryptography` key that checks signatures; ValueError for an X25519 key."""
    if key.curve == "Ed25519":
        return Ed25519PublicKey.from_public_bytes(key.x)
    if not key.algorithms:
        raise ValueError(f"a key of curve {key.curve} cannot verify signatures")
    return ec.EllipticCurvePublicKey.from_encoded_point(
        _EC_CURVES[key.curve], b"\x04" + key.x + key.y
    )


def base64url(data: bytes) -> str:
    """Return unpadded base64url."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unbase64url(text: object, *, where: str) -> bytes:
    """Decode unpadded base64url that has exactly one spelling; DidSyntaxError names `where`."""
    if not isinstance(text, str) or not text:
        raise DidSyntaxError(f"{where} is {text!r:.40}; it must be base64url text")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error) as error:
        raise DidSyntaxError(f"{where} is not base64url: {error}") from error
    if base64url(data) != text:
        raise DidSyntaxError(f"{where} is not canonical base64url without padding")
    return data


def _from_raw(curve: str, raw: bytes) -> PublicKey:
    if curve in ("Ed25519", "X25519"):
        if len(raw) != 32:
            raise DidSyntaxError(f"{curve} key has {len(raw)} bytes; it must have 32")
        if curve == "Ed25519":
            _check_ed25519(raw)
        else:
            _check_x25519(raw)
        return PublicKey(curve=curve, x=raw)
    size = _coordinate_size(curve)
    if len(raw) != size + 1 or raw[0] not in (2, 3):
        raise DidSyntaxError(
            f"{curve} key has {len(raw)} bytes starting with {raw[:1].hex() or 'nothing'}; "
            f"it must be a compressed point of {size + 1} bytes starting with 02 or 03"
        )
    point = _on_curve(curve, raw)
    return PublicKey(curve=curve, x=point[1 : 1 + size], y=point[1 + size :])


def _coordinate_size(curve: str) -> int:
    return (_EC_CURVES[curve].key_size + 7) // 8


def _on_curve(curve: str, point: bytes) -> bytes:
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_EC_CURVES[curve], point)
    except ValueError as error:
        raise DidSyntaxError(f"{curve} key is not a point of the curve") from error
    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _check_ed25519(raw: bytes) -> None:
    encoded = int.from_bytes(raw, "little")
    y, sign = encoded & (2**255 - 1), encoded >> 255
    if y >= _P:
        raise DidSyntaxError("Ed25519 key is not canonical: y must be below 2^255-19")
    if y in _SMALL_ORDER_Y:
        raise DidSyntaxError("Ed25519 key has small order: anyone can sign for it")
    # x^2 = (y^2 - 1) / (d y^2 + 1) must be a square (RFC 8032 section 5.1.3). x is 0 only for the
    # small orders above, so `sign` cannot make a second spelling of the same point.
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise DidSyntaxError(f"Ed25519 key is not a point of the curve (sign bit {sign})")


def _check_x25519(raw: bytes) -> None:
    u = int.from_bytes(raw, "little")
    if u >= _P:
        raise DidSyntaxError("X25519 key is not canonical: u must be below 2^255-19")
    if u in _SMALL_ORDER_U:
        raise DidSyntaxError("X25519 key has small order: its shared secrets are known")


def _base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    letters = []
    while number:
        number, digit = divmod(number, 58)
        letters.append(_ALPHABET[digit])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(letters))


def _unbase58(text: str) -> bytes:
    number = 0
    for letter in text:
        digit = _DIGITS.get(letter)
        if digit is None:
            raise DidSyntaxError(f"multikey holds {letter!r}, which is no base58btc character")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
