"""A JSON object's members as the text they were sent in.

What an operator sends to a station goes on the wire as given (api.md K1): numbers keep their
spelling, members their order. Decoding and encoding again would turn 16.10 into 16.1 and 1e1 into
10.0, so the text is cut out of the body and only the white space between tokens is left out.
"""

import json
import re
from json.decoder import scanstring  # type: ignore[attr-defined]

from csms.core.errors import InvalidInput

MAX_DEPTH = 64

_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[^"\s]+')


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON value")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def members(text: str) -> dict[str, str]:
    """Return the members of the JSON object in `text`, each value as its compact text.

    Raises InvalidInput if `text` is no JSON object, nests deeper than MAX_DEPTH, names a member
    twice, or holds half of a character (a lone surrogate), which is no text.
    """
    if _depth(text) > MAX_DEPTH:
        raise InvalidInput(f"the body nests deeper than {MAX_DEPTH}")
    try:
        found = _members(text)
        if _SURROGATE.search(text):
            json.dumps(json.loads(text), ensure_ascii=False).encode()
        return found
    except UnicodeEncodeError as error:
        half = json.dumps(error.object[error.start])
        raise InvalidInput(f"the body holds {half}, which is half of a character") from error
    except (ValueError, IndexError, RecursionError) as error:
        raise InvalidInput(f"the body is no JSON object: {error}") from error


def _members(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("it must begin with {")
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return _ended(text, at + 1, found)
    while True:
        if text[at] != '"':
            raise ValueError(f"expected a member name at {at}")
        name, at = scanstring(text, at + 1, True)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError(f"expected : at {at}")
        start = _skip(text, at + 1)
        _, at = _DECODER.raw_decode(text, start)
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = compact(text[start:at])
        at = _skip(text, at)
        if text[at] == "}":
            return _ended(text, at + 1, found)
        if text[at] != ",":
            raise ValueError(f"expected , at {at}")
        at = _skip(text, at + 1)


def compact(text: str) -> str:
    """Return JSON `text` without the white space between its tokens; strings stay as they are."""
    return "".join(match.group() for match in _TOKENS.finditer(text))


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return at if match is None else match.end()


def _ended(text: str, at: int, found: dict[str, str]) -> dict[str, str]:
    if _skip(text, at) != len(text):
        raise ValueError("something follows the object")
    return found


def _depth(text: str) -> int:
    """Return how deep brackets outside of strings nest, without recursion."""
    depth = deepest = 0
    for match in _TOKENS.finditer(text):
        token = match.group()
        if token[0] == '"':
            continue
        for character in token:
            if character in "{[":
                depth += 1
                deepest = max(deepest, depth)
            elif character in "}]":
                depth -= 1
    return deepest
