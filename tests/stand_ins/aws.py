"""AWS on loopback: moto's services behind a real socket, faults of our own in front; `aws` and `docker` as programs.

boto3 reaches it by AWS_ENDPOINT_URL, signed as always; which service and region is meant stands in the signature. Every
request is counted as service.Operation. The programs write what they were told to a file; what `docker push` was told
is in ECR when that is asked next.
"""

import hashlib
import importlib.util
import json
import re
import shlex
import sys
import threading
import types
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

ACCOUNT = "123456789012"  # moto's
HOSTS = {"sagemaker": "api.sagemaker", "ecr": "api.ecr"}
PASSWORD = "ecr-password-of-12-hours"
PROGRAM = """#!/bin/sh
name=${{0##*/}}
line=$(printf '%s' "$name"; printf '\\t%s' "$@")
case " $* " in *" --password-stdin "*) line=$(printf '%s\\t%s' "$line" "$(cat)");; esac
printf '%s\\n' "$line" >> {log}  # at once: two programs of a pipe write here
case "$name $1 $2" in
    "aws ecr get-login-password") echo {password} ;;
    "aws service-quotas list-service-quotas") echo "${{FAKE_QUOTA:-[]}}" ;;
esac
[ "$FAKE_FAILS" != "$name $1" ]
"""


def spare():
    """moto's CloudFormation imports its API Gateway, and that a validator of OpenAPI files: nothing here asks it."""
    if "openapi_spec_validator" in sys.modules or importlib.util.find_spec("openapi_spec_validator"):
        return
    for name in ("", ".validation", ".validation.exceptions"):
        made = sys.modules[f"openapi_spec_validator{name}"] = types.ModuleType(f"openapi_spec_validator{name}")
        made.__path__, made.validate_spec, made.OpenAPIValidationError = [], None, ValueError


@dataclass
class Fault:
    """What the next `times` requests whose service.Operation matches get."""

    pattern: str
    code: str
    message: str = ""
    status: int = 400
    times: int = 10**9


class Aws(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        from moto.core.botocore_stubber import BotocoreStubber

        super().__init__(("127.0.0.1", 0), Handler)
        self.moto, self.lock = BotocoreStubber(), threading.Lock()
        self.faults, self.asked, self.before, self.images = [], [], {}, set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, pattern):
        return sum(bool(re.fullmatch(pattern, asked)) for asked in self.asked)

    def pushed(self, image, kind="application/vnd.oci.image.manifest.v1+json"):
        """Put an image into ECR, as `docker push` does."""
        from moto.ecr.models import ecr_backends

        host, _, rest = image.partition("/")
        repository, _, tag = rest.partition(":")
        digest = f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"
        config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 1, "digest": digest}
        manifest = {"schemaVersion": 2, "mediaType": kind, "layers": [], "manifests": [], "config": config, "tag": tag}
        ecr_backends[ACCOUNT][host.split(".")[3]].put_image(repository, json.dumps(manifest), tag, kind, digest)

    def fault(self, asked):
        for one in self.faults:
            if one.times and re.fullmatch(one.pattern, asked):
                one.times -= 1
                return one
        return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Aws

    def log_message(self, *_):
        pass

    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed = re.search(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request", self.headers.get("Authorization", ""))
        if not signed:
            return self.answer(403, {}, b"")
        region, service = signed.groups()
        target, form = self.headers.get("X-Amz-Target", ""), parse_qs(body.decode("utf-8", "replace"))
        operation = target.rpartition(".")[2] or form.get("Action", [self.command])[0]
        asked = f"{service}.{operation}"
        with self.server.lock:
            self.server.asked.append(asked)
            if hook := self.server.before.get(asked):
                hook()
            if fault := self.server.fault(asked):
                return self.refuse(fault, as_json=bool(target))
            return self.answer(*self.behind(service, region, body))

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = handle_one

    def behind(self, service, region, body):
        """Moto's answer to the same request at AWS's own address."""
        from botocore.awsrequest import AWSPreparedRequest
        from botocore.compat import HTTPHeaders

        host = f"{HOSTS.get(service, service)}.{region}.amazonaws.com"
        headers = HTTPHeaders()
        for key, value in self.headers.items():
            headers[key] = host if key.lower() == "host" else value
        sent = AWSPreparedRequest(self.command, f"https://{host}{self.path}", headers, body, False)
        return self.server.moto.process_request(sent) or (404, {}, "")

    def refuse(self, fault, *, as_json):
        if as_json:
            text = json.dumps({"__type": fault.code, "message": fault.message})
            return self.answer(fault.status, {"Content-Type": "application/x-amz-json-1.1"}, text)
        said = f"<Code>{escape(fault.code)}</Code><Message>{escape(fault.message)}</Message>"
        return self.answer(fault.status, {}, f"<ErrorResponse><Error>{said}</Error></ErrorResponse>")

    def answer(self, status, headers, body):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(int(status))
        for key, value in headers.items():
            if key.lower() not in ("content-length", "server", "date", "transfer-encoding"):
                self.send_header(key, str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def aws():
    """The server, with moto's services empty."""
    from moto.core.base_backend import BackendDict

    BackendDict.reset()  # of what another test has left
    with Aws() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def programs(folder, log):
    """`aws` and `docker`, to be put in front of PATH; each call a line in `log`, its words apart by tabs."""
    folder.mkdir()
    for name in ("aws", "docker"):
        (folder / name).write_text(PROGRAM.format(log=shlex.quote(str(log)), password=PASSWORD))
        (folder / name).chmod(0o755)
    return folder
