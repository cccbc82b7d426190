"""Races: others work on the same database at the same time, and nobody loses anything by it."""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any, Self

import pytest
from ovsdb import Connection, Seen, Witness, add_port
from proxy import Proxy
from sites import Answer, Site
from support import wait_until

from ovnreserve.sandbox import Daemon, Servers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PORTS, RESERVATIONS = 400, 150
MAC = "0a:00:00:00:00:"


@pytest.fixture
def dice() -> random.Random:
    seed = time.time_ns()
    print(f"seed {seed}")
    return random.Random(seed)


@pytest.fixture
def own(servers: Servers, daemon: Daemon) -> Site:
    """A site of this test's own, whose parts may be stopped and paused."""
    return Site(servers, daemon)


# ---- the pin race --------------------------------------------------------------------------------------------------


@pytest.fixture
def proxy(servers: Servers) -> Iterator[Proxy]:
    with Proxy(servers) as proxy:
        yield proxy


@pytest.fixture
def raced(servers: Servers, proxy: Proxy) -> Callable[..., Answer]:
    """`raced(site, document, *operations)`: the answer to a document that was planned, and then, before its transaction
    arrived, somebody's operations were carried out.
    """

    def run(site: Site, document: dict[str, Any], *operations: dict[str, Any]) -> Answer:
        with Connection(servers) as rival:
            name = document["metadata"]["name"]
            meeting = proxy.between(f"reserve {name}", lambda: rival.transact(*operations))
            answer = site.create(document)
            assert meeting.has_come
        return answer

    return run


@pytest.fixture
def site(servers: Servers, proxy: Proxy, tmp_path: Path) -> Iterator[Site]:
    """A site whose daemon reaches the database through the proxy."""
    with Daemon(servers, tmp_path / "state", "--db", proxy.remote) as daemon:
        yield Site(servers, daemon)
        print(daemon.log.read_text())


def set_dynamic_addresses(name: str, value: str) -> dict[str, Any]:
    """What ovn-northd does, which is paused meanwhile."""
    return {
        "op": "update", "table": "Logical_Switch_Port", "where": [["name", "==", name]],
        "row": {"dynamic_addresses": value},
    }  # fmt: skip


def holders(site: Site, address: str) -> list[str]:
    """The ports that have the address."""
    found = []
    for row in site.rows("Logical_Switch_Port"):
        addresses = row["addresses"] if isinstance(row["addresses"], list) else [row["addresses"]]
        if address in " ".join([*addresses, row["dynamic_addresses"] or ""]).split():
            found.append(row["name"])
    return found


@pytest.mark.parametrize("given", [{}, {"v4IpAddress": "10.16.0.2"}])
def test_a_port_that_northd_moved_just_before_is_not_pinned_where_it_was(
    site: Site, raced: Callable[..., Answer], given: dict[str, str]
) -> None:
    """Somebody took its address with a static port, and ovn-northd has moved it already (facts/ovn, section 13)."""
    switch = site.switch()
    name = site.port(switch, name="pod-a.default")
    mac, address = site.dynamic_addresses(name).split()
    assert address == "10.16.0.2"
    with site.northd_paused():
        answer = raced(
            site,
            site.document(switch, "pod-a", **given),
            *add_port(switch, "thief", f"{MAC}01 {address}"),
            set_dynamic_addresses(name, f"{mac} 10.16.0.3"),
        )
    site.nb("--wait=sb", "sync")
    assert holders(site, address) == ["thief"]
    if given:
        assert answer.code == 409
        assert "10.16.0.3" in answer.message
        assert site.exclude_ips(switch) is None
        assert site.addresses(name) == {"dynamic"}
    else:
        assert answer.addresses == f"{mac} 10.16.0.3"
        assert site.addresses(name) == {answer.addresses}
        assert site.exclude_ips(switch) == "10.16.0.3"


def test_a_port_whose_address_was_just_taken_is_not_pinned_on_it(site: Site, raced: Callable[..., Answer]) -> None:
    """The same before ovn-northd has moved it: nobody may be made to share."""
    switch = site.switch()
    name = site.port(switch, name="pod-a.default")
    address = site.dynamic_addresses(name).split()[1]
    with site.northd_paused():
        answer = raced(site, site.document(switch, "pod-a"), *add_port(switch, "thief", f"{MAC}01 {address}"))
    assert answer.code == 409
    assert "thief" in answer.message
    site.nb("--wait=sb", "sync")
    assert holders(site, address) == ["thief"]
    assert site.exclude_ips(switch) is None
    assert site.ips() == []


