"""Write [deploy] and a target's table into a recipe, every key with its default and what it is for, commented out.

Keys, defaults and words come from the models of tune/deploy.py and the comments beside them, so that they are said
once. What a recipe holds already stays as it is, byte for byte.
"""

import ast
import inspect
import io
import json
import re
import tokenize
import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from deploy.spec import Target
from tune import deploy
from tune.errors import UserError
from tune.section import Section


def write(path: Path, target: Target | None) -> tuple[str, ...]:
    """Add the tables that the recipe at `path` lacks, and say which. Raises UserError when it is no TOML, or holds
    [deploy] in a form that takes no table."""
    old = path.read_bytes() if path.exists() else b""
    found = _parsed(path, old)
    section = found.get("deploy", {})
    missing = [name for name in ("deploy", *([f"deploy.{target}"] if target else [])) if not _has(found, name)]
    if not missing:
        return ()
    parts = [table(name) for name in missing]
    newline = b"\r\n" if b"\r\n" in old else b"\n"
    gap = b"" if not old else newline if old.endswith(b"\n") else newline * 2
    text = "\n\n".join(parts) + "\n"
    new = old + gap + text.encode().replace(b"\n", newline)
    try:
        told = tomllib.loads(new.decode())
    except tomllib.TOMLDecodeError:
        told = {}
    whole = isinstance(section, dict) and all(told.get("deploy", {}).get(k) == v for k, v in section.items())
    if not (whole and all(_has(told, name) for name in missing)):
        fix = f"write it as a table, [deploy], in {path}"
        raise UserError(f"{path} holds [deploy] in a form that no table can be added to", fix=fix)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_bytes(new)
    part.replace(path)
    return tuple(missing)


def table(name: str) -> str:
    """The table `deploy` or `deploy.TARGET` as text, without a line break at its end."""
    _, _, target = name.partition(".")
    model = getattr(deploy, target.capitalize()) if target else deploy.Deploy
    about = (vars(model).get("__doc__") or "").partition("\n")[0]
    lines = [f"[{name}]"] + ([f"# {about}"] if about else [])
    lines += [_line(key, default, said) for key, default, said in keys(model)]
    return "\n".join(lines)


def keys(model: type[BaseModel]) -> list[tuple[str, Any, str]]:
    """Each key that is no table of its own: its name, its default and the comment beside it."""
    said = comments(model)
    found = []
    for key, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if not isinstance(default, BaseModel):
            found.append((key, default, said.get(key, "")))
    return found


def comments(model: type[BaseModel]) -> dict[str, str]:
    """What stands in comments right above and beside the fields of a model and those that it takes over, in the
    source; what is said to linters is left out, and what stands apart."""
    sections = [each for each in reversed(model.__mro__) if issubclass(each, Section)]
    return {key: said for each in sections for key, said in _comments(inspect.getsource(each)).items()}


def _comments(source: str) -> dict[str, str]:
    """Likewise of the source of one class."""
    alone = {n for n, line in enumerate(source.splitlines(), 1) if line.lstrip().startswith("#")}
    told: dict[int, str] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            parts = (part.strip() for part in token.string.split("#"))
            told[token.start[0]] = ". ".join(p for p in parts if p and not re.match(r"noqa|type:", p))

    def first(line: int) -> int:
        return first(line - 1) if line - 1 in alone else line

    (body,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    return {
        node.target.id: " ".join(
            words for n in range(first(node.lineno), (node.end_lineno or 0) + 1) if (words := told.get(n))
        )
        for node in body.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def _line(key: str, default: Any, said: str) -> str:
    value = "{}" if default == {} else json.dumps(default, ensure_ascii=False)
    return f"# {key} = {value}" + (f"  # {said}" if said else "")


def _has(found: dict[str, Any], name: str) -> bool:
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return False
        found = found[part]
    return True


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UserError(f"{path} is not TOML", why=str(e), fix=f"mend {path}") from None
