"""Comparing the stores: every row of the table, the version vectors, and that nothing acknowledged is lost by it."""

from __future__ import annotations

import json

import pytest
from builders import Cloud, contents, reservation
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ovnreserve.model.reservation import Reservation
from ovnreserve.model.resource import Dot, State
from ovnreserve.plan.reconcile import Verdicts, is_foreign, reconcile
from ovnreserve.plan.revision import Relation, Standing, compare, decode, encode, merge, standing

EQUAL, GREATER, SMALLER, INCOMPARABLE = Relation
ALL = tuple(Relation)
INTENDED, HELD, RELEASING, FAILED = State
SWITCH = "switch"
STANDINGS = {
    EQUAL: Standing({"a": 5}, {"a": 5}),
    GREATER: Standing({"a": 5, "b": 2}, {"a": 5}),
    SMALLER: Standing({"a": 4}, {"a": 5}),
    INCOMPARABLE: Standing({"a": 3, "b": 2}, {"a": 5}),
}
NOTHING = Verdicts([], [], [], [], [], [], [])


def r(state: State, **fields: object) -> Reservation:
    deleted = 1 if state is RELEASING else None
    return reservation(SWITCH, "a", **{"state": state, "deleted": deleted, **fields})


def verdicts(
    ledger: Reservation | None, record: Reservation | None, relation: Relation, *released: str, unreadable: bool = False
) -> Verdicts:
    return reconcile(
        [] if ledger is None else [ledger], {} if record is None else {"a": record}, STANDINGS[relation],
        lambda uid: uid in released, unreadable={"a"} if unreadable else (),
    )  # fmt: skip


# ---- version vectors -------------------------------------------------------------------------------------------------

vectors = st.dictionaries(st.sampled_from("abc"), st.integers(1, 3))
_TURNED = {EQUAL: EQUAL, GREATER: SMALLER, SMALLER: GREATER, INCOMPARABLE: INCOMPARABLE}


@given(vectors, vectors)
def test_comparing_the_other_way_round_gives_the_opposite(one: dict[str, int], other: dict[str, int]) -> None:
    assert compare(one, other) is _TURNED[compare(other, one)]
    assert (compare(one, other) is EQUAL) == (one == other)


@given(vectors, vectors, vectors)
def test_greater_than_what_is_greater_is_greater(
    one: dict[str, int], two: dict[str, int], three: dict[str, int]
) -> None:
    if compare(one, two) is GREATER and compare(two, three) is GREATER:
        assert compare(one, three) is GREATER


@given(vectors, vectors)
def test_a_merger_is_the_least_that_covers_both(one: dict[str, int], other: dict[str, int]) -> None:
    merged = merge(one, other)
    assert merged == merge(other, one)
    assert {compare(merged, one), compare(merged, other)} <= {EQUAL, GREATER}
    for incarnation, count in merged.items():
        assert count in (one.get(incarnation), other.get(incarnation))


@given(vectors, st.sampled_from("abc"))
def test_who_commits_is_ahead_of_what_it_knew(vector: dict[str, int], incarnation: str) -> None:
    assert compare({**vector, incarnation: vector.get(incarnation, 0) + 1}, vector) is GREATER


def test_a_fork_is_seen_from_both_sides() -> None:
    backup = {"a": 5}
    assert compare({**backup, "a": 6}, {**backup, "restored": 1}) is INCOMPARABLE


@given(vectors)
def test_a_vector_goes_to_text_and_back(vector: dict[str, int]) -> None:
    assert decode(encode(vector)) == vector


@pytest.mark.parametrize(
    "text", [None, "", "{}", "[]", "null", "x", "{", '{"a":"b"}', '{"a":true}', '{"a":-1}', '{"a":0}']
)
def test_a_text_that_is_no_vector_reads_as_if_nobody_had_ever_worked(text: str | None) -> None:
    assert decode(text) == {}


@given(st.text())
@example("[" * 100_000)
@example("1" * 5_000)
def test_no_text_in_the_ledger_row_raises(text: str) -> None:
    assert isinstance(decode(text), dict)


def test_of_a_garbled_vector_what_can_be_read_is_kept() -> None:
    assert decode(json.dumps({"a": 3, "b": "x", "c": 1.5})) == {"a": 3}


