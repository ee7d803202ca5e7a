"""General rows of a data set on the Hub: the real `datasets`, in a process of its own, against a server on loopback."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_tune_rows import asked, chat, project, rows  # noqa: F401

SHA = "0123456789abcdef0123456789abcdef01234567"
FILE = "".join(json.dumps(chat(n, thinking="Hm.")) + "\n" for n in range(5000, 5400)).encode()
ENTRY = {"type": "file", "oid": SHA, "size": len(FILE), "path": "train.jsonl"}


class Hub(BaseHTTPRequestHandler):
    """A data set of one file, at one commit: what `datasets` asks for, by name and range."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *told):
        pass

    def answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in {**headers, "Content-Length": len(body)}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == f"/datasets/owner/talk/resolve/{SHA}/train.jsonl":
            begin, _, end = (self.headers["Range"] or "bytes=0-").removeprefix("bytes=").partition("-")
            part = FILE[int(begin) : int(end or len(FILE)) + 1]
            self.answer(206, part, Content_Range=f"bytes {begin}-{int(begin) + len(part) - 1}/{len(FILE)}", ETag='"x"')
        elif path == f"/api/datasets/owner/talk/revision/{SHA}":
            about = {
                "id": "owner/talk",
                "sha": SHA,
                "private": False,
                "tags": [],
                "siblings": [{"rfilename": "train.jsonl"}],
            }
            self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
        elif path.startswith(f"/api/datasets/owner/talk/tree/{SHA}"):
            self.answer(200, json.dumps([ENTRY]).encode(), Content_Type="application/json")
        else:
            self.answer(404, b"{}", X_Error_Code="RevisionNotFound" if "/revision/" in path else "EntryNotFound")

    do_HEAD = do_GET


@pytest.fixture
def hub():
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def tune(folder, hub):
    known = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    known |= {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", "COLUMNS": "100"}
    words = [sys.executable, "-m", "tune", "dataset", "--recipe", str(folder / "recipe.toml")]
    return subprocess.run(words, env=known, capture_output=True, text=True, timeout=120, check=False)


def test_a_data_set_is_read_at_its_commit_and_another_is_refused_at_once(project, hub):  # noqa: F811
    asked(project, general="owner/talk", general_revision=SHA, general_share=0.4, eval_share=0.2)
    done = tune(project, hub)
    assert done.returncode == 0, done.stderr
    train = rows(project, "train")
    mixed = [row.page for row in train if row.page.startswith("general:owner/talk:")]
    assert len(mixed) == pytest.approx(0.4 * len(train), abs=0.5)
    assert "general: 11 rows, 40.7% of those to train on" in done.stderr
    assert done.stdout.startswith("dataset: rows train ")
    assert done.stdout.count("\n") == 1
    before = (project / "work" / "dataset" / "dataset.json").read_bytes()
    asked(project, general="owner/talk", general_revision="f" * 40)
    done = tune(project, hub)
    assert done.returncode == 2
    assert "owner/talk@ffffffffffff cannot be read from the Hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert "token ids" not in done.stderr
    assert (project / "work" / "dataset" / "dataset.json").read_bytes() == before
