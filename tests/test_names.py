"""Names of Kubernetes objects and of logical switch ports."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.model.names import is_label, is_label_key, is_label_value, is_subdomain, port_name

texts = st.text() | st.text(st.sampled_from("aZ0-._/ \n"), max_size=12)


@pytest.mark.parametrize("name", ["a", "a.b", "vm-1.default", "0", "a--b", "x" * 253, "virt-launcher-1.ns.provider"])
def test_a_subdomain_is_one(name: str) -> None:
    assert is_subdomain(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "A", "a_b", "a b", "a\n", "ä", "x" * 254, "a/b", "٣"]
)
def test_what_is_no_subdomain_is_none(name: str) -> None:
    assert not is_subdomain(name)


@given(texts)
def test_a_subdomain_is_made_of_labels_with_dots_between(name: str) -> None:
    labels = name.split(".")
    assert is_subdomain(name) == (
        len(name) <= 253 and all(re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", x) for x in labels)
    )


@pytest.mark.parametrize(
    ("name", "good"), [("default", True), ("x" * 63, True), ("x" * 64, False), ("a.b", False), ("", False)]
)
def test_a_namespace_is_one_label(name: str, *, good: bool) -> None:
    assert is_label(name) is good


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("app", True), ("app.kubernetes.io/name", True), ("ovn.kubernetes.io/ip_reserved", True), ("A_b.c-d", True),
        ("", False), ("/name", False), ("prefix/", False), ("a/b/c", False), ("Prefix/name", False), ("-a", False),
        ("a" * 63, True), ("a" * 64, False), ("a b", False), ("a\n", False),
    ],
)  # fmt: skip
def test_a_labels_key_is_a_qualified_name_with_or_without_a_prefix(key: str, *, good: bool) -> None:
    assert is_label_key(key) is good


@pytest.mark.parametrize(
    ("value", "good"), [("", True), ("true", True), ("A_b.c-d", True), ("a" * 64, False), ("-a", False), ("a b", False)]
)
def test_a_labels_value_is_short_or_empty(value: str, *, good: bool) -> None:
    assert is_label_value(value) is good


def test_the_port_is_named_after_pod_and_namespace_and_a_provider_other_than_ovn() -> None:
    assert port_name("vm-1", "default", "ovn") == "vm-1.default"
    assert port_name("vm-1", "default", "net1.default.ovn") == "vm-1.default.net1.default.ovn"


def test_no_name_takes_long_to_refuse() -> None:
    assert not is_subdomain("a-" * 126 + "!")