# ---- the table, row by row -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("relation", ALL)
def test_what_was_intended_and_has_its_record_was_committed(relation: Relation) -> None:
    assert verdicts(r(INTENDED), r(HELD), relation) == NOTHING._replace(puts=[r(HELD)])


def test_what_was_intended_and_labelled_by_another_daemon_since_is_followed() -> None:
    labelled = r(HELD, labels={"by": "other"})
    assert verdicts(r(INTENDED), labelled, GREATER) == NOTHING._replace(puts=[labelled])
    assert verdicts(r(INTENDED), labelled, EQUAL) == NOTHING._replace(puts=[r(HELD)], resume=["a"])


@pytest.mark.parametrize("relation", [EQUAL, SMALLER])
def test_what_was_begun_and_not_done_is_resumed_while_nobody_else_worked(relation: Relation) -> None:
    assert verdicts(r(INTENDED), None, relation) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize("relation", [GREATER, INCOMPARABLE])
def test_what_was_begun_is_superseded_where_another_daemon_worked_since(relation: Relation) -> None:
    assert verdicts(r(INTENDED), None, relation) == NOTHING._replace(drops=[r(INTENDED)], superseded=["a"])


@pytest.mark.parametrize("relation", ALL)
@pytest.mark.parametrize("known", [r(HELD), r(HELD, labels={"a": "b"}, node_name="n")])
def test_what_is_the_same_in_both_is_left_alone(relation: Relation, known: Reservation) -> None:
    assert verdicts(known, known, relation) == NOTHING


@pytest.mark.parametrize("relation", [GREATER, INCOMPARABLE])
def test_labels_that_another_daemon_gave_are_followed(relation: Relation) -> None:
    labelled = r(HELD, labels={"by": "other"}, resource_version=9)
    assert verdicts(r(HELD), labelled, relation) == NOTHING._replace(puts=[labelled])


@pytest.mark.parametrize("relation", [EQUAL, SMALLER])
def test_a_record_that_says_something_else_though_nobody_of_us_worked_is_republished(relation: Relation) -> None:
    assert verdicts(r(HELD), r(HELD, labels={"by": "hand"}), relation) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize("relation", [EQUAL, SMALLER, INCOMPARABLE])
def test_a_record_that_is_gone_is_republished_if_nobody_can_have_released_it(relation: Relation) -> None:
    assert verdicts(r(HELD), None, relation) == NOTHING._replace(resume=["a"])


def test_a_record_that_is_gone_where_others_went_on_from_our_state_was_released() -> None:
    assert verdicts(r(HELD), None, GREATER) == NOTHING._replace(drops=[r(HELD)])


@pytest.mark.parametrize("relation", ALL)
def test_a_record_that_cannot_be_read_was_not_released(relation: Relation) -> None:
    assert verdicts(r(HELD), None, relation, unreadable=True) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize("relation", ALL)
def test_a_release_whose_record_is_gone_is_done(relation: Relation) -> None:
    assert verdicts(r(RELEASING), None, relation) == NOTHING._replace(drops=[r(RELEASING)])


@pytest.mark.parametrize("relation", ALL)
def test_a_release_goes_on_where_it_was(relation: Relation) -> None:
    assert verdicts(r(RELEASING), r(HELD), relation) == NOTHING._replace(release=["a"])
    assert verdicts(r(RELEASING), r(RELEASING), relation) == NOTHING._replace(finish=["a"])


@pytest.mark.parametrize("state", [INTENDED, HELD])
@pytest.mark.parametrize("relation", ALL)
def test_a_release_that_another_daemon_committed_is_finished_by_whoever_is_active(
    state: State, relation: Relation
) -> None:
    assert verdicts(r(state), r(RELEASING), relation) == NOTHING._replace(puts=[r(RELEASING)], finish=["a"])


@pytest.mark.parametrize("relation", ALL)
def test_what_the_ledger_does_not_know_is_followed(relation: Relation) -> None:
    assert verdicts(None, r(HELD), relation) == NOTHING._replace(puts=[r(HELD)])
    assert verdicts(None, r(RELEASING), relation) == NOTHING._replace(puts=[r(RELEASING)], finish=["a"])


