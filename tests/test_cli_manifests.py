"""Manifests are read as the strings the user wrote, or refused with the place where they are wrong."""

from __future__ import annotations

import io
import json
import re
import sys
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from ovnreserve.cli import manifests, yamlout
from ovnreserve.cli.errors import ManifestError

RESERVED_IP = """\
apiVersion: kubeovn.io/v1
kind: IP
metadata:
  name: vm-dynamic-01.default
spec:
  subnet: ovn-default
  podType: "VirtualMachine"
  namespace: default
  podName: vm-dynamic-01
"""

strings = st.text(st.characters(exclude_categories=["Cs"]))
trees = st.recursive(
    strings | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4),
    max_leaves=12,
)
# What YAML might take for something else than a string.
TRICKY = [
    "11:22:33:44:55:06",
    "00:00:00:00:00:00",
    "190:20:30",
    "02:6f:76:12:34:56",
    "fd00::1",
    "::1",
    "10.16.0.13",
    "10.16.0.0/16,fd00::/64",
    "1e3",
    "1_000",
    "0x1F",
    "0o17",
    "017",
    "+1",
    "-.inf",
    ".5",
    "1.",
    "2026-11-23",
    "2026-11-23T19:00:00Z",
    "89d05a26-294a-450b-ab63-1eaa957984d7",
    "true",
    "No",
    "y",
    "null",
    "~",
    "",
    " lead",
    "trail ",
    "a: b",
    "a #b",
    "a:",
    "- a",
    "---",
    "...",
    "? a",
    "<<",
    "=",
    "*a",
    "&a",
    "!a",
    "%a",
    "@a",
    "`a",
    "'a'",
    '"a"',
    "{a}",
    "[a]",
    "a\nb",
    "a\n",
    "a\n\n",
    "\na",
    "a\n b\n",
    " a\nb",
    "a\r\nb",
    "a\tb",
    "a\tb\n",
    "\x85",
    "\u2028",
    "\ufeff",
    "\U0001f600",
    "é",
    "\x7f",
    "\x00",
]


def one(text: str) -> object:
    documents = list(manifests.parse(text.encode(), "x.yaml"))
    assert len(documents) == 1
    return documents[0]


def refusal(text: str | bytes, source: str = "x.yaml") -> str:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(ManifestError) as caught:
        list(manifests.parse(content, source))
    return str(caught.value)


def test_all_fields_stay_the_strings_that_were_written():
    text = "mac: 11:22:33:44:55:06\na: no\nb: 1e3\nc: 0x1F\nd: 2026-11-23\ne: 007\nf: true\ng: 1.10\nh: .inf\n"
    assert one(text) == {
        "mac": "11:22:33:44:55:06",
        "a": "no",
        "b": "1e3",
        "c": "0x1F",
        "d": "2026-11-23",
        "e": "007",
        "f": "true",
        "g": "1.10",
        "h": ".inf",
    }


def test_only_plain_nulls_are_none():
    text = "a: null\nb: ~\nc:\nd: 'null'\ne: \"\"\nf: '~'\ng: !!str null\nh: !!null x\ni: [~, , a]\n"
    with pytest.raises(ManifestError):
        one(text)  # `, ,` is no YAML
    assert one(text.replace("[~, , a]", "[~, a]")) == {
        "a": None,
        "b": None,
        "c": None,
        "d": "null",
        "e": "",
        "f": "~",
        "g": "null",
        "h": None,
        "i": [None, "a"],
    }


def test_a_reserved_ip_of_the_documentation():
    assert one(RESERVED_IP) == {
        "apiVersion": "kubeovn.io/v1",
        "kind": "IP",
        "metadata": {"name": "vm-dynamic-01.default"},
        "spec": {
            "subnet": "ovn-default",
            "podType": "VirtualMachine",
            "namespace": "default",
            "podName": "vm-dynamic-01",
        },
    }


