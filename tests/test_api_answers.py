"""What a change is answered with when its reservation has gone, or is another's, by the time of the answer."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from builders import reservation, uuid_of

from ovnreserve.api.kinds import document_of
from ovnreserve.engine import Answer
from ovnreserve.engine.published import Published
from ovnreserve.model.resource import State

R = reservation(uuid_of(1), uid="mine")


@pytest.fixture(params=["gone", "another"])
def published(request: Any) -> Published:
    """What is published has no reservation of that name, or a later one."""
    published = Published()
    if request.param == "another":
        published.ips[R.name] = (R.with_(uid="another"), None)  # type: ignore[assignment]
    return published


def shown(published: Published, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(document_of(published, answer))
    return found


def test_what_was_created_is_shown_as_it_was(published: Published) -> None:
    ip = shown(published, Answer("created", R))
    assert (ip["kind"], ip["metadata"]["uid"], ip["status"]["phase"]) == ("IP", "mine", "Reserved")
    assert "deletionTimestamp" not in ip["metadata"]


@pytest.mark.parametrize("r", [R, R.with_(state=State.RELEASING, deleted=5)])
def test_what_was_deleted_is_shown_with_its_deletion(published: Published, r: Any) -> None:
    ip = shown(published, Answer("deleted", r))
    assert (ip["kind"], ip["metadata"]["uid"], ip["status"]["phase"]) == ("IP", "mine", "Releasing")
    assert ip["metadata"]["deletionTimestamp"]
