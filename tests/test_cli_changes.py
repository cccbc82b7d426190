"""`label` and `scale` against a server with canned answers: what they send, and kubectl's words for the outcome."""

from __future__ import annotations

import pytest
from test_cli_commands import IPS, Server, ip, not_found, refusal, run, server

__all__ = ["run", "server"]

SETS = "/apis/apps/v1/namespaces/default/statefulsets"
LABELED, NOT, UNLABELED = (f"ip.kubeovn.io/a.default {word}\n" for word in ("labeled", "not labeled", "unlabeled"))


def labelled(name: str = "a.default", **labels: str) -> dict:
    found = ip(name)
    found["metadata"]["labels"] = labels
    return found


def has(server: Server, *names: str, **labels: str) -> None:
    """These IPs are there with these labels, and take any patch."""
    for name in names or ("a.default",):
        server.on(f"GET {IPS}/{name}", labelled(name, **labels))
        server.on(f"PATCH {IPS}/{name}", labelled(name))


def patched(server: Server) -> list[str]:
    return [asked.removeprefix("PATCH ") for asked in server.asked if asked.startswith("PATCH ")]


# ---- label ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "words", "said", "sent"),
    [
        ({}, ["team=red"], LABELED, {"team": "red"}),
        ({"team": "red"}, ["team=red"], NOT, None),
        ({"team": "red"}, ["team=red", "tier=db"], LABELED, {"tier": "db"}),
        ({"team": "red"}, ["team=blue", "--overwrite"], LABELED, {"team": "blue"}),
        ({"team": "red"}, ["team="], None, None),
        ({}, ["team="], LABELED, {"team": ""}),
        ({"team": "red"}, ["team-"], UNLABELED, {"team": None}),
        ({"team": "red"}, ["team-", "tier=db"], LABELED, {"team": None, "tier": "db"}),
        ({}, ["team-"], f'label "team" not found.\n{NOT}', None),
        ({"tier": "db"}, ["team-", "tier-"], f'label "team" not found.\n{UNLABELED}', {"tier": None}),
        ({}, ["ovn.kubernetes.io/ip_reserved=true"], LABELED, {"ovn.kubernetes.io/ip_reserved": "true"}),
    ],
)
def test_only_what_differs_is_sent_and_the_line_says_what_became_of_it(server, run, labels, words, said, sent):
    has(server, **labels)
    code, out, err = run("label", "ip", "a.default", *words)
    if said is None:
        assert (code, out, err) == (1, "", "error: 'team' already has a value (red), and --overwrite is false\n")
    else:
        assert (code, out, err) == (0, said, "")
    assert server.bodies == ([] if sent is None else [{"metadata": {"labels": sent}}])


def test_each_label_that_has_another_value_is_named_and_nothing_is_sent(server, run):
    has(server, team="red", tier="db")
    code, out, err = run("label", "ip/a.default", "team=blue", "tier=web", "new=x")
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "error: 'team' already has a value (red), and --overwrite is false",
        "error: 'tier' already has a value (db), and --overwrite is false",
    ]
    assert server.bodies == []


@pytest.mark.parametrize("named", [["ip", "a.default", "b.default"], ["ip/a.default", "ip/b.default"]])
def test_each_of_several_has_its_line_and_one_that_is_not_there_does_not_stop_the_others(server, run, named):
    has(server, "b.default")
    code, out, err = run("label", *named, "team=red")
    assert (code, out) == (1, "ip.kubeovn.io/b.default labeled\n")
    assert err == 'Error from server (NotFound): ips.kubeovn.io "a.default" not found\n'


def test_what_the_server_refuses_is_told_in_its_words(server, run):
    has(server)
    message = 'IP.kubeovn.io "a.default" is invalid: metadata.labels: Invalid value: "b c"'
    cause = {"field": "metadata.labels", "message": 'Invalid value: "b c"'}
    refused = refusal("Invalid", 422, message, kind="IP", name="a.default", causes=[cause])
    server.on(f"PATCH {IPS}/a.default", (422, refused))
    code, out, err = run("label", "ip", "a.default", "a=b c")
    assert (code, out) == (1, "")
    assert err == 'The IP "a.default" is invalid: metadata.labels: Invalid value: "b c"\n'


def test_those_with_a_label_are_labelled(server, run):
    has(server, "a.default", "b.default", team="red")
    server.on(f"GET {IPS}?labelSelector=team%3Dred", {"items": [ip("a.default"), ip("b.default")]})
    assert run("label", "ip", "-l", "team=red", "tier=db") == (
        0,
        "ip.kubeovn.io/a.default labeled\nip.kubeovn.io/b.default labeled\n",
        "",
    )
    assert patched(server) == [f"{IPS}/a.default", f"{IPS}/b.default"]


