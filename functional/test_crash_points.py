"""Killed at every step boundary of everything the daemon does: it is as if the step had happened or had not.

The points come from the code (engine/points.py), the kinds of steps from model/steps.py: a new one of either that no
scenario here is killed at fails the suite. Of each scenario the table says what is prepared, what is interrupted, which
steps the interrupted commit has, and what must be true afterwards besides what is true after all of them: what was
answered holds, ledger, records, exclude_ips and the API agree, and nothing of others has changed.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import pytest
from ovsdb import Connection
from sites import Answer, Site
from stores import active, in_ledger, kept, specs, state, stores_agree, under_way
from support import wait_until

from ovnreserve.cli.errors import CommandError
from ovnreserve.engine.points import Point
from ovnreserve.model.steps import Step
from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THEIRS = "10.16.0.5..10.16.0.9 // theirs"
NAME = "pod-1.default"
POOLED = "10.16.0.3..10.16.0.4"
MAC = "0a:00:00:00:00:01"
BLOCK = ("--squatters", "block")
BATCH = (Point.PLANNED, Point.INTENDED, Point.SENT, Point.COMMITTED)
ANSWERED = (*BATCH, Point.ANSWERED)
SETTLED = (*ANSWERED, Point.SETTLING, Point.SETTLED)


class Stage(Site):
    """A site whose daemon can be told where to die, and what was answered there."""

    def __init__(self, servers: Servers, daemon: Daemon, order: Path, rival: Connection) -> None:
        super().__init__(servers, daemon)
        self.order = order
        self.rival = rival
        self.net = self.switch("10.16.0.0/24", exclude_ips=THEIRS)
        self.created: dict[str, tuple[str, str, str]] = {}
        """What was acknowledged: (uid, IPv4 address, MAC) by name."""
        self.deleted: set[str] = set()
        self.interrupted: list[Answer] = []
        self.seen: Any = None

    def have(self, pod: str = "pod-1", **spec: Any) -> Answer:
        """A reservation that is acknowledged."""
        answer = self.reserve(self.net, pod, **spec)
        assert answer.result == "created", answer.status
        self.created |= specs([answer.ip])
        return answer

    def dynamic(self, name: str = NAME, addresses: str = "dynamic") -> str:
        """A port that ovn-northd has given an address."""
        self.port(self.net, addresses, name=name)
        self.seen = self.dynamic_addresses(name)
        return self.seen

    def ask(self, pod: str = "pod-1", *, wait: str = "none", **spec: Any) -> None:
        self._answered(lambda: self.apply(self.document(self.net, pod, **spec), wait=wait))

    def relabel(self) -> None:
        labelled = self.document(self.net, "pod-1")
        labelled["metadata"]["labels"] = {"color": "blue"}
        self._answered(lambda: self.apply(labelled))

    def delete(self) -> None:
        item = {"kind": "IP", "metadata": {"name": NAME}}
        self._answered(lambda: self.bulk("delete", [item])[0])

    def pool_document(self) -> dict[str, Any]:
        spec = {"subnet": self.net, "ips": [POOLED], "namespaces": ["red"]}
        return {"apiVersion": "kubeovn.io/v1", "kind": "IPPool", "metadata": {"name": "pool"}, "spec": spec}

    def make_pool(self) -> None:
        with contextlib.suppress(CommandError):  # it died before it answered
            answer = self.apply(self.pool_document())
            assert answer.result == "created", answer.status

    def delete_pool(self) -> None:
        with contextlib.suppress(CommandError):
            self.bulk("delete", [self.pool_document()])

    def scale(self, replicas: int) -> None:
        """Of the set that has the pod."""
        spec = {"replicas": replicas}
        metadata = {"name": "pod", "namespace": "default"}
        document = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": spec}
        with contextlib.suppress(CommandError):
            assert not self.apply(document).status

    def unreserve(self) -> None:
        """Nobody was told of it: it may be done, or not."""
        patch = {"metadata": {"labels": {"ovn.kubernetes.io/ip_reserved": "false"}}}
        with contextlib.suppress(CommandError):
            self.client.patch(f"/apis/kubeovn.io/v1/ips/{NAME}", patch)

    def delete_set(self) -> None:
        item = {"kind": "StatefulSet", "metadata": {"name": "pod"}}
        with contextlib.suppress(CommandError):
            self.bulk("delete", [item])

    def retain(self) -> None:
        """The IP of a running port, since its set says so."""
        self.dynamic()
        retained(self)

    def _answered(self, act: Callable[[], Answer]) -> None:
        try:
            answer = act()
        except CommandError:
            return  # it died before it answered
        self.interrupted.append(answer)
        if answer.result == "created":
            self.created |= specs([answer.ip])
        elif answer.result == "deleted":
            self.deleted.add(answer.name)


class Scenario(NamedTuple):
    """`steps` are those of the interrupted commit; `points` where it is killed, by default at all of a commit."""

    prepare: Callable[[Stage], object]
    act: Callable[[Stage], object]
    steps: tuple[str, ...]
    check: Callable[[Stage], object]
    points: tuple[Point, ...] = BATCH
    withholds: bool = False
    """Is an address left out of exclude_ips for a while, since somebody's port has it?"""
    options: tuple[str, ...] = ()
    """Of the daemon."""


