"""What is not as it should be once nothing is left to do (`lifecycle.Site.settle`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from builders import contents
from lifecycle import Site
from lifecycle_commits import excluded_by_us, kept_on, ports_on
from lifecycle_pools import miscounted, pools_unsettled
from ovsdb_model import PORTS, SWITCHES, thoughts

from ovnreserve.model.addresses import format_v4
from ovnreserve.model.owner import set_of
from ovnreserve.model.pool import Pool
from ovnreserve.model.record import resource_of
from ovnreserve.model.resource import KIND, KIND_LEDGER, NAME, State
from ovnreserve.model.topology import EXCLUDE_IPS
from ovnreserve.plan.bind import judge
from ovnreserve.plan.holders import conflicts
from ovnreserve.plan.repair import is_written
from ovnreserve.plan.world import World


def unsettled(site: Site, reserved: dict[str, str], pools: dict[str, Pool]) -> Iterator[str]:
    """`reserved` are the uids of what was reserved by label and not deleted since, `pools` what clients were told of
    pools that were not, by name.
    """
    world = site.world
    yield from _lost(world, reserved)
    yield from _records(site)
    yield from _retained(site)
    yield from _excluded(site)
    yield from miscounted(site, world)
    yield from pools_unsettled(site, pools)
    yield from _published(site)
    for r in world.reservations.values():
        if r.state is State.RELEASING:
            yield f"IP {r.name} is still being released"
        if r.state is State.HELD and judge(world, r).addresses is not None:
            yield f"port {r.name} is not bound: {judge(world, r).message}"
    if thoughts(site.tables) != {uuid: row["dynamic_addresses"] for uuid, row in site.tables[PORTS].items()}:
        yield "ovn-northd has not come to an end"
    if contents(world) != contents(rebuilt(site)):
        differences = "; ".join(_differences(contents(world), contents(rebuilt(site))))
        yield f"the world is not what it would be anew: {differences}"


def _differences(now: Any, anew: Any, path: str = "") -> Iterator[str]:
    if isinstance(now, dict) and isinstance(anew, dict):
        for key in now.keys() | anew.keys():
            yield from _differences(now.get(key), anew.get(key), f"{path}.{key}")
    elif now != anew:
        yield f"{path}: {now} != {anew}"


def _lost(world: World, reserved: dict[str, str]) -> Iterator[str]:
    for name, uid in reserved.items():
        r = world.reservations.get(name)
        if r is None or r.uid != uid:
            yield f"IP {name} was reserved and is not there"
        elif r.state is not State.FAILED and not r.reserved:
            yield f"IP {name} was reserved and is not any more"


def _records(site: Site) -> Iterator[str]:
    """The database says of each resource what the world says."""
    rows = [row["external_ids"] for row in site.tables["DNS"].values()]
    said: dict[str, list[Any]] = {}
    for ids in rows:
        if ids.get(KIND) not in (None, KIND_LEDGER):
            said.setdefault(ids.get(NAME, ""), []).append(resource_of(ids))
    for resource in site.world.resources():
        if resource.home and resource.home not in site.world.segments:
            continue
        if resource.state is State.RELEASING:
            continue  # an owner that is remembered as gone: its record is written again only when all is compared
        if resource not in said.get(resource.name, ()):
            yield f"the record of {resource.name} says {said.get(resource.name)}, not {resource}"
    for name in said.keys() - {resource.name for resource in site.world.resources()}:
        # a copy that somebody made of one that is gone since is removed when all is compared
        if any(r is not None and not site.ledger.was_released(r.uid) for r in said[name]):
            yield f"there is a record of {name}, which nobody knows"
    held = {r.name: r for r in site.ledger.load()}
    for resource in site.world.resources():
        if held.pop(resource.name, None) != resource:
            yield f"the ledger does not have {resource}"
    yield from (f"the ledger has {name}" for name in held)


def keeps(site: Site, pod_name: str, namespace: str, pod_type: str) -> bool:
    """Does an owner keep the IP of that workload? The rule of plan/retain.py, told once more."""
    known = {(o.kind, o.namespace, o.title): o for o in site.world.owners.values()}
    machine = known.get(("VirtualMachine", namespace, pod_name))
    found = set_of(pod_name)
    stateful_set = known.get(("StatefulSet", namespace, found[0])) if found else None
    says = [False]
    if pod_type == "VirtualMachine" or (not pod_type and machine):
        says.append(site.world.keep_vm_ip and not (machine and machine.state is State.RELEASING))
    if pod_type == "StatefulSet" or (not pod_type and stateful_set):
        gone = stateful_set is not None and stateful_set.state is State.RELEASING
        is_unknown = not stateful_set or not found
        says.append(is_unknown or (not gone and found[1] < stateful_set.start + stateful_set.replicas))
    return any(says)


def _retained(site: Site) -> Iterator[str]:
    world = site.world
    for r in world.reservations.values():
        if not r.reserved and r.state is State.HELD and not keeps(site, r.pod_name, r.namespace, r.pod_type):
            yield f"IP {r.name} is retained, and nobody retains it"
    for port in world.ports.values():
        if port.name in world.reservations or port.type or port.switch is None or port.pending:
            continue
        if not keeps(site, *world.identity(port)) or not any(
            e.mac and (e.v4 or e.v6) for e in (*port.elements, *filter(None, (port.assigned,)))
        ):
            continue
        if port.name not in site.engine._tasks._not_retained:
            yield f"port {port.name} has an owner, and its IP is not retained: {port}, {_doing(site)}"
    for owner in world.owners.values():
        if owner.state is State.RELEASING and not any(True for _ in _of_owner(world, owner)):
            yield f"{owner.name} is gone, and still known, because of {sorted(world.coverage.of(owner.name))}"


def _doing(site: Site) -> str:
    tasks = site.engine._tasks
    return f"births {tasks._births}, ready {tasks._ready}, under way {tasks._under_way}"


def _of_owner(world: World, owner: Any) -> Iterator[str]:
    """The ports and the IPs with a type, or retained, that are the owner's by their names."""
    whose = [world.identity(port) for port in world.ports.values()]
    whose += [(r.pod_name, r.namespace, "") for r in world.reservations.values() if r.pod_type or not r.reserved]  # type: ignore[misc]
    for pod_name, namespace, _type in whose:
        found = set_of(pod_name)
        title = pod_name if owner.kind == "VirtualMachine" else found[0] if found else None
        if (title, namespace) == (owner.title, owner.namespace):
            yield pod_name


