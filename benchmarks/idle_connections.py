"""What thousands of silent connections cost the engine's server: python benchmarks/idle_connections.py [NUMBER]

The real door and our connections in a process of its own, behind them an engine that answers nothing. Told are the
memory of a connection, a newcomer's wait without and beside them, and when the last one has been let go.
"""

import os
import resource
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent.parent
NUMBER = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
ASKED = 200
SERVER = """
import socket, sys
import uvicorn
from serve import listening
from serve.middleware import Door, Settings

async def engine(scope, receive, send):
    raise AssertionError("nobody asks it")

public = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(public.getsockname()[1], flush=True)
door = Door(engine, Settings(), secret="s")
config = uvicorn.Config(door, lifespan="off", log_level="error", **listening.options(None))
uvicorn.Server(config).run([public])
"""


def memory(pid: int) -> int:
    """Bytes that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def waits(port: int) -> list[float]:
    """Milliseconds from a new connection to its answer."""
    took = []
    for _ in range(ASKED):
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(15) == b"HTTP/1.1 200 OK"
        took.append((time.perf_counter() - began) * 1000)
    return took


def told(name: str, took: list[float]) -> None:
    """One line of them."""
    high = statistics.quantiles(took, n=100)[98]
    print(f"{name}: median {statistics.median(took):.2f} ms, 99 of 100 within {high:.2f} ms")


most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # the server inherits it
if most < NUMBER + 100:
    sys.exit(f"{most} files may be open (ulimit -Hn): too few for {NUMBER} connections")
server = subprocess.Popen(
    [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(HERE)}
)
try:
    assert server.stdout
    port = int(server.stdout.readline())
    waits(port)
    before, began = memory(server.pid), time.perf_counter()
    told("alone", waits(port))
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(NUMBER)]
    opened = time.perf_counter()
    held = memory(server.pid)
    beside = waits(port)
    told(f"beside {NUMBER:,} that say nothing", beside)
    assert all(client.recv(1) == b"" for client in idle)
    print(f"{(held - before) / NUMBER / 1024:.1f} KiB a connection; opened in {opened - began:.1f} s")
    print(f"the last was let go {time.perf_counter() - opened:.1f} s after it came")
finally:
    server.kill()
    server.wait()
