"""What deploy tells people to type: each command whole, with the folder that they named."""

import ast
import re
from pathlib import Path

import pytest
from deployment import needed, rendered

import deploy
from deploy import dryrun, folder, looking, pushing, refusal
from deploy.spec import TARGETS
from deploy.targets.sagemaker import events, rollout
from tune.errors import UserError

HERE = Path(deploy.__file__).parent
# start.py runs in the container, where nobody has named a folder.
OURS = sorted(p for p in HERE.rglob("*.py") if p.name != "start.py")
# A command without its folder, or with nothing but "again" after it. A text that ends there goes on with a name.
LACKS = re.compile(
    r"deploy (push|status|logs|rollback|destroy|smoke|client|try)(?! FOLDER| $)"
    r"|deploy (render|check|plan)(?! TARGET --checkpoint| \w+ --checkpoint| $)"
    r"|(?<!deploy )\b(push|render|destroy) (it )?again|deploy \w+( \w+)? again"
)


def texts(path):
    """The texts that stand as `fix`, by name or as an argument; their line with each."""
    for node in ast.walk(ast.parse(path.read_text())):
        given = [node.value] if isinstance(node, ast.keyword) and node.arg == "fix" else []
        if isinstance(node, ast.Assign) and any(isinstance(n, ast.Name) and n.id == "fix" for n in node.targets):
            given = [node.value]
        for each in given:
            yield from (n.value for n in ast.walk(each) if isinstance(n, ast.Constant) and isinstance(n.value, str))


@pytest.mark.parametrize("path", OURS, ids=lambda p: str(p.relative_to(HERE)))
def test_every_command_in_a_fix_can_be_typed(path):
    assert [text for text in texts(path) if LACKS.search(text)] == []


def test_so_can_those_in_tables_of_fixes():
    told = [fix for _, fix in (*events.HINTS, ("", events.ELSE), *refusal.STATUSES.values())]
    assert [fix for fix in (*told, *rollout.STUCK.values(), folder.RENDER, folder.REMAKE) if LACKS.search(fix)] == []


@pytest.mark.parametrize(
    "text",
    [
        "deploy push again",
        "deploy render compose again",
        "deploy logs",
        "deploy destroy it and push again",
        "deploy push",
    ],
)
def test_what_cannot_be_typed_is_seen(text):
    assert LACKS.search(text)


def test_folder_and_target_are_spelled_out(tmp_path):
    made = rendered(tmp_path / "it's here", "modal")
    at = f"'{tmp_path}/it'\"'\"'s here/deploy/modal'"
    with pytest.raises(UserError) as e, folder.named(made):
        raise refusal.Perhaps("what", why="in /x/FOLDER/y, FOLDER-z", fix=f"{folder.RENDER}, then deploy push FOLDER.")
    assert isinstance(e.value, refusal.Perhaps)
    assert e.value.why == "in /x/FOLDER/y, FOLDER-z"
    render = f"deploy render modal --checkpoint CHECKPOINT --report REPORT --out {at}"
    assert e.value.fix == f"{render}, then deploy push {at}."
    assert folder.spelled("deploy render TARGET --out FOLDER", Path("gone")) == "deploy render TARGET --out gone"


SHOWN = {
    "runpod": {"<digest of the image>", "<its id>"},
    "sagemaker": {"<number of the account>", "<digest of the image>"},
    "kubernetes": {"<name of the cluster>"},
    "huggingface": {"<its state>"},
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_only_the_platform_will_tell_has_words_in_a_dry_run(tmp_path, target):
    aws = {"sagemaker": {"bucket": "acme", "role_arn": "arn:aws:iam::123456789012:role/x"}}
    at = folder.read(rendered(tmp_path, target, **{**needed(target), "registry": "docker.io/acme", **aws}))
    steps, says = dryrun.rehearse(lambda: looking.flow("push", at), there=False)
    lines = [*(line for step in steps for line in dryrun.shown(step)), *says]
    lines += pushing.announced(at.deployment, steps, None)
    assert {found for line in lines for found in re.findall(r"<[^>]+>|{id}", line)} == SHOWN.get(target, set())


def test_a_push_of_an_image_that_lies_on_no_registry_says_who_has_to_have_it(tmp_path):
    """Kubernetes' nodes may have been given it by hand."""

    def told(**more):
        found = folder.read(rendered(tmp_path, "kubernetes", **more)).deployment
        return [line for line in pushing.announced(found, [], None) if "warning" in line]

    (line,) = told()
    assert line.endswith("names no registry, so the nodes cannot pull it, unless they have it already")
    assert told(registry="docker.io/acme") == []
