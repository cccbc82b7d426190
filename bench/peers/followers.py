"""What follows the northbound database and does nothing with it, as a process of its own: `KIND REMOTE`.

    ovsdbapp    as its documentation shows it: every table and column
    bare        JSON-RPC and the standard library's parser: the columns that our daemon monitors, and no rows are kept

Prints a line once it has everything; for each token on standard input another once NB_Global
external_ids:bench says it.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable

_DATABASE = "OVN_Northbound"


def _ovsdbapp(remote: str) -> Callable[[str], None]:
    from ovsdbapp.backend.ovs_idl import connection
    from ovsdbapp.schema.ovn_northbound import impl_idl

    idl = connection.OvsdbIdl.from_server(remote, _DATABASE)
    api = impl_idl.OvnNbApiIdlImpl(connection.Connection(idl, timeout=60))

    def wait(token: str) -> None:
        while next(iter(api.tables["NB_Global"].rows.values())).external_ids.get("bench") != token:
            time.sleep(0.02)

    return wait


def _bare(remote: str) -> Callable[[str], None]:
    from ovnreserve.northbound.columns import COLUMNS

    server = socket.socket(socket.AF_UNIX)
    server.connect(remote.removeprefix("unix:"))
    decode = json.JSONDecoder().raw_decode
    text = ""

    def receive() -> dict:
        nonlocal text
        while True:
            try:
                message, end = decode(text)
            except ValueError:
                data = server.recv(1 << 20)
                while not data.endswith(b"}"):
                    data += server.recv(1 << 20)
                text += data.decode()
                continue
            text = text[end:]
            return message

    def ask(method: str, *params: object) -> dict:
        server.sendall(json.dumps({"method": method, "params": params, "id": 0}).encode())
        return receive()["result"]

    tables = ask("get_schema", _DATABASE)["tables"]
    wanted = {
        table: [{"columns": [column for column in columns if column in tables[table]["columns"]]}]
        for table, columns in COLUMNS.items()
        if table in tables
    }
    wanted["NB_Global"][0]["columns"].append("external_ids")
    ask("monitor_cond_since", _DATABASE, "bench", wanted, "00000000-0000-0000-0000-000000000000")

    def wait(token: str) -> None:
        while token not in str(receive()["params"][2].get("NB_Global")):
            pass

    return wait


def main() -> None:
    kind, remote = sys.argv[1:]
    wait = {"ovsdbapp": _ovsdbapp, "bare": _bare}[kind](remote)
    print("all", flush=True)
    for line in sys.stdin:
        wait(line.strip())
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main()
