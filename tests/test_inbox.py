"""The inbox: requests in from any thread, answers out together, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from ovnreserve.engine import inbox as module
from ovnreserve.engine.inbox import Inbox
from ovnreserve.engine.work import Answer, Delete, Request, Ticket
from ovnreserve.model.errors import OutcomeUnknown, Unavailable

LATE = float("inf")


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


def submit(inbox: Inbox, *names: str, key: Any = "key", timeout: float = 30.0) -> Ticket:
    """Submit, take, and return the ticket. There must be a request in it."""
    requests: list[Request] = [Delete(name) for name in names]
    inbox.submit(requests, key, timeout, wait_sb=False)
    taken = list(inbox.take())
    assert [(request, index) for request, _ticket, index in taken] == list(
        zip(requests, range(len(names)), strict=True)
    )
    return taken[0][1]


def none_under_way() -> set[Ticket]:
    return set()


def refusals(ticket: Ticket) -> list[type | None]:
    return [answer and answer.refused and type(answer.refused) for answer in ticket.answers]


def test_requests_are_taken_in_order_and_once(inbox: Inbox) -> None:
    inbox.submit([Delete("a"), Delete("b")], 1, 30.0, wait_sb=True)
    inbox.submit([Delete("c")], 2, 30.0, wait_sb=False)
    assert inbox.has_come
    taken = [(request.name, ticket.key, index, ticket.wait_sb) for request, ticket, index in inbox.take()]
    assert taken == [("a", 1, 0, True), ("b", 1, 1, True), ("c", 2, 0, False)]
    assert not inbox.has_come
    assert list(inbox.take()) == []


def test_a_ticket_is_delivered_when_its_last_answer_is_there_with_all_in_order(inbox: Inbox) -> None:
    ticket = submit(inbox, "a", "b")
    inbox.reply(ticket, 1, Answer("second"))
    assert inbox.delivered() == []
    inbox.reply(ticket, 0, Answer("first"))
    assert inbox.delivered() == [ticket]
    assert ticket.answers == [Answer("first"), Answer("second")]
    assert inbox.delivered() == []


def test_only_the_first_answer_to_a_request_counts(inbox: Inbox) -> None:
    ticket = submit(inbox, "a", "b")
    inbox.reply(ticket, 0, Answer("first"))
    inbox.reply(ticket, 0, Answer("again"))
    assert inbox.delivered() == []
    inbox.reply(ticket, 1, Answer("second"))
    inbox.reply(ticket, 1, Answer("again"))
    assert [answer and answer.result for answer in ticket.answers] == ["first", "second"]
    assert inbox.delivered() == [ticket]


def test_a_call_without_requests_is_answered_at_once(inbox: Inbox) -> None:
    inbox.submit([], "empty", 30.0, wait_sb=False)
    assert list(inbox.take()) == []
    [ticket] = inbox.delivered()
    assert (ticket.key, ticket.answers) == ("empty", [])


def test_at_the_deadline_what_was_not_begun_is_refused_and_what_is_under_way_is_unknown(inbox: Inbox) -> None:
    waiting, begun = submit(inbox, "a"), submit(inbox, "b")
    inbox.expire(LATE, lambda: {begun})
    assert refusals(waiting) == [Unavailable]
    assert refusals(begun) == [OutcomeUnknown]
    assert set(inbox.delivered()) == {waiting, begun}
    assert "nothing was changed" in str(waiting.answers[0])
    assert "look with get" in str(begun.answers[0])


def test_what_nobody_has_looked_at_yet_is_refused_at_its_deadline_and_not_looked_at_any_more(inbox: Inbox) -> None:
    inbox.submit([Delete("a")], "early", 1.0, wait_sb=False)
    inbox.submit([Delete("b")], "late", 1000.0, wait_sb=False)
    inbox.expire(time.monotonic() + 10, none_under_way)
    [early] = inbox.delivered()
    assert (early.key, refusals(early)) == ("early", [Unavailable])
    assert inbox.has_come
    assert [request.name for request, _ticket, _index in inbox.take()] == ["b"]
    assert not inbox.has_come


def test_answers_that_are_there_at_the_deadline_stay(inbox: Inbox) -> None:
    ticket = submit(inbox, "a", "b")
    inbox.reply(ticket, 1, Answer("done"))
    inbox.expire(LATE, none_under_way)
    assert refusals(ticket) == [Unavailable, None]
    assert ticket.answers[1] == Answer("done")


def test_what_is_carried_out_and_only_waits_for_northd_is_answered_with_the_truth_at_the_deadline(inbox: Inbox) -> None:
    ticket = submit(inbox, "a", "b")
    ticket.fallback[0] = Answer("created", warnings=("not yet enforced",))
    inbox.expire(LATE, none_under_way)
    assert ticket.answers[0] == Answer("created", warnings=("not yet enforced",))
    assert refusals(ticket) == [None, Unavailable]


def test_an_answer_after_the_deadline_is_dropped(inbox: Inbox) -> None:
    ticket = submit(inbox, "a")
    inbox.expire(LATE, none_under_way)
    inbox.delivered()
    inbox.reply(ticket, 0, Answer("too late"))
    assert refusals(ticket) == [Unavailable]
    assert inbox.delivered() == []


def test_nobody_is_told_before_the_deadline_or_twice(inbox: Inbox) -> None:
    soon, later = submit(inbox, "a", timeout=1.0), submit(inbox, "b", timeout=100.0)
    assert inbox.next_deadline == soon.deadline
    inbox.expire(soon.deadline - 0.1, none_under_way)
    assert inbox.delivered() == []
    inbox.expire(soon.deadline, none_under_way)
    assert inbox.delivered() == [soon]
    inbox.expire(soon.deadline, none_under_way)
    assert inbox.delivered() == []
    assert inbox.next_deadline == later.deadline


def test_what_is_answered_has_no_deadline_any_more(inbox: Inbox) -> None:
    ticket = submit(inbox, "a")
    inbox.reply(ticket, 0, Answer("done"))
    assert inbox.next_deadline == LATE

    def nobody_asks() -> set[Ticket]:
        raise AssertionError

    inbox.expire(LATE, nobody_asks)
    assert inbox.delivered() == [ticket]


def test_beyond_a_number_of_waiting_requests_more_are_refused_until_some_are_answered(
    inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    first = submit(inbox, "a", "b")
    inbox.submit([Delete("c"), Delete("d")], "many", 30.0, wait_sb=False)
    assert list(inbox.take()) == []
    [refused] = inbox.delivered()
    assert refusals(refused) == [Unavailable, Unavailable]
    for index in range(2):
        inbox.reply(first, index, Answer("done"))
    second = submit(inbox, "e", "f")
    inbox.expire(LATE, none_under_way)
    assert set(inbox.delivered()) == {first, second}
    submit(inbox, "g", "h", "i")


def test_many_threads_may_submit_at_once(inbox: Inbox) -> None:
    def client(number: int) -> None:
        for call in range(50):
            inbox.submit([Delete(f"{number}-{call}")], number, 30.0, wait_sb=False)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    taken: list[str] = []
    while len(taken) < 200:
        for request, ticket, index in inbox.take():
            taken.append(request.name)
            inbox.reply(ticket, index, Answer("done"))
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 200
    for number in range(4):
        mine = [name for name in taken if name.startswith(f"{number}-")]
        assert mine == [f"{number}-{call}" for call in range(50)], "each client's in order"
    assert len(inbox.delivered()) == 200
    assert inbox._waiting == 0


def test_when_the_engine_has_failed_all_who_wait_are_told_the_same_and_nobody_else_anything(inbox: Inbox) -> None:
    done, waiting = submit(inbox, "a", key="done"), submit(inbox, "b", "c", key="waiting")
    inbox.reply(done, 0, Answer("created"))
    inbox.reply(waiting, 0, Answer("created"))
    waiting.fallback[1] = Answer("late")
    inbox.submit([Delete("d")], "just come", 30.0, wait_sb=False)
    assert inbox.delivered() == [done]
    inbox.abandon(OutcomeUnknown("failed"))
    told = inbox.delivered()
    assert {ticket.key for ticket in told} == {"waiting", "just come"}
    assert [answer and answer.result for answer in waiting.answers] == ["created", "late"]
    [just_come] = [ticket for ticket in told if ticket is not waiting]
    assert refusals(just_come) == [OutcomeUnknown]
    inbox.expire(LATE, none_under_way)
    assert inbox.delivered() == []


def test_once_closed_it_hands_out_what_has_come_and_refuses_the_rest_at_once(inbox: Inbox) -> None:
    assert inbox.submit([Delete("a")], 1, 30.0, wait_sb=False) is None
    inbox.close(Unavailable("stopping"))
    refused = inbox.submit([Delete("b"), Delete("c")], 2, 30.0, wait_sb=False)
    assert refused is not None
    assert (refused.key, refusals(refused)) == (2, [Unavailable, Unavailable])
    assert [request for request, _ticket, _index in inbox.take()] == [Delete("a")]