def test_a_port_that_changed_just_before_is_adopted_as_it_is(site: Site, raced: Callable[..., Answer]) -> None:
    switch = site.switch()
    name = site.port(switch, name="pod-a.default")
    change = {
        "op": "update", "table": "Logical_Switch_Port", "where": [["name", "==", name]],
        "row": {"addresses": f"{MAC}01 10.16.0.77"},
    }  # fmt: skip
    answer = raced(site, site.document(switch, "pod-a"), change)
    assert answer.addresses == f"{MAC}01 10.16.0.77"
    assert site.addresses(name) == {answer.addresses}


def test_a_port_that_came_just_before_under_the_name_is_given_the_reservation(
    site: Site, raced: Callable[..., Answer]
) -> None:
    switch = site.switch()
    answer = raced(site, site.document(switch, "pod-a"), *add_port(switch, "pod-a.default", "dynamic"))
    assert answer.result == "created"
    wait_until(lambda: site.addresses(answer.name) == {answer.addresses}, what="bound")
    site.nb("--wait=sb", "sync")
    assert holders(site, answer.v4) == [answer.name]


def test_a_given_address_that_was_just_taken_is_refused(site: Site, raced: Callable[..., Answer]) -> None:
    switch = site.switch()
    answer = raced(
        site, site.document(switch, v4IpAddress="10.16.0.9"), *add_port(switch, "thief", f"{MAC}01 10.16.0.9")
    )
    assert answer.code == 409
    assert "thief" in answer.message
    assert site.exclude_ips(switch) is None


def test_an_address_that_was_just_taken_is_not_chosen(site: Site, raced: Callable[..., Answer]) -> None:
    """Chosen automatically, it is kept, and whoever slipped in is named."""
    switch = site.switch()
    answer = raced(site, site.document(switch), *add_port(switch, "thief", f"{MAC}01 10.16.0.254"))
    assert answer.result == "created"
    assert answer.v4 != "10.16.0.254" or any("thief" in warning for warning in answer.warnings)
    if answer.v4 == "10.16.0.254":
        assert site.condition(answer.name, "Conflicted")["status"] == "True"


def test_a_port_that_asked_just_before_is_not_moved(site: Site, raced: Callable[..., Answer]) -> None:
    """ovn-northd has chosen for it what is being reserved, and writes that without looking."""
    switch = site.switch()
    with site.northd_paused(), Witness(site.servers) as witness:
        answer = raced(
            site,
            site.document(switch, v4IpAddress="10.16.0.2"),
            *add_port(switch, "quick", "dynamic"),
            set_dynamic_addresses("quick", f"{MAC}01 10.16.0.2"),
        )
        site.servers.northd.resume()
        site.nb("--wait=sb", "sync")
        assert witness.moved() == {}
    assert answer.code == 409
    assert "quick" in answer.message


def test_a_port_that_came_just_before_a_repair_is_not_moved_by_it(site: Site, proxy: Proxy) -> None:
    """Our part of exclude_ips was gone, and ovn-northd has given away what is reserved."""
    switch = site.switch()
    name = site.reserve(switch, v4IpAddress="10.16.0.2").name
    with site.northd_paused(), Witness(site.servers) as witness, Connection(site.servers) as rival:
        quick = *add_port(switch, "quick", "dynamic"), set_dynamic_addresses("quick", f"{MAC}01 10.16.0.2")
        meeting = proxy.between(f"repair {switch}", lambda: rival.transact(*quick))
        site.nb("remove", "logical_switch", switch, "other_config", "exclude_ips")
        meeting.wait()
        wait_until(lambda: site.condition(name, "Enforced")["reason"] == "Withheld", what="withheld")
        site.servers.northd.resume()
        site.nb("--wait=sb", "sync")
        assert witness.moved() == {}
    assert site.exclude_ips(switch) is None


# ---- many ports come while many addresses are reserved -------------------------------------------------------------


def create_ports(servers: Servers, switch: str, dice: random.Random, done: threading.Event) -> None:
    """Dynamic ports, one transaction each, every 0 to 10 ms."""
    pause = threading.Event()
    with Connection(servers) as other:
        for number in range(PORTS):
            assert other.committed(*add_port(switch, f"port-{number}", "dynamic"))
            pause.wait(dice.uniform(0, 0.01))
    done.set()


