"""The port that never closes: whoever connects is answered, by the engine or without one."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx

from serve.front import AT_ONCE, Front
from serve.supervisor import State

ASK = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"
ENGINE = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nengine"


def ask(port):
    """The first line of the answer, and its end."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(ASK)
        told = b""
        while more := client.recv(4096):
            told += more
    return told


def test_a_port_that_is_just_open_says_that_the_server_starts():
    """Who asks before anything else was said, as RunPod's load balancer may, hears no empty state."""
    with Front("127.0.0.1", 0) as front:
        told = httpx.get(f"http://127.0.0.1:{front.public.getsockname()[1]}/readyz", trust_env=False)
    assert (told.status_code, told.json()["state"]) == (503, "starting")


def test_no_connection_is_lost_between_the_engine_and_who_answers_without_one():
    """The port changes hands all the while; each client hears one of the two."""
    over = threading.Event()
    with Front("127.0.0.1", 0) as front, ThreadPoolExecutor(5) as pool:
        front.state = State.STARTING
        number = front.public.getsockname()[1]

        def accept():
            """An engine: it takes connections from the same socket."""
            while not over.is_set():
                try:
                    client, _ = front.public.accept()
                except BlockingIOError:
                    over.wait(0.0005)
                    continue
                with client:
                    client.setblocking(True)
                    client.recv(4096)
                    client.sendall(ENGINE)

        accepting = pool.submit(accept)
        asking = [pool.submit(lambda: [ask(number) for _ in range(300)]) for _ in range(4)]
        while not all(each.done() for each in asking):
            front.leave()
            front.answer()
        over.set()
        accepting.result()
        heard = [told for each in asking for told in each.result()]
    assert len(heard) == 1200
    assert {told[:15] for told in heard} == {b"HTTP/1.1 200 OK"}
    ends = {told.rpartition(b"\r\n")[2] for told in heard}
    assert ends == {b"engine", b'{"status": "alive", "state": "starting"}'}


def test_whoever_came_while_it_started_hears_that_even_if_it_asks_later():
    """And not that the server which does not answer is ready."""
    with Front("127.0.0.1", 0) as front:
        front.state = State.STARTING
        with socket.create_connection(front.public.getsockname(), timeout=30) as client:
            while not front._replies:
                pass
            front.state = State.READY
            front.leave()
            client.sendall(b"GET /readyz HTTP/1.1\r\n\r\n")
            told = b"".join(iter(lambda: client.recv(4096), b""))
    assert told.startswith(b"HTTP/1.1 503")
    assert b'"state": "starting"' in told
    assert b"ready" not in told.replace(b"not_ready", b"")


def test_a_newcomer_is_answered_however_many_say_nothing():
    """The oldest makes room, so that a probe is heard and descriptors are left for an engine."""
    with Front("127.0.0.1", 0) as front, ExitStack() as end:
        number = front.public.getsockname()[1]
        idle = [end.enter_context(socket.create_connection(("127.0.0.1", number), timeout=30)) for _ in range(AT_ONCE)]
        while len(front._replies) < AT_ONCE:
            pass
        assert ask(number).startswith(b"HTTP/1.1 200 OK")
        assert idle[0].recv(1) == b""
        assert len(front._replies) <= AT_ONCE
