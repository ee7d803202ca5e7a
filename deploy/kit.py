"""Our code that a container needs and no more: the imports of what runs there, followed through serve and tune.

In: the rendered programs. Out: path in the kit: text. What is left out is nothing that could be attacked or be wrong
there. Reads source, imports nothing; imports for type checkers alone are left out.
"""

import ast
import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from serve import command

OURS = ("serve", "tune")
# What start.py starts by name: the engine's process, its door, and who makes kernels beside it.
STARTED = ("serve.launcher", "serve.middleware", "serve.kernels")


def files(programs: Mapping[str, str]) -> dict[str, str]:
    """The modules of ours that `programs` (name: Python source) reach, and the tables beside them that they read.

    Raises RuntimeError when one imports a module of ours that there is not.
    """
    root = Path(command.__file__).parent.parent
    wanted = [*STARTED, *(name for text in programs.values() for name in _imports(ast.parse(text), root, "", ""))]
    found: dict[str, str] = {}
    while wanted:
        name = wanted.pop()
        path = _path(root, name)
        if path is None:
            raise RuntimeError(f"{name} is imported in the container, and is no module of ours")  # a bug of ours
        where = path.relative_to(root).as_posix()
        if where not in found:
            found[where], tables, needed = _module(name, path, root)
            found |= tables
            wanted += needed
    return {f"kit/{where}": found[where] for where in sorted(found)}


@cache
def _module(name: str, path: Path, root: Path) -> tuple[str, dict[str, str], list[str]]:
    """A module's source, the tables beside it, and the modules that it needs."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return text, _tables(tree, path.parent, root), [*_parents(name), *_imports(tree, root, package, name)]


@cache
def digest() -> str:
    """sha256 of all that an image of ours may hold beside weights and settings: programs, Dockerfiles, kit."""
    root = Path(__file__).parent / "targets"
    programs = [root / "start.py", *(root / "runpod" / name for name in ("handler.py", "balanced.py"))]
    found = [*programs, *root.rglob("Dockerfile.jinja"), *root.rglob("requirements.txt")]
    texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in found}
    texts |= files({name: text for name, text in texts.items() if name.endswith(".py")})
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _imports(tree: ast.AST, root: Path, package: str, module: str) -> Iterator[str]:
    """Names of our modules that are imported anywhere in a module, functions included."""
    for node in _run(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _ours(alias.name) and alias.name != module)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*parts, *([node.module] if node.module else [])])
            if not _ours(source):
                continue
            yield source
            names = (f"{source}.{alias.name}" for alias in node.names)
            yield from (name for name in names if _path(root, name))


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _run(child)


def _tables(tree: ast.AST, folder: Path, root: Path) -> dict[str, str]:
    """Files that are no code, beside a module that names them in a string."""
    named = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    beside = (p for p in folder.iterdir() if p.suffix in {".toml", ".json"} and p.name in named)
    return {p.relative_to(root).as_posix(): p.read_text(encoding="utf-8") for p in beside}


def _parents(name: str) -> Iterator[str]:
    """The packages that importing a module imports first."""
    parts = name.split(".")
    yield from (".".join(parts[:n]) for n in range(1, len(parts)))


def _ours(name: str) -> bool:
    return name.split(".")[0] in OURS


def _path(root: Path, name: str) -> Path | None:
    """A module's file."""
    place = root / name.replace(".", "/")
    return next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
