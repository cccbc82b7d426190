"""Owners: what is read of their documents, what their records rebuild, and what follows as they come, scale and go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from builders import MAC, NOW, Cloud, context
from hypothesis import example, given
from hypothesis import strategies as st

from ovnreserve.model.errors import AlreadyExists, Conflict, Invalid, NotFound
from ovnreserve.model.owner import (
    API_VERSIONS,
    MOST_REPLICAS,
    STATEFUL_SET,
    VIRTUAL_MACHINE,
    Owner,
    WantedOwner,
    owner_ids,
    owner_name,
    owner_of,
    possible_owners,
    read_owner,
    read_scale,
    set_of,
)
from ovnreserve.model.record import record_ids, record_names, resource_of
from ovnreserve.model.resource import NAME, RECORD, UID, Dot, State
from ovnreserve.model.steps import Barrier, DropRecord, PutRecord, UpdateRecord
from ovnreserve.plan.outcome import Plan
from ovnreserve.plan.owners import Scale, plan_owner, plan_scale
from ovnreserve.plan.release import plan_finish, plan_release
from ovnreserve.plan.world import World

WEB = owner_name(STATEFUL_SET, "default", "web")


def stateful_set(metadata: Any = None, **spec: Any) -> dict[str, Any]:
    metadata = {"name": "web"} if metadata is None else metadata
    return {"apiVersion": "apps/v1", "kind": STATEFUL_SET, "metadata": metadata, "spec": spec}


def owner(**fields: Any) -> Owner:
    values = {"name": WEB, "uid": "u", "kind": STATEFUL_SET, "namespace": "default", "title": "web", "replicas": 3}
    return Owner(**{**values, "state": State.HELD, "created": NOW, "resource_version": 5, **fields})


def wanted(**fields: Any) -> WantedOwner:
    values = {"kind": STATEFUL_SET, "namespace": "default", "title": "web", "replicas": 3, "start": 0}
    return WantedOwner(**{**values, **fields})


# ---- whose a pod may be ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        ("web-0", ("web", 0)), ("web-10", ("web", 10)), ("a-b-3", ("a-b", 3)), ("web-0-1", ("web-0", 1)),
        ("web", None), ("web-", None), ("-0", None), ("web-01", None), ("web-x", None), ("web-0x", None), ("0", None),
        ("web-99999999999", None), ("web-\u0661", None), ("", None),
    ],
)  # fmt: skip
def test_the_name_of_a_pod_tells_its_set_and_ordinal(pod: str, found: tuple[str, int] | None) -> None:
    assert set_of(pod) == found


def test_a_pod_may_be_of_a_vm_of_its_name_and_of_the_set_of_its_ordinal_in_its_namespace() -> None:
    assert possible_owners("web-0", "prod") == ("virtualmachine/prod/web-0", "statefulset/prod/web")
    assert possible_owners("vm", "prod") == ("virtualmachine/prod/vm",)
    assert possible_owners("web-0", "") == (), "of which nothing is known where no namespace is said"


# ---- documents -------------------------------------------------------------------------------------------------------


def test_of_a_manifest_only_what_matters_is_read() -> None:
    template = {"spec": {"containers": [{"name": "x", "ports": [{"containerPort": 80}], "strange": None}]}}
    labels, notes = {"app": "web"}, {"note": "n"}
    document = stateful_set(
        {"name": "web", "namespace": "prod", "labels": labels, "annotations": notes, "resourceVersion": "7", "odd": 1},
        replicas=5, ordinals={"start": 10}, template=template, serviceName="web", volumeClaimTemplates=[1],
    )  # fmt: skip
    assert read_owner(document) == wanted(
        namespace="prod", replicas=5, start=10, labels=labels, annotations=notes, resource_version="7"
    )


@pytest.mark.parametrize(
    ("spec", "replicas", "start"),
    [
        ({}, None, 0),
        ({"replicas": None, "ordinals": None}, None, 0),
        ({"replicas": "", "ordinals": {"start": ""}}, None, 0),
        ({"replicas": 0}, 0, 0),
        ({"replicas": "4", "ordinals": {"start": "2"}}, 4, 2),  # YAML is read as text
        ({"replicas": MOST_REPLICAS, "ordinals": {}}, MOST_REPLICAS, 0),
    ],
)
def test_replicas_may_be_left_to_others_and_start_has_its_default(
    spec: dict[str, Any], replicas: int | None, start: int
) -> None:
    found = read_owner(stateful_set(**spec))
    assert (found.replicas, found.start, found.namespace) == (replicas, start, "default")


def test_a_virtual_machine_has_no_replicas_whatever_its_document_says() -> None:
    document = {"kind": VIRTUAL_MACHINE, "metadata": {"name": "vm-1"}, "spec": {"replicas": "many", "running": True}}
    assert read_owner(document, "prod") == wanted(kind=VIRTUAL_MACHINE, title="vm-1", namespace="prod", replicas=None)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({**stateful_set(), "metadata": None}, "metadata.name"),
        (stateful_set({}), "metadata.name"),
        (stateful_set({"name": "Web"}), "metadata.name"),
        (stateful_set({"name": "a/b"}), "metadata.name"),
        (stateful_set({"name": 7}), "metadata.name"),
        (stateful_set({"name": "web", "namespace": "a.b"}), "metadata.namespace"),
        (stateful_set({"name": "web", "namespace": ["x"]}), "metadata.namespace"),
        (stateful_set({"name": "web", "namespace": "other"}), "metadata.namespace"),
        (stateful_set({"name": "web", "labels": {"a b": "c"}}), "metadata.labels"),
        (stateful_set({"name": "web", "annotations": 3}), "metadata.annotations"),
        (stateful_set({"name": "web", "resourceVersion": 3}), "metadata.resourceVersion"),
        ({**stateful_set(), "spec": []}, "spec"),
        (stateful_set(ordinals=7), "spec.ordinals"),
        *((stateful_set(replicas=value), "spec.replicas") for value in (-1, 1.5, True, "x", "-1", "1e3", [], "٣")),
        (stateful_set(replicas=MOST_REPLICAS + 1), "spec.replicas"),
        (stateful_set(replicas="9" * 5000), "spec.replicas"),
        (stateful_set(ordinals={"start": -1}), "spec.ordinals.start"),
    ],
)
def test_what_is_read_has_to_be_right_and_each_bad_field_is_named(document: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_owner(document, "prod" if field == "metadata.namespace" else "")
    assert field in refused.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(["name", "namespace", "labels", "annotations", "resourceVersion", "uid"])


@given(
    st.sampled_from([STATEFUL_SET, VIRTUAL_MACHINE]),
    json_values | st.dictionaries(fields, json_values),
    json_values | st.dictionaries(st.sampled_from(["replicas", "ordinals"]), json_values),
)
def test_a_hostile_document_is_read_or_refused(kind: str, metadata: Any, spec: Any) -> None:
    try:
        found = read_owner({"kind": kind, "metadata": metadata, "spec": spec})
    except Invalid:
        return
    assert found.replicas is None or 0 <= found.replicas <= MOST_REPLICAS
    assert 0 <= found.start <= MOST_REPLICAS


@pytest.mark.parametrize(
    ("patch", "found"),
    [
        ({}, (None, None)),
        ({"metadata": {"labels": {}}}, (None, None)),
        ({"spec": {"replicas": 0}}, (0, None)),
        ({"spec": {"ordinals": {"start": 3}}}, (None, 3)),
        ({"spec": {"replicas": "2", "ordinals": {"start": 0}, "template": {}}}, (2, 0)),
        ({"spec": {"replicas": None, "ordinals": None}}, (None, 0)),
        ({"spec": {"ordinals": {"start": None}}}, (None, 0)),
        ({"spec": {"ordinals": {}}}, (None, None)),
    ],
)
def test_a_patch_says_what_it_says_and_no_more(patch: dict[str, Any], found: tuple[int | None, int | None]) -> None:
    assert read_scale(patch, "web") == found


@given(st.dictionaries(st.sampled_from(["spec", "metadata"]), json_values))
@example({"spec": {"replicas": -1}})
def test_a_hostile_patch_is_read_or_refused(patch: dict[str, Any]) -> None:
    try:
        found = read_scale(patch, "web")
    except Invalid:
        return
    assert all(number is None or 0 <= number <= MOST_REPLICAS for number in found)


# ---- records ---------------------------------------------------------------------------------------------------------

words = st.text(st.characters(codec="utf-8"), max_size=8)
somethings = words.filter(lambda text: bool(text) and text.isprintable())
labels = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,5}[a-z0-9])?", fullmatch=True)
times = st.integers(0, 253_402_300_799)
counts = st.integers(0, MOST_REPLICAS)
maps = st.dictionaries(words, words, max_size=3)


@st.composite
def owners(draw: st.DrawFn) -> Owner:
    """Any owner that a record may be of: one that is known or that is remembered as gone."""
    kind, namespace, title = draw(st.sampled_from(sorted(API_VERSIONS))), draw(labels), draw(labels)
    deleted = draw(st.none() | times)
    return Owner(
        name=owner_name(kind, namespace, title), uid=draw(somethings), kind=kind, namespace=namespace, title=title,
        replicas=draw(counts), start=draw(counts), state=State.HELD if deleted is None else State.RELEASING,
        created=draw(times), deleted=deleted, resource_version=draw(st.integers(0, 1 << 60)),
        generation=draw(st.integers(1, 99)), labels=draw(maps), annotations=draw(maps),
        written=draw(st.builds(Dot, labels, st.integers(1, 99)) | st.just(Dot())),
    )  # fmt: skip


@given(owners())
def test_a_record_rebuilds_the_owner_that_it_was_made_of(known: Owner) -> None:
    assert owner_of(owner_ids(known)) == known
    assert resource_of(record_ids(known)) == known
    assert record_names(known) == {}


IDS = owner_ids(owner())


@pytest.mark.parametrize("key", [NAME, UID, RECORD])
def test_without_one_of_its_keys_a_record_rebuilds_nothing(key: str) -> None:
    assert owner_of({k: v for k, v in IDS.items() if k != key}) is None


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "Deployment"}, {"kind": VIRTUAL_MACHINE}, {"ns": "prod"}, {"ns": "a.b"}, {"title": "web\n"},
        {"title": ""}, {"replicas": -1}, {"replicas": MOST_REPLICAS + 1}, {"replicas": True}, {"start": "0"},
        {"created": -1}, {"created": None}, {"rv": 2**64}, {"labels": {"a": 1}}, {"by": ["a\n", 1]}, {"by": ["a"]},
        {"deleted": 10**15},
    ],
)  # fmt: skip
def test_a_record_that_nobody_of_us_wrote_rebuilds_nothing(change: dict[str, Any]) -> None:
    assert owner_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), **change})}) is None


@pytest.mark.parametrize("name", ["", "web", "statefulset/default/db", "StatefulSet/default/web", f"{WEB}\n"])
def test_a_record_under_another_name_rebuilds_nothing(name: str) -> None:
    assert owner_of({**IDS, NAME: name}) is None


@given(st.text(max_size=40))
@example("{" * 5000)
@example('{"x":' + "[" * 5000)
@example("\ud800")
def test_no_text_raises(text: str) -> None:
    assert owner_of({**IDS, RECORD: text}) is None


@given(st.sampled_from(sorted(json.loads(IDS[RECORD]))), json_values)
def test_whatever_it_rebuilds_can_be_shown(key: str, value: Any) -> None:
    found = owner_of({**IDS, RECORD: json.dumps({**json.loads(IDS[RECORD]), key: value})})
    if found is not None:
        assert found.document()["kind"] == STATEFUL_SET


def test_the_record_is_small_and_says_nothing_that_is_as_always() -> None:
    known = owner(replicas=1)
    record = {"kind": STATEFUL_SET, "ns": "default", "title": "web", "created": NOW, "rv": 5}
    assert json.loads(owner_ids(known)[RECORD]) == record


# ---- what follows ----------------------------------------------------------------------------------------------------


def world_with(*known: Owner) -> World:
    world = World()
    for each in known:
        world.put(each)
    return world


def test_an_owner_that_is_told_of_is_kept_as_anything_else_is() -> None:
    plan = plan_owner(World(), wanted(start=2), context())
    assert isinstance(plan.resource, Owner)
    made = plan.resource
    assert (made.name, made.state, made.replicas, made.start, made.generation) == (WEB, State.INTENDED, 3, 2, 1)
    assert (plan.result, plan.steps) == ("created", (PutRecord(made),))
    assert [(e.reason, e.message) for e in plan.events] == [
        ("Created", "StatefulSet default/web: 3 replicas from ordinal 2")
    ]


def test_the_same_again_changes_nothing() -> None:
    known = owner(labels={"a": "b"})
    assert plan_owner(world_with(known), wanted(), context()) == Plan("unchanged", known)


def test_a_manifest_without_replicas_does_not_scale_and_makes_one_at_first() -> None:
    known = owner(replicas=3)
    assert plan_owner(world_with(known), wanted(replicas=None), context()) == Plan("unchanged", known)
    made = plan_owner(World(), wanted(replicas=None), context()).resource
    assert isinstance(made, Owner)
    assert made.replicas == 1


def test_the_version_of_another_servers_object_is_not_ours_to_heed() -> None:
    world = world_with(owner(uid="ours"))
    from_a_cluster = wanted(replicas=5, resource_version="112233", uid="theirs")
    assert plan_owner(world, from_a_cluster, context()).result == "configured"
    with pytest.raises(Conflict, match="the object has been modified"):
        plan_owner(world, wanted(replicas=5, resource_version="4", uid="ours"), context())


def test_to_create_what_there_is_already_is_refused() -> None:
    with pytest.raises(AlreadyExists, match=r'statefulsets\.apps "web" already exists'):
        plan_owner(world_with(owner()), wanted(), context(), create=True)


def test_a_set_that_is_scaled_has_a_new_generation_and_says_so_and_labels_alone_give_none() -> None:
    world = world_with(owner())
    scaled = plan_owner(world, wanted(replicas=1), context())
    assert isinstance(scaled.resource, Owner)
    assert (scaled.result, scaled.resource.replicas, scaled.resource.generation) == ("configured", 1, 2)
    assert scaled.steps == (UpdateRecord(scaled.resource),)
    assert [event.message for event in scaled.events] == ["StatefulSet default/web: 1 replica; before: 3 replicas"]
    labelled = plan_owner(world, wanted(labels={"a": "b"}), context())
    assert labelled.resource is not None
    assert (labelled.result, labelled.resource.generation) == ("configured", 1)
    assert [(event.reason, event.message) for event in labelled.events] == [("Relabelled", "changed label a=b")]


def test_a_patch_changes_what_it_names() -> None:
    world = world_with(owner(start=1, labels={"a": "b", "c": "d"}))
    plan = plan_scale(world, Scale(WEB, 5, None, {"a": None}, {"note": "n"}), context())
    assert isinstance(plan.resource, Owner)
    changed = plan.resource
    assert (changed.replicas, changed.start, changed.labels, changed.annotations) == (5, 1, {"c": "d"}, {"note": "n"})


@pytest.mark.parametrize("known", [(), (owner(state=State.RELEASING, deleted=NOW),)])
def test_what_is_not_there_or_gone_cannot_be_scaled(known: tuple[Owner, ...]) -> None:
    with pytest.raises(NotFound):
        plan_scale(world_with(*known), Scale(WEB, 5, None, {}, {}), context())


def test_a_change_for_another_version_is_refused() -> None:
    world = world_with(owner())
    with pytest.raises(Conflict, match="the object has been modified"):
        plan_scale(world, Scale(WEB, 5, None, {}, {}, "4"), context())
    with pytest.raises(Conflict, match="the object has been modified"):
        plan_owner(world, wanted(replicas=5, resource_version="4"), context())
    assert plan_scale(world, Scale(WEB, 5, None, {}, {}, "5"), context()).result == "configured"


def test_one_that_is_deleted_is_remembered_while_there_is_something_of_it() -> None:
    cloud = Cloud()
    port = cloud.port(cloud.switch(), "web-0.default", f"{MAC} 10.0.0.5")
    cloud.world.put(owner())
    plan = plan_release(cloud.world, owner(), context())
    assert plan.resource is not None
    gone = plan.resource
    assert [type(step) for step in plan.steps] == [UpdateRecord, Barrier]
    cloud.world.put(gone)
    assert plan_finish(cloud.world, gone) == Plan("unchanged")
    cloud.delete_port(port)
    assert cloud.world.coverage.take_emptied() == {WEB}
    assert plan_finish(cloud.world, gone).steps == (DropRecord(gone),)


def test_one_that_comes_back_before_it_was_forgotten_takes_its_own_place() -> None:
    gone = owner(state=State.RELEASING, deleted=NOW, labels={"old": "1"})
    plan = plan_owner(world_with(gone), wanted(replicas=2), context())
    assert isinstance(plan.resource, Owner)
    back = plan.resource
    assert (back.uid, back.state, back.deleted, back.replicas, back.labels) == ("u", State.HELD, None, 2, {})
    assert (plan.result, plan.steps) == ("created", (UpdateRecord(back),))


def test_a_number_that_is_none_is_shown_as_it_was_meant() -> None:
    document = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web"}, "spec": {"replicas": "-1"}}
    with pytest.raises(Invalid, match=r"spec\.replicas: Invalid value: -1: must be a whole number from 0"):
        read_owner(document)
