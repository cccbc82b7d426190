"""The text of Logical_Switch.other_config:exclude_ips: how ovn-northd reads it, and which part of it is ours.

The value looks like a list and is not one: ovn-northd reads it with the lexer of OVN's expressions.

- Comments, quoted strings and newlines mean something; nothing can be moved to another line or place.
- `..` is a token of its own: spaces may stand around it, and at the start of a text it takes hold of whatever
  comes to stand before it.
- An address is any integer of that language, of which the low 32 bits count: `fd00::a00:5`, `0xa000005` and
  `167772165` all exclude 10.0.0.5.
- The first token that is not expected ends the reading: **everything behind it is ignored**, with one line in
  a log. Only an entry that lies outside of the subnet, or is reversed, is passed over.

Hence the rules by which two writers share one value:

1. Our text stands first, where nobody's broken token can switch it off. Then one space, then the operator's
   text byte for byte. A space ends every token, so theirs is lexed as if it stood alone.
2. One thing reaches back over that space: a `..` at the start of theirs would make a range of our last token
   and their first. Then our last token is written as the range `a..a`, behind which a `..` is the fatal token
   that it is when it stands alone. So northd excludes the union of what it would exclude for either part.
3. Ours is what a mark beside the value says (length and SHA-256), and only while the value still begins with
   it: whatever is in doubt is the operator's. To leak an exclusion is better than to remove somebody's.

Sources: facts/ovn.md sections 1 and 13 (transcripts of real servers), OVN's lib/lex.c and northd/ipam.c.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from socket import AF_INET, AF_INET6, inet_ntoa, inet_pton
from string import hexdigits
from typing import TYPE_CHECKING, Final, NamedTuple

from ovnreserve.model.runs import Runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

# ---- our text ------------------------------------------------------------------------------------


class TokenRuns(Runs):
    """IPv4 addresses whose exclude_ips text is cheap to ask for: each run keeps its token beside it.

    Of 10k scattered tokens, writing all anew takes 4 ms, writing the few that changed and joining all 0.2 ms.
    """

    __slots__ = ("_text", "_tokens")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        super().__init__(runs)
        self._tokens = _Tokens(self._lasts)
        self._text: str | None = None

    def text(self) -> str:
        """The canonical text: sorted, merged, `a` or `a..b`, single spaces. "" if nothing is excluded."""
        if self._text is None:
            self._text = " ".join(map(self._tokens.__getitem__, self._firsts))
        return self._text

    def _put(self, first: int, last: int) -> None:
        super()._put(first, last)
        self._tokens.pop(first, None)
        self._text = None

    def _drop(self, first: int) -> None:
        super()._drop(first)
        self._tokens.pop(first, None)
        self._text = None


class _Tokens(dict[int, str]):
    """From a run's first address to its token, which is written when it is first wanted."""

    def __init__(self, lasts: Mapping[int, int]) -> None:
        super().__init__()
        self._lasts = lasts

    def __missing__(self, first: int) -> str:
        token = self[first] = _token(first, self._lasts[first])
        return token


def _token(first: int, last: int) -> str:
    start = inet_ntoa(first.to_bytes(4, "big"))
    return start if first == last else f"{start}..{inet_ntoa(last.to_bytes(4, 'big'))}"


# ---- whose text ----------------------------------------------------------------------------------

_MARK: Final = re.compile(r"([1-9][0-9]{0,9}) ([0-9a-f]{64})").fullmatch


def mark(ours: str) -> str:
    """What tells our text from the rest: `LENGTH HEX`, its bytes and their SHA-256; "" (no mark) for "".

    The length counts bytes of UTF-8, which for us, who write ASCII only, are characters.
    """
    if not ours:
        return ""
    octets = ours.encode("ascii")
    return f"{len(octets)} {hashlib.sha256(octets).hexdigest()}"


def split(value: str, marked: str | None) -> tuple[str, str]:
    """(ours, theirs) of a value and the mark beside it. Without a well-formed mark all is theirs."""
    match = _MARK(marked or "")
    if match:
        length = int(match[1])
        ours, gap, theirs = value[:length], value[length : length + 1], value[length + 1 :]
        if (
            gap in {"", " "}
            and len(ours) == length
            and ours.isascii()
            and hashlib.sha256(ours.encode()).hexdigest() == match[2]
        ):
            return ours, theirs
    return "", value


def join(ours: str, theirs: str) -> tuple[str, str]:
    """(value, mark) for our canonical text and the operator's; each is "" where its key is to be deleted.

    What split() gives back as ours differs from what was given only if theirs begins with `..` (rule 2).
    """
    if ours and begins_with_range(theirs):
        last = ours[ours.rfind(" ") + 1 :]
        if ".." not in last:
            ours = f"{ours}..{last}"
    return (f"{ours} {theirs}" if ours and theirs else ours or theirs), mark(ours)