def squat(stage: Stage) -> None:
    """Somebody's port takes the address."""
    [(_uid, v4, _mac)] = stage.created.values()
    add = ("--", "lsp-set-addresses", "squatter", f"{MAC} {v4}", "--", "lsp-set-enabled", "squatter", "enabled")
    stage.nb("lsp-add", stage.net, "squatter", *add)


def squatted(stage: Stage) -> None:
    stage.have()
    squat(stage)
    wait_until(lambda: stage.row("Logical_Switch_Port", "squatter")["enabled"] is False, what="blocked")


def leave(stage: Stage) -> None:
    stage.nb("lsp-set-addresses", "squatter", f"{MAC} 10.16.0.99")


def blocked_until_it_leaves(stage: Stage) -> None:
    wait_until(lambda: stage.row("Logical_Switch_Port", "squatter")["enabled"] is False, what="blocked")
    leave(stage)
    unblocked(stage)


def unblocked(stage: Stage) -> None:
    """The port is as it was, and nothing is noted of it any more."""
    wait_until(lambda: stage.row("Logical_Switch_Port", "squatter")["enabled"] is True, what="unblocked")
    records = (row["external_ids"]["ovnreserve/record"] for row in stage.records().values())
    assert not any("blocked" in record for record in records)


def released_and_unblocked(stage: Stage) -> None:
    released_in_the_end(stage)
    unblocked(stage)


def ask_again(stage: Stage) -> None:
    """Whatever became of it, asking again leads to what was asked for."""
    if stage.reserved(NAME) is None:
        assert not stage.interrupted
    assert stage.reserve(stage.net, "pod-1").result in ("created", "unchanged")


def pinned_where_it_was(stage: Stage) -> None:
    """The running port has the address and MAC that it had, whatever was done of it."""
    stage.nb("--wait=sb", "sync")
    has = stage.addresses(NAME)
    assert has == {stage.seen} or (not stage.reserved(NAME) and stage.dynamic_addresses(NAME) == stage.seen)
    ask_again(stage)
    wait_until(lambda: stage.addresses(NAME) == {stage.seen}, what="pinned")


def bound(stage: Stage) -> None:
    ask_again(stage)
    wait_until(lambda: stage.condition(NAME, "Bound")["status"] == "True", what="bound")
    _uid, v4, mac = specs(stage.ips())[NAME]
    assert stage.addresses(NAME) == {f"{mac} {v4}"}


def released_in_the_end(stage: Stage) -> None:
    """What was begun of a release is finished; of one that was not begun nothing is done."""
    if stage.ip(NAME) is None:
        assert not [row for row in stage.rows("Logical_Switch_Port") if row["name"] == NAME]
        return
    assert not stage.deleted
    stage.release(NAME)


def labelled_or_not(stage: Stage) -> None:
    ip = stage.ip(NAME)
    assert ip is not None
    if stage.interrupted:
        assert ip["metadata"]["labels"]["color"] == "blue"


