"""What is done at RunPod, against its REST v2 on loopback, with programs that stand in for Docker and curl."""

import json
import os
import stat
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from deployment import on_its_day, rendered
from runpod_v2 import KEY, opened, problems
from test_deploy_runpod import BALANCED, POD, VOLUME

from deploy import dryrun, live, looking, pushing, running, undoing
from deploy.folder import read
from deploy.hands import Hands
from deploy.targets.runpod import live as operator
from deploy.targets.runpod.asking import API
from tune.errors import UserError

IMAGE = "docker.io/acme/python-docs"
DOCKER = """#!/bin/sh
echo "$@" >> {log}
case "$1 $2" in
  "image inspect") echo "[\\"other/x@sha256:{other}\\",\\"acme/python-docs@sha256:$(cat {digest})\\"]";;
  push*) test ! -e {fails} || {{ echo "denied: requested access to the resource is denied" >&2; exit 1; }};;
esac
"""
CURL = """#!/bin/sh
cat > {log}.in
echo "$@" > {log}.argv
printf 'data: {{"line": "Worker ready.\\033[2J", "ts": "x"}}\\n'
exit 28
"""


class There:
    """RunPod, Docker and a folder to push."""

    def __init__(self, tmp_path, v2):
        self.tmp, self.v2, self.said, self.log = tmp_path, v2, [], tmp_path / "docker.log"
        self.digest, self.fails, self.folder = tmp_path / "digest", tmp_path / "fails", None
        self.pushed("a")
        (tmp_path / "bin").mkdir()
        told = {"log": self.log, "digest": self.digest, "fails": self.fails, "other": "f" * 64}
        for name, text in (("docker", DOCKER.format(**told)), ("curl", CURL.format(log=tmp_path / "curl"))):
            path = tmp_path / "bin" / name
            path.write_text(text)
            path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def pushed(self, letter):
        """What Docker says that the image is."""
        self.digest.write_text(letter * 64)
        return f"{IMAGE}@sha256:{letter * 64}"

    def render(self, **deploy):
        self.folder = rendered(self.tmp, "runpod", **{"registry": "docker.io/acme", **deploy})
        return self

    @property
    def at(self):
        return read(self.folder)

    @property
    def record(self):
        return pushing.known(self.at)

    @property
    def hands(self):
        routes = {API: f"{self.v2.url}/v2"}
        return Hands(self.folder, show=self.said.append, patience=0.0, routes=routes)

    def push(self):
        return pushing.push(self.folder, self.hands, self.said.append, lambda _: None).says

    def rollback(self):
        return undoing.rollback(self.at, self.hands, self.said.append, lambda _: None).says

    def destroy(self):
        return undoing.destroy(self.at, self.hands, self.said.append, lambda _: None).says

    def look(self, command):
        return running.drive(looking.flow(command, self.at), self.hands, say=self.said.append)

    def client(self):
        return operator.client(self.at.deployment, self.record)

    def sent(self, *methods):
        return [(m, path, body) for m, path, body in self.v2.asked if m in (methods or ("POST", "PATCH", "DELETE"))]

    def refused(self, do):
        with pytest.raises(UserError) as caught:
            do()
        everything = caught.value.message + "\n".join(self.said) + live.place(self.folder).read_text()
        assert KEY not in everything
        return caught.value.message

    @property
    def endpoint(self):
        (found,) = self.v2.things["serverless"].values()
        return found


@pytest.fixture
def there(tmp_path, monkeypatch):
    on_its_day(monkeypatch)
    monkeypatch.setenv("RUNPOD_API_KEY", KEY)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with opened() as v2:
        yield There(tmp_path, v2)


