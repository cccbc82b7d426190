"""What a change is answered with when its reservation has gone, or is another's, by the time of the answer."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from builders import reservation, uuid_of

from ovnreserve.api.app import Api
from ovnreserve.engine import Answer
from ovnreserve.engine.published import Published
from ovnreserve.model.resource import State

R = reservation(uuid_of(1), uid="mine")


@pytest.fixture(params=["gone", "another"])
def api(request: Any) -> Api:
    """An API whose engine has published no reservation of that name, or a later one."""
    published = Published()
    if request.param == "another":
        published.ips[R.name] = (R.with_(uid="another"), None)  # type: ignore[assignment]
    api = Api.__new__(Api)
    vars(api).update(vars(SimpleNamespace(_published=published, _ledger=Path())))
    return api


def shown(api: Api, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.to_builtins(api._document(answer))
    return found


def test_what_was_created_is_shown_as_it_was(api: Api) -> None:
    ip = shown(api, Answer("created", R))
    assert (ip["kind"], ip["metadata"]["uid"], ip["status"]["phase"]) == ("IP", "mine", "Reserved")
    assert "deletionTimestamp" not in ip["metadata"]


@pytest.mark.parametrize("r", [R, R.with_(state=State.RELEASING, deleted=5)])
def test_what_was_deleted_is_shown_with_its_deletion(api: Api, r: Any) -> None:
    ip = shown(api, Answer("deleted", r))
    assert (ip["kind"], ip["metadata"]["uid"], ip["status"]["phase"]) == ("IP", "mine", "Releasing")
    assert ip["metadata"]["deletionTimestamp"]