@pytest.mark.parametrize(("flags", "namespace"), [([], "default"), (["-n", "prod"], "prod")])
def test_names_of_owners_are_those_of_the_namespace(server, run, flags, namespace):
    path = f"/apis/apps/v1/namespaces/{namespace}/statefulsets"
    one = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "web", "namespace": namespace}}
    server.on(f"GET {path}?labelSelector=a", {"items": [one]})
    for method in ("GET", "PATCH"):
        server.on(f"{method} {path}/web", one)
    for named in (["sts", "web"], ["statefulset/web"], ["sts", "-l", "a"]):
        assert run("label", *flags, *named, "team=red") == (0, "statefulset.apps/web labeled\n", "")
    assert patched(server) == [f"{path}/web"] * 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one or more resources must be specified as <resource> <name> or <resource>/<name>\n"),
        (["team=red"], "one or more resources must be specified as <resource> <name> or <resource>/<name>\n"),
        (["ip", "a.default"], "at least one label update is required\n"),
        (["ip", "a.default", "-"], "at least one label update is required\n"),
        (["ip", "a.default", "=x"], "at least one label update is required\n"),
        (["ip", "team=red"], "resource(s) were provided, but no name was specified\n"),
        (["ip", "team=red", "a.default"], "all resources must be specified before label changes: a.default\n"),
        (["ip", "a.default", "a=b=c"], "invalid label spec: a=b=c\n"),
        (["ip", "a.default", "a=b", "a-"], "can not both modify and remove a label in the same command\n"),
        (["ip", "a.default", "a=b", "-l", "x=y"], "name cannot be provided when a selector is specified\n"),
        (["pod", "a", "a=b"], 'the server doesn\'t have a resource type "pod"\n'),
        (["ip", "ip/a.default", "a=b"], "there is no need to specify a resource type as a separate argument"),
        (["ip/a/b", "a=b"], "arguments in resource/name form must have a single resource and name\n"),
        (["ip", "a.default", "a=b", "--overwrite=maybe"], 'invalid argument "maybe" for "--overwrite" flag: '),
        (["ip", "a.default", "a=b", "--all"], "unknown flag: --all\n"),
    ],
)
def test_what_cannot_be_a_label_command_is_refused_and_nothing_is_asked(server, run, words, message):
    code, out, err = run("label", *words)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert server.asked == []


# ---- scale ----------------------------------------------------------------------------------------------------------


def stateful_set(name: str = "web", replicas: int = 3, version: str = "7") -> dict:
    metadata = {"name": name, "namespace": "default", "resourceVersion": version}
    return {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": {"replicas": replicas}}


@pytest.mark.parametrize("named", [["sts", "web"], ["statefulsets", "web"], ["sts/web"], ["statefulset.apps/web"]])
@pytest.mark.parametrize("flags", [["--replicas=0"], ["--replicas", "0"], ["--replicas=0", "--current-replicas=-1"]])
def test_scaling_sends_the_number_alone(server, run, named, flags):
    server.on(f"PATCH {SETS}/web", stateful_set())
    assert run("scale", *named, *flags) == (0, "statefulset.apps/web scaled\n", "")
    assert server.asked == [f"PATCH {SETS}/web"]
    assert server.bodies == [{"spec": {"replicas": 0}}]


def test_scaling_from_a_number_is_bound_to_what_was_seen(server, run):
    server.on(f"GET {SETS}/web", stateful_set())
    server.on(f"PATCH {SETS}/web", stateful_set())
    assert run("scale", "sts/web", "--current-replicas=3", "--replicas=5")[:2] == (0, "statefulset.apps/web scaled\n")
    assert server.bodies == [{"spec": {"replicas": 5}, "metadata": {"resourceVersion": "7"}}]
    assert run("scale", "sts/web", "--current-replicas=2", "--replicas=5") == (
        1,
        "",
        "error: Expected replicas to be 2, was 3\n",
    )
    assert len(server.bodies) == 1


def test_each_of_several_sets_is_scaled_and_one_that_is_not_there_does_not_stop_the_others(server, run):
    path = SETS.replace("default", "prod")
    server.on(f"PATCH {path}/b", stateful_set("b"))
    server.on(f"PATCH {path}/a", (404, refusal("NotFound", 404, 'statefulsets.apps "a" not found')))
    code, out, err = run("scale", "-n", "prod", "sts", "a", "b", "--replicas=1")
    assert (code, out) == (1, "statefulset.apps/b scaled\n")
    assert err == 'Error from server (NotFound): statefulsets.apps "a" not found\n'


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sts/web"], 'required flag(s) "replicas" not set\n'),
        (["sts/web", "--replicas=-1"],
         "The --replicas=COUNT flag is required, and COUNT must be greater than or equal to 0\n"),
        (["sts/web", "--replicas=1", "--current-replicas=-2"],
         "The --current-replicas must specify an integer of -1 or greater\n"),
        (["sts/web", "--replicas=many"], 'invalid argument "many" for "--replicas" flag: strconv.ParseInt: '),
        (["sts/web", "--replicas=1.5"], 'invalid argument "1.5" for "--replicas" flag: strconv.ParseInt: '),
        (["--replicas=1"], "You must provide one or more resources by argument.\n"),
        (["sts", "--replicas=1"], "resource(s) were provided, but no name was specified\n"),
        (["vm/vm1", "--replicas=1"], "cannot scale virtualmachines: only statefulsets have replicas\n"),
        (["ip", "a.default", "--replicas=1"], "cannot scale ips: only statefulsets have replicas\n"),
        (["deployment/web", "--replicas=1"], 'the server doesn\'t have a resource type "deployment"\n'),
    ],
)  # fmt: skip
def test_what_cannot_be_a_scale_command_is_refused_and_nothing_is_asked(server, run, words, message):
    code, out, err = run("scale", *words)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {message}")
    assert server.asked == []


def test_nothing_is_said_to_be_scaled_that_the_server_refused(server, run):
    server.on(f"PATCH {SETS}/web", not_found("web"))
    assert run("scale", "sts/web", "--replicas=99999999999999")[:2] == (1, "")