@pytest.mark.parametrize("relation", [EQUAL, SMALLER, INCOMPARABLE])
@pytest.mark.parametrize("state", [HELD, RELEASING])
def test_what_the_journal_says_is_released_is_removed(relation: Relation, state: State) -> None:
    assert verdicts(None, r(state), relation, r(state).uid) == NOTHING._replace(remove=[r(state)])


def test_what_others_keep_who_knew_that_it_was_released_is_followed() -> None:
    assert verdicts(None, r(HELD), GREATER, r(HELD).uid) == NOTHING._replace(puts=[r(HELD)])


@pytest.mark.parametrize("relation", [EQUAL, SMALLER])
@pytest.mark.parametrize("record", [None, r(HELD)])
def test_that_it_failed_is_written_where_it_is_not(relation: Relation, record: Reservation | None) -> None:
    assert verdicts(r(FAILED), record, relation) == NOTHING._replace(resume=["a"])


def test_what_failed_is_followed_deleted_or_held_as_others_left_it() -> None:
    assert verdicts(r(FAILED), r(FAILED), GREATER) == NOTHING
    assert verdicts(r(HELD), r(FAILED), GREATER) == NOTHING._replace(puts=[r(FAILED)])
    assert verdicts(r(FAILED), r(HELD), GREATER) == NOTHING._replace(puts=[r(HELD)])
    assert verdicts(r(FAILED), None, GREATER) == NOTHING._replace(drops=[r(FAILED)])
    assert verdicts(None, r(FAILED), GREATER) == NOTHING._replace(puts=[r(FAILED)])


OTHER = r(HELD, uid="other", v4="10.0.0.10", mac="02:6f:76:00:00:10")


@pytest.mark.parametrize("relation", [EQUAL, SMALLER])
def test_a_record_of_another_under_the_name_of_what_is_held_is_removed(relation: Relation) -> None:
    assert verdicts(r(HELD), OTHER, relation) == NOTHING._replace(remove=[OTHER], resume=["a"])


@pytest.mark.parametrize("relation", [GREATER, INCOMPARABLE])
def test_where_others_worked_the_record_of_another_takes_the_name(relation: Relation) -> None:
    expected = NOTHING._replace(drops=[r(HELD)], puts=[OTHER], superseded=["a"])
    assert verdicts(r(HELD), OTHER, relation) == expected


def test_what_is_held_does_not_give_way_to_what_is_being_released_on_the_other_side_of_a_fork() -> None:
    going = OTHER.with_(state=RELEASING, deleted=1)
    assert verdicts(r(HELD), going, INCOMPARABLE) == NOTHING._replace(remove=[going], resume=["a"])
    expected = NOTHING._replace(drops=[r(HELD)], puts=[going], finish=["a"], superseded=["a"])
    assert verdicts(r(HELD), going, GREATER) == expected


@pytest.mark.parametrize("relation", [EQUAL, SMALLER, INCOMPARABLE])
@pytest.mark.parametrize(
    ("state", "left"),
    [
        (INTENDED, [(True, False), (False, True)]), (HELD, [(True, False)]), (RELEASING, [(False, True)]),
        (FAILED, [(True, False)]),
    ],
)  # fmt: skip
def test_a_record_of_another_that_was_released_is_removed_as_if_there_were_none(
    relation: Relation, state: State, left: list[tuple[bool, bool]]
) -> None:
    found = verdicts(r(state), OTHER, relation, OTHER.uid)
    assert (found.remove, found.puts) == ([OTHER], [])
    assert (found.resume == ["a"], found.drops == [r(state)]) in left


def test_what_failed_gives_its_name_away_only_to_what_others_have_made() -> None:
    for relation in (EQUAL, SMALLER):
        assert verdicts(r(FAILED), OTHER, relation) == NOTHING._replace(remove=[OTHER], resume=["a"])
    for relation in (GREATER, INCOMPARABLE):
        expected = NOTHING._replace(drops=[r(FAILED)], puts=[OTHER], superseded=["a"])
        assert verdicts(r(FAILED), OTHER, relation) == expected


def test_what_the_ledger_has_known_and_has_no_more_does_not_come_back_with_an_older_database() -> None:
    """Whoever let it go, and whether anybody saw that it was released."""
    ours = OURS.with_(created=200, written=OURS_ONLY)
    back = THEIRS.with_(created=100, written=BOTH_KNEW)
    found = reconcile([ours], {"theirs": back}, STANDINGS[SMALLER], lambda _uid: False)
    assert (found.puts, found.remove) == ([], [back])


