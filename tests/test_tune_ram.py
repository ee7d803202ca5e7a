"""Free memory as a planted machine and control group state it."""

from pathlib import Path

import pytest

from tune import ram

MEMINFO = "MemTotal: 9000 kB\nMemAvailable: 4000 kB\n"
STAT = "anon 100\ninactive_file 700\nactive_file 50\n"


@pytest.mark.parametrize(
    ("limit", "stat", "free"),
    [
        ("max\n", STAT, 4_096_000),  # no limit: the machine's own
        ("3000\n", STAT, 1700),  # 2000 are used, 700 of them for files nobody reads any more
        ("99999999999\n", STAT, 4_096_000),  # a limit above what the machine has
        ("3000\n", "", 4_096_000),  # not a control group that we read
    ],
)
def test_a_container_has_its_limit_less_what_it_cannot_give_back(
    tmp_path: Path, limit: str, stat: str, free: int
) -> None:
    for name, text in {
        "meminfo": MEMINFO,
        "memory.max": limit,
        "memory.current": "2000\n",
        "memory.stat": stat,
    }.items():
        (tmp_path / name).write_text(text)
    assert ram.free(tmp_path / "meminfo", tmp_path) == free


def test_this_machine_has_some() -> None:
    assert ram.free() > 0
    assert ram.free(group=Path("/no-such-group")) > 0
