"""Label selectors, as kubectl's -l writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovnreserve.api.selectors import Requirement, matches, matches_fields, parse, parse_fields
from ovnreserve.model.errors import BadRequest

LABELS = {"app": "web", "tier": "front", "empty": "", "ovn.kubernetes.io/subnet": "net"}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("  ", True),
        ("app", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web", True),
        ("app!=web", False),
        ("app!=db", True),
        ("app=", False),
        ("empty=", True),
        ("empty", True),
        ("gone", False),
        ("!gone", True),
        ("! gone", True),
        ("!app", False),
        ("gone=web", False),
        ("gone!=web", True),
        ("app in (web,db)", True),
        ("app in ( web , db )", True),
        ("app in(db)", False),
        ("app notin (web,db)", False),
        ("app notin (db)", True),
        ("gone in (web)", False),
        ("gone notin (web)", True),
        ("in in (x),notin", False),
        ("app=web,tier=front", True),
        ("app=web, tier=back", False),
        ("app in (web,db),tier!=back,!gone,ovn.kubernetes.io/subnet=net", True),
    ],
)
def test_a_selector_picks_what_kubectl_would(text: str, *, wanted: bool) -> None:
    assert matches(parse(text), LABELS) is wanted


@pytest.mark.parametrize(
    "text",
    ["=", "a b", "a=b c", "a=b=c", "a,", ",a", "a,,b", "!a=b", "!a in (b)", "a in", "a in b", "a in (b", "a in ()",
     "a in (b c)",
     "a=b!", "-a", "a/b/c", "a=-", "a===b", "a>1", "(a)", "a=x\ny"],
)  # fmt: skip
def test_what_is_no_selector_is_a_bad_request_that_quotes_it(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(text)
    assert caught.value.message == f"unable to parse labelSelector: {text!r}"


@given(st.text() | st.text(st.sampled_from("ab=!,() in"), max_size=20))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        requirements = parse(text)
    except BadRequest:
        return
    assert matches(requirements, LABELS) in (True, False)


names = st.sampled_from(["a", "b", "c"])
values = st.sampled_from(["", "x", "y"])
sets = st.frozensets(values.filter(bool), min_size=1)
requirements = st.one_of(
    st.builds(Requirement, names, st.none(), st.booleans()),
    st.builds(lambda key, value, wanted: Requirement(key, frozenset({value}), wanted), names, values, st.booleans()),
    st.builds(Requirement, names, sets, st.booleans()),
)


def written(r: Requirement) -> str:
    if r.values is None:
        return r.key if r.wanted else f"!{r.key}"
    if len(r.values) == 1:
        return f"{r.key}{'=' if r.wanted else '!='}{next(iter(r.values))}"
    return f"{r.key} {'in' if r.wanted else 'notin'} ({','.join(sorted(r.values))})"


@given(st.lists(requirements, max_size=4), st.dictionaries(names, values))
def test_what_is_written_is_read_and_all_of_it_must_hold(wanted: list[Requirement], labels: dict[str, str]) -> None:
    assert parse(",".join(map(written, wanted))) == wanted
    assert matches(wanted, labels) == all(matches([r], labels) for r in wanted)


@given(requirements, st.dictionaries(names, values))
def test_the_opposite_picks_just_the_others(r: Requirement, labels: dict[str, str]) -> None:
    assert matches([r], labels) != matches([r._replace(wanted=not r.wanted)], labels)


# ---- field selectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", True),
        ("metadata.name=a", True),
        ("metadata.name==a", True),
        ("metadata.name!=a", False),
        ("metadata.name=b", False),
        ("metadata.name=a,type!=b", True),
        ("type=", True),
    ],
)
def test_a_field_selector_looks_at_the_path(text: str, wanted: bool) -> None:
    fields = parse_fields(text, ("metadata.name", "type"))
    assert matches_fields(fields, {"metadata": {"name": "a"}}) is wanted


@pytest.mark.parametrize("text", ["spec.subnet=a", "metadata.name", "=a", "metadata.name>a"])
def test_a_field_that_is_not_supported_is_refused_and_the_others_are_named(text: str) -> None:
    with pytest.raises(BadRequest, match=r"metadata\.name$"):
        parse_fields(text, ("metadata.name",))
