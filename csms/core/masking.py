"""Secrets and id tokens inside OCPP payloads: found, and masked before they are kept or shown.

A payload is plain JSON values of any version. Passwords travel as members of their own, as the
value of a configuration key or variable that is named so, and inside URLs.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

MASK: Final = "***"

_MEMBERS: Final = frozenset({"basicauthpassword", "apnpassword", "password", "simpin"})
_SETTINGS: Final = frozenset({"authorizationkey", "basicauthpassword"})
_URL_LOGIN: Final = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^/@\s:]*:[^/@\s]*@")
_ONE_TIME: Final = re.compile(r"(/uploads/)[\w-]+")
"""A place of ours for a file: its URL is all that is needed to put one there."""
_WORDS: Final = ("password", "authorizationkey", "simpin", "vpn", "@", "/uploads/", "\\u00")
"""What a text with a secret holds; a letter of it may be spelled as an escape."""
_VALUES: Final = frozenset({"value", "attributevalue", "actualvalue"})
_TOKENS: Final = frozenset(
    {"idtag", "parentidtag", "idtoken", "groupidtoken", "additionalidtoken"}
    | {"id_token", "group_token"}
)
"""Members that are id tokens, or objects that hold one."""
_OURS: Final = _TOKENS | {"value", "group"}


def masked(value: object) -> object:
    """Return JSON `value` with every secret in it replaced by "***"."""
    if isinstance(value, Mapping):
        return _masked_members(value)
    if isinstance(value, list | tuple):
        return [_masked_pair(item) for item in value]
    if isinstance(value, str):
        return _ONE_TIME.sub(rf"\1{MASK}", _URL_LOGIN.sub(rf"\1{MASK}@", value))
    return value


def masked_text(text: str) -> str:
    """Return JSON `text` with its secrets masked; text without any stays as it is spelled.

    Text that is no JSON, or nested too deep to be looked through, is masked whole.
    """
    if not _may_hold_secret(text):
        return text
    try:
        value = json.loads(text)
        without = masked(value)
        return text if without == value else json.dumps(without, separators=(",", ":"))
    except (ValueError, RecursionError):
        return MASK


def holds_secret(text: str) -> bool:
    """Return whether JSON `text` holds anything that has to be masked."""
    return masked_text(text) != text


def is_secret_setting(name: str) -> bool:
    """Return whether a 1.6 key or a variable ("Component.Variable" too) is a secret's name."""
    last = name.rpartition(".")[2].partition("[")[0].casefold()
    return last in _SETTINGS or last.endswith("password")


def _may_hold_secret(text: str) -> bool:
    # Nearly every payload ends here.
    folded = text.casefold()
    return any(word in folded for word in _WORDS)


def _masked_members(value: Mapping[object, object]) -> dict[object, object]:
    is_setting = _names_secret(value)
    is_vpn = {"server", "user", "password", "key", "type"} <= {str(k) for k in value}
    found: dict[object, object] = {}
    for name, item in value.items():
        folded = str(name).casefold()
        is_secret = (
            folded in _MEMBERS
            or folded.endswith("password")
            or (is_vpn and folded == "key")
            or (is_setting and folded in _VALUES)
        )
        if is_secret and item is not None and not isinstance(item, Mapping):
            found[name] = MASK
        elif is_setting and folded == "variableattribute" and isinstance(item, list | tuple):
            # A report names its variable once, and its values one level below (2.x NotifyReport).
            found[name] = [_masked_values(part) for part in item]
        else:
            found[name] = masked(item)
    return found


def _masked_values(part: object) -> object:
    if not isinstance(part, Mapping):
        return masked(part)
    return {n: MASK if str(n).casefold() in _VALUES else masked(v) for n, v in part.items()}


def _names_secret(value: Mapping[object, object]) -> bool:
    """Return whether an object is a setting whose value is a secret, in 1.6 or in 2.x words."""
    key, variable = value.get("key"), value.get("variable")
    name = key if isinstance(key, str) else None
    if isinstance(variable, Mapping):
        name = variable.get("name")
    return isinstance(name, str) and is_secret_setting(name)


def _masked_pair(item: object) -> object:
    """Mask a (name, value) pair, as our own Configure keeps them."""
    is_pair = isinstance(item, list | tuple) and len(item) == 2
    if is_pair and isinstance(item[0], str) and is_secret_setting(item[0]):  # type: ignore[index]
        return [item[0], MASK]  # type: ignore[index]
    return masked(item)


def without_tokens(value: object, hint: Callable[[str], str]) -> object:
    """Return JSON `value` with `hint(token)` in place of each id token.

    Tokens are the members OCPP and we name so, wherever they are: in commands, answers and reports,
    and inside text that is JSON itself, such as a frame.
    """
    if isinstance(value, Mapping):
        values = _OURS if _is_enrolled(value) else _TOKENS
        return {
            name: _hinted(item, hint)
            if str(name).casefold() in values
            else without_tokens(item, hint)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_tokens(item, hint) for item in value]
    return _text_without_tokens(value, hint) if isinstance(value, str) else value


def _is_enrolled(value: Mapping[object, object]) -> bool:
    """Return whether an object is a token on record, or an entry of a local list."""
    return "value" in value and ("assurance" in value or {"status", "group"} <= value.keys())


def _hinted(item: object, hint: Callable[[str], str]) -> object:
    if isinstance(item, str):
        return hint(item) if item else item
    if isinstance(item, Mapping):
        # The token of a command of ours has a value and a kind; OCPP's has a member like itself.
        names = _TOKENS | {"value"}
        return {
            n: _hinted(v, hint) if str(n).casefold() in names else without_tokens(v, hint)
            for n, v in item.items()
        }
    return without_tokens(item, hint)


def _text_without_tokens(text: str, hint: Callable[[str], str]) -> str:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(text)
            without = without_tokens(value, hint)
            return text if without == value else json.dumps(without, separators=(",", ":"))
        except (ValueError, RecursionError):
            pass
    # A frame that is broken may hold a token as well.
    folded = text.casefold()
    return MASK if '"idt' in folded or '"parentidt' in folded else text