def lowest(dice: random.Random, witness: Witness, mine: set[str]) -> dict[str, str]:
    """The address that ovn-northd will choose next."""
    del dice
    taken = {address for seen in list(witness.ports.values()) for address in witness.addresses_of_now(seen)} | mine
    candidates = (f"10.16.{i >> 8}.{i & 255}" for i in range(2, 65534))
    return {"v4IpAddress": next(address for address in candidates if address not in taken)}


def anywhere(dice: random.Random, witness: Witness, mine: set[str]) -> dict[str, str]:
    del witness, mine
    number = dice.randrange(2, 1000)
    return {"v4IpAddress": f"10.16.{number >> 8}.{number & 255}"}


def automatic(dice: random.Random, witness: Witness, mine: set[str]) -> dict[str, str]:
    del dice, witness, mine
    return {}


@pytest.mark.parametrize("choose", [automatic, anywhere, lowest])
def test_no_port_is_renumbered_while_many_addresses_are_reserved(
    own: Site, dice: random.Random, choose: Callable[..., dict[str, str]]
) -> None:
    switch = own.switch("10.16.0.0/16")
    done = threading.Event()
    creator = threading.Thread(target=create_ports, args=(own.servers, switch, dice, done))
    reserved: dict[str, Answer] = {}
    begun = time.monotonic()
    with Witness(own.servers) as witness:
        creator.start()
        while len(reserved) < RESERVATIONS and not done.is_set():
            mine = {answer.v4 for answer in reserved.values()}
            answer = own.create(own.document(switch, **choose(dice, witness, mine)), "?wait=sb&timeout=10")
            if answer.result == "created":
                reserved[answer.name] = answer
            else:
                assert answer.code == 409, answer
        creator.join()
        own.nb("--wait=sb", "sync")
        witness.settled(PORTS)
        assert witness.moved() == {}
        held = [address for seen in witness.ports.values() for address in witness.addresses_of_now(seen)]
    assert len(held) == len(set(held)) == PORTS
    assert not set(held) & {answer.v4 for answer in reserved.values()}
    assert len(reserved) >= 10
    assert "port_moved" not in own.daemon.log.read_text()
    print(f"{len(reserved)} reserved in {time.monotonic() - begun:.1f} s")


def test_many_at_once_with_given_addresses_renumber_no_port(own: Site, dice: random.Random) -> None:
    """In bulk, where one guard speaks for all."""
    switch = own.switch("10.16.0.0/16")
    done = threading.Event()
    creator = threading.Thread(target=create_ports, args=(own.servers, switch, dice, done))
    numbers = iter(dice.sample(range(2, 1000), 600))
    with Witness(own.servers) as witness:
        creator.start()
        created = 0
        while not done.is_set():
            batch = [f"10.16.{n >> 8}.{n & 255}" for n in (next(numbers, 0) for _ in range(15)) if n]
            answers = own.bulk("apply", [own.document(switch, v4IpAddress=address) for address in batch])
            assert {answer.code for answer in answers} <= {0, 409}
            created += sum(answer.result == "created" for answer in answers)
        creator.join()
        own.nb("--wait=sb", "sync")
        witness.settled(PORTS)
        assert witness.moved() == {}
    assert created >= 10