def pooled_in_the_end(stage: Stage) -> None:
    """Whatever became of the pool, it can be had; it excludes all of it but the address that is in use, and is not
    renumbered; and it can be let go.
    """
    assert stage.apply(stage.pool_document()).result in ("created", "unchanged")
    stage.nb("--wait=sb", "sync")
    assert stage.dynamic_addresses("lucky") == stage.seen
    assert stage.exclude_ips(stage.net) == f"10.16.0.4 {THEIRS}"
    stage.nb("lsp-del", "lucky")
    wait_until(lambda: stage.exclude_ips(stage.net) == f"{POOLED} {THEIRS}", what="excluded")
    unpooled_in_the_end(stage)


def unpooled_in_the_end(stage: Stage) -> None:
    """What was begun of the pool's release is finished, and what was not is done now."""
    if stage.pools():
        stage.delete_pool()
        wait_until(lambda: not stage.pools(), 20, what="the pool is gone")
    assert stage.exclude_ips(stage.net) == THEIRS
    assert "ippool/pool" not in stage.nb("--columns=external_ids", "list", "dns")


def written_again(stage: Stage) -> None:
    wait_until(lambda: NAME in stage.records(), what="the record is written again")


def withheld(stage: Stage) -> None:
    """The port that got the address is not renumbered, and the address is excluded once it has left."""
    stage.nb("--wait=sb", "sync")
    assert stage.dynamic_addresses("lucky") == stage.seen
    assert stage.condition(NAME, "Conflicted")["status"] == "True"
    stage.nb("lsp-del", "lucky")
    wait_until(lambda: (stage.exclude_ips(stage.net) or "").startswith("10.16.0.3 "), what="excluded again")


def lose_the_excludes(stage: Stage) -> None:
    """While the daemon cannot see it, somebody removes our text, and a port gets the address."""
    stage.daemon.pause()
    stage.nb("set", "logical_switch", stage.net, f'other_config:exclude_ips="{THEIRS}"')
    stage.dynamic("lucky")
    assert stage.seen.endswith(" 10.16.0.3")
    stage.daemon.resume()


def make_the_switch_anew(stage: Stage) -> None:
    stage.nb("ls-del", stage.net, "--", "ls-add", stage.net,
             "--", "set", "logical_switch", stage.net, "other_config:subnet=10.16.0.0/24",
             f'other_config:exclude_ips="{THEIRS}"', "--", "lsp-add", stage.net, "newcomer",
             "--", "lsp-set-addresses", "newcomer", "dynamic")  # fmt: skip


def start_without_ledger(stage: Stage) -> None:
    stage.daemon.stop()
    stage.client.close()
    for file in stage.daemon.state_dir.glob("ledger.db*"):
        file.unlink()
    stage.daemon.start(wait=False)


def change_in_between(stage: Stage) -> None:
    """The database is changed after the plan was made and before its transaction is there: the guard fails."""
    stage.servers.nb_server.pause()
    switch = ["name", "==", stage.net]
    mutations = [["other_config", "delete", ["set", ["exclude_ips"]]],
                 ["other_config", "insert", ["map", [["exclude_ips", f"  {THEIRS}"]]]]]  # fmt: skip
    operation = {"op": "mutate", "table": "Logical_Switch", "where": [switch], "mutations": mutations}
    stage.rival.send("transact", "OVN_Northbound", operation)
    asked = threading.Thread(target=stage.ask)
    asked.start()
    wal = stage.daemon.state_dir / "ledger.db-wal"
    size = wal.stat().st_size
    wait_until(lambda: wal.stat().st_size != size, what="it is planned")
    stage.servers.nb_server.resume()
    asked.join()


def retained(stage: Stage) -> None:
    """The running port has the address that it had, and that outlives it."""
    stage.scale(2)
    wait_until(lambda: stage.addresses(NAME) == {stage.seen}, what="pinned")
    wait_until(lambda: NAME in stage.records(), what="retained")
    assert stage.exclude_ips(stage.net) == f"{stage.seen.split()[1]} {THEIRS}"