@pytest.mark.parametrize("relation", ALL)
@pytest.mark.parametrize("state", [INTENDED, RELEASING])
def test_what_holds_the_name_without_being_acknowledged_gives_way(relation: Relation, state: State) -> None:
    expected = NOTHING._replace(drops=[r(state)], puts=[OTHER], superseded=["a"])
    assert verdicts(r(state), OTHER, relation) == expected


# ---- two claims on one address ---------------------------------------------------------------------------------------


def fork(
    ours: Reservation, theirs: Reservation, *bound: str, relation: Relation = INCOMPARABLE
) -> tuple[dict[str, State], Verdicts]:
    """What each is afterwards, and the verdicts."""
    found = reconcile(
        [ours], {theirs.name: theirs}, STANDINGS[relation], lambda _uid: False, is_bound=lambda x: x.name in bound
    )
    after = {ours.name: ours} | {put.name: put for put in found.puts}
    for drop in found.drops:
        after.pop(drop.name, None)
    return {name: x.state for name, x in after.items()}, found


OURS = reservation(SWITCH, "ours", created=100)
THEIRS = reservation(SWITCH, "theirs", created=200, mac="02:6f:76:00:00:10")


def test_of_two_claims_on_one_address_the_bound_one_stays() -> None:
    assert fork(OURS, THEIRS, "theirs")[0] == {"ours": FAILED, "theirs": HELD}
    assert fork(OURS, THEIRS, "ours")[0] == {"ours": HELD, "theirs": FAILED}


def test_of_two_claims_neither_bound_the_older_stays() -> None:
    assert fork(OURS, THEIRS)[0] == {"ours": HELD, "theirs": FAILED}
    assert fork(OURS.with_(created=300), THEIRS)[0] == {"ours": FAILED, "theirs": HELD}


def test_the_one_that_fails_says_who_has_the_address_and_so_does_its_record() -> None:
    _states, found = fork(OURS, THEIRS, "theirs")
    failed, winner = found.puts
    assert winner == THEIRS
    assert failed.message == (
        "IP theirs has 02:6f:76:00:00:10 10.0.0.9 on subnet net: both were given away while nobody saw both sides"
    )
    assert found.resume == ["ours"]


@pytest.mark.parametrize(
    ("fields", "both"),
    [
        ({"v4": "10.0.0.10", "mac": OURS.mac}, False),
        ({"v4": "10.0.0.10", "v6": "fd00::9"}, False),
        ({"v4": "10.0.0.10"}, True),
        ({"switch": "another"}, True),
        ({"v4": None, "v6": "::a00:9"}, True),
    ],
)
def test_a_claim_is_an_address_or_a_mac_on_a_switch(fields: dict[str, str], *, both: bool) -> None:
    theirs = reservation(
        fields.pop("switch", SWITCH), "theirs", **{"mac": "02:6f:76:00:00:10", "created": 200, **fields}
    )
    states, _found = fork(OURS.with_(v6=reservation(SWITCH, v6="fd00::9").v6), theirs)
    assert (states == {"ours": HELD, "theirs": HELD}) is both


def test_what_is_being_released_gives_way_and_is_gone() -> None:
    releasing = OURS.with_(state=RELEASING, deleted=150)
    records = {"ours": releasing, "theirs": THEIRS}
    found = reconcile([releasing], records, STANDINGS[INCOMPARABLE], lambda _uid: False)
    assert found == NOTHING._replace(puts=[THEIRS], drops=[releasing], remove=[releasing])


# ---- who has known what: after a fork each reservation is decided for itself -----------------------------------------

FORK = Standing({"a": 3, "b": 2}, {"a": 5})
BOTH_KNEW, OURS_ONLY, THEIRS_ONLY, NEVER_DONE = Dot("a", 3), Dot("a", 5), Dot("b", 1), Dot("a", 6)


def after_fork(ledger: Reservation | None, record: Reservation | None, *released: str) -> Verdicts:
    records = {} if record is None else {"a": record}
    return reconcile([] if ledger is None else [ledger], records, FORK, lambda uid: uid in released)


