"""Whatever happens in whatever order to ports, owners, labels and rows: IPs live as long as they should, and nobody is hurt.

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
from lifecycle import Site, unsettled
from ovsdb_model import PORTS, SWITCHES

from ovnreserve.engine.work import Answer, Apply, Create, Delete, Request
from ovnreserve.model.addresses import format_v4, parse_v4, parse_v6
from ovnreserve.model.errors import OutcomeUnknown
from ovnreserve.model.ip import Wanted
from ovnreserve.model.owner import WantedOwner, owner_name
from ovnreserve.model.resource import KIND, KIND_LEDGER, RECORD
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
MACS = ["0a:00:00:00:00:01", "0a:00:00:00:00:02", "0a:00:00:00:00:03"]
TEXTS = [
    "", "10.0.0.5", "10.0.0.12..10.0.0.14 ", "foo", "10.0.0.4 foo 10.0.0.6", ".. 10.0.0.9", "/* a */ 10.0.0.3", "fd00::5",
    "10.0.0.14,10.0.0.13", "10.0.1.2", " ", "10.0.0.7\n// b", "0.0.0.0..255.255.255.255",
]  # fmt: skip

pods = st.sampled_from(PODS)
namespaces = st.sampled_from(NAMESPACES)
types = st.sampled_from(TYPES)
subnets = st.sampled_from([*SUBNETS, "net", "net"])
numbers = st.integers(0, 3)
fourths = st.integers(1, 15)


class LivesOfIPs(RuleBasedStateMachine):
    """`reserved` is what was reserved by label and acknowledged, and not deleted or given back since: uids by name."""

    @initialize(keep_vm_ip=st.booleans(), excludes=st.sampled_from(["", "10.0.0.14", "10.0.0.2 bad"]))
    def begin(self, keep_vm_ip: bool, excludes: str) -> None:
        self.site = Site(keep_vm_ip=keep_vm_ip)
        self.reserved: dict[str, str] = {}
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

    def _kept(self, data: st.DataObject) -> str | None:
        """The name of an IP that is kept or a port's, or of one that is not there."""
        names = sorted({*self.site.world.reservations, *self.site.world.port_names, "vm-a.default", "web-0.default"})
        return data.draw(st.sampled_from(names))

    def _address(self, data: st.DataObject) -> str:
        """Of subnet net or att, some in use."""
        kept = [format_v4(r.v4) for r in self.site.world.reservations.values() if r.v4 is not None]
        near = [f"10.0.{third}.{fourth}" for third in (0, 0, 1) for fourth in (2, 3, 4, 6, 13, 14)]
        return data.draw(st.sampled_from(sorted(kept) * 4 + near))

    # ---- clients -----------------------------------------------------------------------------------------------------

    def _wanted(self, data: st.DataObject) -> Wanted:
        pod, namespace, subnet = data.draw(pods), data.draw(namespaces), data.draw(subnets)
        suffix = ".net1.default.ovn" if subnet == "att" else ""
        given = data.draw(st.sampled_from(["", "", "v4", "v6"]))
        return Wanted(
            name=f"{pod}.{namespace}{suffix}", subnet=subnet, pod_name=pod, namespace=namespace,
            pod_type=data.draw(types),
            v4=parse_v4(self._address(data)) if given == "v4" else None,
            v6=parse_v6(f"fd00::{data.draw(fourths)}") if given == "v6" else None,
            reserved=data.draw(st.sampled_from([None, None, True, False])),
        )  # fmt: skip

    def _request(self, data: st.DataObject) -> Request:
        kind = data.draw(st.sampled_from(["apply", "apply", "apply", "create", "delete", "label", "owner", "scale", "forget"]))
        match kind:
            case "apply":
                return Apply(self._wanted(data))
            case "create":
                return Create(self._wanted(data))
            case "delete":
                return Delete(self._kept(data) or "")
            case "label":
                reserved = data.draw(st.sampled_from([True, True, False, None]))
                return Patch(self._kept(data) or "", {"a": "b"} if reserved is None else {}, {}, reserved=reserved)
            case "owner":
                return Apply(self._owner(data))
            case "scale":
                name = owner_name("StatefulSet", data.draw(namespaces), "web")
                return Scale(name, data.draw(numbers), data.draw(st.none() | numbers), {}, {})
        wanted = self._owner(data)
        return Delete(wanted.name)

    def _owner(self, data: st.DataObject) -> WantedOwner:
        kind = data.draw(st.sampled_from(["StatefulSet", "StatefulSet", "VirtualMachine"]))
        return WantedOwner(
            kind=kind, namespace=data.draw(namespaces), title="web" if kind == "StatefulSet" else "vm-a",
            replicas=data.draw(numbers) if kind == "StatefulSet" else 1,
            start=data.draw(st.sampled_from([0, 0, 0, 1])) if kind == "StatefulSet" else 0,
        )  # fmt: skip

    @rule(data=st.data(), count=st.sampled_from([1, 1, 1, 2, 4]))
    def clients_ask(self, data: st.DataObject, count: int) -> None:
        self.site.ask(*(self._request(data) for _ in range(count)))

    # ---- a CMS -------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), pod=pods, namespace=namespaces, subnet=subnets, up=st.booleans())
    def a_port_comes(self, data: st.DataObject, pod: str, namespace: str, subnet: str, up: bool) -> None:
        switch = self._switch(subnet)
        suffix = ".net1.default.ovn" if subnet == "att" else ""
        names = [f"{pod}.{namespace}{suffix}"] * 5 + [f"{namespace}_{pod}", f"blue_{namespace}_{pod}", f"lsp-{pod}", pod]
        name = data.draw(st.sampled_from(names))
        if switch is None or any(row["name"] == name for row in self.site.tables[PORTS].values()):
            return
        ids = data.draw(st.sampled_from([
            {}, {}, {"ovnreserve/pod-type": data.draw(types)}, {"pod": f"{namespace}/{pod}", "vendor": "kube-ovn"},
            {"namespace": namespace, "pod": "true"}, {"pod": f"{namespace}/virt-launcher-{pod}-abcde"},
        ]))  # fmt: skip
        if name.startswith(("blue_", f"{namespace}_")):
            ids = {"namespace": namespace, "pod": "true"}
        self.site.database.port(switch, name, *self._addresses(data), ids=ids, up=up)

    def _addresses(self, data: st.DataObject) -> tuple[str, ...]:
        """As a CMS writes them."""
        address, mac = self._address(data), data.draw(st.sampled_from(MACS))
        return data.draw(st.sampled_from([
            ("dynamic",), ("dynamic",), ("dynamic",), (f"dynamic {address}",), (f"{mac} dynamic",), ("dynamic", "unknown"),
            (f"{mac} {address}",), (f"{mac} {address}",), (f"{mac} {address} fd00::{address.rpartition('.')[2]}",),
            (f"{mac} fd00::99",), (mac,), ("unknown",), (f"{mac} {address}", f"{MACS[0]} 10.0.0.11"), (),
        ]))  # fmt: skip

    @rule(data=st.data())
    def a_port_goes(self, data: st.DataObject) -> None:
        found = self._row(data, PORTS)
        if found is not None and found[1]["type"] != "router":
            self.site.database.delete_port(found[0])

    @rule(data=st.data())
    def a_port_changes_its_addresses(self, data: st.DataObject) -> None:
        found = self._row(data, PORTS)
        if found is not None and found[1]["type"] != "router":
            found[1]["addresses"] = frozenset(self._addresses(data))

    @rule(data=st.data())
    def a_port_comes_up(self, data: st.DataObject) -> None:
        found = self._row(data, PORTS)
        if found is not None:
            found[1]["up"] = True

    # ---- somebody ----------------------------------------------------------------------------------------------------

    @rule(data=st.data(), text=st.sampled_from(TEXTS), how=st.sampled_from(["replace", "append", "prepend", "cut"]))
    def exclude_ips_are_rewritten(self, data: st.DataObject, text: str, how: str) -> None:
        found = self._row(data, SWITCHES)
        if found is None:
            return
        config = dict(found[1]["other_config"])
        value = config.get("exclude_ips", "")
        new = {"replace": text, "append": f"{value} {text}", "prepend": f"{text} {value}", "cut": value[: len(value) // 2]}
        config["exclude_ips"] = new[how]
        found[1]["other_config"] = config

    @rule(data=st.data(), mark=st.sampled_from([None, "", "3 abc"]))
    def the_mark_is_lost(self, data: st.DataObject, mark: str | None) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            ids = {key: value for key, value in found[1]["external_ids"].items() if key != "ovnreserve/excluded"}
            found[1]["external_ids"] = ids if mark is None else {**ids, "ovnreserve/excluded": mark}

    @rule(data=st.data(), how=st.sampled_from(["delete", "garble", "copy"]))
    def a_record_is_tampered_with(self, data: st.DataObject, how: str) -> None:
        found = self._row(data, "DNS")
        if found is None:
            return
        uuid, row = found
        if how == "delete":
            del self.site.tables["DNS"][uuid]
        elif how == "garble" and row["external_ids"].get(KIND) != KIND_LEDGER:
            row["external_ids"] = {**row["external_ids"], RECORD: "{"}
        elif how == "copy" and row["external_ids"].get(KIND) != KIND_LEDGER:
            self.site.database.insert("DNS", external_ids=dict(row["external_ids"]))

    @rule(data=st.data(), number=numbers)
    def keys_of_somebody_else_change(self, data: st.DataObject, number: int) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            found[1]["other_config"] = {**found[1]["other_config"], "mcast_snoop": str(number)}
            found[1]["external_ids"] = {**found[1]["external_ids"], "neutron:revision": str(number)}

    @rule(subnet=subnets)
    def a_switch_is_made_anew(self, subnet: str) -> None:
        switch = self._switch(subnet)
        if switch is not None:
            row = self.site.tables[SWITCHES].pop(switch)
            for port in row["ports"]:
                del self.site.tables[PORTS][port]
        self.site.database.switch(subnet, **SUBNETS[subnet])

    @rule(subnet=subnets)
    def a_switch_goes(self, subnet: str) -> None:
        switch = self._switch(subnet)
        if switch is not None:
            for port in self.site.tables[SWITCHES].pop(switch)["ports"]:
                del self.site.tables[PORTS][port]

    @rule(data=st.data(), network=st.sampled_from(NETWORKS))
    def a_subnet_changes(self, data: st.DataObject, network: str | None) -> None:
        found = self._row(data, SWITCHES)
        if found is not None:
            config = {key: value for key, value in found[1]["other_config"].items() if key != "subnet"}
            found[1]["other_config"] = config if network is None else {**config, "subnet": network}

    # ---- the daemon and the servers ----------------------------------------------------------------------------------

    @rule()
    def the_daemon_takes_a_turn(self) -> None:
        self._turn()

    @rule()
    def the_daemon_works(self) -> None:
        self._turn()
        self._serve()
        self._turn()

    @precondition(lambda self: self.site.is_under_way)
    @rule()
    def the_server_takes_our_transaction(self) -> None:
        self._serve()

    @rule()
    def northd_runs(self) -> None:
        self.site.northd_runs()

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
            self.reserved.pop(request.name, None)
        self.site.asked.clear()
        self.site.restart()

    @rule()
    def settle(self) -> None:
        try:
            self.site.settle()
        finally:
            self._take_note()
        assert not self.site.wrong, "\n".join(self.site.wrong)
        found = list(unsettled(self.site, self.reserved))
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
                self.reserved.pop(request.name, None)
            return
        match request:
            case Apply(Wanted() as wanted) | Create(Wanted() as wanted):
                if answer.resource is not None and wanted.reserved is not False:
                    self.reserved[wanted.name] = answer.resource.uid
                elif wanted.reserved is False:
                    self.reserved.pop(wanted.name, None)
            case Patch(name, reserved=True):
                assert answer.resource is not None
                self.reserved[name] = answer.resource.uid
            case Patch(name, reserved=False) | Delete(name):
                self.reserved.pop(name, None)


TestLivesOfIPs = LivesOfIPs.TestCase
TestLivesOfIPs.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    examples, steps = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 50
    run_state_machine_as_test(
        LivesOfIPs,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