def _excluded(site: Site) -> Iterator[str]:
    world = site.world
    for uuid, segment in world.segments.items():
        row = site.tables[SWITCHES][uuid]
        if not is_written(segment):
            yield f"exclude_ips of {segment.switch.name} is {row['other_config'].get(EXCLUDE_IPS)!r}"
        excluded = excluded_by_us(row)
        kept = kept_on(world, uuid, row)
        for address in kept.keys() ^ excluded:
            if address not in kept:
                yield f"{format_v4(address)} is excluded on {segment.switch.name} for nobody"
                continue
            r = kept[address]
            thieves = [p for p in ports_on(site.tables, uuid) if p.assigned and address in p.assigned.v4]
            if not thieves:
                yield f"{format_v4(address)} of {r.what} is not excluded, and no dynamic port has it"
            if isinstance(r, Pool):
                continue
            if not conflicts(world, r) and not any(p.name == r.name for p in thieves):
                yield f"{r.what} is not excluded, and not conflicted"


def _published(site: Site) -> Iterator[str]:
    """What users see is of now."""
    ips, world = site.engine.published.ips, site.world
    if ips.keys() != world.reservations.keys():
        yield f"published are {sorted(ips)}, there are {sorted(world.reservations)}"
        return
    for name, (r, seen) in ips.items():
        if r.state is State.RELEASING:
            continue
        rivals = conflicts(world, r) if r.switch in world.segments else ()
        now = world.reservations[name], judge(world, r), [rival._replace(since=0.0) for rival in rivals]
        then = r, seen.bound, [rival._replace(since=0.0) for rival in seen.conflicts]
        if then != now:
            yield f"published of {name} is {then}, not {now}"


def rebuilt(site: Site) -> World:
    """A world made from scratch of the same rows, resources, quarantine and what is withheld."""
    site.database.world = site.world
    return site.database.rebuilt()
