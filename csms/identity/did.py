"""DID syntax, and the documents that follow from the DID alone: did:key, did:jwk, did:denso.

`did:denso` is a locally registered method: it names a subject of this installation, is never
looked up on a network and proves nothing, so its document holds no key.
"""

import json
import re
from dataclasses import dataclass
from typing import Final

from csms.core.errors import DidNotResolved, DidSyntaxError
from csms.identity import keys
from csms.identity.keys import PublicKey

MAX_DID: Final = 2048
DENSO_KINDS: Final = ("driver", "vehicle", "charger", "org", "csms")
LOCAL_METHODS: Final = ("key", "jwk", "denso")
"""Methods whose documents need no network."""

# DID Core section 3.1. `re.fullmatch`, because `$` also matches before a final newline.
_DID: Final = re.compile(
    r"did:(?P<method>[a-z0-9]+):"
    r"(?P<identifier>(?:(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})*:)*(?:[A-Za-z0-9._-]|%[0-9A-Fa-f]{2})+)"
)
_RELATIONSHIPS: Final = {
    "authentication": "authentication",
    "assertion_method": "assertionMethod",
    "capability_invocation": "capabilityInvocation",
    "capability_delegation": "capabilityDelegation",
    "key_agreement": "keyAgreement",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Did:
    """A well-formed DID. `kind` is the subject's kind of a did:denso, "" for other methods."""

    text: str
    method: str
    identifier: str
    kind: str = ""

    def __str__(self) -> str:
        return self.text

    @property
    def fold(self) -> str:
        """The spelling to look up a DID by that went through a case-insensitive OCPP field."""
        return fold(self.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerificationMethod:
    """One public key of a document."""

    id: str
    controller: str
    public_key: PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class DidDocument:
    """What a DID resolves to. Each relationship lists ids of `verification_methods`."""

    id: str
    verification_methods: tuple[VerificationMethod, ...] = ()
    authentication: tuple[str, ...] = ()
    assertion_method: tuple[str, ...] = ()
    capability_invocation: tuple[str, ...] = ()
    capability_delegation: tuple[str, ...] = ()
    key_agreement: tuple[str, ...] = ()

    def key(self, method_id: str, *, relationship: str) -> PublicKey | None:
        """Return the key `method_id` if it is listed under `relationship`, else None."""
        if method_id not in getattr(self, relationship):
            return None
        return next((m.public_key for m in self.verification_methods if m.id == method_id), None)

    def to_json(self) -> dict[str, object]:
        """Return the document in DID Core's JSON shape, with keys as JWK."""
        document: dict[str, object] = {"@context": ["https://www.w3.org/ns/did/v1"], "id": self.id}
        if self.verification_methods:
            document["verificationMethod"] = [
                {
                    "id": method.id,
                    "type": "JsonWebKey2020",
                    "controller": method.controller,
                    "publicKeyJwk": method.public_key.jwk(),
                }
                for method in self.verification_methods
            ]
        for attribute, name in _RELATIONSHIPS.items():
            if ids := getattr(self, attribute):
                document[name] = list(ids)
        return document


def parse(text: str) -> Did:
    """Read a DID. Raises DidSyntaxError, also for a did:denso that does not name a kind."""
    if len(text) > MAX_DID:
        raise DidSyntaxError(f"DID has {len(text)} characters; at most {MAX_DID}")
    match = _DID.fullmatch(text)
    if match is None:
        raise DidSyntaxError(
            f"{text!r:.40} is no DID; it must be did:<method>:<identifier>, with the method in "
            f"lower-case letters and digits, and the identifier of letters, digits and . - _ : %XX"
        )
    method, identifier = match["method"], match["identifier"]
    return Did(
        text=text,
        method=method,
        identifier=identifier,
        kind=_denso_kind(text, identifier) if method == "denso" else "",
    )


def fold(text: str) -> str:
    """Return `text` with ASCII capitals lowered and every other character as it is."""
    return text.translate(_LOWER)


_LOWER: Final = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def document(did: Did | str) -> DidDocument:
    """Return the document of a did:key, did:jwk or did:denso.

    Raises DidSyntaxError for a malformed or unsafe key, DidNotResolved for another method.
    """
    did = parse(did) if isinstance(did, str) else did
    if did.method == "key":
        return _key_document(did)
    if did.method == "jwk":
        return _jwk_document(did)
    if did.method == "denso":
        return DidDocument(id=did.text)
    raise DidNotResolved(
        f"method {did.method!r:.40} is not supported; "
        f"supported: {', '.join('did:' + name for name in LOCAL_METHODS)}"
    )


def key_did(key: PublicKey) -> Did:
    """Return the did:key of `key`."""
    return parse("did:key:" + key.multikey())


def jwk_did(key: PublicKey) -> Did:
    """Return the did:jwk of `key`, members in alphabetical order, without white space."""
    encoded = json.dumps(key.jwk(), sort_keys=True, separators=(",", ":")).encode()
    return parse("did:jwk:" + keys.base64url(encoded))


def _denso_kind(text: str, identifier: str) -> str:
    kind, _, name = identifier.partition(":")
    if kind not in DENSO_KINDS or not all(name.split(":")):
        raise DidSyntaxError(
            f"{text!r:.40} is no did:denso; it must be did:denso:<kind>:<id> "
            f"with kind {', '.join(DENSO_KINDS)}"
        )
    return kind


def _key_document(did: Did) -> DidDocument:
    key = keys.from_multikey(did.identifier)
    if key.multikey() != did.identifier:
        raise DidSyntaxError("did:key is not the canonical spelling of its key")
    main = f"{did.text}#{did.identifier}"
    methods = [VerificationMethod(id=main, controller=did.text, public_key=key)]
    agreement = main
    if key.curve == "Ed25519":
        twin = keys.x25519_from_ed25519(key)
        agreement = f"{did.text}#{twin.multikey()}"
        methods.append(VerificationMethod(id=agreement, controller=did.text, public_key=twin))
    signing = (main,) if key.algorithms else ()
    return DidDocument(
        id=did.text,
        verification_methods=tuple(methods),
        authentication=signing,
        assertion_method=signing,
        capability_invocation=signing,
        capability_delegation=signing,
        key_agreement=(agreement,),
    )


def _jwk_document(did: Did) -> DidDocument:
    jwk = _strict_object(keys.unbase64url(did.identifier, where="did:jwk identifier"))
    key = keys.from_jwk(jwk)
    use = jwk.get("use")
    if use not in (None, "sig", "enc"):
        raise DidSyntaxError(f"JWK use is {use!r:.40}; it must be sig or enc")
    only = f"{did.text}#0"
    # A curve that cannot do a thing is not listed for it, whatever `use` leaves open.
    signing = (only,) if use != "enc" and key.algorithms else ()
    agreement = (only,) if use != "sig" and key.curve != "Ed25519" else ()
    return DidDocument(
        id=did.text,
        verification_methods=(VerificationMethod(id=only, controller=did.text, public_key=key),),
        authentication=signing,
        assertion_method=signing,
        capability_invocation=signing,
        capability_delegation=signing,
        key_agreement=agreement,
    )


def _strict_object(data: bytes) -> dict[str, object]:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        members = dict(pairs)
        if len(members) != len(pairs):
            raise ValueError("a member appears twice")
        return members

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no JSON number")

    try:
        found = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise DidSyntaxError(f"did:jwk does not hold a JSON Web Key: {error}") from error
    if not isinstance(found, dict):
        raise DidSyntaxError("did:jwk does not hold a JSON object")
    return found