def test_what_the_other_side_has_known_and_has_not_any_more_was_released_there() -> None:
    gone = r(HELD, written=BOTH_KNEW)
    assert after_fork(gone, None) == NOTHING._replace(drops=[gone])


@pytest.mark.parametrize("dot", [OURS_ONLY, Dot()])
def test_what_the_other_side_has_never_known_is_republished(dot: Dot) -> None:
    assert after_fork(r(HELD, written=dot), None) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize(
    ("dot", "removed"), [(BOTH_KNEW, True), (OURS_ONLY, True), (Dot(), True), (THEIRS_ONLY, False)]
)
def test_a_journalled_deletion_counts_only_if_the_record_is_unchanged_since(dot: Dot, removed: bool) -> None:
    record = r(HELD, written=dot)
    expected = {"remove": [record]} if removed else {"puts": [record]}
    assert after_fork(None, record, record.uid) == NOTHING._replace(**expected)


def test_of_two_versions_the_one_that_the_other_side_has_known_gives_way() -> None:
    old, ours, theirs = (
        r(HELD, written=dot, labels={"by": str(dot)}) for dot in (BOTH_KNEW, OURS_ONLY, THEIRS_ONLY)
    )
    assert after_fork(ours, old) == NOTHING._replace(resume=["a"])
    assert after_fork(old, theirs) == NOTHING._replace(puts=[theirs])
    assert after_fork(ours, theirs) == NOTHING._replace(puts=[theirs])  # neither has: the database's is the later one


@pytest.mark.parametrize("relation", ALL)
def test_what_was_being_given_back_was_or_was_not_and_is_never_released(relation: Relation) -> None:
    giving = r(RELEASING, deleted=None, blocked={})
    assert giving.is_let_go
    assert verdicts(giving, None, relation) == NOTHING._replace(drops=[giving])
    assert verdicts(giving, r(HELD), relation) == NOTHING._replace(puts=[r(HELD)]), "its port is not deleted"
    deleted = r(RELEASING)
    assert verdicts(giving, deleted, relation) == NOTHING._replace(puts=[deleted], finish=["a"]), "also deleted"


def test_a_release_goes_on_unless_the_other_side_changed_the_reservation_since() -> None:
    releasing = r(RELEASING, written=OURS_ONLY)
    changed = r(HELD, written=THEIRS_ONLY)
    assert after_fork(releasing, r(HELD, written=BOTH_KNEW)) == NOTHING._replace(release=["a"])
    assert after_fork(releasing, changed) == NOTHING._replace(puts=[changed], superseded=["a"])


def test_what_the_active_daemon_holds_again_after_its_release_was_followed_is_followed() -> None:
    """An owner that is deleted stays as being released, and is the same one when it is applied again."""
    again = r(HELD, written=THEIRS_ONLY)
    assert verdicts(r(RELEASING, written=BOTH_KNEW), again, GREATER) == NOTHING._replace(puts=[again])
    assert verdicts(again, again, EQUAL) == NOTHING


def test_a_release_on_the_other_side_counts_unless_ours_was_changed_since() -> None:
    releasing = r(RELEASING, written=THEIRS_ONLY)
    assert after_fork(r(HELD, written=BOTH_KNEW), releasing) == NOTHING._replace(puts=[releasing], finish=["a"])
    assert after_fork(r(HELD, written=OURS_ONLY), releasing) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize("relation", [GREATER, INCOMPARABLE])
@pytest.mark.parametrize("intent", [r(RELEASING, written=NEVER_DONE), r(HELD, written=NEVER_DONE, labels={"a": "b"})])
def test_what_was_begun_with_a_held_one_is_superseded_where_another_daemon_worked_since(
    relation: Relation, intent: Reservation
) -> None:
    there = r(HELD, written=BOTH_KNEW)
    expected = NOTHING._replace(puts=[there], superseded=["a"])
    assert reconcile([intent], {"a": there}, STANDINGS[relation], lambda _uid: False) == expected


