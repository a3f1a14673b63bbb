"""What stations make of the words themselves: each was seen on the wire (stations.md 2 to 5)."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Payload = dict[str, Any]
Said = tuple[str, Payload]

_REGISTER = "Energy.Active.Import.Register"
_POWER = "Power.Active.Import"
JUMP_WH = 2_000_000.0
_BEFORE_JUMP = 2
_CHOICES: dict[str, tuple[str, ...]] = {
    "numbers": ("ok", "zero", "stuck", "from_one"),
    "times": ("ms", "seconds", "no_zone", "unset"),
    "meter": ("ok", "kwh", "mixed", "mislabelled", "per_phase", "float", "empty", "jumps"),
    "updates": ("ok", "by_evse", "sparse"),
    "replay": ("in_turn", "overtaken", "at_once"),
    "errors": ("ok", "long", "text_details", "empty", "other_version", "lost_id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a station speaks.

    `path` stands between the address and the identity, which may end in a slash
    (`trailing_slash`); `offers` are subprotocols offered before its own. It may spell the names of
    its headers in lower case (`lower_case`), offer to compress (`deflates`), say its status before
    its boot is answered (`hasty`), ping with a payload before it boots (`pings`), and close without
    a status (`closes_silently`).

    `numbers` of 2.x transactions are "zero" for ever, "stuck" at 1, or begin at one; `times` are
    whole "seconds", have "no_zone", or are those of 1970 ("unset"). `meter` tells energy in "kwh",
    in "mixed" units (kWh until the last message), as Wh that are called kWh ("mislabelled"), as
    kWh of each phase with power that has no unit ("per_phase"), with all the digits of a "float",
    "empty" in every second message, or from a register that "jumps" by JUMP_WH after its first
    samples. `updates` come as MeterValues of the EVSE ("by_evse"), or
    say next to nothing ("sparse"). With `samples_after_end` the last values come once more after
    the end of a 1.6 transaction. `loose_triggers` calls every reason of 2.x the same,
    `short_states` leaves out Preparing and Finishing, and `tells_whole` tells the status of EVSE 0
    with that of each other.

    What was queued while the link was away is told "in_turn", what happened last goes first
    ("overtaken"), or all is sent "at_once", no answer waited for. `marks_offline` false leaves out
    the mark of 2.x; `tells_end` false says nothing of an end that came while the link was away.

    `needs_reboot` answers what it was set with RebootRequired; `bare_keys` lists the keys of 1.6
    without their values. `foreign_boot` boots a 2.x link in the words of 1.6 before it does so in
    its own. `errors` is the shape of its CALLERRORs. With `does_triggers` false a trigger is
    accepted and never carried out. A call of an action in `dies_of` ends its link in place of an
    answer.
    """

    path: str = ""
    trailing_slash: bool = False
    lower_case: bool = False
    deflates: bool = False
    offers: tuple[str, ...] = ()
    hasty: bool = False
    pings: bool = False
    closes_silently: bool = False
    numbers: str = "ok"
    times: str = "ms"
    meter: str = "ok"
    updates: str = "ok"
    samples_after_end: bool = False
    loose_triggers: bool = False
    short_states: bool = False
    tells_whole: bool = False
    replay: str = "in_turn"
    marks_offline: bool = True
    tells_end: bool = True
    needs_reboot: bool = False
    bare_keys: bool = False
    foreign_boot: bool = False
    errors: str = "ok"
    does_triggers: bool = True
    dies_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, permitted in _CHOICES.items():
            if getattr(self, name) not in permitted:
                raise ValueError(f"{name} is {getattr(self, name)!r}; permitted: {permitted}")


PLAIN = Manners()


