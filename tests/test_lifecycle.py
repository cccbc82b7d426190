"""Whatever happens to ports, owners, pools, labels and rows, in any order: IPs live as they should, and nobody is hurt.

`python tests/test_lifecycle.py 5000` runs more schedules than the suite does, 50 steps each (the second argument).
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from lifecycle import Site
from lifecycle_settled import unsettled
from ovsdb_model import PORTS, SWITCHES

from ovnreserve.engine.work import Answer, Apply, Create, Delete, Request
from ovnreserve.model.addresses import format_v4, parse_v4, parse_v6
from ovnreserve.model.errors import OutcomeUnknown
from ovnreserve.model.ip import Wanted
from ovnreserve.model.owner import WantedOwner, owner_name
from ovnreserve.model.pool import IP_POOL, Pool, WantedPool, pool_name, read_pool
from ovnreserve.model.resource import KIND, KIND_LEDGER, RECORD
from ovnreserve.model.topology import PROVIDER
from ovnreserve.plan.owners import Scale
from ovnreserve.plan.update import Patch

SUBNETS: dict[str, dict[str, Any]] = {
    "net": {"subnet": "10.0.0.0/28", "v6": "fd00::/64"},
    "att": {"subnet": "10.0.1.0/29", "ids": {"ovnreserve/provider": "net1.default.ovn"}},
    "six": {"subnet": None, "v6": "fd01::/64"},
}
NETWORKS = [None, "10.0.0.0/28", "10.0.0.0/27", "10.0.0.0/29", "10.9.0.0/28", "10.0.1.0/29", "rubbish"]
PODS = ["web-0", "web-1", "web-2", "vm-a"]
NAMESPACES = ["default", "default", "default", "prod"]
TYPES = ["", "", "StatefulSet", "VirtualMachine"]
POOLS: dict[str, str] = {"a": "net", "b": "net", "c": "att", "d": "six"}
"""The subnet of each pool."""
IPS: dict[str, list[str]] = {
    "net": [
        "10.0.0.2..10.0.0.4", "10.0.0.5", "10.0.0.8/30", "10.0.0.11..10.0.0.14", "10.0.0.13", "10.0.0.12/30",
        "10.0.0.1", "fd00::/64", "fd00::2..fd00::6", "fd00::5", "fd00::ffff:0/112",
    ],
    "att": ["10.0.1.2..10.0.1.4", "10.0.1.4/31", "10.0.1.0/29", "10.0.1.6", "10.0.0.9"],
    "six": ["fd01::/120", "fd01::1:0:0:0/96", "fd01::7", "10.0.0.9"],
}  # fmt: skip
MACS = ["0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"]
TEXTS = [
    "", "10.0.0.5", "10.0.0.12..10.0.0.14 ", "foo", "10.0.0.4 foo 10.0.0.6", ".. 10.0.0.9", "/* a */ 10.0.0.3",
    "fd00::5", "10.0.0.14,10.0.0.13", "10.0.1.2", " ", "10.0.0.7\n// b", "0.0.0.0..255.255.255.255",
]  # fmt: skip

pods = st.sampled_from(PODS)
namespaces = st.sampled_from(NAMESPACES)
types = st.sampled_from(TYPES)
subnets = st.sampled_from([*SUBNETS, "net", "net"])
labels = st.sampled_from([{}, {}, {"a": "b"}])
numbers = st.integers(0, 3)
titles = st.sampled_from([*POOLS, "a", "b"])
fourths = st.integers(1, 15)


class LivesOfIPs(RuleBasedStateMachine):
    """`reserved` is what was reserved by label and acknowledged, and not deleted or given back since: uids by name;
    `pools` what clients were told of pools.
    """

    @initialize(keep_vm_ip=st.booleans(), block=st.booleans(), excludes=st.sampled_from(["", "10.0.0.14", ".2 x"]))
    def begin(self, keep_vm_ip: bool, block: bool, excludes: str) -> None:
        self.site = Site(keep_vm_ip=keep_vm_ip, block_squatters=block)
        self.reserved: dict[str, str] = {}
        self.pools: dict[str, Pool] = {}
        for name, config in SUBNETS.items():
            self.site.database.switch(name, excludes=excludes or None, **config)
        self.site.database.router(self._switch("net") or "", "10.0.0.1/28")
        self.site.settle()

    def teardown(self) -> None:
        if hasattr(self, "site"):
            try:
                self.settle()
            finally:
                self.site.close()

    # ---- what there is -----------------------------------------------------------------------------------------------

    def _switch(self, name: str) -> str | None:
        found = [uuid for uuid, row in self.site.tables[SWITCHES].items() if row["name"] == name]
        return found[0] if found else None

    def _row(self, data: st.DataObject, table: str) -> tuple[str, Any] | None:
        rows = self.site.tables[table]
        if not rows:
            return None
        uuid = data.draw(st.sampled_from(sorted(rows)))
        return uuid, rows[uuid]

    def _kept(self, data: st.DataObject) -> str:
        """The name of an IP that is kept or a port's, or of one that is not there."""
        names = sorted({*self.site.world.reservations, *self.site.world.port_names, "vm-a.default", "web-0.default"})
        return data.draw(st.sampled_from(names))

    def _title(self, data: st.DataObject, subnet: str = "") -> str:
        """Of a pool, on that subnet, that is there or, seldom, of any."""
        there = [pool.title for pool in self.site.world.pools.values() if subnet in ("", pool.subnet)]
        return data.draw(st.sampled_from(sorted(there) * 5 + list(POOLS)))

    def _address(self, data: st.DataObject) -> str:
        """Of subnet net or att, some in use, some of pools."""
        pooled = {format_v4(end) for pool in self.site.world.pools.values() for run in pool.v4 for end in run}
        kept = [format_v4(r.v4) for r in self.site.world.reservations.values() if r.v4 is not None]
        near = [f"10.0.{third}.{fourth}" for third in (0, 0, 1) for fourth in (2, 3, 4, 6, 13, 14)]
        return data.draw(st.sampled_from(sorted(kept) * 4 + sorted(pooled) * 2 + near))

    # ---- clients -----------------------------------------------------------------------------------------------------

    def _wanted(self, data: st.DataObject) -> Wanted:
        pod, namespace, subnet = data.draw(pods), data.draw(namespaces), data.draw(subnets)
        suffix = ".net1.default.ovn" if subnet == "att" else ""
        given = data.draw(st.sampled_from(["", "", "v4", "v6"]))
        return Wanted(
            name=f"{pod}.{namespace}{suffix}", subnet=subnet, pod_name=pod, namespace=namespace,
            pod_type=data.draw(types),
            v4=parse_v4(self._address(data)) if given == "v4" else None,
            v6=parse_v6(f"{'fd01' if subnet == 'six' else 'fd00'}::{data.draw(fourths)}") if given == "v6" else None,
            reserved=data.draw(st.sampled_from([None, None, True, False])),
            annotations={IP_POOL: self._title(data, subnet)} if data.draw(numbers) == 0 else {},
        )  # fmt: skip

    def _request(self, data: st.DataObject) -> Request:
        kinds = [self._apply, self._apply, self._apply, self._create, self._delete, self._label, self._label]
        kinds += [self._pool, self._pool, self._pool, self._unpool, self._repool]
        return data.draw(st.sampled_from([*kinds, self._own, self._own, self._scale, self._forget]))(data)

    def _apply(self, data: st.DataObject) -> Request:
        return Apply(self._wanted(data))

    def _create(self, data: st.DataObject) -> Request:
        return Create(self._wanted(data))

    def _delete(self, data: st.DataObject) -> Request:
        return Delete(self._kept(data))

    def _label(self, data: st.DataObject) -> Request:
        reserved = data.draw(st.sampled_from([True, True, False, None]))
        return Patch(self._kept(data), {"a": "b"} if reserved is None else {}, {}, reserved=reserved)

    def _own(self, data: st.DataObject) -> Request:
        return Apply(self._owner(data))

    def _scale(self, data: st.DataObject) -> Request:
        name = owner_name("StatefulSet", data.draw(namespaces), "web")
        return Scale(name, data.draw(numbers), data.draw(st.none() | numbers), {}, {})

    def _forget(self, data: st.DataObject) -> Request:
        return Delete(self._owner(data).name)

    def _owner(self, data: st.DataObject) -> WantedOwner:
        kind = data.draw(st.sampled_from(["StatefulSet", "StatefulSet", "VirtualMachine"]))
        return WantedOwner(
            kind=kind, namespace=data.draw(namespaces), title="web" if kind == "StatefulSet" else "vm-a",
            replicas=data.draw(numbers) if kind == "StatefulSet" else 1,
            start=data.draw(st.sampled_from([0, 0, 0, 1])) if kind == "StatefulSet" else 0,
        )  # fmt: skip

    def _pool(self, data: st.DataObject) -> Request:
        title = data.draw(titles)
        subnet = POOLS[title] if data.draw(st.integers(0, 9)) else data.draw(subnets)
        pool = {"subnet": subnet, **data.draw(self._spec(subnet))}
        return data.draw(st.sampled_from([Apply, Apply, Create]))(
            read_pool({"metadata": {"name": title, "labels": data.draw(labels)}, "spec": pool})
        )

    def _unpool(self, data: st.DataObject) -> Request:
        return Delete(pool_name(self._title(data)))

    def _repool(self, data: st.DataObject) -> Request:
        """Something of a pool is changed, its addresses mostly by one item more or less."""
        title = self._title(data)
        spec = data.draw(self._spec(POOLS[title]))
        pool = self.site.world.pools.get(pool_name(title))
        if pool is not None and len(pool.ips) > 1 and data.draw(st.booleans()):
            spec["ips"] = list(pool.ips[:-1])
        elif pool is not None:
            spec["ips"] = [*pool.ips, *spec["ips"][:1]]
        kept = data.draw(st.sampled_from([("ips",), ("ips",), ("namespaces",), ("ips", "namespaces"), ()]))
        return Patch(pool_name(title), data.draw(labels), {}, spec={key: spec[key] for key in kept})

    def _spec(self, subnet: str) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({
            "namespaces": st.sampled_from([[], ["default"], ["prod"], ["default", "prod"]]),
            "ips": st.lists(st.sampled_from(IPS[subnet]), min_size=1, max_size=3),
        })  # fmt: skip

    # ---- a CMS -------------------------------------------------------------------------------------------------------

    def _a_port_comes(self, data: st.DataObject) -> None:
        pod, namespace, subnet = data.draw(pods), data.draw(namespaces), data.draw(subnets)
        switch = self._switch(subnet)
        suffix = ".net1.default.ovn" if subnet == "att" else ""
        others = [f"{namespace}_{pod}", f"blue_{namespace}_{pod}", f"lsp-{pod}", pod]
        name = data.draw(st.sampled_from([f"{pod}.{namespace}{suffix}"] * 5 + others))
        if switch is None or any(row["name"] == name for row in self.site.tables[PORTS].values()):
            return
        ids = data.draw(st.sampled_from([
            {}, {}, {"ovnreserve/pod-type": data.draw(types)}, {"pod": f"{namespace}/{pod}", "vendor": "kube-ovn"},
            {"namespace": namespace, "pod": "true"}, {"pod": f"{namespace}/virt-launcher-{pod}-abcde"},
        ]))  # fmt: skip
        if name.startswith(("blue_", f"{namespace}_")):
            ids = {"namespace": namespace, "pod": "true"}
        self.site.database.port(switch, name, *self._addresses(data), ids=ids, up=data.draw(st.booleans()))

    def _addresses(self, data: st.DataObject) -> tuple[str, ...]:
        """As a CMS writes them."""
        address, mac = self._address(data), data.draw(st.sampled_from(MACS))
        return data.draw(st.sampled_from([
            ("dynamic",), ("dynamic",), ("dynamic",), (f"dynamic {address}",), (f"{mac} dynamic",),
            ("dynamic", "unknown"), (f"{mac} {address}",), (f"{mac} {address}",),
            (f"{mac} {address} fd00::{address.rpartition('.')[2]}",),
            (f"{mac} fd00::99",), (mac,), ("unknown",), (f"{mac} {address}", f"{MACS[0]} 10.0.0.11"), (),
        ]))  # fmt: skip

    def _workloads_port(self, data: st.DataObject) -> tuple[str, Any] | None:
        rows = {uuid: row for uuid, row in self.site.tables[PORTS].items() if row["type"] != "router"}
        uuid = data.draw(st.sampled_from(sorted(rows))) if rows else None
        return None if uuid is None else (uuid, rows[uuid])

    def _a_port_goes(self, data: st.DataObject) -> None:
        found = self._workloads_port(data)
        if found is not None:
            self.site.database.delete_port(found[0])

    def _a_port_changes(self, data: st.DataObject) -> None:
        found = self._workloads_port(data)
        if found is not None:
            what = data.draw(st.sampled_from(["addresses", "up", "enabled"]))
            found[1][what] = {
                "addresses": frozenset(self._addresses(data)), "up": True,
                "enabled": data.draw(st.sampled_from([None, True, False])),
            }[what]  # fmt: skip

    # ---- somebody ----------------------------------------------------------------------------------------------------

    def _exclude_ips_are_rewritten(self, data: st.DataObject) -> None:
        found = self._row(data, SWITCHES)
        if found is None:
            return
        config = dict(found[1]["other_config"])
        value, text = config.get("exclude_ips", ""), data.draw(st.sampled_from(TEXTS))
        config["exclude_ips"] = data.draw(
            st.sampled_from([text, f"{value} {text}", f"{text} {value}", value[: len(value) // 2], ""])
        )
        found[1]["other_config"] = config

    def _the_mark_is_lost(self, data: st.DataObject) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            mark = data.draw(st.sampled_from([None, "", "3 abc"]))
            ids = {key: value for key, value in found[1]["external_ids"].items() if key != "ovnreserve/excluded"}
            found[1]["external_ids"] = ids if mark is None else {**ids, "ovnreserve/excluded": mark}

    def _a_record_is_tampered_with(self, data: st.DataObject) -> None:
        found = self._row(data, "DNS")
        if found is None:
            return
        uuid, row = found
        how = data.draw(st.sampled_from(["delete", "garble", "copy"]))
        if how == "delete":
            del self.site.tables["DNS"][uuid]
        elif how == "garble" and row["external_ids"].get(KIND) != KIND_LEDGER:
            row["external_ids"] = {**row["external_ids"], RECORD: "{"}
        elif how == "copy" and row["external_ids"].get(KIND) != KIND_LEDGER:
            self.site.database.insert("DNS", external_ids=dict(row["external_ids"]))

    def _keys_of_somebody_else_change(self, data: st.DataObject) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            number = str(data.draw(numbers))
            found[1]["other_config"] = {**found[1]["other_config"], "mcast_snoop": number}
            found[1]["external_ids"] = {**found[1]["external_ids"], "neutron:revision": number}

    def _a_switch_goes(self, data: st.DataObject) -> None:
        switch = self._switch(data.draw(subnets))
        if switch is not None:
            for port in self.site.tables[SWITCHES].pop(switch)["ports"]:
                del self.site.tables[PORTS][port]

    def _a_switch_is_made(self, data: st.DataObject) -> None:
        """Also one in the place of another, at once."""
        subnet = data.draw(subnets)
        switch = self._switch(subnet)
        if switch is not None:
            for port in self.site.tables[SWITCHES].pop(switch)["ports"]:
                del self.site.tables[PORTS][port]
        self.site.database.switch(subnet, **SUBNETS[subnet])

    def _a_subnet_changes(self, data: st.DataObject) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            network = data.draw(st.sampled_from(NETWORKS))
            config = {key: value for key, value in found[1]["other_config"].items() if key != "subnet"}
            found[1]["other_config"] = config if network is None else {**config, "subnet": network}

    def _a_provider_changes(self, data: st.DataObject) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            ids = {key: value for key, value in found[1]["external_ids"].items() if key != PROVIDER}
            provider = data.draw(st.sampled_from([None, "net1.default.ovn"]))
            found[1]["external_ids"] = ids if provider is None else {**ids, PROVIDER: provider}

    def _happens(self, data: st.DataObject) -> None:
        """Something at the database that is not of our doing."""
        data.draw(st.sampled_from([
            *[self._a_port_comes] * 5, *[self._a_port_goes] * 3, *[self._a_port_changes] * 3,
            *[self._exclude_ips_are_rewritten] * 3, self._the_mark_is_lost, *[self._a_record_is_tampered_with] * 2,
            self._keys_of_somebody_else_change, self._a_switch_goes, self._a_switch_is_made, self._a_subnet_changes,
            self._a_provider_changes, *[lambda _data: self.site.northd_runs()] * 4,
        ]))(data)  # fmt: skip

    # ---- rules -------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), count=st.sampled_from([1, 1, 2, 4]))
    def clients_ask(self, data: st.DataObject, count: int) -> None:
        self.site.ask(*(self._request(data) for _ in range(count)))

    @rule(data=st.data(), count=st.sampled_from([1, 1, 2, 4]))
    def clients_ask_and_are_answered(self, data: st.DataObject, count: int) -> None:
        self.site.ask(*(self._request(data) for _ in range(count)))
        self.the_daemon_works()

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        self._happens(data)

    @rule(data=st.data(), ports=st.integers(1, 3))
    def ports_come_and_get_their_addresses(self, data: st.DataObject, ports: int) -> None:
        for _ in range(ports):
            self._a_port_comes(data)
        self.site.northd_runs()

    @rule(data=st.data())
    def the_daemon_works_while_something_happens(self, data: st.DataObject) -> None:
        """Between its look and its commit."""
        self._turn()
        for _ in range(data.draw(st.sampled_from([1, 1, 2]))):
            self._happens(data)
        self._serve()
        self._turn()

    @rule()
    def the_daemon_works(self) -> None:
        self._turn()
        self._serve()
        self._turn()

    @rule()
    def the_daemon_takes_a_turn(self) -> None:
        self._turn()

    @precondition(lambda self: self.site.is_under_way)
    @rule()
    def the_server_takes_our_transaction(self) -> None:
        self._serve()

    @rule()
    def northd_looks(self) -> None:
        self.site.northd_looks()

    @rule()
    def northd_writes(self) -> None:
        self.site.northd_writes()

    @rule(seconds=st.sampled_from([0.1, 3.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.site.clock.now += seconds

    @rule()
    def the_daemon_is_killed(self) -> None:
        self._take_note()
        for request in self.site.asked:  # nobody was told what has become of these
            self._forget_told(request.name)
        self.site.asked.clear()
        self.site.restart()

    @rule()
    def somebody_looks_at_subnets_and_pools(self) -> None:
        self.site.look()
        self._take_note()
        assert not self.site.wrong, "\n".join(self.site.wrong)

    @rule()
    def settle(self) -> None:
        try:
            self.site.settle()
        finally:
            self._take_note()
        self.somebody_looks_at_subnets_and_pools()
        found = list(unsettled(self.site, self.reserved, self.pools))
        assert not found, "\n".join(found)

    def _turn(self) -> None:
        self.site.turn()
        self._take_note()

    def _serve(self) -> None:
        self.site.serve()
        assert not self.site.wrong, "\n".join(self.site.wrong)

    def _take_note(self) -> None:
        """What clients were told."""
        for request, answer in self.site.answers:
            self._note(request, answer)
        self.site.answers.clear()

    def _note(self, request: Request, answer: Answer) -> None:
        if answer.refused is not None:
            assert "internal error" not in answer.refused.message, answer.refused.message
            if isinstance(answer.refused, OutcomeUnknown):
                self._forget_told(request.name)
            return
        if isinstance(answer.resource, Pool) and not isinstance(request, Delete):
            self.pools[request.name] = answer.resource
        match request:
            case Apply(WantedPool() as pool) | Create(WantedPool() as pool):
                told = self.pools[pool.name]
                assert (told.ips, told.namespaces) == (pool.ips, pool.namespaces), told.what
            case Apply(Wanted() as wanted) | Create(Wanted() as wanted):
                if answer.resource is not None and wanted.reserved is not False:
                    self.reserved[wanted.name] = answer.resource.uid
                elif wanted.reserved is False:
                    self.reserved.pop(wanted.name, None)
            case Patch(name, reserved=True):
                assert answer.resource is not None
                self.reserved[name] = answer.resource.uid
            case Patch(name, reserved=False) | Delete(name):
                self._forget_told(name)

    def _forget_told(self, name: str) -> None:
        """It is gone, or nobody was told what has become of it."""
        self.reserved.pop(name, None)
        self.pools.pop(name, None)


TestLivesOfIPs = LivesOfIPs.TestCase
TestLivesOfIPs.settings = settings(
    max_examples=100, stateful_step_count=40, derandomize=True, suppress_health_check=list(HealthCheck)
)

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    examples, steps = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50
    run_state_machine_as_test(
        LivesOfIPs,
        settings=settings(TestLivesOfIPs.settings, max_examples=examples, stateful_step_count=steps, derandomize=False),
    )
    print(f"{examples} schedules, nothing wrong")
