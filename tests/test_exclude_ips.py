"""exclude_ips: what ovn-northd reads, and what of it is ours."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ovnreserve.model import exclude_ips
from ovnreserve.model.exclude_ips import (
    Parsed,
    TokenRuns,
    begins_with_range,
    join,
    mark,
    parse,
    split,
    tokens,
)
from ovnreserve.model.runs import Runs

NETWORK = 10 << 24
NOT_IN_SUBNET = "excluded addresses not in subnet"


def v4(text: str) -> int:
    return int(IPv4Address(text))


def free(text: str, network: int = NETWORK, prefixlen: int = 28) -> set[int]:
    """The last octets that ovn-northd would hand out."""
    size = 1 << (32 - prefixlen)
    ranges = parse(text, network, prefixlen).ranges
    candidates = range(network + 2, network + size - 1)
    return {a - network for a in candidates if not any(first <= a <= last for first, last in ranges)}


def all_but(*octets: int) -> set[int]:
    return set(range(2, 15)).difference(octets)


# ---- what ovn-northd reads ---------------------------------------------------------------------------

TRANSCRIPT: list[tuple[str, set[int], str | None]] = [
    # facts/ovn.md section 1, line by line: text, what the servers handed out of a /28, what they logged
    ("10.0.0.5", all_but(5), None),
    ("10.0.0.5 10.0.0.7..10.0.0.9 10.0.0.11", all_but(5, 7, 8, 9, 11), None),
    ("  10.0.0.5    10.0.0.7 .. 10.0.0.9  ", all_but(5, 7, 8, 9), None),
    ("10.0.0.4..10.0.0.6 10.0.0.5 10.0.0.5 10.0.0.5..10.0.0.7", all_but(4, 5, 6, 7), None),
    ("9.0.0.1..10.0.0.3 10.0.0.12..11.0.0.1", all_but(2, 3, 12, 13, 14), None),
    ("10.0.0.5\n10.0.0.9", all_but(5, 9), None),
    ("10.0.0.5 /* c */ 10.0.0.9", all_but(5, 9), None),
    ("10.0.0.5 // c\n10.0.0.9", all_but(5, 9), None),
    ("", all_but(), None),
    (" ", all_but(), None),
    ("10.0.0.0 10.0.0.9", all_but(9), NOT_IN_SUBNET),
    ("10.0.0.1 10.0.0.9", all_but(9), None),
    ("10.0.0.15 10.0.0.9", all_but(9), None),
    ("10.0.0.5 10.1.0.6 10.0.0.7", all_but(5, 7), NOT_IN_SUBNET),
    ("10.0.0.5 10.0.0.9..10.0.0.7 10.0.0.12", all_but(5, 12), NOT_IN_SUBNET),
    ("0.0.0.0..255.255.255.255", all_but(), NOT_IN_SUBNET),
    ("10.0.0.2..255.255.255.255", all_but(), NOT_IN_SUBNET),
    ("10.0.0.5,10.0.0.6", all_but(5), "Syntax error at `,' expecting address."),
    ("10.0.0.5 foo 10.0.0.7", all_but(5), "Syntax error at `foo' expecting address."),
    ("10.0.0.5 10.0.0.300 10.0.0.7", all_but(5), "Invalid numeric constant."),
    ("10.0.0.4-10.0.0.6 10.0.0.9", all_but(4), "Syntax error at `-' expecting address."),
    ("10.0.0.4/30 10.0.0.9", all_but(), "Syntax error at `10.0.0.4/30' expecting address."),
    ("10.0.0.05 10.0.0.9", all_but(), "Invalid numeric constant."),
    ("10.0.0.5..  foo 10.0.0.9", all_but(), "Syntax error at `foo' expecting address range."),
    ("10.0.0.5...10.0.0.9", all_but(), "`.' is only valid as part of `..' or a number."),
    ("10.0.0.5.. 10.0.0.9", all_but(5, 6, 7, 8, 9), None),
    ("fd00::5 10.0.0.9", all_but(9), NOT_IN_SUBNET),
    ("fd00::a00:5", all_but(5), None),
    ("fd00::10.0.0.5", all_but(5), None),
    ("0x0a000005", all_but(5), None),
    ("167772165", all_but(5), None),
    # section 13: a text that begins with a range, behind ours
    ("10.0.0.6 .. 10.0.0.3", all_but(), NOT_IN_SUBNET),
    ("10.0.0.5..10.0.0.6 .. 10.0.0.3", all_but(5, 6), "Syntax error at `..' expecting address."),
]

OBSERVED: list[tuple[str, set[int], str | None]] = [
    # of the same kind, each seen on ovn-northd 23.03
    ("10.0.0.5//c", all_but(), "Integer constant expected."),  # no comment: a mask is wanted
    ("/**/10.0.0.5 /**/", all_but(5), None),
    ("10.0.0.5 /*/ 10.0.0.6", all_but(5), "`/*' without matching `*/'."),
    ("10.0.0.5 /* a\nb */ 10.0.0.6", all_but(5), "`/*' without matching `*/'."),
    ("10.0.0.5 / 10.0.0.6", all_but(5), "`/' is only valid as part of `//' or `/*'."),
    ("10.0.0.5:80 10.0.0.6", all_but(5), "Syntax error at `:' expecting address."),
    ("10.0.0.5::a00:6 10.0.0.7", all_but(5, 6, 7), None),
    ("10.0.0.5. 10.0.0.6", all_but(), "Invalid numeric constant."),
    ("10.0.0.5..", all_but(), "Syntax error at end of input expecting address range."),
    (".. 10.0.0.5", all_but(), "Syntax error at `..' expecting address."),
    ("10.0.0.5abc", all_but(), "Invalid numeric constant."),
    ("10.0.0.5_a", all_but(5), "Syntax error at `_a' expecting address."),
    ("a..b", all_but(), "Syntax error at `a..b' expecting address."),
    ("00:00:0a:00:00:05", all_but(5), None),
    ("0x0:0x0:0xa:0:0:5", all_but(5), None),  # an Ethernet address is any six of them in 17 characters
    ("a:b:c:d:e:f", all_but(), "Invalid numeric constant."),
    ("0", all_but(), NOT_IN_SUBNET),
    ("00", all_but(), "Decimal constants must not have leading zeros."),
    ("18446744069582422021", all_but(), NOT_IN_SUBNET),
    ("18446744073709551616", all_but(), "Decimal constants must be less than 2**64."),
    ("0xffffffff0a000005", all_but(5), None),
    ("0x" + "0" * 300 + "a000005", all_but(5), None),
    ("0x1" + "0" * 256, all_but(), "Hexadecimal constant requires more than 1024 bits."),
    ("0xg" + "1" * 256, all_but(), "Invalid syntax in hexadecimal constant."),
    ("0xg" + "1" * 257, all_but(), "Hexadecimal constant requires more than 1024 bits."),
    ("0X", all_but(), "Hex digits expected following 0X."),
    ("0000:0000:0000:0000:0000:ffff:10.0.0.5", all_but(5), None),
    ("::" + "0" * 44, all_but(), "Invalid numeric constant."),  # 46 characters
    ("fd00::/64", all_but(), "Syntax error at `fd00::/64' expecting address."),
    ("10.0.0.4/33", all_but(), "Value and mask have incompatible formats."),
    ("10.0.0.4/", all_but(), "Integer constant expected."),
    ("0/0x1234", all_but(), "Syntax error at `0/0x1234' expecting address."),
    ('"10.0.0.5"', all_but(), 'Syntax error at `"10.0.0.5"\' expecting address.'),
    ('"10.0.0.5', all_but(), "Input ends inside quoted string."),
    (r'"\q"', all_but(), r"bad escape \q"),
    ("$set", all_but(), "Syntax error at `$set' expecting address."),
    ("$5", all_but(), "`$' must be followed by a valid identifier."),
    ("@", all_but(), "`@' must be followed by a valid identifier."),
    ("^template", all_but(), "Syntax error at `^template' expecting address."),
    ("&", all_but(), "`&' is only valid as part of `&&'."),
    ("<-> 10.0.0.5", all_but(), "Syntax error at `<->' expecting address."),
    ("10.0.0.5 # why", all_but(5), "Invalid character `#' in input."),
    ("10.0.0.5\N{NO-BREAK SPACE}10.0.0.6", all_but(5), "Invalid byte 0x-62 in input."),
    ("10.0.0.5\x01", all_but(5), "Invalid byte 0x1 in input."),
    ("10.0.0.5 /* \N{LATIN SMALL LETTER E WITH ACUTE} */ 10.0.0.6", all_but(5, 6), None),
    # whoever complains first says what the lexer has to say
    ("10.1.0.6 10.0.0.300", all_but(), "Invalid numeric constant."),
    ("10.1.0.6 foo", all_but(), NOT_IN_SUBNET),
    ("10.1.0.6 10.0.0.5 10.0.0.300", all_but(5), NOT_IN_SUBNET),
]


@pytest.mark.parametrize(("text", "handed_out", "logged"), TRANSCRIPT + OBSERVED)
def test_a_text_is_read_as_real_servers_read_it(text, handed_out, logged):
    assert free(text) == handed_out
    assert parse(text, NETWORK, 28).error == logged


ADDRESSES = {
    "10.0.0.2": v4("10.0.0.2"),
    "10.0.0.5": v4("10.0.0.5"),
    "10.0.0.14": v4("10.0.0.14"),
    "10.0.0.15": v4("10.0.0.15"),
    "10.0.0.0": v4("10.0.0.0"),
    "0.0.0.0": 0,
    "10.1.0.6": v4("10.1.0.6"),
    "255.255.255.255": 2**32 - 1,
    "fd00::a00:6": v4("10.0.0.6"),
    "::10.0.0.7": v4("10.0.0.7"),
    "0xA000008": v4("10.0.0.8"),
    "167772169": v4("10.0.0.9"),
    "00:00:0a:00:00:0a": v4("10.0.0.10"),
}
LEXICAL_ERRORS = {"10.0.0.300": "Invalid numeric constant.", "#": "Invalid character `#' in input."}
OTHER_TOKENS = ["foo", ",", "10.0.0.4/30", '"10.0.0.5"', "$set", "--"]
GAPS = [" ", "   ", "\n", "\t", " /* 10.0.0.3 */ ", " // 10.0.0.3\n", " /**/"]


def northd(words: list[str]) -> tuple[set[int], str | None]:
    """The rules of facts/ovn.md section 1, address by address: (excluded last octets, error)."""
    excluded: set[int] = set()
    errors: list[str] = []
    left = [*words, "end"]

    def complain(what: str) -> None:
        errors.append(LEXICAL_ERRORS.get(left[0], what))

    while left[0] != "end":
        if left[0] not in ADDRESSES:
            complain(f"Syntax error at `{left[0]}' expecting address.")
            break
        first = last = ADDRESSES[left.pop(0)]
        if left[0] == "..":
            left.pop(0)
            if left[0] not in ADDRESSES:
                where = "end of input" if left[0] == "end" else f"`{left[0]}'"
                complain(f"Syntax error at {where} expecting address range.")
                break
            last = ADDRESSES[left.pop(0)]
        wanted = {n for n in range(1, 16) if first <= NETWORK + n <= last and last != 2**32 - 1}
        if not wanted:
            complain(NOT_IN_SUBNET)
        excluded |= wanted
    return excluded, errors[0] if errors else None


words_of = st.lists(st.sampled_from([*ADDRESSES, *ADDRESSES, "..", "..", "..", *LEXICAL_ERRORS, *OTHER_TOKENS]))


@given(words_of, st.data())
def test_any_words_are_read_as_the_rules_read_them_one_by_one(words, data):
    text = "".join(word + data.draw(st.sampled_from(GAPS)) for word in words)
    excluded, error = northd(words)
    parsed = parse(text, NETWORK, 28)
    assert {n for n in range(16) for first, last in parsed.ranges if first <= NETWORK + n <= last} == excluded
    assert parsed.error == error


SIGNIFICANT = ' \n\t./*:,-$@^"\\05x1aAfgé\N{NO-BREAK SPACE}'
awkward = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    st.text(SIGNIFICANT),
    st.lists(st.sampled_from([*ADDRESSES, "..", "//c", "/*c*/", " ", "\n", *SIGNIFICANT])).map("".join),
)


@given(awkward)
def test_what_is_ignored_is_the_end_of_the_text_and_makes_no_difference(text):
    parsed = parse(text, NETWORK, 28)
    assert text.endswith(parsed.ignored)
    read = text.removesuffix(parsed.ignored)
    assert parse(read, NETWORK, 28).ranges == parsed.ranges
    assert parse(read, NETWORK, 28).ignored == ""
    assert parsed.ignored[parsed.offset :].startswith(parsed.fault)
    assert parsed.error is not None or parsed.ignored == ""


def test_the_part_that_is_ignored_begins_with_the_entry_that_broke():
    assert parse("10.0.0.5 foo 10.0.0.7", NETWORK, 28) == Parsed(
        ranges=((NETWORK + 5, NETWORK + 5),),
        error="Syntax error at `foo' expecting address.",
        ignored="foo 10.0.0.7",
        fault="foo",
    )
    assert parse("10.0.0.5 10.0.0.6 ..  foo", NETWORK, 28)[2:] == ("10.0.0.6 ..  foo", "foo", 13)
    assert parse("10.0.0.5 10.0.0.6 ..", NETWORK, 28)[2:] == ("10.0.0.6 ..", "", 11)
    assert parse("10.0.0.5 10.1.0.6", NETWORK, 28)[2:] == ("", "", 0)


def test_ranges_are_clamped_and_in_the_order_of_the_text():
    assert parse("10.0.0.9 9.0.0.0..10.0.0.2 10.0.0.14..11.0.0.0", NETWORK, 28).ranges == (
        (NETWORK + 9, NETWORK + 9),
        (NETWORK + 1, NETWORK + 2),
        (NETWORK + 14, NETWORK + 15),
    )


def test_host_bits_of_the_network_are_ignored():
    assert parse("10.0.0.5", NETWORK + 9, 28) == parse("10.0.0.5", NETWORK, 28)


def test_in_the_last_subnet_of_all_a_range_up_to_its_broadcast_address_excludes_nothing():
    last = v4("255.255.255.240")
    assert free("255.255.255.245..255.255.255.249", last) == all_but(5, 6, 7, 8, 9)
    assert free("255.255.255.245..255.255.255.255", last) == all_but()


def test_small_subnets_are_read_and_a_single_address_is_not():
    assert parse("10.0.0.0..10.0.0.3", NETWORK, 30).ranges == ((NETWORK + 1, NETWORK + 3),)
    assert parse("10.0.0.0..10.0.0.3", NETWORK, 31).ranges == ((NETWORK + 1, NETWORK + 1),)
    assert parse("foo", NETWORK, 32) == Parsed()


def test_tokens_show_what_is_read_as_it_is_understood():
    assert tokens("fd00::a00:5 10.1.0.6 /* c */ 10.0.0.7\n.. 0xA000009 10.0.0.4..10.0.0.4 foo 10.0.0.12") == [
        "10.0.0.5",
        "10.1.0.6",
        "10.0.0.7..10.0.0.9",
        "10.0.0.4",
    ]
    assert tokens(" // nothing") == []


@pytest.mark.parametrize("text", ["..", "..5", "...", " \n\t..", "/* c */..", "// c\n ..", "//\n/**/.. 10.0.0.5"])
def test_a_range_is_found_at_the_beginning_behind_space_and_comments(text):
    assert begins_with_range(text)


@pytest.mark.parametrize(
    "text", ["", " ", "10.0.0.5..", ". .", "// ..", "/* .. */", "/* c\n*/ ..", '".."', ". ..", "a.."]
)
def test_a_range_elsewhere_is_not_at_the_beginning(text):
    assert not begins_with_range(text)


def test_a_long_hostile_text_is_read_in_time():
    for piece in ("a", "/*", "/**/", r"\\", ":", ".", "0", '""'):
        for text in (piece * 100_000, f"0xg{piece * 100_000}", f'"{piece * 100_000}'):
            assert parse(text, NETWORK, 28).ranges == ()


# ---- our text --------------------------------------------------------------------------------------------

hosts = st.integers(NETWORK + 1, NETWORK + 40)
changes = st.lists(st.tuples(st.sampled_from(["add", "remove", "add_range", "remove_range", "text"]), hosts, hosts))


@given(changes)
def test_the_text_follows_every_change(changes):
    runs = TokenRuns()
    for change, one, other in changes:
        first, last = sorted((one, other))
        if change == "text":
            runs.text()
        elif change.endswith("range"):
            getattr(runs, change)(first, last)
        elif change == "add" or one in runs:
            getattr(runs, change)(one)
    assert runs.text() == " ".join(
        f"{IPv4Address(first)}" + (f"..{IPv4Address(last)}" if last > first else "") for first, last in runs
    )


our_runs = st.frozensets(hosts).map(lambda members: TokenRuns((member, member) for member in members))


@given(our_runs)
def test_our_text_is_read_as_exactly_our_addresses(ours):
    parsed = parse(ours.text(), NETWORK, 16)
    assert parsed.ranges == tuple(ours)
    assert parsed.error is None
    assert tokens(ours.text()) == ours.text().split()


# ---- whose text ------------------------------------------------------------------------------------------

operators_texts = [
    *(text for text, _, _ in TRANSCRIPT + OBSERVED),
    ".. 10.0.0.9",
    "\n..10.0.0.9",
    "/* c */ .. 10.0.0.9",
    "// c\n.. 10.0.0.9",
    "...",
    " .",
    "/* c",
    '"',
    "\\",
    "10.0.0.5 // the end",
    "  ",
    "\n",
    "\N{SNOWMAN}",
]


def each_of(texts: list[str]) -> Any:
    """Try all of these besides what hypothesis thinks of."""

    def decorate(test: Any) -> Any:
        ours = TokenRuns([(NETWORK + 3, NETWORK + 3), (NETWORK + 6, NETWORK + 7), (NETWORK + 12, NETWORK + 12)])
        for text in texts:
            test = example(ours=ours, theirs=text)(test)
        return test

    return decorate


@each_of(operators_texts)
@given(ours=our_runs, theirs=awkward)
def test_joined_texts_exclude_what_each_excludes_alone(ours, theirs):
    value, _ = join(ours.text(), theirs)
    together, alone = parse(value, NETWORK, 26), parse(theirs, NETWORK, 26)
    assert list(Runs(together.ranges)) == list(Runs([*ours, *alone.ranges]))
    assert together[1:] == alone[1:], "the same error, about the same token, with the same rest ignored"


@each_of(operators_texts)
@given(ours=our_runs, theirs=awkward)
def test_joined_texts_are_split_where_they_were_joined(ours, theirs):
    value, marked = join(ours.text(), theirs)
    ours_again, theirs_again = split(value, marked)
    assert theirs_again == theirs
    assert parse(ours_again, NETWORK, 26).ranges == tuple(ours)
    if not begins_with_range(theirs):
        assert ours_again == ours.text()
    assert join(ours.text(), theirs_again) == (value, marked)


@given(our_runs.filter(bool), awkward)
def test_a_value_that_does_not_begin_with_our_text_and_a_space_is_all_the_operators(ours, theirs):
    text, marked = ours.text(), mark(ours.text())
    for changed in (
        f" {text}",
        f"{text}\n{theirs}",
        f"{text},{theirs}",
        f"{text}0 {theirs}",
        text[1:],
        text[:-1],
    ):
        assert split(changed, marked) == ("", changed)


def test_one_space_is_ours_and_every_further_one_theirs():
    marked = mark("10.0.0.5")
    assert split("10.0.0.5", marked) == ("10.0.0.5", "")
    assert split("10.0.0.5 ", marked) == ("10.0.0.5", "")
    assert split("10.0.0.5  10.0.0.6 ", marked) == ("10.0.0.5", " 10.0.0.6 ")
    assert split("10.0.0.5\t10.0.0.6", marked) == ("", "10.0.0.5\t10.0.0.6")
    assert split("10.0.0.50", marked) == ("", "10.0.0.50")
    assert join("10.0.0.5", " ")[0] == "10.0.0.5  "


def test_an_address_that_both_name_stays_the_operators_when_ours_goes():
    value, marked = join("10.0.0.5", "10.0.0.5 10.0.0.6")
    assert join("", split(value, marked)[1]) == ("10.0.0.5 10.0.0.6", "")


def test_what_is_empty_is_to_be_deleted():
    assert join("", "") == ("", "")
    assert join("", "10.0.0.5") == ("10.0.0.5", "")
    assert join("10.0.0.5", "") == ("10.0.0.5", mark("10.0.0.5"))
    assert split("", mark("10.0.0.5")) == ("", "")


def test_our_last_token_becomes_a_range_only_where_theirs_would_take_hold_of_it():
    assert join("10.0.0.3 10.0.0.6", "..10.0.0.2")[0] == "10.0.0.3 10.0.0.6..10.0.0.6 ..10.0.0.2"
    assert join("10.0.0.3 10.0.0.6..10.0.0.7", "..10.0.0.2")[0] == "10.0.0.3 10.0.0.6..10.0.0.7 ..10.0.0.2"
    assert join("10.0.0.3", ". .")[0] == "10.0.0.3 . ."
    assert join("", "..10.0.0.2")[0] == "..10.0.0.2"


DIGEST = mark("10.0.0.5").partition(" ")[2]


def test_a_mark_is_the_length_in_bytes_and_the_sha256():
    assert mark("10.0.0.5") == "8 " + DIGEST
    assert len(bytes.fromhex(DIGEST)) == 32


@pytest.mark.parametrize(
    "malformed",
    [
        None,
        "",
        "8",
        DIGEST,
        f"8  {DIGEST}",
        f" 8 {DIGEST}",
        f"8 {DIGEST}\n",
        f"08 {DIGEST}",
        f"+8 {DIGEST}",
        f"-8 {DIGEST}",
        f"٨ {DIGEST}",
        f"8 {DIGEST.upper()}",
        f"8 {DIGEST[:-1]}",
        f"9 {DIGEST}",
        f"{8 * 10**12} {DIGEST}",
    ],
)
def test_a_malformed_or_wrong_mark_counts_as_none(malformed):
    assert split("10.0.0.5 10.0.0.6", malformed) == ("", "10.0.0.5 10.0.0.6")


def test_a_mark_of_nothing_does_not_swallow_the_operators_first_space():
    nothing = exclude_ips.hashlib.sha256(b"").hexdigest()
    assert split(" 10.0.0.6", f"0 {nothing}") == ("", " 10.0.0.6")


def test_a_mark_that_fits_a_text_we_never_write_is_no_mark():
    octets = "é".encode()
    forged = f"1 {exclude_ips.hashlib.sha256(octets).hexdigest()}"
    assert split("é 10.0.0.6", forged) == ("", "é 10.0.0.6")