@dataclass(slots=True, kw_only=True)
class Speaker:
    """The manners of one station, with what they have to remember of its transactions."""

    manners: Manners
    version: str
    _numbers: Counter[str] = field(default_factory=Counter)
    _said: Counter[str] = field(default_factory=Counter)
    _registers: int = 0

    def says(self, action: str, payload: Mapping[str, Any]) -> list[Said]:
        """Return what is said in place of a message: nothing, itself, or more than it."""
        if self.manners is PLAIN:
            return [(action, dict(payload))]
        said: Payload = json.loads(json.dumps(payload))
        if action == "StatusNotification" and self._leaves_out(said):
            return []
        if action == "TransactionEvent":
            if said["eventType"] == "Ended" and said.get("offline") and not self.manners.tells_end:
                return []
            action, said = self._event(said)
        elif action == "MeterValues" and self.manners.updates == "by_evse":
            said.pop("transactionId", None)
        self._said[action] += 1
        self._meter(action, said)
        if self.manners.times != "ms":
            _timed(said, self.manners.times)
        if action == "StopTransaction" and self.manners.samples_after_end:
            return [(action, said), ("MeterValues", self._once_more(said))]
        if action == "StatusNotification" and self.manners.tells_whole and "evseId" in said:
            return [(action, said), (action, {**said, "evseId": 0, "connectorId": 0})]
        return [(action, said)]

    def error(self, message_id: str, code: str, description: str, request: object) -> list[Any]:
        """Return a CALLERROR frame in this station's shape."""
        shapes: dict[str, list[Any]] = {
            "long": [message_id, code, f"{description}: {json.dumps(request)} " * 40, {}],
            "text_details": [message_id, code, description, "see the manual"],
            "empty": [message_id, code, "", {}],
            "other_version": [
                message_id,
                "FormatViolation" if self.version == "1.6" else "FormationViolation",
                description,
                {},
            ],
            "lost_id": ["-1", code, description, {}],
        }
        return [4, *shapes.get(self.manners.errors, [message_id, code, description, {}])]

    def answers(self, action: str, payload: Mapping[str, Any]) -> Payload:
        """Return what is answered in place of `payload`."""
        answer: Payload = json.loads(json.dumps(payload))
        if self.manners.needs_reboot:
            if action == "ChangeConfiguration" and answer["status"] == "Accepted":
                answer["status"] = "RebootRequired"
            for result in answer.get("setVariableResult", ()):
                if result["attributeStatus"] == "Accepted":
                    result["attributeStatus"] = "RebootRequired"
        if self.manners.bare_keys:
            for key in answer.get("configurationKey", ()):
                key.pop("value", None)
        return answer

    # --- transactions of 2.x

    def _event(self, said: Payload) -> Said:
        manners, tx = self.manners, said["transactionInfo"]["transactionId"]
        is_update = said["eventType"] == "Updated"
        if manners.loose_triggers:
            said["triggerReason"] = "Trigger"
        if not manners.marks_offline:
            said.pop("offline", None)
        if manners.updates == "by_evse" and is_update and "meterValue" in said:
            return "MeterValues", {"evseId": said["evse"]["id"], "meterValue": said["meterValue"]}
        if manners.updates == "sparse":
            if said["eventType"] == "Started":
                said.pop("meterValue", None)
            else:
                said.pop("evse", None)
        self._renumber(said, tx)
        return "TransactionEvent", said

    def _renumber(self, said: Payload, tx: str) -> None:
        number = self._numbers[tx]
        self._numbers[tx] += 1
        match self.manners.numbers:
            case "zero":
                said["seqNo"] = 0
            case "stuck":
                said["seqNo"] = min(number, 1)
            case "from_one":
                said["seqNo"] += 1
            case _ if self.manners.updates == "by_evse":
                said["seqNo"] = number

    # --- values

    def _leaves_out(self, said: Payload) -> bool:
        return self.manners.short_states and said.get("status") in ("Preparing", "Finishing")

    def _once_more(self, stop: Payload) -> Payload:
        value = {"value": str(stop["meterStop"]), "measurand": _REGISTER, "unit": "Wh"}
        return {
            "connectorId": 1,
            "transactionId": stop["transactionId"],
            "meterValue": [{"timestamp": stop["timestamp"], "sampledValue": [value]}],
        }

    def _meter(self, action: str, said: Payload) -> None:
        kind = self.manners.meter
        if kind == "ok" or (kind == "mixed" and said.get("eventType") == "Ended"):
            return
        if kind == "jumps" and "meterStop" in said:
            said["meterStop"] += int(self._jump_wh())
        for value in said.get("meterValue", ()):
            samples = value["sampledValue"]
            if kind == "empty" and self.version == "1.6" and self._said[action] % 2:
                value["sampledValue"] = []
                continue
            value["sampledValue"] = [new for old in samples for new in self._values(old, kind)]

    def _values(self, sample: Payload, kind: str) -> list[Payload]:
        measurand = sample.get("measurand")
        if measurand == _POWER and kind == "per_phase":
            return [
                self._without_unit({**sample, "value": self._told(_number(sample) / 3), "phase": p})
                for p in ("L1", "L2", "L3")
            ]
        if measurand != _REGISTER or kind == "empty":
            return [sample]
        if kind == "jumps":
            self._registers += 1
            return [{**sample, "value": self._told(_number(sample) + self._jump_wh())}]
        kwh = _number(sample) / 1000.0
        if kind == "mislabelled":
            return [self._in_kwh({**sample})]
        if kind == "per_phase":
            return [
                self._in_kwh({**sample, "value": self._told(kwh / 3), "phase": p, **self._raw()})
                for p in ("L1", "L2", "L3")
            ]
        value = kwh + 1e-17 if kind == "float" else round(kwh, 6)
        return [self._in_kwh({**sample, "value": self._told(value)})]

    def _jump_wh(self) -> float:
        return JUMP_WH if self._registers > _BEFORE_JUMP else 0.0

    def _raw(self) -> Payload:
        return {"format": "Raw"} if self.version == "1.6" else {}

    def _told(self, value: float) -> Any:
        return repr(value) if self.version == "1.6" else value

    def _in_kwh(self, sample: Payload) -> Payload:
        if self.version == "1.6":
            return {**sample, "unit": "kWh"}
        return {**sample, "unitOfMeasure": {"unit": "kWh"}}

    def _without_unit(self, sample: Payload) -> Payload:
        return {k: v for k, v in sample.items() if k not in ("unit", "unitOfMeasure")}


def _number(sample: Payload) -> float:
    return float(sample["value"])


def _timed(said: Any, times: str) -> None:
    """Spell every time of a message as a station does that does it in its own way."""
    for key, value in said.items() if isinstance(said, dict) else enumerate(said):
        if key == "timestamp":
            said[key] = _time(value, times)
        elif isinstance(value, dict | list):
            _timed(value, times)


def _time(text: str, times: str) -> str:
    if times == "unset":
        return "1970" + text[4:]
    if times == "no_zone":
        return text.removesuffix("Z")
    return text.partition(".")[0] + ("Z" if "." in text else "")