def test_reservations_whose_ports_come_at_the_same_time_are_bound(own: Site, dice: random.Random) -> None:
    """Each port comes before, while or after its address is reserved; from then on nobody else has that address."""
    switch = own.switch("10.16.0.0/16")
    names = [f"pod-{number}" for number in range(60)]
    answers: dict[str, Answer] = {}

    def reserve() -> None:
        for name in names:
            answer = own.create(own.document(switch, name))
            assert answer.result == "created", answer
            answers[answer.name] = answer

    def create() -> None:
        pause = threading.Event()
        with Connection(own.servers) as other:
            for name in names:
                pause.wait(dice.uniform(0, 0.01))
                assert other.committed(*add_port(switch, f"{name}.default", *dice.choice([(), ("dynamic",)])))

    with Witness(own.servers) as witness:
        threads = [threading.Thread(target=reserve), threading.Thread(target=create)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for answer in answers.values():
            wait_until(lambda answer=answer: own.addresses(answer.name) == {answer.addresses}, what="bound")
        own.nb("--wait=sb", "sync")
        assert len(answers) == len(names)
        for answer in answers.values():
            pinned = next(i for i, seen in enumerate(witness.history) if answer.addresses in seen.addresses)
            after = witness.history[pinned:]
            assert {seen.name for seen in after if answer.v4 in witness.addresses_of_now(seen)} == {answer.name}


# ---- others write to the same switch -------------------------------------------------------------------------------


def mutate(switch: str, column: str, key: str, value: str) -> dict[str, Any]:
    return {
        "op": "mutate", "table": "Logical_Switch", "where": [["name", "==", switch]],
        "mutations": [[column, "delete", ["set", [key]]], [column, "insert", ["map", [[key, value]]]]],
    }  # fmt: skip


def found(other: Connection, switch: str, *columns: str) -> dict[str, dict[str, str]]:
    """What the other client reads of these columns."""
    where = [["name", "==", switch]]
    select = {"op": "select", "table": "Logical_Switch", "where": where, "columns": list(columns)}
    [result, *_] = other.transact(select)
    return {column: dict(value[1]) for column, value in result["rows"][0].items()}


class Writer:
    """A thread that does something again and again until it is told to stop. What it raised is raised again."""

    def __init__(self, work: Callable[[int], None]) -> None:
        self.times = 0
        self._work = work
        self._stopping = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._work(self.times)
            except Exception as error:  # noqa: BLE001 - shown by whoever waits
                self._error = error
                return
            self.times += 1


def reserve_and_release(site: Site, switch: str, rounds: int = 40) -> dict[str, str]:
    """Reserve two, release one, over and over: what stays, as {name: IPv4 address}."""
    kept: dict[str, str] = {}
    for _ in range(rounds):
        stay, go = site.bulk("apply", [site.document(switch), site.document(switch)])
        assert (stay.result, go.result) == ("created", "created")
        kept[stay.name] = stay.v4
        site.client.request("DELETE", f"/apis/kubeovn.io/v1/ips/{go.name}")
    wait_until(lambda: len(site.ips()) == len(kept), 20, what="all released")
    return kept


def excluded(text: str) -> set[str]:
    found: set[str] = set()
    for token in text.split():
        first, _, last = token.partition("..")
        start, end = (int(address.rpartition(".")[2]) for address in (first, last or first))
        found |= {f"{first.rpartition('.')[0]}.{host}" for host in range(start, end + 1)}
    return found


def test_a_client_that_writes_other_keys_loses_nothing_and_costs_us_nothing(own: Site) -> None:
    switch = own.switch(exclude_ips="10.16.0.5 // theirs")
    other = Connection(own.servers)
    lost: list[int] = []

    def work(number: int) -> None:
        before = found(other, switch, "other_config", "external_ids")
        if number and any(values.get("theirs") != str(number - 1) for values in before.values()):
            lost.append(number)
        assert other.committed(
            mutate(switch, "other_config", "theirs", str(number)), mutate(switch, "external_ids", "theirs", str(number))
        )

    with other, Writer(work) as writer:
        kept = reserve_and_release(own, switch)
        wait_until(lambda: writer.times > 100, what="it has written a lot")
    assert lost == []
    value = own.exclude_ips(switch)
    assert value is not None
    ours = value.removesuffix(" 10.16.0.5 // theirs")
    assert ours != value
    assert excluded(ours) == set(kept.values())


def test_a_client_that_edits_its_part_of_exclude_ips_properly_loses_nothing(own: Site) -> None:
    """It reads, appends to what it found, and writes that if nothing has changed meanwhile."""
    switch = own.switch(exclude_ips="10.16.0.5")
    other = Connection(own.servers)
    appended: list[str] = []

    def work(number: int) -> None:
        if number >= 60:
            return
        token = f"10.16.0.{10 + number}"
        while True:
            value = found(other, switch, "other_config")["other_config"]["exclude_ips"]
            where = [["name", "==", switch], ["other_config", "includes", ["map", [["exclude_ips", value]]]]]
            if other.committed(
                {
                    "op": "wait", "timeout": 0, "table": "Logical_Switch", "columns": ["name"], "until": "==",
                    "where": where, "rows": [{"name": switch}],
                },
                mutate(switch, "other_config", "exclude_ips", f"{value} {token}"),
            ):  # fmt: skip
                appended.append(token)
                return

    with other, Writer(work) as writer:
        kept = reserve_and_release(own, switch, 20)
        wait_until(lambda: writer.times > 60, 20, what="it has written all")
    value = own.exclude_ips(switch)
    assert value is not None
    theirs = " ".join(["10.16.0.5", *appended])
    assert len(appended) == 60
    assert value.endswith(" " + theirs)
    assert excluded(value.removesuffix(" " + theirs)) == set(kept.values())


def test_a_client_that_overwrites_exclude_ips_again_and_again_does_not_hang_us(own: Site) -> None:
    switch, calm = own.switch(), own.switch("10.17.0.0/24")
    first = own.reserve(switch)

    def work(number: int) -> None:
        own.nb("set", "logical_switch", switch, f'other_config:exclude_ips="10.16.0.{10 + number % 5}"')

    with Writer(work) as writer:
        begun = time.monotonic()
        answers = [own.create(own.document(switch), "?timeout=10") for _ in range(10)]
        answers += [own.create(own.document(calm), "?timeout=10") for _ in range(10)]
        assert [answer.result for answer in answers] == ["created"] * 20
        assert time.monotonic() - begun < 15
        wait_until(lambda: writer.times > 50, what="it has written a lot")
    kept = {answer.v4 for answer in (first, *answers[:10])}
    theirs = f"10.16.0.{10 + (writer.times - 1) % 5}"

    def repaired() -> bool:
        value = own.exclude_ips(switch) or ""
        return value.endswith(" " + theirs) and excluded(value.removesuffix(" " + theirs)) == kept

    wait_until(repaired, what="repaired")


def test_a_client_that_removes_exclude_ips_in_a_hot_loop_does_not_hang_us(own: Site) -> None:
    """As fast as the database takes it, so that a guard fails nearly always."""
    switch, calm = own.switch(), own.switch("10.17.0.0/24")
    other = Connection(own.servers)

    def work(number: int) -> None:
        assert other.committed(mutate(switch, "other_config", "exclude_ips", f"10.16.0.{10 + number % 5}"))

    with other, Writer(work) as writer:
        begun = time.monotonic()
        answers = [own.create(own.document(calm), "?timeout=5") for _ in range(10)]
        assert [answer.result for answer in answers] == ["created"] * 10
        assert time.monotonic() - begun < 10
        contested = own.create(own.document(switch), "?timeout=5")
        assert contested.result == "created" or contested.code == 503
        assert own.ips()
        wait_until(lambda: writer.times > 500, what="it has written a lot")
    answer = own.create(own.document(switch), "?timeout=5")
    assert answer.result == "created"
    kept = {ip["spec"]["v4IpAddress"] for ip in own.ips() if ip["spec"]["subnet"] == switch}
    wait_until(lambda: kept <= excluded(own.exclude_ips(switch) or ""), what="repaired")


def test_two_switches_of_which_one_is_contested_do_not_wait_for_each_other(own: Site) -> None:
    """Of a batch only what concerns the contested one waits."""
    switch, calm = own.switch(), own.switch("10.17.0.0/16")
    other = Connection(own.servers)

    def work(number: int) -> None:
        assert other.committed(mutate(switch, "other_config", "exclude_ips", f"10.16.0.{10 + number % 5}"))

    with other, Writer(work):
        documents = [own.document(calm) for _ in range(20)] + [own.document(switch) for _ in range(2)]
        begun = time.monotonic()
        answers = own.bulk("apply", documents)
        assert [answer.result for answer in answers[:20]] == ["created"] * 20
        assert time.monotonic() - begun < 15


def history_of(witness: Witness, name: str) -> list[Seen]:
    return [seen for seen in witness.history if seen.name == name]


def test_a_pinned_port_never_has_another_address_while_others_come(own: Site, dice: random.Random) -> None:
    switch = own.switch("10.16.0.0/16")
    names = [own.port(switch, name=f"vm-{number}.default") for number in range(30)]
    has = {name: own.dynamic_addresses(name) for name in names}
    done = threading.Event()
    creator = threading.Thread(target=create_ports, args=(own.servers, switch, dice, done))
    with Witness(own.servers) as witness:
        creator.start()
        for name in names:
            answer = own.create(own.document(switch, name.partition(".")[0]))
            assert answer.addresses == has[name]
        creator.join()
        own.nb("--wait=sb", "sync")
        witness.settled(PORTS)
        assert witness.moved() == {}
        for name in names:
            texts = [text for seen in history_of(witness, name) for text in (*seen.addresses, seen.dynamic_addresses)]
            assert set(texts) <= {"dynamic", "", has[name]}
