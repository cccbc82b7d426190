r"""Manifests as the user wrote them: YAML as strings only, JSON as it is.

YAML 1.1 reads `macAddress: 11:22:33:44:55:06` as the number 8846009706 and `no` as false, but all fields of
ours are text. So nothing is resolved here but null: a plain `null`, `~` or nothing at all is None, the rest
is the text as written. The server checks the fields and names each that is wrong.

libyaml's parser is driven by its events: 10,000 documents of eight lines take half of what
yaml.load_all(CBaseLoader) takes, and a stack of our own bounds the depth. What would let a small file grow or
mean two things is refused: aliases ("billion laughs"), keys given twice, tags, depth beyond 64.
"""
# ruff: noqa: PTH112, PTH113, PTH118, PTH123, PTH208 -- pathlib takes 5 ms to import

from __future__ import annotations

import os
import sys

from ovnreserve.cli.errors import ManifestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Document = dict[str, Any]

MAX_DEPTH = 64
# Its scanner runs ahead of its events: brackets that nest deeper than 1000 never come here (libyaml 0.2.6).
_TOO_DEEP_FOR_LIBYAML = "exceeded maximum nesting depth"
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_STRING_TAGS = ("!", "tag:yaml.org,2002:str")
_CONTAINER_TAGS = ("!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")
_NULL_TAG = "tag:yaml.org,2002:null"
_SUFFIXES = (".json", ".yaml", ".yml")


def load(paths: Iterable[str]) -> list[tuple[str, Document]]:
    """All documents of all files, in order, each with the name of its file.

    A path is a file, a directory (its *.yaml, *.yml and *.json, sorted, not those below), or `-`. Empty
    documents are skipped, and the items of a `kind: List` take its place. Raises ManifestError.
    """
    return [
        (source, document)
        for path in paths
        for source, content in _contents(path)
        for value in parse(content, source)
        for document in _flatten(value, source)
    ]


def parse(content: bytes, source: str) -> Iterable[object]:
    """The documents of one file. What begins like a JSON object is tried as JSON first."""
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        try:
            return _parse_json(content, source)
        except (ValueError, RecursionError) as error:
            if source.endswith(".json"):
                raise ManifestError(f"{source}: {_json_problem(error)}") from error
    return parse_yaml(content, source)


def parse_yaml(content: bytes, source: str) -> list[object]:
    """The documents of a YAML stream: mappings, lists, strings and None. Raises ManifestError."""
    import yaml

    try:
        return _documents(content, source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}: line {mark.line + 1}, column {mark.column + 1}" if mark else source
        what = ": ".join(part for part in (error.context, error.problem) if part)
        if error.problem == _TOO_DEEP_FOR_LIBYAML:
            what = f"nested deeper than {MAX_DEPTH}"
        raise ManifestError(f"{where}: {what}") from error
    except yaml.YAMLError as error:  # bytes that are no text
        raise ManifestError(f"{source}: {' '.join(str(error).split())}") from error


def _documents(content: bytes, source: str) -> list[object]:
    """One loop, since a call for each event would double the time."""
    import yaml

    scalar, mapping, sequence = yaml.ScalarEvent, yaml.MappingStartEvent, yaml.SequenceStartEvent
    mapping_end, sequence_end = yaml.MappingEndEvent, yaml.SequenceEndEvent
    # A PyYAML built without libyaml is slower by some 20 times, and right all the same.
    get_event = (yaml.CBaseLoader if yaml.__with_libyaml__ else yaml.BaseLoader)(content).get_event
    nothing = object()  # "no key read yet"
    documents: list[object] = []
    stack: list[tuple[Any, bool]] = []  # the containers around the present one; whether each is a mapping
    container: Any = documents
    is_mapping = False
    key: Any = nothing
    while True:
        event: Any = get_event()
        kind = type(event)
        value: Any
        if kind is scalar:
            value = event.value
            if event.tag is None:
                if not event.style and value in _NULLS:
                    value = None
            elif event.tag == _NULL_TAG:
                value = None
            elif event.tag not in _STRING_TAGS:
                raise _refused(source, event, f"tags are not supported here: {event.tag}")
            if not is_mapping:
                container.append(value)
            elif key is not nothing:
                container[key] = value
                key = nothing
            elif value is None:
                raise _refused(source, event, "a key must be a string, not null")
            elif value in container:
                raise _refused(source, event, f'the key "{value}" is given twice')
            else:
                key = value
        elif kind is mapping or kind is sequence:
            if is_mapping and key is nothing:
                raise _refused(source, event, "a key must be a string")
            if event.tag is not None and event.tag not in _CONTAINER_TAGS:
                raise _refused(source, event, f"tags are not supported here: {event.tag}")
            if len(stack) >= MAX_DEPTH:
                raise _refused(source, event, f"nested deeper than {MAX_DEPTH}")
            value = {} if kind is mapping else []
            if is_mapping:
                container[key] = value
            else:
                container.append(value)
            stack.append((container, is_mapping))
            container, is_mapping, key = value, kind is mapping, nothing
        elif kind is mapping_end or kind is sequence_end:
            container, is_mapping = stack.pop()
            key = nothing
        elif kind is yaml.AliasEvent:
            what = f"aliases are not supported: write out what *{event.anchor} stands for"
            raise _refused(source, event, what)
        elif kind is yaml.StreamEndEvent:
            return documents