def test_several_documents_and_empty_ones(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("---\n# nothing\n---\nkind: A\n---\n---\nkind: B\n...\n---\n~\n")
    assert manifests.load([str(file)]) == [(str(file), {"kind": "A"}), (str(file), {"kind": "B"})]


def test_a_list_stands_for_its_items(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text(
        "kind: List\napiVersion: v1\nitems:\n- kind: A\n- kind: IPList\n  items: [{kind: B}, {kind: C}]\n"
        "---\nkind: List\nitems: []\n---\nkind: List\n"
    )
    kinds = [document["kind"] for _, document in manifests.load([str(file)])]
    assert kinds == ["A", "B", "C", "List"]  # one without items is for the server to refuse


def test_a_directory_gives_its_manifests_sorted(tmp_path):
    for name in ("b.yml", "a.json", "c.yaml", "d.txt"):
        (tmp_path / name).write_text(json.dumps({"kind": name}))
    (tmp_path / "e.yaml").mkdir()
    assert [source for source, _ in manifests.load([str(tmp_path)])] == [
        str(tmp_path / name) for name in ("a.json", "b.yml", "c.yaml")
    ]


def test_a_directory_without_manifests_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="recognized file extensions are"):
        manifests.load([str(tmp_path)])


def test_a_dash_is_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(RESERVED_IP.encode())))
    assert manifests.load(["-"])[0][0] == "STDIN"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ManifestError) as caught:
        manifests.load([str(tmp_path / "x.yaml")])
    assert str(caught.value) == f'error: the path "{tmp_path}/x.yaml" does not exist'


@pytest.mark.parametrize("path", ["", "a\0b"])
def test_a_path_that_is_none_is_an_error(path):
    with pytest.raises(ManifestError):
        manifests.load([path])


def test_a_document_that_is_no_mapping_is_refused(tmp_path):
    file = tmp_path / "a.yaml"
    for text in ("- a\n", "text\n", "kind: List\nitems: [a]\n"):
        file.write_text(text)
        with pytest.raises(ManifestError, match="a document must be a mapping"):
            manifests.load([str(file)])


def test_syntax_errors_say_where():
    assert refusal("a: b\nc: [d\ne: f\n").startswith("error: x.yaml: line 3, column 2: ")
    assert (
        refusal("a: b\n  c: d\n") == "error: x.yaml: line 2, column 4: mapping values are not allowed in this context"
    )
    assert refusal("a:\n\t- b\n").startswith("error: x.yaml: line 2, column 1: ")


def test_bytes_that_are_no_text_are_refused():
    assert refusal(b"a: \xff\xfe\n").startswith("error: x.yaml: ")


def test_utf_16_is_read():
    assert list(manifests.parse("a: é\n".encode("utf-16"), "x")) == [{"a": "é"}]


def test_aliases_are_refused_before_they_can_grow():
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    assert refusal(bomb) == ("error: x.yaml: line 2, column 8: aliases are not supported: write out what *a stands for")
    assert one("a: &unused b") == {"a": "b"}


def test_a_key_given_twice_is_refused():
    assert refusal("a: b\nc: d\na: e\n") == 'error: x.yaml: line 3, column 1: the key "a" is given twice'
    assert one("a: {b: c}\nd: {b: c}\n") == {"a": {"b": "c"}, "d": {"b": "c"}}


@pytest.mark.parametrize("text", ["? [a]\n: b\n", "? {a: b}\n: c\n", "~: a\n", "[a]: b\n"])
def test_a_key_that_is_no_string_is_refused(text):
    assert "a key must be a string" in refusal(text)


