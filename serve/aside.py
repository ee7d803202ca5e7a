"""Work in a thread of its own, so that the main one hears signals meanwhile: a function in, whether it returned out."""

import threading
from collections.abc import Callable

from tune.errors import unusable


class Aside:
    """Work under way; nothing waits for it at a stop."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as e:
            self._failure = unusable(e)
        except BaseException as e:  # noqa: BLE001 - it is raised where it is waited for
            self._failure = e

    @property
    def failed(self) -> bool:
        """Whether it raised."""
        return self._failure is not None

    @property
    def over(self) -> bool:
        """Whether it has ended, well or not."""
        return not self._thread.is_alive()

    def done(self, timeout: float) -> bool:
        """Whether it has returned, waiting a while for it. Raises what it raised."""
        self._thread.join(timeout)
        if self._failure:
            raise self._failure
        return not self._thread.is_alive()
