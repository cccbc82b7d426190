"""A script with ovsdbapp as its documentation shows it: one transaction a reservation.

Arguments: REMOTE SWITCH THREADS SECONDS; addresses come on standard input. Prints what was done and how long each
took, as JSON; what it takes to connect is not in it.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from ovsdbapp.backend.ovs_idl import command, connection
from ovsdbapp.schema.ovn_northbound import impl_idl


class Exclude(command.BaseCommand):
    """Append an address to exclude_ips; run again by ovsdbapp if somebody was faster."""

    def __init__(self, api, switch, address):
        super().__init__(api)
        self.switch = switch
        self.address = address

    def run_idl(self, _txn):
        switch = self.api.lookup("Logical_Switch", self.switch)
        switch.verify("other_config")
        text = switch.other_config.get("exclude_ips", "")
        switch.setkey("other_config", "exclude_ips", f"{text} {self.address}".strip())


def main() -> None:
    remote, switch, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    addresses = iter(sys.stdin.read().split())
    idl = connection.OvsdbIdl.from_server(remote, "OVN_Northbound")
    api = impl_idl.OvnNbApiIdlImpl(connection.Connection(idl, timeout=60))
    turn = threading.Lock()
    done: list[str] = []
    taken: list[float] = []
    start = time.perf_counter()

    def work() -> None:
        while time.perf_counter() < start + seconds:
            with turn:
                address = next(addresses, None)
            if address is None:
                return
            begun = time.perf_counter()
            Exclude(api, switch, address).execute(check_error=True)
            taken.append(time.perf_counter() - begun)
            done.append(address)

    workers = [threading.Thread(target=work) for _ in range(threads - 1)]
    for worker in workers:
        worker.start()
    work()
    for worker in workers:
        worker.join()
    elapsed = time.perf_counter() - start
    print(json.dumps({"elapsed": elapsed, "taken": taken, "done": done}))


if __name__ == "__main__":
    main()
