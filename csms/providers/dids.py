"""From a DID to its document: computed, registered locally, or from a further method.

did:web needs guarded fetching and a trust registry; it is refused by name.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from csms.core.errors import DidNotResolved
from csms.identity.did import Did, DidDocument, document, parse

Registered = Callable[[str], Awaitable[DidDocument | None]]
"""Looks up a locally registered DID; None if it is not there."""


class DidMethod(Protocol):
    """A method of resolution, from the entry-point group `tasco.did_method`."""

    async def resolve(self, did: Did) -> DidDocument:
        """Return the document of `did`; DidNotResolved if there is none."""
        ...


class Resolver:
    """Resolves at enrolment and in the background, never while a driver waits."""

    def __init__(
        self, *, registered: Registered, methods: Mapping[str, DidMethod] | None = None
    ) -> None:
        self._registered = registered
        self._methods = dict(methods or {})

    async def resolve(self, text: str) -> DidDocument:
        """Return the document of the DID `text`.

        Raises DidSyntaxError for a malformed DID or an unsafe key, and DidNotResolved otherwise.
        """
        did = parse(text)
        if did.method in ("key", "jwk"):
            return document(did)
        if did.method == "denso":
            found = await self._registered(did.text)
            if found is None:
                raise DidNotResolved("the did:denso is not registered here; enrol it first")
        elif did.method in self._methods:
            found = await self._methods[did.method].resolve(did)
        else:
            supported = ", ".join(f"did:{name}" for name in ("key", "jwk", "denso", *self._methods))
            raise DidNotResolved(
                f"did:{did.method:.40}: method not supported yet; supported: {supported}"
            )
        if found.id != did.text:
            raise DidNotResolved("the document found has the id of another DID")
        return found