def given_back(stage: Stage) -> None:
    """The port has what it had, and nothing keeps it."""
    stage.scale(0)
    wait_until(lambda: not stage.records(), what="given back")
    assert stage.addresses(NAME) == {stage.seen}
    assert stage.exclude_ips(stage.net) == THEIRS


def retained_without_a_port(stage: Stage) -> None:
    stage.retain()
    stage.nb("lsp-del", NAME)


def let_go(stage: Stage) -> None:
    """Nothing is left of the IP."""
    stage.scale(0)
    wait_until(lambda: not stage.records() and stage.ip(NAME) is None, what="let go")
    assert stage.exclude_ips(stage.net) == THEIRS


def forgotten(stage: Stage) -> None:
    stage.delete_set()
    wait_until(lambda: "statefulset/default/pod" not in stage.nb("--columns=external_ids", "list", "dns"))


def nothing(_stage: Stage) -> None:
    pass


def ledger_row(stage: Stage) -> str:
    found = wait_until(
        lambda: [row for row in stage.rows("DNS") if row["external_ids"]["ovnreserve/kind"] == "ledger"],
        what="the ledger row",
    )
    assert len(found) == 1
    return found[0]["_uuid"]


SCENARIOS = {
    "reserve": Scenario(nothing, Stage.ask, ("PutRecord",), ask_again, SETTLED),
    "reserve a given address": Scenario(
        nothing, lambda s: s.ask(v4IpAddress="10.16.0.50"), ("PutRecord", "MembersUnchanged"), ask_again, ANSWERED
    ),
    "reserve and await ovn-northd": Scenario(nothing, lambda s: s.ask(wait="sb"), ("PutRecord",), ask_again, ANSWERED),
    "adopt a static port": Scenario(
        lambda s: s.port(s.net, f"{MAC} 10.16.0.60", name=NAME), Stage.ask, ("PutRecord", "PortUnchanged"), bound,
        ANSWERED,
    ),
    "adopt a dynamic port": Scenario(
        Stage.dynamic, Stage.ask, ("PutRecord", "WriteAddresses"), pinned_where_it_was, ANSWERED
    ),
    "give a port its first address": Scenario(
        lambda s: s.nb("lsp-add", s.net, NAME), Stage.ask, ("PutRecord", "WriteAddresses"), bound, ANSWERED
    ),
    "bind": Scenario(
        Stage.have, lambda s: s.nb("lsp-add", s.net, NAME, "--", "lsp-set-addresses", NAME, "dynamic"),
        ("WriteAddresses",), bound,
    ),
    "relabel": Scenario(Stage.have, Stage.relabel, ("UpdateRecord",), labelled_or_not, SETTLED),
    "release, the first transaction": Scenario(
        Stage.have, Stage.delete, ("UpdateRecord", "Barrier"), released_in_the_end, SETTLED
    ),
    "release with the port": Scenario(
        lambda s: (s.have(), s.port(s.net, name=NAME), bound(s)), Stage.delete, ("UpdateRecord", "DeletePort"),
        released_in_the_end, ANSWERED,
    ),
    "delete a port with its IP": Scenario(
        Stage.dynamic, Stage.delete, ("DeletePort",), released_in_the_end, ANSWERED
    ),
    "release, ovn-northd has answered": Scenario(
        Stage.have, Stage.delete, (), released_in_the_end, (Point.RELEASED,)
    ),
    "release, the second transaction": Scenario(
        Stage.have, Stage.delete, ("DropRecord",), released_in_the_end
    ),
    "block a squatter": Scenario(
        Stage.have, squat, ("SetEnabled", "UpdateRecord"), blocked_until_it_leaves, options=BLOCK
    ),
    "unblock a squatter": Scenario(
        squatted, leave, ("SetEnabled", "UpdateRecord"), unblocked, options=BLOCK
    ),
    "release and unblock": Scenario(
        squatted, Stage.delete, ("SetEnabled", "UpdateRecord", "Barrier"), released_and_unblocked, options=BLOCK
    ),
    "repair exclude_ips": Scenario(
        Stage.have, lambda s: s.nb("set", "logical_switch", s.net, f'other_config:exclude_ips="{THEIRS}"'),
        ("WriteExcludes",), nothing,
    ),
    "repair without renumbering": Scenario(
        lambda s: s.have(v4IpAddress="10.16.0.3"), lose_the_excludes, ("WriteExcludes",), withheld,
        withholds=True,
    ),
    "write a record again": Scenario(
        Stage.have, lambda s: s.nb("destroy", "dns", s.records()[NAME]["_uuid"]), ("PutRecord",), written_again
    ),
    "make a pool": Scenario(
        lambda s: s.dynamic("lucky"), Stage.make_pool, ("PutRecord", "WriteExcludes", "MembersUnchanged"),
        pooled_in_the_end, ANSWERED, withholds=True,
    ),
    "release a pool, the first transaction": Scenario(
        Stage.make_pool, Stage.delete_pool, ("UpdateRecord", "Barrier"), unpooled_in_the_end, withholds=True
    ),
    "release a pool, the second transaction": Scenario(
        Stage.make_pool, Stage.delete_pool, ("DropRecord",), unpooled_in_the_end, withholds=True
    ),
    "retain the IP of a port": Scenario(
        Stage.dynamic, lambda s: s.scale(2), ("PutRecord", "WriteAddresses"), retained, SETTLED
    ),
    "give an IP back to its port": Scenario(
        Stage.retain, lambda s: s.scale(1), ("DropRecord",), given_back
    ),
    "let go of an IP without a port": Scenario(
        retained_without_a_port, lambda s: s.scale(1), ("UpdateRecord", "Barrier"), let_go
    ),
    "forget a set that is deleted": Scenario(
        lambda s: s.scale(2), Stage.delete_set, ("DropRecord",), forgotten
    ),
    "write the ledger row again": Scenario(
        Stage.have, lambda s: s.nb("destroy", "dns", ledger_row(s)), ("PublishRevision",), ledger_row
    ),
    "move to a switch made anew": Scenario(
        Stage.have, make_the_switch_anew, ("PutRecord",), written_again
    ),
    "follow the database without a ledger": Scenario(
        Stage.have, start_without_ledger, (), nothing, (Point.COMPARING, Point.COMPARED)
    ),
    "plan again after a guard failed": Scenario(
        nothing, change_in_between, ("PutRecord",), ask_again, (Point.TAKING_BACK, Point.TAKEN_BACK)
    ),
}


