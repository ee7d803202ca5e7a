"""A flag that a signal handler sets while the main thread waits for it."""

import signal
import subprocess
import sys
from pathlib import Path

from serve.bell import Bell

# With threading.Event in its place this hangs: its `set` waits for the lock that the interrupted `wait` holds.
PROGRAM = """
import signal, sys
from serve.bell import Bell

bell = Bell()
signal.signal(signal.SIGALRM, lambda *_: bell.set())
for n in range(3000):
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + n % 50))
    while not bell.wait(1e-5):
        pass
    bell.close()
    bell = Bell()
print("all rang")
"""


def test_a_handler_rings_whatever_the_main_thread_does():
    root = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"PYTHONPATH": root},
    )
    assert done.stdout == "all rang\n", done.stderr


def test_a_wait_ends_when_it_rings_and_says_whether_it_did():
    bell = Bell()
    assert not bell.wait(0)
    before = signal.signal(signal.SIGALRM, lambda *_: bell.set())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert bell.wait(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    bell.set()
    assert bell.is_set()
    assert bell.wait(0)
    bell.close()