@pytest.mark.parametrize("relation", [EQUAL, SMALLER])
def test_what_was_begun_with_a_held_one_is_driven_on_while_nobody_else_worked(relation: Relation) -> None:
    there, standing_ = r(HELD, written=BOTH_KNEW), STANDINGS[relation]
    releasing, labelled = r(RELEASING, written=NEVER_DONE), r(HELD, written=NEVER_DONE, labels={"a": "b"})
    assert reconcile([releasing], {"a": there}, standing_, lambda _uid: False) == NOTHING._replace(release=["a"])
    assert reconcile([labelled], {"a": there}, standing_, lambda _uid: False) == NOTHING._replace(resume=["a"])


@pytest.mark.parametrize(
    ("ours", "theirs", "kept"),
    [
        (OURS_ONLY, THEIRS_ONLY, True),  # neither has known the other's: ours is older
        (BOTH_KNEW, THEIRS_ONLY, False),  # they let ours go before they gave the name away
        (OURS_ONLY, BOTH_KNEW, True),  # we did
    ],
)
def test_of_two_under_one_name_who_has_known_the_others_has_let_it_go(ours: Dot, theirs: Dot, kept: bool) -> None:
    mine, other = r(HELD, uid="mine", created=1, written=ours), r(HELD, uid="other", created=2, written=theirs)
    expected = (
        NOTHING._replace(remove=[other], resume=["a"])
        if kept
        else NOTHING._replace(puts=[other], drops=[mine], superseded=["a"])
    )
    assert after_fork(mine, other) == expected


# ---- an attempt whose answer was lost --------------------------------------------------------------------------------


def test_a_commit_of_ours_that_the_database_has_is_known_though_nobody_said_so() -> None:
    assert standing({"a": 6}, {"a": 5}, "a", 6) == ({"a": 6}, {"a": 6})
    assert standing({"a": 6, "b": 1}, {"a": 5}, "a", 7).relation is GREATER


def test_a_commit_of_ours_that_the_database_has_not_is_no_fork_when_others_work() -> None:
    assert standing({"a": 5, "b": 1}, {"a": 5}, "a", 6).relation is GREATER
    assert standing({"a": 5}, {"a": 5}, "a", 6).relation is EQUAL


def test_more_commits_than_we_ever_attempted_are_anothers() -> None:
    assert standing({"a": 9}, {"a": 5}, "a", 6).relation is GREATER


# ---- another cloud's database ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ledger", "switches", "database", "foreign"),
    [
        ([r(HELD)], {"others"}, {"x": 1}, True),
        ([r(HELD)], {"others"}, {}, True),
        ([r(HELD)], set(), {}, True),
        ([r(HELD)], {"others", SWITCH}, {"x": 1}, False),
        ([r(HELD)], {"others"}, {"a": 1, "x": 1}, False),
        ([], {"others"}, {"x": 1}, False),
    ],
)
def test_a_database_of_another_cloud_has_neither_our_switches_nor_our_commits(
    ledger: list[Reservation], switches: set[str], database: dict[str, int], foreign: bool
) -> None:
    assert is_foreign(ledger, switches, Standing(database, {"a": 5})) is foreign


# ---- laws ------------------------------------------------------------------------------------------------------------

UIDS = {"a": ["a1", "a2"], "b": ["b1", "b2"], "c": ["c1"]}


@st.composite
def stores(draw: st.DrawFn) -> tuple[dict[str, Reservation], dict[str, Reservation], frozenset[str]]:
    """A ledger (nothing in it is held twice), records (anything goes), and the uids that the journal says are gone."""

    def some(name: str, states: list[State]) -> Reservation:
        uid = draw(st.sampled_from(UIDS[name]))
        octet = 1 + sum(map(ord, uid)) % 3  # what is of one uid has always the same addresses
        state = draw(st.sampled_from(states))
        return reservation(
            SWITCH, name, uid=uid, v4=f"10.0.0.{octet}", mac=f"02:6f:76:00:00:0{ord(uid[0]) % 7}", state=state,
            created=ord(uid[1]), labels=draw(st.sampled_from([{}, {"k": "v"}])),
            deleted=1 if state is RELEASING else None,
        )  # fmt: skip

    ledger: dict[str, Reservation] = {}
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        new = some(name, [INTENDED, HELD, HELD, RELEASING, FAILED])
        if not new.live or not held_twice([*ledger.values(), new]):
            ledger[name] = new
    records = {
        name: some(name, [HELD, HELD, RELEASING]) for name in draw(st.lists(st.sampled_from("abc"), unique=True))
    }
    known = {x.uid for x in ledger.values()}
    released = draw(st.frozensets(st.sampled_from([uid for uids in UIDS.values() for uid in uids])))
    return ledger, records, released - known