def test_a_push_builds_pushes_and_makes_the_endpoint_by_the_images_digest(there):
    says = there.render(secrets={"HF_TOKEN": "hf_read"}).push()
    ((_, path, body),) = there.sent()
    rendered = json.loads((there.folder / "endpoint.json").read_text())
    assert path == "/v2/serverless"
    assert body == {**rendered, "image": there.pushed("a")}
    build, push, _ = there.log.read_text().splitlines()
    assert build.startswith("build --platform linux/amd64 --build-context checkpoint=../../merged --tag")
    assert push == f"push {there.at.deployment.image}"
    assert there.record.gave("create")["id"] == there.endpoint["id"]
    assert any("hf_read" in line for line in says)
    remove = next(d.remove for d in there.record.last.steps if d.id == "create")
    assert remove.endswith(f"DELETE {API}/serverless/{there.endpoint['id']}")


def test_a_second_push_changes_nothing_and_a_third_what_has_changed(there):
    there.render().push()
    assert "nothing to change" in there.push()[0]
    assert [m for m, *_ in there.sent()] == ["POST"]
    image = there.pushed("b")
    there.render(idle_seconds=60).push()
    ((_, path, body),) = there.sent("PATCH")
    assert path == f"/v2/serverless/{there.endpoint['id']}"
    assert problems("UpdateEndpointRequest", body) == []
    assert (there.endpoint["image"], there.endpoint["workers"]["idleTimeout"]) == (image, 60)


def test_a_rollback_sends_what_was_sent_before(there):
    first = there.pushed("a")
    there.render().push()
    there.pushed("b")
    there.render(idle_seconds=60).push()
    assert first in there.rollback()[0]
    assert (there.endpoint["image"], there.endpoint["workers"]["idleTimeout"]) == (first, 300)
    assert "no release" in there.refused(there.rollback)


def test_after_a_rollback_it_is_known_by_the_id_that_it_has_now(there):
    there.render().push()
    (first,) = there.v2.things["serverless"]
    there.v2.things["serverless"].clear()  # by hand
    there.render(idle_seconds=60).push()
    (id,) = there.v2.things["serverless"]
    there.rollback()
    assert id != first
    assert id in there.client().base_url
    there.destroy()
    assert there.v2.things["serverless"] == {}


def test_an_endpoint_that_was_deleted_by_hand_is_made_anew(there):
    there.render().push()
    there.v2.things["serverless"].clear()
    there.push()
    assert [m for m, *_ in there.sent()] == ["POST", "POST"]
    assert there.record.gave("create")["id"] == there.endpoint["id"]
    assert there.endpoint["id"] in there.client().base_url


def test_status_says_what_runs_where_and_for_how_much(there):
    there.render().push()
    there.v2.workers[:] = ["running", "initializing", "throttled"]
    lines = "\n".join(there.look("status"))
    assert "1 running, 1 initializing, 1 throttled of at most 1" in lines
    assert f"https://api.runpod.ai/v2/{there.endpoint['id']}/openai/v1" in lines
    assert "8.36 USD an hour for 2 workers at 4.18 (read 2026-08-20, not live)" in lines
    assert "50 % of workers" in lines
    there.v2.workers.clear()
    assert "no worker" in there.look("status")[0]
    there.v2.things["serverless"].clear()
    assert "is gone" in there.look("status")[0]


def test_logs_are_read_with_a_key_that_no_process_shows(there):
    there.render().push()
    assert "no worker" in there.look("logs")[0]
    there.v2.workers[:] = ["running"]
    there.said.clear()
    there.look("logs")
    argv = (there.tmp / "curl.argv").read_text()
    assert argv.split()[-1] == f"{API}/serverless/{there.endpoint['id']}/workers/w0/logs?tail=100"
    assert KEY not in argv
    assert (there.tmp / "curl.in").read_text() == f"Authorization: Bearer {KEY}"
    assert any("Worker ready." in line for line in there.said)
    assert not any("\x1b" in line for line in there.said)


def test_destroy_deletes_once_and_says_what_stays(there):
    there.v2.volumes["agv6w2qcg7"] = volume()
    there.render(runpod=VOLUME).push()
    lines = "\n".join(there.destroy())
    assert there.v2.things["serverless"] == {}
    assert "network volume agv6w2qcg7" in lines
    assert there.destroy() == ("nothing was made here",)


def test_destroy_of_what_has_gone_already(there):
    there.render().push()
    there.v2.things["serverless"].clear()
    assert "is deleted" in there.destroy()[0]


