"""Files that libraries write for training: where one cannot be written, an error of the user's and no traceback.

safetensors and torch raise their own errors for a full disk, which are no OSError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tune.errors import UserError

_SAID = ("os error", "PytorchStreamWriter", "file write failed", "unexpected pos")


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Around saving into `folder`. Raises UserError where a library could not write; what was saved before is whole."""
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as e:
        said = e.strerror or str(e) if isinstance(e, OSError) else str(e)
        if not isinstance(e, OSError) and not any(word in said for word in _SAID):
            raise
        raise UserError(
            f"{folder} cannot be written",
            why=f"the disk is full, or files may not grow: {said.splitlines()[0][:150]}",
            fix=f"df -h {folder.parent}   # make room, then: tune train, which resumes",
        ) from None
