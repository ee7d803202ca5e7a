"""README's path and pictures, from a run of the demo: its log and its folder in, README.md and docs/*.png out.

    make demo 2>&1 | tee demo.log
    python docs/from_run.py demo.log demo        # writes README's path; with chromium, the pictures

Which commands the path shows is README's; their outputs are the run's. Figures that stand in sentences and tables
elsewhere in README are written by hand.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PATH = re.compile(r"(<!-- path -->\n```console\n)(.*?)(```\n<!-- /path -->)", re.S)
PICTURES = {
    "report.html": ("report.png", "1180,1700"),
    "adapter/training.html": ("training.png", "1180,1100"),
    "dataset.html": ("dataset.png", "1180,1320"),
}
STEP = re.compile(r"^\x1b\[1m\$ (.*?)\x1b\[0m$", re.M)


def outputs(log: str) -> dict[str, str]:
    """Each command of the run, and what followed it up to the next one."""
    parts = STEP.split(log.replace("\r", "\n").replace("\x1b[2K", ""))
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shown(command: str, output: str) -> str:
    """The lines of an output that a reader needs."""
    if command.startswith("evalsuite compare"):
        (head,) = re.findall(r"^## .+$", output, re.M)
        tables = re.findall(r"^(Held-out questions:|A gain is required:)\n\n((?:\|.+\n)+)", output, re.M)
        return "\n".join([head, *(f"{name}\n{rows.rstrip()}" for name, rows in tables), "…"])
    if command.startswith("evalsuite gate"):
        return output.strip()
    if command == "tune status":
        return re.split(r"\n(?:draining|stopped)", output)[0].strip("\n")  # what the two servers say at the end
    if command.startswith("deploy render"):
        return "\n".join(re.findall(r"^(?:\S+ for \w+: .+|next: .+)$", output, re.M))
    if command.startswith("serve preflight"):
        return "\n".join(re.findall(r"^work/.+ can be served here.+$", output, re.M))
    results = re.findall(r"^(?:wrote|pages:|questions:|dataset:|nano:|adapter:|mxfp4:|merged:) ?.+$", output, re.M)
    return next(line for line in results if "next: " in line)


def path(readme: str, log: str) -> str:
    """README with the outputs of this run under the commands that it shows."""
    told = outputs(log)
    found = PATH.search(readme)
    assert found, "README has a path"
    parts = re.split(r"^\$ (.+)\n", found[2], flags=re.M)
    lines = []
    for command, before in zip(parts[1::2], parts[2::2], strict=True):
        ran = told.get(command)
        served = command.startswith(("serve run", "serve wait"))  # the same in every run
        lines.append(f"$ {command}\n{before if served or ran is None else shown(command, ran) + chr(10)}")
    return readme[: found.start(2)] + "".join(lines) + readme[found.end(2) :]


def draw(work: Path) -> None:
    """The pages of the run as pictures."""
    for page, (name, size) in PICTURES.items():
        source = (work / page).resolve().as_uri()
        flags = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={size}"]
        subprocess.run(["chromium", *flags, f"--screenshot={ROOT / 'docs' / name}", source], check=True)


def main() -> None:
    log, folder = sys.argv[1:]
    file = ROOT / "README.md"
    file.write_text(path(file.read_text(encoding="utf-8"), Path(log).read_text(encoding="utf-8")), encoding="utf-8")
    if shutil.which("chromium"):
        draw(Path(folder) / "work")
    else:
        sys.exit("no chromium: the pictures stay as they were")


if __name__ == "__main__":
    main()