def test_a_dry_run_sends_nothing_and_shows_the_whole_way(there):
    there.render(secrets={"HF_TOKEN": "hf_read"})
    steps, _ = dryrun.rehearse(lambda: looking.flow("push", there.at), there=False)
    assert [s.id for s in steps] == ["list", "build", "image", "digest", "create"]
    there.push()
    asked = len(there.v2.asked)
    steps, _ = dryrun.rehearse(lambda: looking.flow("push", there.at))
    assert [s.id for s in steps] == ["known", "build", "image", "digest", "update"]
    for command in ("status", "logs", "destroy"):
        assert dryrun.rehearse(partial(looking.flow, command, there.at))[0]
    assert len(there.v2.asked) == asked


@pytest.mark.parametrize(
    ("status", "detail", "says"),
    [
        (401, "invalid API key", "refuses the key"),
        (403, "key lacks the scope", "does not allow it"),
        (404, "template not found", "does not have it"),
        (409, "busy", "is there already"),
        (422, "$: additional properties not allowed", "does not take what was sent"),
        (429, "slow down", "asked too often"),
        (500, "There are no instances with the capacity", "has no capacity"),
        (500, "oops", "a fault of its own"),
        (400, "Max workers across all endpoints must not exceed your workers quota (5)", "reached your quota"),
        (402, "balance too low", "money"),
    ],
)
def test_a_refused_push_says_why_and_can_be_taken_up_again(there, status, detail, says):
    there.render()
    there.v2.faults.append(("POST", "/v2/serverless", status, detail))
    message = there.refused(there.push)
    assert says in message
    assert "POST" in message
    assert any("docker image rm" in line for line in there.said)  # what was made by then
    assert there.v2.things["serverless"] == {}
    there.push()
    assert there.endpoint["name"] == "python-docs"
    assert sum(line.startswith("build") for line in there.log.read_text().splitlines()) == 1


def test_an_endpoint_whose_answer_was_lost_is_found_by_its_name(there):
    there.render()
    there.v2.faults.append(("POST", "/v2/serverless", 500, "oops", "done"))
    there.refused(there.push)
    there.push()
    assert there.endpoint["id"] in there.client().base_url
    there.destroy()
    assert there.v2.things["serverless"] == {}


def test_a_change_that_is_refused_leaves_the_endpoint(there):
    there.render().push()
    there.render(idle_seconds=60)
    there.v2.faults.append(("PATCH", ".*", 422, "no"))
    there.refused(there.push)
    assert there.endpoint["workers"]["idleTimeout"] == 300
    there.push()
    assert there.endpoint["workers"]["idleTimeout"] == 60


@pytest.mark.parametrize("type", ["queue", "load-balancer", "pod"])
def test_an_image_without_a_registry_is_not_pushed(there, type):
    secrets = {"VLLM_API_KEY": "key"} if type == "pod" else {}
    there.render(registry="", runpod={"type": type}, min_replicas=1, secrets=secrets)
    with pytest.raises(UserError, match="names no registry: a push has nowhere to send it") as e:
        there.push()
    assert '[deploy] registry = "docker.io/<your account>"' in e.value.fix
    assert (there.v2.asked, there.said) == ([], [])
    assert not live.place(there.folder).exists()


def test_an_image_that_the_registry_refuses_makes_no_endpoint(there):
    there.render()
    there.fails.touch()
    assert "docker login" in there.refused(there.push)
    assert there.sent() == []
    there.fails.unlink()
    there.push()
    assert there.endpoint


def test_an_image_whose_digest_nobody_knows_makes_no_endpoint(there):
    there.render()
    there.pushed("x")  # no hexadecimal digit
    assert "knows no digest" in there.refused(there.push)
    assert there.sent() == []


def test_the_wrong_key_makes_nothing(there, monkeypatch):
    there.render()
    monkeypatch.setenv("RUNPOD_API_KEY", "rp-wrong")
    assert "refuses the key" in there.refused(there.push)
    assert not there.log.exists()