# ---- the suite knows every point and every step --------------------------------------------------------------------


def test_every_point_of_the_code_is_died_at() -> None:
    assert {point for scenario in SCENARIOS.values() for point in scenario.points} == set(Point)


def test_every_kind_of_step_is_interrupted() -> None:
    assert {step for scenario in SCENARIOS.values() for step in scenario.steps} == {
        each.__name__ for each in get_args(Step)
    }


# ---- dying ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> Iterator[Servers]:
    with Servers() as servers:
        yield servers


@pytest.fixture
def stage(shared: Servers, tmp_path: Path, name: str) -> Iterator[Stage]:
    order = tmp_path / "order"
    program = (str(Path(__file__).with_name("crashing.py")), str(order))
    with Connection(shared) as rival:
        assert rival.transact({"op": "comment", "comment": "here before the daemon"})
        with Daemon(shared, tmp_path / "state", *SCENARIOS[name].options, program=program) as daemon:
            stage = Stage(shared, daemon, order, rival)
            yield stage
            print(daemon.log.read_text())
    shared.nbctl("--all", "destroy", "logical_switch", "--", "--all", "destroy", "dns")
    (shared.run_dir / "ovnreserved.log").unlink()


@pytest.mark.parametrize(
    ("name", "point"), [(name, point) for name, scenario in SCENARIOS.items() for point in scenario.points]
)
def test_died_there_it_is_as_if_the_step_had_happened_or_had_not(stage: Stage, name: str, point: Point) -> None:
    scenario = SCENARIOS[name]
    stage.nb("lsp-add", stage.net, "bystander", "--", "lsp-set-addresses", "bystander", "dynamic")
    stage.nb("--wait=sb", "sync")
    theirs = stage.dynamic_addresses("bystander")
    scenario.prepare(stage)
    steps = scenario.steps if point in (*BATCH, Point.TAKING_BACK, Point.TAKEN_BACK) else ()
    stage.order.write_text(f"{point}: {', '.join(steps)}" if steps else str(point))
    stage.client.close()
    scenario.act(stage)
    wait_until(lambda: not stage.order.exists(), what=f"it dies {point}")
    wait_until(lambda: not stage.daemon.alive, what="it is dead")

    stage.client.close()
    stage.daemon.start()
    active(stage)
    wait_until(lambda: not under_way(stage), 20, what="all settled")
    shown = specs(kept(stage)) if scenario.withholds else stores_agree(stage, stage.net, THEIRS)
    for created in stage.created.keys() - stage.deleted:
        if created in shown or not released_by(scenario):
            assert shown.get(created) == stage.created[created]
    assert not stage.deleted & shown.keys()
    scenario.check(stage)
    stores_agree(stage, stage.net, THEIRS)
    if scenario.act is not make_the_switch_anew:
        stage.nb("--wait=sb", "sync")
        assert stage.dynamic_addresses("bystander") == theirs


