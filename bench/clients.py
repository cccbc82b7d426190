"""Many clients at once, in a process of their own: they shall not share an interpreter with what they measure.

Arguments: SOCKET CLIENTS. Requests come on standard input, one JSON body a line; each client keeps its connection and
sends the next one as soon as it has its answer. Prints JSON: `elapsed`, `taken` of each request in seconds, and the
`answers` (code, name, address, or the code and the message of a refusal). Bodies are prepared before and decoded
after the time.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque

from bench.unixhttp import IPS, answer_length, parse, request


class _Client:
    __slots__ = ("buffer", "sent", "socket")

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.buffer = bytearray()
        self.sent = 0.0

    def send(self, message: bytes) -> None:
        self.sent = time.perf_counter()
        self.socket.sendall(message)


def drive(path: str, count: int, messages: list[bytes]) -> tuple[float, list[float], list[bytes]]:
    """Elapsed seconds, seconds of each request, and the answers."""
    clients = [_Client(path) for _ in range(count)]
    by_number = {client.socket.fileno(): client for client in clients}
    poll = select.epoll()
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    waiting = deque(messages)
    taken: list[float] = []
    answers: list[bytes] = []
    begun = time.perf_counter()
    for client in clients[: len(waiting)]:
        client.send(waiting.popleft())
    while len(answers) < len(messages):
        for number, _ in poll.poll():
            client = by_number[number]
            data = client.socket.recv(1 << 16)
            if not data:
                raise ConnectionError("the daemon closed a connection")
            client.buffer += data
            length = answer_length(client.buffer)
            if not length or len(client.buffer) < length:
                continue
            taken.append(time.perf_counter() - client.sent)
            answers.append(bytes(client.buffer))
            client.buffer.clear()
            if waiting:
                client.send(waiting.popleft())
    return time.perf_counter() - begun, taken, answers


def main() -> None:
    path, count = sys.argv[1], int(sys.argv[2])
    messages = [request("POST", IPS, line.strip()) for line in sys.stdin.buffer]
    elapsed, taken, answers = drive(path, count, messages)
    told = []
    for code, answer in map(parse, answers):
        if code == 201:
            told.append((code, answer["metadata"]["name"], answer["spec"]["v4IpAddress"]))
        else:
            told.append((code, "", str(answer.get("message"))))
    print(json.dumps({"elapsed": elapsed, "taken": taken, "answers": told}))


if __name__ == "__main__":
    main()
