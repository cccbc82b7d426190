"""A manifest: documents of nothing but mappings, lists, strings and null, or one line that says what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ovnreserve.cli import manifests
from ovnreserve.cli.errors import ManifestError
from ovnreserve.cli.yamlout import dump
from ovnreserve.model.errors import Refused
from ovnreserve.model.ip import read

_EXAMPLES: Final = Path(__file__).parents[1] / "docs" / "examples"
SEEDS: Final = (
    *(path.read_bytes() for path in sorted(_EXAMPLES.glob("*.yaml"))),
    b"a: &a [x, x]\nb: &b [*a, *a]\nc: *b\n",
    b"---\nkind: List\nitems:\n- {a: 1, b: ~}\n- |\n  text\n...\n---\n# nothing\n",
    b"a: !!str b\nc: !!null ''\nd: !!binary aGk=\n? [e]\n: f\n",
    b"a: \"\\u263a \\x41 \\ud800\"\nb: 'c''d'\ne: >-\n  f\n  g\n",
    "%YAML 1.1\n---\na: 11:22:33:44:55:06\n".encode("utf-16"),
)


def check(data: bytes) -> None:
    try:
        documents = manifests.parse_yaml(data, "x.yaml")
    except ManifestError as error:
        assert str(error).replace("\t", " ").isprintable()
        return
    for document in documents:
        _check_types(document, 0)
        try:
            read(document)
        except Refused as refused:
            assert refused.message.isprintable()
    for document in documents:  # what we print of it reads back as the same
        assert manifests.parse_yaml(dump(document).encode(), "x.yaml") == [document]


def _check_types(value: Any, depth: int) -> None:
    assert depth <= manifests.MAX_DEPTH
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_types(item, depth + 1)
    else:
        assert value is None or type(value) is str