@pytest.mark.parametrize("name", ["let go of an IP without a port"])
@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("point", [Point.INTENDED, Point.SENT, Point.COMMITTED])
def test_a_port_that_comes_before_the_restart_outlives_its_ip_s_being_let_go(
    stage: Stage, point: Point, asked: bool
) -> None:
    """Whether its set has shrunk or a label says so: nobody has asked for the deletion of a port."""
    (Stage.have if asked else retained_without_a_port)(stage)
    stage.order.write_text(f"{point}: UpdateRecord, Barrier")
    stage.client.close()
    stage.unreserve() if asked else stage.scale(1)
    wait_until(lambda: not stage.daemon.alive, what="it is dead")
    addresses = "0a:00:00:00:00:77 10.16.0.77"
    stage.port(stage.net, addresses, name=NAME)
    stage.client.close()
    stage.daemon.start()
    active(stage)
    wait_until(lambda: not under_way(stage), 20, what="all settled")
    if not asked:
        wait_until(lambda: not stage.records(), 20, what="let go")
    assert stage.addresses(NAME) == {addresses}


@pytest.mark.parametrize("name", ["give an IP back to its port"])
@pytest.mark.parametrize("point", [Point.INTENDED, Point.SENT, Point.COMMITTED])
def test_what_was_given_back_does_not_come_back_with_the_daemon_that_died_of_it(
    stage: Stage, shared: Servers, tmp_path: Path, point: Point
) -> None:
    """Another has gone on, without a write of its own that would tell the old one to look."""
    first = stage.daemon
    with Daemon(shared, tmp_path / "other", run_dir=shared.run_dir / "other") as second:
        other = Site(shared, second)
        stage.retain()
        wait_until(lambda: NAME in in_ledger(other), what="the other follows")
        stage.order.write_text(f"{point}: DropRecord")
        stage.client.close()
        stage.scale(1)
        wait_until(lambda: not first.alive, what="it is dead")
        active(other)
        wait_until(lambda: not stage.records(), what="given back")
        first.start()
        stage.client.close()
        assert state(stage) == "standby"
        wait_until(lambda: NAME not in in_ledger(stage), what="nor has the standby it")
    active(stage)
    stage.nb("--wait=sb", "sync")
    assert not stage.records()
    assert not in_ledger(stage)
    assert stage.addresses(NAME) == {stage.seen}
    assert stage.exclude_ips(stage.net) == THEIRS


def released_by(scenario: Scenario) -> bool:
    """May what was acknowledged be gone, since its release was asked for, whether that was answered or not?"""
    return scenario.act is Stage.delete


def test_in_production_nothing_listens_at_the_points() -> None:
    """No option, variable or file makes the daemon die: the function that is called there has an empty body."""
    source = Path(__file__).parent.parent / "ovnreserve" / "engine" / "points.py"
    assert source.read_text().endswith('"""The engine is at this point of a commit that consists of these steps."""\n')
    others = itertools.chain.from_iterable(
        file.read_text().splitlines() for file in source.parents[1].rglob("*.py") if file != source
    )
    assert not [line for line in others if "points.reached" in line and "points.reached(" not in line]
