"""What `backup` and `restore` decide, and what they say when the other side breaks off."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest
from builders import reservation

from ovnreserve.cli import backup
from ovnreserve.cli.main import main
from ovnreserve.model.ip import Status, read, render
from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import State

R = reservation(
    "switch", "vm-1.default", v4="10.0.0.9", v6="fd00::9", mac="02:6f:76:00:00:09", pod_type="VirtualMachine",
    node_name="node-1", container_id="c", attach_ips=("10.9.0.1",), attach_macs=("02:00:00:00:00:01",),
    attach_subnets=("other",), labels={"team": "red"}, annotations={"why": "because"},
)  # fmt: skip


def ip_of(r: Reservation, phase: str = "Reserved") -> dict:
    return {**backup.document(r), "status": {"phase": phase}}


def test_a_document_asks_for_everything_that_was_asked_for_and_for_the_same_addresses():
    wanted = read(json.loads(json.dumps(backup.document(R))))
    for field in (
        *("name", "subnet", "pod_name", "namespace", "pod_type", "v4", "v6", "mac", "node_name", "container_id"),
        *("attach_ips", "attach_macs", "attach_subnets", "labels", "annotations"),
    ):
        assert getattr(wanted, field) == getattr(R, field), field
    assert wanted.resource_version == ""
    assert backup.document(R)["spec"].keys() == set(render(R, Status("", ())).spec.__struct_fields__)


@pytest.mark.parametrize(
    ("now", "phase", "what"),
    [
        (R, "Reserved", ""),
        (R, "Bound", ""),
        (R, "Pending", ""),
        (R.with_(labels={}, uid="another", pod_type=""), "Reserved", ""),
        (R, "Releasing", "is being deleted; restore again when it is gone"),
        (R, "Failed", "has failed; delete it first"),
        (R.with_(v4=10 << 24 | 8), "Reserved", "has 02:6f:76:00:00:09 10.0.0.8 fd00::9 on subnet net, the backup "),
        (R.with_(v6=None), "Reserved", "has 02:6f:76:00:00:09 10.0.0.9 on subnet net, the backup "),
        (R.with_(mac="02:6f:76:00:00:08"), "Bound", "has 02:6f:76:00:00:08 10.0.0.9 fd00::9 on subnet net, "),
        (R.with_(subnet="lan"), "Reserved", "has 02:6f:76:00:00:09 10.0.0.9 fd00::9 on subnet lan, "),
    ],
)
def test_what_is_there_is_the_same_if_it_has_the_same_addresses(now: Reservation, phase: str, what: str):
    difference = backup.difference(R, ip_of(now, phase))
    assert difference.startswith(what)
    assert bool(difference) == bool(what)


def test_an_address_of_a_family_that_the_subnet_had_not_then_is_no_difference():
    assert backup.difference(R.with_(v6=None), ip_of(R)) == ""


def test_chunks_hold_no_more_than_one_request_may_and_lose_nothing():
    few = [{"name": f"n{i}"} for i in range(2500)]
    assert [len(chunk) for chunk in backup.chunks(few)] == [1000, 1000, 500]
    large = [{"name": f"n{i}", "annotation": "x" * 5_000_000} for i in range(7)]
    assert [len(chunk) for chunk in backup.chunks(large)] == [3, 3, 1]
    assert [each for chunk in backup.chunks(large) for each in chunk] == large
    huge = [{"annotation": "x" * 20_000_000}]
    assert list(backup.chunks(huge)) == [huge]
    assert list(backup.chunks([])) == []


def test_the_summary_counts_each_reservation_once():
    kept = [R.with_(name=str(i)) for i in range(5)]
    assert backup.summary(kept, 2, 1) == "2 restored, 1 unchanged, 2 not restored"
    kept[3:] = [kept[3].with_(state=State.RELEASING), kept[4].with_(state=State.FAILED)]
    assert backup.summary(kept, 2, 1) == (
        "2 restored, 1 unchanged, 0 not restored; left out: 1 that was being released, 1 that had failed"
    )


@pytest.mark.parametrize("command", ["backup", "restore"])
@pytest.mark.parametrize("arguments", [[], ["a", "b"], [""]])
def test_exactly_one_file_is_needed(capsys: pytest.CaptureFixture[str], command: str, arguments: list[str]):
    assert main([command, *arguments]) == 1
    assert capsys.readouterr().err == (
        f"error: You must provide one FILE.\nSee 'ovnreserve {command} --help' for usage.\n"
    )


# ---- a server that does what it was told ---------------------------------------------------------------------------


def answering(content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> threading.Thread:
    """Somebody at $OVNRESERVE_SERVER who sends this, whatever he is asked, and hangs up."""
    monkeypatch.chdir(tmp_path)  # a short path, whatever tmp_path is
    monkeypatch.setenv("OVNRESERVE_SERVER", "sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("sock")
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(content)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


UNAVAILABLE = b'{"kind": "Status", "reason": "ServiceUnavailable", "code": 503, "message": "the disk is full"}'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nSQLite",
            "ovnreserve: sock: the connection broke off (closed by the server); the outcome is unknown\n",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: %d\r\n\r\n%s" % (len(UNAVAILABLE), UNAVAILABLE),
            "Error from server (ServiceUnavailable): the disk is full\n",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nSQLite", "ovnreserve: sock: this is no answer of ovnreserved: a length of ''\n"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
            "error: {}/file: not written, since what the daemon sent is no ledger\n",
        ),
    ],
)
def test_what_is_not_wholly_there_never_takes_the_place_of_the_file(
    answer: bytes, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").write_text("the last backup")
    server = answering(answer, monkeypatch, tmp_path)
    assert main(["backup", "file"]) == 1
    server.join()
    assert capsys.readouterr() == ("", said.format(tmp_path))
    assert (tmp_path / "file").read_text() == "the last backup"
    assert {file.name for file in tmp_path.iterdir()} == {"file", "sock"}
