"""What comes at the same moment: requests for one name, and others who undo what we have just written."""

from __future__ import annotations

import json
import threading

from support import wait_until

from ovnreserve.cli.client import Client
from ovnreserve.cli.errors import StatusError

IPS = "/apis/kubeovn.io/v1/ips"


def document(name: str) -> dict:
    spec = {"subnet": "lan", "podName": name, "namespace": "n"}
    return {"apiVersion": "kubeovn.io/v1", "kind": "IP", "metadata": {"name": f"{name}.n"}, "spec": spec}


def ask(daemon, method: str, path: str, body=None) -> int:
    """The status code of one request on a connection of its own."""
    client = Client(daemon.client_environment["OVNRESERVE_SERVER"], lambda _warning: None)
    try:
        client.request(method, path, body)
    except StatusError as error:
        return error.status["code"]
    finally:
        client.close()
    return 200


def make_switch(servers) -> None:
    servers.nbctl("ls-add", "lan", "--", "set", "logical_switch", "lan", "other_config:subnet=10.0.0.0/24")


def excluded(servers) -> str:
    return servers.nbctl("--if-exists", "get", "logical_switch", "lan", "other_config:exclude_ips").strip().strip('"')


def test_a_delete_that_waits_together_with_its_create_is_carried_out(servers, daemon):
    make_switch(servers)
    servers.nb_server.pause()
    codes: dict[str, int] = {}

    def do(key: str, *request) -> threading.Thread:
        thread = threading.Thread(target=lambda: codes.__setitem__(key, ask(daemon, *request)))
        thread.start()
        return thread

    threads = [do("first", "POST", IPS, document("first"))]  # under way while the database hangs
    status = "/apis/ovnreserve.io/v1/status"
    client = Client(daemon.client_environment["OVNRESERVE_SERVER"], lambda _warning: None)
    wait_until(lambda: client.get(status)["reservations"]["pending"] == 1, what="a transaction is under way")
    for number in range(20):
        threads += [
            do(f"create {number}", "POST", IPS, document(f"p{number}")),
            do(f"delete {number}", "DELETE", f"{IPS}/p{number}.n"),
        ]
    servers.nb_server.resume()
    for thread in threads:
        thread.join()
    assert {codes[f"create {number}"] for number in range(20)} == {200}
    deleted = [number for number in range(20) if codes[f"delete {number}"] == 200]
    kept = {"first.n"} | {f"p{number}.n" for number in range(20) if number not in deleted}

    def names() -> set[str]:
        return {item["metadata"]["name"] for item in client.get(IPS)["items"]}

    wait_until(lambda: names() == kept, what="what was deleted is gone, the rest is there")
    records = servers.nbctl(
        "--bare", "--columns=external_ids", "find", "dns", "external_ids:ovnreserve/kind=reservation"
    )
    assert all(name in records for name in kept)
    assert records.count("ovnreserve/name") == len(kept)
    client.close()


def test_creators_and_deleters_of_one_name_leave_the_stores_in_agreement(servers, daemon):
    make_switch(servers)

    def hammer(method: str, path: str, body=None) -> None:
        for _ in range(60):
            assert ask(daemon, method, path, body) in (200, 404, 409)

    jobs = [("POST", IPS, document("a")), ("DELETE", f"{IPS}/a.n"), ("DELETE", f"{IPS}/a.n")]
    threads = [threading.Thread(target=hammer, args=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: ask(daemon, "DELETE", f"{IPS}/a.n") == 404, what="it is gone")
    wait_until(lambda: excluded(servers) == "", what="nothing stays excluded")
    assert ask(daemon, "POST", IPS, document("a")) == 200


def test_a_wipe_right_behind_our_own_write_is_repaired(servers, daemon):
    make_switch(servers)
    uuid = servers.nbctl("--bare", "--columns=_uuid", "find", "logical_switch", "name=lan").strip()
    stop = threading.Event()

    def wipe() -> None:
        while not stop.is_set():
            servers.nbctl("remove", "logical_switch", uuid, "other_config", "exclude_ips")

    thread = threading.Thread(target=wipe)
    thread.start()
    for number in range(40):
        assert ask(daemon, "POST", IPS, document(f"p{number}")) == 200
    stop.set()
    thread.join()
    wait_until(lambda: excluded(servers) == "10.0.0.215..10.0.0.254", what="all of it is excluded again")


def test_records_deleted_right_behind_our_own_write_are_written_again(servers, daemon):
    make_switch(servers)
    stop = threading.Event()

    def wipe() -> None:
        while not stop.is_set():
            found = servers.nbctl(
                "--bare", "--columns=_uuid", "find", "dns", "external_ids:ovnreserve/kind=reservation"
            )
            for uuid in found.split():
                servers.nbctl("--if-exists", "destroy", "dns", uuid)

    thread = threading.Thread(target=wipe)
    thread.start()
    for number in range(20):
        assert ask(daemon, "POST", IPS, document(f"p{number}")) == 200
    stop.set()
    thread.join()

    def records() -> set[str]:
        rows = servers.nbctl(
            "--format=json", "--columns=records", "find", "dns", "external_ids:ovnreserve/kind=reservation"
        )
        return {pair[0] for [[_map, pairs]] in json.loads(rows)["data"] for pair in pairs}

    wait_until(lambda: records() == {f"p{number}.n" for number in range(20)}, what="every record is there again")
