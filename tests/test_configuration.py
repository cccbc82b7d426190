"""docs/configuration.md says of every option of the daemon what it is called, and where."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ovnreserve import daemon

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_option_has_its_row_with_all_its_names() -> None:
    documented = [tuple(re.findall(r"`([^`]+)`", row[0])) for row in ROWS]
    options = [tuple(action.option_strings) for action in daemon._parser()._actions]
    assert sorted(documented) == sorted(option for option in options if "--help" not in option)


def test_every_key_of_the_configuration_file_stands_beside_its_option() -> None:
    beside = {match[1]: row[0] for row in ROWS if (match := re.match(r"`(\w+)", row[1]))}
    assert beside.keys() == daemon._CONFIG.keys()
    assert all(key.replace("_", "-") in option for key, option in beside.items())


def test_the_example_is_read_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [example] = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    for name in ("key", "cert", "ca"):
        (tmp_path / f"{name}.pem").touch()
    config = tmp_path / "ovnreserved.toml"
    config.write_text(example.replace("/etc/ovn/", f"{tmp_path}/"))
    monkeypatch.delenv("ENABLE_KEEP_VM_IP", raising=False)
    options, _ = daemon.options_of(["--config", str(config)])
    assert (options.squatters, options.keep_vm_ip, options.quarantine) == ("block", True, 600.0)


def test_what_is_said_to_be_the_default_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OVN_NB_DB", "OVN_RUNDIR", "ENABLE_KEEP_VM_IP"):
        monkeypatch.delenv(name, raising=False)
    options, _ = daemon.options_of([])
    said = {row[1].strip("`"): row[3].strip("`") for row in ROWS if re.fullmatch(r"`\S+`", row[3])}
    assert said.pop("db") == "unix:RUN-DIR/ovnnb_db.sock"
    assert options.db == f"unix:{options.run_dir}/ovnnb_db.sock"
    given, _ = daemon.options_of([f"--{key.replace('_', '-')}={value}" for key, value in said.items()])
    assert given == options
    assert len(said) == 8
