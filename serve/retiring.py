"""The end of an engine that another has replaced: it answers what it has under way, and goes.

Its door counts every connection as a client's, so it is not asked whether it moves: one that computes nothing for
longer than its door waits for clients hangs.
"""

import signal
import time

from serve import draining, processes
from serve.bell import Stop
from serve.pulse import Stillness
from serve.starting import Job, Start

LEAVING = 3600.0  # seconds that its requests may still take
LOOK = 0.5  # seconds between two looks


def retire(job: Job, start: Start, stop: Stop) -> None:
    """Return when no process of it is left. `stop` gives its requests the job's drain and no more."""
    engine, deadline = start.engine, time.monotonic() + LEAVING
    still = Stillness(job.hang_after + 2 * draining.lingers())
    if engine.poll() is None:
        engine.send_signal(signal.SIGHUP)  # serve.middleware: no new connections
        while engine.poll() is None and time.monotonic() < deadline and not stop.wait(LOOK):
            still.look(time.monotonic(), None, processes.look(engine), answered=False)
            if job.hang_after and still.idle >= still.patience:
                processes.cut(engine, urgent=stop.urgent)
    processes.stop(engine, drain=job.drain, urgent=stop.urgent, drained=lambda: None)
    start.channel.close()