def test_another_type_of_that_name_is_not_changed(there):
    there.render().push()
    there.render(**BALANCED)
    assert "of the other type" in there.refused(there.push)
    assert [m for m, *_ in there.sent()] == ["POST"]


def test_two_of_that_name_are_not_guessed_between(there):
    there.render().push()
    (one,) = there.v2.things["serverless"].values()
    live.place(there.folder).unlink()
    there.v2.things["serverless"]["id9"] = {**one, "id": "id9"}
    with pytest.raises(UserError, match="RunPod has 2 of the name"):
        there.push()


@pytest.mark.parametrize("id", ["../account", "a b", "x" * 65, "<script>.", "\x1b[2J", ""])
def test_an_id_that_is_none_reaches_no_url(there, id):
    there.render().push()
    record = live.place(there.folder)
    record.write_text(record.read_text().replace(json.dumps(there.endpoint["id"]), json.dumps(id)))
    for do in (there.client, lambda: there.look("status"), lambda: there.look("logs"), there.push):
        with suppress(UserError):
            do()
    assert all(path.count("/") <= 3 and ".." not in path for _, path, _ in there.v2.asked)


def volume(datacenter="EU-RO-1"):
    found = {"id": "agv6w2qcg7", "name": "w", "size": 100, "dataCenter": datacenter, "type": "STANDARD"}
    assert [p for p in problems("NetworkVolume", found) if "STANDARD" not in p] == []
    return found


@pytest.mark.parametrize(("where", "says"), [("", "does not have it"), ("US-KS-2", "is in US-KS-2, not in EU-RO-1")])
def test_a_volume_that_is_not_there_makes_nothing(there, where, says):
    there.render(runpod=VOLUME)
    there.v2.volumes.update({"agv6w2qcg7": volume(where)} if where else {})
    assert says in there.refused(there.push)
    assert there.sent() == []
    assert not there.log.exists()


def test_weights_on_a_volume_are_not_built_in(there):
    there.render(runpod=VOLUME)
    there.v2.volumes["agv6w2qcg7"] = volume()
    there.push()
    assert "--build-context" not in there.log.read_text()


def test_a_pod_is_made_changed_brought_back_and_deleted(there):
    first = there.pushed("a")
    there.render(**POD).push()
    (pod,) = there.v2.things["pods"].values()
    assert "2.99 USD an hour" in "\n".join(there.look("status"))
    assert there.client().base_url == f"https://{pod['id']}-8000.proxy.runpod.net/v1"
    there.look("logs")
    assert f"/pods/{pod['id']}/logs" in (there.tmp / "curl.argv").read_text()
    there.pushed("b")
    there.render(**POD, startup_seconds=1700).push()
    ((_, path, body),) = there.sent("PATCH")
    assert path == f"/v2/pods/{pod['id']}"
    assert not body.keys() & {"gpu", "cloud", "dataCenterIds"}
    there.rollback()
    assert there.v2.things["pods"][pod["id"]]["image"] == first
    there.destroy()
    assert there.v2.things["pods"] == {}


def test_how_a_client_reaches_each(there):
    with pytest.raises(UserError, match="was not pushed"):
        there.render().client()
    there.push()
    queue = there.client()
    assert (queue.key_env, queue.stream, queue.answer_seconds) == ("RUNPOD_API_KEY", False, 300)
    assert queue.model == there.at.deployment.model
    there.destroy()
    there.render(**BALANCED).push()
    balanced = there.client()
    assert balanced.base_url == f"https://{there.endpoint['id']}.api.runpod.ai/v1"
    assert (balanced.retry, balanced.answer_seconds) == ((400, 429, 502, 503, 524), 330)
    there.destroy()
    pod = there.render(**POD)
    pod.push()
    assert (pod.client().key_env, pod.client().stream) == ("VLLM_API_KEY", True)


def test_the_folder_that_is_pushed_knows_where_its_checkpoint_is(there):
    there.render()
    told = json.loads((there.folder / "build.json").read_text())
    assert (there.folder / told["checkpoint"] / "checkpoint.json").exists()
    assert not Path(told["checkpoint"]).is_absolute()
