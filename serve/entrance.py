"""Who may connect: the supervisor from the start, everybody from the opening on until the server is left.

Mixed into a uvicorn server that is given the public socket. Several engines may hold that socket, and only those that
accept at it get clients; so one can load and be proven while another serves, and connections go from this to that
without one being refused. Knows no requests.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

_here: list["Entrance"] = []


class Entrance:
    """For a class before uvicorn.Server. `private`: the supervisor's own socket."""

    private: socket.socket
    config: Any
    lifespan: Any
    server_state: Any
    servers: list[Any]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, at the private socket alone.

        Plain HTTP on loopback, whatever everybody is shown: a certificate that has ended, or was exchanged, must not
        make the engine look as if it hung.
        """
        self._sockets, self._public = sockets or [], list[Any]()
        shown, self.config.ssl = self.config.ssl, None
        try:
            await super().startup([self.private])  # type: ignore[misc]
        finally:
            self.config.ssl = shown
        _here[:] = [self]

    async def open(self) -> None:
        """Accept at the public socket."""
        config, state = self.config, self.server_state

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(
                config=config, server_state=state, app_state=self.lifespan.state
            )
            return made

        loop = asyncio.get_running_loop()
        for each in () if self._public else self._sockets:
            server = await loop.create_server(protocol, sock=each, ssl=config.ssl, backlog=config.backlog)
            self._public.append(server)
            self.servers.append(server)

    def close(self) -> None:
        """Accept there no more; connections that are there stay."""
        for server in self._public:
            server.close()

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self.server_state.connections)


def here() -> Sequence[Entrance]:
    """This process's, once its server has started; none where the door stands before another server."""
    return tuple(_here)