# ---- what ovn-northd reads -----------------------------------------------------------------------


class Parsed(NamedTuple):
    """What ovn-northd makes of a text."""

    ranges: tuple[tuple[int, int], ...] = ()
    """What it excludes, (first, last), in order of appearance, cut off at the first host and the broadcast
    address. It keeps these two back in any case; they are here only if the text names them."""

    error: str | None = None
    """What it logs, in its words: only ever the first error, harmless or fatal."""

    ignored: str = ""
    """What it does not read: the text from the entry with the fatal token on; "" if it reads all."""

    fault: str = ""
    """The fatal token; "" if there is none, or if it is the end of the text."""

    offset: int = 0
    """Where in `ignored` the fatal token begins."""


def parse(text: str, network: int, prefixlen: int) -> Parsed:
    """What ovn-northd excludes from a subnet for this text, and what it complains of.

    Its sums have 32 bits: a range that ends at 255.255.255.255 excludes nothing. A /32 has no IPAM, and its
    text is not read.
    """
    if prefixlen == 32:
        return Parsed()
    host_mask = _U32 >> prefixlen
    begin = (network & ~host_mask) + 1 & _U32
    end = begin + host_mask
    ranges: list[tuple[int, int]] = []
    error: str | None = None
    for item in _read(text):
        if isinstance(item, _Stop):
            return Parsed(tuple(ranges), error or item.error, text[item.start :], item.fault, item.at - item.start)
        first, beyond = max(begin, item.first), min(end, item.last + 1 & _U32)
        if first < beyond:
            ranges.append((first, beyond - 1))
        else:
            # A lexical error is noticed by whoever complains next, even if it was about something else.
            error = error or item.following.error or "excluded addresses not in subnet"
    return Parsed(tuple(ranges), error)


def tokens(text: str) -> list[str]:
    """The entries that ovn-northd reads, as it understands them: `a` or `a..b`, in the subnet or not."""
    return [_token(item.first, item.last) for item in _read(text) if isinstance(item, _Entry)]


def begins_with_range(text: str) -> bool:
    """Is `..` the first token?"""
    return next(_lex(text)).kind == "range"


class _Lexeme(NamedTuple):
    kind: str  # a group of _LEXEME
    text: str
    start: int
    value: int = 0
    error: str | None = None


class _Entry(NamedTuple):
    first: int
    last: int
    following: _Lexeme


class _Stop(NamedTuple):
    error: str
    start: int  # of the entry
    fault: str
    at: int  # of the fatal token


def _read(text: str) -> Iterator[_Entry | _Stop]:
    """The entries; at last a _Stop if something is not read."""
    lexemes = _lex(text)
    at = next(lexemes)
    while at.kind != "end":
        start = at.start
        if at.kind != "integer":
            yield _Stop(_syntax_error(at, "address"), start, at.text, at.start)
            return
        first = last = at.value
        at = next(lexemes)
        if at.kind == "range":
            at = next(lexemes)
            if at.kind != "integer":
                yield _Stop(_syntax_error(at, "address range"), start, at.text, at.start)
                return
            last = at.value
            at = next(lexemes)
        yield _Entry(first, last, at)


def _syntax_error(at: _Lexeme, expected: str) -> str:
    where = f"at `{at.text}'" if at.kind != "end" else "at end of input"
    return at.error or f"Syntax error {where} expecting {expected}."


# ---- the lexer of OVN's expressions --------------------------------------------------------------

_U32: Final = 0xFFFFFFFF
_INTEGER: Final = r"[0-9A-Za-z:]*(?:\.(?!\.)[0-9A-Za-z]*)*"  # no colon behind a dot: 10.0.0.5 : 80
# Without possessive quantifiers, which Python 3.11.2 gets wrong (cpython issue 101955). Nothing is given back all the
# same: in _LEXEME one of the alternatives always follows, in the others what could be given back fits nothing else.
_ESCAPE: Final = r"""(?: ["\\/bfnrt] | u (?!0000) [0-9A-Fa-f]{4} )"""
_LEXEME: Final = re.compile(
    rf"""
    (?: [ \t\n\r\v\f]+ | //[^\n]* | /\*[^\n]*?\*/ )*            # a block comment ends on its line
    (?: (?P<integer> (?= [0-9] | :: | [A-Fa-f][0-9A-Fa-f]*: )
                     (?P<value>{_INTEGER}) (?: / (?P<mask>{_INTEGER}) )? )
      | (?P<range>   \.\. )
      | (?P<other>   [$@^][A-Za-z_.][0-9A-Za-z_.]* | [A-Za-z_][0-9A-Za-z_.]*
                   | == | != | <= | >= | <-> | -- | && | \|\| | [()\[\]{{}}=!<>,;:-] )
      | (?P<string>  "(?P<body> (?: [^"\\] | \\. )* )" )
      | (?P<end>     \Z )
      | (?P<wrong>   /\*[^\n]* | ".* | . ) )
    """,
    re.VERBOSE | re.DOTALL,
)
_ETHERNET: Final = re.compile(":".join(["(?:0[xX])?([0-9A-Fa-f]+)"] * 6)).fullmatch  # each modulo 256
_BAD_ESCAPE: Final = re.compile(rf"(?: [^\\] | \\ {_ESCAPE} )* \\ (?! {_ESCAPE} ) (.)", re.VERBOSE | re.DOTALL).match
_WRONG: Final = {
    '"': "Input ends inside quoted string.",
    "$": "`$' must be followed by a valid identifier.",
    "^": "`^' must be followed by a valid identifier.",
    "@": "`@' must be followed by a valid identifier.",
    "&": "`&' is only valid as part of `&&'.",
    "|": "`|' is only valid as part of `||'.",
    "/": "`/' is only valid as part of `//' or `/*'.",
    "/*": "`/*' without matching `*/'.",
    ".": "`.' is only valid as part of `..' or a number.",
}


