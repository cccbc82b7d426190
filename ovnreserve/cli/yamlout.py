"""YAML as kubectl prints it: keys sorted, lists not indented under their key, text plain where that is safe.

PyYAML's emitter would take 17 ms to import, and it folds long lines. The rule here is that what is written
reads back as the same text for every reader: whatever a YAML 1.1 or 1.2 schema could take for a number, a
date, a boolean or null is quoted, sexagesimal integers (`11:22:33:44:55:06`) included.
"""

from __future__ import annotations

import json
import re

# What some schema resolves to something else than a string; wider than any of them.
_RESOLVED = re.compile(
    r"""[-+]?[0-9][0-9_,]*(\.[0-9_]*)?([eE][-+]?[0-9]*)?   # integers and floats
    |   [-+]?\.[0-9_]+([eE][-+]?[0-9]*)?
    |   [-+]?0[xXoObB][0-9a-fA-F_]*
    |   [-+]?[0-9][0-9_]*(:[0-9_]+)+(\.[0-9_]*)?           # base 60
    |   [-+]?\.(inf|nan)
    |   [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}.*                   # dates and times
    |   <<? | = | ~ | null | true | false | yes | no | on | off | y | n
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_BLOCK = re.compile(r"[!-~][ -~]*(\n+[ -~]+)*\n*")
# JSON's escapes are YAML's, but these JSON may leave bare where YAML may not.
_ESCAPED = (*range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000), 0xFEFF, 0xFFFE, 0xFFFF)
_ESCAPES = {code: f"\\u{code:04x}" for code in _ESCAPED}


def dump(value: object) -> str:
    """A document of JSON values, ending in a newline."""
    lines: list[str] = []
    _block(value, "", "", lines)
    return "\n".join(lines) + "\n"


def _block(value: object, first: str, indent: str, lines: list[str]) -> None:
    """Write a value. `first` begins its first line, `indent` the others."""
    if isinstance(value, dict) and value:
        for key in sorted(value):
            _entry(f"{first}{scalar(str(key))}:", value[key], indent, lines)
            first = indent
    elif isinstance(value, list) and value:
        for item in value:
            if isinstance(item, dict | list) and item:
                _block(item, f"{first}- ", f"{indent}  ", lines)
            else:
                _leaf(f"{first}-", item, f"{indent}  ", lines)
            first = indent
    else:
        _leaf(first.rstrip(), value, f"{indent}  ", lines)


def _entry(start: str, value: object, indent: str, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(start)
        _block(value, f"{indent}  ", f"{indent}  ", lines)
    elif isinstance(value, list) and value:
        lines.append(start)
        _block(value, indent, indent, lines)
    else:
        _leaf(start, value, f"{indent}  ", lines)


def _leaf(start: str, value: object, indent: str, lines: list[str]) -> None:
    text = value if isinstance(value, str) else ""
    if start and "\n" in text and _BLOCK.fullmatch(text):
        content = text.rstrip("\n")
        ends = len(text) - len(content)
        lines.append(f"{start} |{'-' if not ends else '' if ends == 1 else '+'}")
        lines.extend(f"{indent}{line}" if line else "" for line in content.split("\n"))
        lines.extend([""] * (ends - 1))
    else:
        lines.append(f"{start} {scalar(value)}" if start else scalar(value))


def scalar(value: object) -> str:
    """One value on one line: plain, 'quoted' where YAML's syntax asks for it, "quoted" where its types do."""
    if not isinstance(value, str):
        return json.dumps(value)
    if not value or not value.isprintable() or _RESOLVED.fullmatch(value):
        return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)
    starts_well = value[0].isalnum() or value[0] in "_/+(<"
    if starts_well and not value.endswith((":", " ")) and ": " not in value and " #" not in value:
        return value
    return "'" + value.replace("'", "''") + "'"