def held_twice(reservations: list[Reservation]) -> bool:
    claims = [(x.switch, claim) for x in reservations if x.live for claim in (x.v4, x.v6, x.mac) if claim is not None]
    return len(claims) != len(set(claims))


def followed(ledger: dict[str, Reservation], found: Verdicts) -> dict[str, Reservation]:
    """The ledger after the verdicts, which must hold nothing twice at any moment: SQLite would refuse."""
    after = dict(ledger)
    for drop in found.drops:
        after.pop(drop.name, None)
    for put in found.puts:
        after[put.name] = put
        assert not held_twice(list(after.values()))
    return after


@settings(max_examples=150)
@given(stores(), st.sampled_from(ALL), st.frozensets(st.sampled_from("abc")))
def test_no_acknowledged_reservation_is_lost_unless_somebody_released_it(
    both: tuple[dict[str, Reservation], dict[str, Reservation], frozenset[str]],
    relation: Relation,
    bound: frozenset[str],
) -> None:
    ledger, records, released = both
    found = reconcile(
        ledger.values(), records, STANDINGS[relation], released.__contains__, is_bound=lambda x: x.name in bound
    )
    after = followed(ledger, found)
    kept = {x.uid for x in after.values()}
    for x in (*ledger.values(), *records.values()):
        record = records.get(x.name)
        went_with_others = relation is GREATER and record is None
        replaced = x.name in found.superseded and record is not None and (record.state is HELD or relation is GREATER)
        forged = relation in (EQUAL, SMALLER) and x.name in ledger and x.uid != ledger[x.name].uid
        junior = relation is INCOMPARABLE and x in found.remove and x.name in ledger
        lost = x.uid not in kept and x.uid not in released
        if x.state is HELD and lost and not (went_with_others or replaced or forged or junior):
            being_released = [y for y in (ledger.get(x.name), record) if y is not None and y.uid == x.uid]
            assert any(y.state is RELEASING for y in being_released), x
    for name in (*found.resume, *found.release, *found.finish):
        assert name in after


@settings(max_examples=150)
@given(stores(), st.sampled_from(ALL))
def test_when_all_is_done_that_a_comparison_asks_for_the_next_finds_nothing(
    both: tuple[dict[str, Reservation], dict[str, Reservation], frozenset[str]], relation: Relation
) -> None:
    ledger, records, journal = both
    released = set(journal)
    found = reconcile(ledger.values(), records, STANDINGS[relation], released.__contains__)
    after = followed(ledger, found)
    written = dict(records)
    released |= {x.uid for x in found.drops if x.name not in found.superseded}
    for x in found.remove:
        if written.get(x.name) == x or (x.name in written and written[x.name].uid == x.uid):
            del written[x.name]
    for name in (*found.release, *found.finish):
        released.add(after.pop(name).uid)
        written.pop(name, None)
    for name in found.resume:
        resumed = after[name].with_(state=HELD) if after[name].state is INTENDED else after[name]
        after[name] = written[name] = resumed
    again = reconcile(after.values(), written, STANDINGS[EQUAL], released.__contains__)
    assert again._replace(resume=[]) == NOTHING
    assert again.resume == []


@settings(max_examples=100)
@given(stores(), st.sampled_from(ALL))
def test_a_world_that_follows_is_one_made_of_what_the_ledger_has_then(
    both: tuple[dict[str, Reservation], dict[str, Reservation], frozenset[str]], relation: Relation
) -> None:
    ledger, records, released = both
    cloud = Cloud()
    switch = cloud.switch()
    here = {name: x.with_(switch=switch) for name, x in ledger.items()}
    there = {name: x.with_(switch=switch) for name, x in records.items()}
    for x in here.values():
        cloud.world.put(x)
    found = reconcile(here.values(), there, STANDINGS[relation], released.__contains__)
    for x in found.drops:
        cloud.world.drop(x.name)
    for x in found.puts:
        cloud.world.put(x)
    assert contents(cloud.world) == contents(cloud.rebuilt())
