"""The `tasco` command on a real store: what it prints, and its exit codes."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from csms import cli
from tests.planning.cases import car, case

GOLDEN = Path(__file__).parent.parent / "golden" / "replay"


class Shell:
    """Runs `tasco` with a configuration of its own."""

    def __init__(
        self, config: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.config = config
        self._capsys = capsys
        self._patch = patch

    def run(self, *words: str, typed: str = "", uses_config: bool = True) -> tuple[int, str, str]:
        """Return exit code, what it printed, and what it said on stderr."""
        more = ("--config", str(self.config)) if uses_config else ()
        self._patch.setattr(sys, "argv", ["tasco", *words, *more])
        self._patch.setattr(sys, "stdin", io.StringIO(typed))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = self._capsys.readouterr()
        code = exit_.value.code
        return (code if isinstance(code, int) else 0), out, err

    def done(self, *words: str, typed: str = "", uses_config: bool = True) -> str:
        """Run a command that has to succeed; return what it printed."""
        code, out, err = self.run(*words, typed=typed, uses_config=uses_config)
        assert code == 0, err
        return out


@pytest.fixture
def tasco(
    tmp_path: Path,
    sqlite_url: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Shell:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[site.main]\nlimit_kw = 30\n[store]\nurl = "{sqlite_url}"\n'
        '[telemetry]\nlevel = "error"\n[identity]\ntenant_key = "a key of the tests\'"\n',
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    return Shell(config, capsys, monkeypatch)


@pytest.mark.parametrize("command", ["check", "serve"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[site.main]\nlimit_kw = -3", ["site.main.limit_kw", "-3"]),
        ("[gatway]\nport = 1", ["gatway", "gateway"]),
        ("[planner]\nslot_s = 700", ["planner.slot_s", "700"]),
        ("[gateway\nport", ["config.toml", "cannot be read"]),
        ('[tariff.default]\ntype = "free beer"', ["tariff.default", "free beer"]),
        ('[site.main]\ntariff = "none such"', ["none such"]),
        ('[store]\nurl = "nonsense"', ["[store] url", "sqlite:///"]),
    ],
)
def test_a_configuration_that_cannot_be_used_is_refused_with_its_key(
    command: str, text: str, words: list[str], tasco: Shell
) -> None:
    tasco.config.write_text(text, encoding="utf-8")
    code, out, err = tasco.run(command)
    assert code == 2
    assert out == ""
    for word in words:
        assert word in err
    assert "Traceback" not in err


def test_a_configuration_that_is_not_there_is_named(tasco: Shell) -> None:
    tasco.config = tasco.config.with_name("other.toml")
    code, _, err = tasco.run("check")
    assert code == 2
    assert "other.toml" in err


def test_check_prints_everything_but_secrets(tasco: Shell) -> None:
    out = tasco.done("check")
    assert "site.main.limit_kw = 30.0" in out
    assert "a key of the tests" not in out


def test_stations_are_registered_listed_and_removed(tasco: Shell) -> None:
    out = tasco.done("station", "add", "bay1", "bay2", "--evses", "2", "--max-kw", "11")
    assert "2 registered at main" in out
    tasco.done("station", "add", "bay3", "--password", typed="a good long password\n")
    found = json.loads(tasco.done("station", "list", "--json"))
    assert [s["station_id"] for s in found] == ["bay1", "bay2", "bay3"]
    tasco.done("station", "remove", "bay2")
    assert "bay2" not in tasco.done("station", "list")
    code, _, err = tasco.run("station", "remove", "bay2")
    assert code == 2
    assert "bay2" in err
    code, _, err = tasco.run("station", "add", "bay1")
    assert code == 2
    assert "bay1" in err
    code, _, err = tasco.run("station", "add", "bay9", "--site", "nowhere")
    assert code == 2
    assert "nowhere" in err
    code, _, err = tasco.run("station", "add", "bay9", "--password", typed="short\n")
    assert code == 2


def test_tokens_are_enrolled_blocked_and_named(tasco: Shell) -> None:
    did = "did:denso:driver:d1"
    assert "1 enrolled" in tasco.done("token", "add", "04:A1:B2:C3:D4:E5:F6", "--did", did)
    found = json.loads(tasco.done("token", "list", "--json"))
    assert {(t["kind"], t["value"]) for t in found} >= {("rfid", "04A1B2C3D4E5F6"), ("did", did)}
    assert "blocked" in tasco.done("token", "block", "04a1b2c3d4e5f6")
    found = json.loads(tasco.done("token", "list", "--json"))
    assert {t["state"] for t in found if t["kind"] == "rfid"} == {"blocked"}
    assert "active" in tasco.done("token", "unblock", "04a1b2c3d4e5f6")
    name = tasco.done("token", "fingerprint", did).strip()
    assert len(name) == 20
    assert name in {t["value"] for t in found}
    code, _, err = tasco.run("token", "block", "DEADBEEF")
    assert code == 2
    assert "DEADBEEF" in err
    code, _, err = tasco.run("token", "fingerprint", "no did")
    assert code == 2


def test_credentials_are_listed_suspended_resumed_revoked_and_removed(
    tasco: Shell, tmp_path: Path
) -> None:
    did = "did:denso:driver:d1"
    sample = {"drivers": [{"did": did, "credentials": ["Employee:Depot"], "allowed_sites": ["*"]}]}
    file = tmp_path / "concept.json"
    file.write_text(json.dumps(sample), encoding="utf-8")
    tasco.done("import", "concept", str(file))
    claim = f"{did}#Employee:Depot"

    def status() -> str:
        (found,) = json.loads(tasco.done("credential", "list", "--did", did, "--json"))
        assert found["credential_id"] == claim
        return str(found["status"])

    assert status() == "valid"
    for command, expected in (
        ("suspend", "suspended"),
        ("resume", "valid"),
        ("revoke", "revoked"),
    ):
        assert expected in tasco.done("credential", command, claim)
        assert status() == expected
    # What was revoked stays so when its holder is imported again.
    tasco.done("import", "concept", str(file))
    assert status() == "revoked"
    assert "removed" in tasco.done("credential", "remove", claim)
    assert json.loads(tasco.done("credential", "list", "--json")) == []
    code, _, err = tasco.run("credential", "revoke", claim)
    assert code == 2
    assert "no credential" in err


def test_api_tokens_are_shown_once_and_revoked(tasco: Shell) -> None:
    secret = tasco.done("api-token", "add", "a test", "--role", "operator").strip()
    (kept,) = json.loads(tasco.done("api-token", "list", "--json"))
    assert secret.startswith(kept["prefix"])
    assert secret not in json.dumps(kept)
    assert (kept["role"], kept["revoked_at"]) == ("operator", "-")
    tasco.done("api-token", "revoke", kept["prefix"])
    (kept,) = json.loads(tasco.done("api-token", "list", "--json"))
    assert kept["revoked_at"] != "-"
    code, _, err = tasco.run("api-token", "add", "x", "--role", "emperor")
    assert code == 2
    assert "emperor" in err


def test_the_database_is_brought_up_to_date(tasco: Shell) -> None:
    assert "up to date" in tasco.done("db", "upgrade")
    assert "up to date" in tasco.done("db", "upgrade")


def test_files_are_imported_whole_or_not_at_all(tasco: Shell, tmp_path: Path) -> None:
    holders = tmp_path / "holders.csv"
    holders.write_text("did,name,allowed_sites\ndid:denso:driver:a,A,main\n", encoding="utf-8")
    assert "holders: 1 imported" in tasco.done("import", "holders", str(holders))
    tokens = tmp_path / "tokens.csv"
    tokens.write_text("value,did\n04AABBCCDD0011,did:denso:driver:a\n", encoding="utf-8")
    assert "tokens: 1 imported" in tasco.done("import", "tokens", str(tokens))
    trips = tmp_path / "trips.csv"
    line = "did:denso:driver:a,2030-01-01T08:00:00+01:00"
    trips.write_text(
        f"holder_did,departs_at,distance_km\n{line},120\n{line},-4\n", encoding="utf-8"
    )
    code, _, err = tasco.run("import", "trips", str(trips))
    assert code == 2
    assert "3" in err
    assert "distance_km" in err
    concept = tmp_path / "concept.json"
    concept.write_text('{"drivers": [], "robots": []}', encoding="utf-8")
    code, _, err = tasco.run("import", "concept", str(concept))
    assert code == 2
    assert "robots" in err
    code, _, err = tasco.run("import", "horses", str(holders))
    assert code == 2
    assert "horses" in err


def test_a_site_is_planned_and_nothing_sent(tasco: Shell) -> None:
    assert "site main" in tasco.done("plan", "--site", "main")
    code, _, err = tasco.run("plan", "--site", "nowhere")
    assert code == 2
    assert "nowhere" in err
    code, _, _ = tasco.run("plan")
    assert code == 2


def test_a_case_is_planned_from_its_file_and_says_each_fault_once(
    tasco: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "case.json"
    of = replace(case(car("odd", guard_kw=-1.0)), notes=("prices missing from 18:00",))
    file.write_text(of.to_json(), encoding="utf-8")
    told = tasco.done("plan", "--case", str(file), uses_config=False)
    assert told.count("prices missing from 18:00") == 1
    assert told.count("guard_kw of odd is -1") == 1
    file.write_text(of.to_json().replace('"evse_id":1', '"evse_id":"one"'), encoding="utf-8")
    code, _, err = tasco.run("plan", "--case", str(file), uses_config=False)
    assert code == 2
    assert "case.sessions[0].evse_id" in err


@pytest.mark.parametrize(("name", "energy_kwh"), [("session16", 1.003), ("session201", 0.9658)])
def test_recorded_frames_are_replayed_into_sessions(
    name: str, energy_kwh: float, tasco: Shell
) -> None:
    out = tasco.done("replay", str(GOLDEN / f"{name}.jsonl"), "--json", uses_config=False)
    shown = json.loads(out)
    lines = (GOLDEN / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    assert shown["answers"] == {"result": len(lines)}
    (session,) = shown["sessions"]
    assert session["station_id"] == "bay1"
    assert session["state"] == "ended"
    assert session["energy_kwh"] == pytest.approx(energy_kwh, abs=1e-4)
    assert session["flags"] == []


def test_frames_that_cannot_be_read_are_named_by_line(tasco: Shell, tmp_path: Path) -> None:
    file = tmp_path / "frames.jsonl"
    file.write_text('{"station_id":"a","frame":[2,"1","Heartbeat",{}]}\nnonsense\n')
    code, _, err = tasco.run("replay", str(file), uses_config=False)
    assert code == 2
    assert "frames.jsonl:2" in err