def _refused(source: str, event: Any, what: str) -> ManifestError:
    mark = event.start_mark
    return ManifestError(f"{source}: line {mark.line + 1}, column {mark.column + 1}: {what}")


def _parse_json(content: bytes, source: str) -> list[object]:
    """One JSON value after the other. Raises ValueError where it is not JSON."""
    import json

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ManifestError(f'{source}: the key "{twice}" is given twice')
        return result

    def no_number(word: str) -> None:
        raise ManifestError(f"{source}: {word} is no JSON number")

    text = content.decode("utf-8-sig")
    decoder = json.JSONDecoder(object_pairs_hook=unique, parse_constant=no_number)
    documents: list[object] = []
    at = 0
    while True:
        while at < len(text) and text[at] in " \t\r\n":
            at += 1
        if at == len(text):
            break
        document, at = decoder.raw_decode(text, at)
        documents.append(document)
    level = documents
    for _ in range(MAX_DEPTH):
        level = [child for value in level for child in _children(value)]
    if any(isinstance(value, dict | list) for value in level):
        raise ManifestError(f"{source}: nested deeper than {MAX_DEPTH}")
    return documents


def _json_problem(error: Exception) -> str:
    line, column = getattr(error, "lineno", 0), getattr(error, "colno", 0)
    return f"line {line}, column {column}: {getattr(error, 'msg', error)}" if line else str(error)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _flatten(value: object, source: str) -> Iterator[Document]:
    """The objects of one document: itself, or the items of a List."""
    if value is None:
        return
    if not isinstance(value, dict):
        what = "a list" if isinstance(value, list) else "a text" if isinstance(value, str) else "a number"
        raise ManifestError(f"{source}: a document must be a mapping with apiVersion and kind, not {what}")
    items = value.get("items")
    if isinstance(items, list) and str(value.get("kind", "")).endswith("List"):
        for item in items:
            yield from _flatten(item, source)
    else:
        yield value


def _contents(path: str) -> Iterator[tuple[str, bytes]]:
    """The files a path stands for, each with its name in messages."""
    if path == "-":
        if sys.stdin is None:
            raise ManifestError("standard input is closed")
        try:
            yield "STDIN", sys.stdin.buffer.read()
        except OSError as error:
            raise ManifestError(f"reading standard input: {error.strerror}") from error
        return
    try:
        if not os.path.isdir(path):
            yield path, _read(path)
            return
        names = sorted(name for name in os.listdir(path) if name.endswith(_SUFFIXES))
    except FileNotFoundError as error:
        raise ManifestError(f'the path "{path}" does not exist') from error
    except OSError as error:
        raise ManifestError(f"open {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL in it
        raise ManifestError(f"open {path!r}: {error}") from error
    files = [file for name in names if os.path.isfile(file := os.path.join(path, name))]
    if not files:
        raise ManifestError(f"error reading [{path}]: recognized file extensions are [{' '.join(_SUFFIXES)}]")
    for file in files:
        yield from _contents(file)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