def _lex(text: str) -> Iterator[_Lexeme]:
    """The tokens, the last one of kind `end`; each only when it is asked for."""
    at, kind = 0, ""
    while kind != "end":
        match = _LEXEME.match(text, at)
        assert match, "the last alternatives match whatever is left"  # noqa: S101
        kind, at = match.lastgroup or "", match.end()
        found, value, error = match[kind], 0, None
        if kind == "integer":
            try:
                value = _integer(match["value"])[1] & _U32
                if match["mask"] is not None:
                    _check_mask(match["value"], match["mask"])
                    kind = "other"
            except ValueError as why:
                kind, error = "wrong", str(why)
        elif kind == "string":
            error = _bad_escape(match["body"])
        elif kind == "wrong":
            error = _WRONG.get(found[:2]) or _WRONG.get(found[0]) or _stray(found)
        yield _Lexeme(kind, found, at - len(found), value, error)


def _integer(text: str) -> tuple[str, int]:
    """(format, value) of a token. ValueError with what the lexer says of a malformed one."""
    if not text:
        raise ValueError("Integer constant expected.")
    ethernet = _ETHERNET(text) if len(text) == 17 else None
    if ethernet:
        return "ethernet", int.from_bytes((int(octet, 16) & 0xFF for octet in ethernet.groups()), "big")
    if text.isdecimal():
        if text[0] == "0" and text != "0":
            raise ValueError("Decimal constants must not have leading zeros.")
        if len(text) > 20 or int(text) >> 64:
            raise ValueError("Decimal constants must be less than 2**64.")
        return "decimal", int(text)
    if text[:2] in {"0x", "0X"}:
        return "hexadecimal", _hexadecimal(text)
    if len(text) < 46:  # INET6_ADDRSTRLEN
        for family in AF_INET, AF_INET6:
            with suppress(OSError):
                return family.name, int.from_bytes(inet_pton(family, text), "big")
    raise ValueError("Invalid numeric constant.")


def _hexadecimal(text: str) -> int:
    """Read from its end, which decides what is found wrong first; zeros in front are free."""
    digits = text[2:]
    if not digits:
        raise ValueError(f"Hex digits expected following {text}.")
    bad = digits.rstrip(hexdigits)
    if digits[len(bad) : -256].strip("0"):
        raise ValueError("Hexadecimal constant requires more than 1024 bits.")
    if bad:
        raise ValueError("Invalid syntax in hexadecimal constant.")
    return int(digits, 16)


def _check_mask(value: str, mask: str) -> None:
    """A masked integer is never an address; ValueError if there is something else to be said against it."""
    (form, number), (mask_form, bits) = _integer(value), _integer(mask)
    if not (
        form == mask_form
        or (mask_form == "decimal" and bits & _U32 <= {"AF_INET": 32, "AF_INET6": 128}.get(form, -1))
        or (mask_form == "hexadecimal" and form == "decimal" and number == 0)
    ):
        raise ValueError("Value and mask have incompatible formats.")


def _bad_escape(body: str) -> str | None:
    escape = _BAD_ESCAPE(body)
    if escape is None:
        return None
    return "malformed \\u escape" if escape[1] == "u" else f"bad escape \\{escape[1]}"


def _stray(character: str) -> str:
    if " " <= character <= "~":
        return f"Invalid character `{character}' in input."
    # Of UTF-8 it is the first byte, as a char, which is signed where most OVN runs.
    byte = character.encode(errors="surrogatepass")[0]
    return f"Invalid byte 0x{byte - 256 if byte > 127 else byte} in input."