@pytest.mark.parametrize(
    "text", ["a: !!binary aGk=\n", "a: !x b\n", "a: !!set {b}\n", "!!python/none a\n", "a: !!int 1\n"]
)
def test_tags_are_refused(text):
    assert "tags are not supported" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 65, "{a: " * 65, "".join(" " * i + "a:\n" for i in range(66)), "- " * 65),
        *("[" * 1_000_000, "{a: " * 3000, "".join(" " * i + "a:\n" for i in range(3000)), "- " * 3000),
    ],
    ids=lambda text: f"{text[:4].strip()}-{len(text)}",
)
def test_the_depth_of_yaml_is_bounded(text):
    assert re.fullmatch(r"error: x\.yaml: line \d+, column \d+: nested deeper than 64", refusal(text))


def test_as_deep_as_allowed():
    assert one("[" * 64 + "]" * 64)
    assert one(json.dumps({"a": json.loads("[" * 63 + "]" * 63)}))


def test_json_keeps_its_types():
    text = '\ufeff {"a": 1, "b": true, "c": null, "d": 1.5, "e": "no"}\n{"f": [2]} {"g": {}}\n'
    assert list(manifests.parse(text.encode(), "x.json")) == [
        {"a": 1, "b": True, "c": None, "d": 1.5, "e": "no"},
        {"f": [2]},
        {"g": {}},
    ]


def test_what_only_looks_like_json_is_yaml():
    assert one("{a: 1, b: [no]}") == {"a": "1", "b": ["no"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,\n "b" 2}', "x.json: line 2, column 6: Expecting ':' delimiter"),
        ('{"a": 1, "a": 2}', 'x.json: the key "a" is given twice'),
        ('{"a": NaN}', "x.json: NaN is no JSON number"),
        ('{"a": ' + "[" * 80 + "]" * 80 + "}", "x.json: nested deeper than 64"),
        ('{"a":' * 100_000, "x.json: "),
        ('{"a": ' + "1" * 5000 + "}", "x.json: "),
    ],
)
def test_bad_json_is_refused(text, message):
    assert refusal(text, "x.json").startswith(f"error: {message}")


def test_ten_thousand_documents_are_read_in_a_moment():
    text = "---\n".join(RESERVED_IP.replace("01", str(i)) for i in range(10_000)).encode()
    took = []
    for _ in range(3):
        start = time.process_time()
        documents = list(manifests.parse(text, "x.yaml"))
        took.append(time.process_time() - start)
    assert len(documents) == 10_000
    assert min(took) < 1.0  # 0.18 s on a quiet machine; yaml.load_all(CBaseLoader) takes 0.34 s there


@given(trees)
def test_what_we_write_reads_back_the_same(tree):
    assert one(yamlout.dump({"a": tree})) == {"a": tree}


@given(trees)
@example(dict(enumerate(TRICKY)))
@example({text: text for text in TRICKY})
@example(TRICKY)
@example([[text] for text in TRICKY])
@example([{text: [{"a": text}]} for text in TRICKY])
def test_what_we_write_pyyaml_reads_as_the_same_strings(tree):
    tree = {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else tree
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(yamlout.dump(tree), loader) == tree


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_strings_read_back(text):
    assert one(yamlout.dump({text: {"a": text, "b": [text]}})) == {text: {"a": text, "b": [text]}}


@given(trees, st.booleans())
def test_what_pyyaml_writes_we_read(tree, flow):
    text = yaml.dump({"a": tree}, Dumper=yaml.CSafeDumper, default_flow_style=flow, allow_unicode=True)
    if "&id" in text or "!!" in text:
        return  # anchors for objects that are one
    assert one(text) == {"a": tree}


@given(
    st.dictionaries(strings, trees | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_json_reads_back_the_same(tree):
    assert list(manifests.parse(json.dumps(tree).encode(), "x.json")) == [tree]


@given(st.binary() | st.text("{}[]:,-?&*!|>'\"%@ \nab~#", max_size=30).map(str.encode))
def test_whatever_is_read_either_parses_or_is_refused(content):
    for source in ("x.yaml", "x.json"):
        try:
            for value in manifests.parse(content, source):
                list(manifests._flatten(value, source))
        except ManifestError:
            pass
