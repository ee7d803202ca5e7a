"""TLS at the port from first to last: what cannot be used is named, what is renewed is shown, clients are told how."""

import os
import signal
import socket
import ssl
import threading
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import certs
import httpx
import pytest
import supervised
from click.testing import CliRunner

from evalsuite.asking import endpoint
from serve import front, probe, processes, supervisor, tls
from serve.ask import ask
from serve.cli import main
from serve.command import Options
from serve.front import Front
from serve.tls import TLS, Certificate, Pair
from tune.errors import UserError, distrust


def found(pair):
    return [(f.id, f.severity, f.what) for f in tls.findings(pair)]


def test_a_certificate_for_a_month_whose_key_is_nobody_elses_has_no_finding(tmp_path):
    assert found(certs.make(tmp_path)) == []
    assert found(certs.make(tmp_path, "rest", days=7.01)) == []


@pytest.mark.parametrize(
    ("days", "since", "words"),
    [(6.99, -1, "ends in 7.0 days"), (0.1, -1, "ends in 0.1 days"), (-0.01, -9, "has ended"), (9, 1, "has not begun")],
)
def test_one_that_ends_within_a_week_is_warned_about_and_stops_nothing(tmp_path, days, since, words):
    ((id, severity, what),) = found(certs.make(tmp_path, days=days, since=since))
    assert (id, severity) == ("S056", "warning")
    assert words in what


def test_one_that_is_for_no_server_is_warned_about(tmp_path):
    pair = certs.make(tmp_path, use=certs.ExtendedKeyUsageOID.CLIENT_AUTH)
    assert [(id, what.endswith("is for no server")) for id, _, what in found(pair)] == [("S056", True)]


def test_a_key_that_everyone_reads_is_warned_about(tmp_path):
    pair = certs.make(tmp_path)
    Path(pair.key).chmod(0o644)
    assert [id for id, *_ in found(pair)] == ["S057"]
    Path(pair.key).chmod(0o640)  # a group of its own may read it
    assert found(pair) == []


def test_files_that_cannot_be_used_are_named_and_nobody_is_asked_for_words(tmp_path, monkeypatch):
    one, other = certs.make(tmp_path), certs.make(tmp_path, "b")
    locked = certs.make(tmp_path, "locked", words="words")
    (tmp_path / "text").write_text("no PEM\n")
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("asked"))
    cases = {
        Pair(one.cert, other.key): f"{other.key} is not the key of {one.cert}",
        locked: f"{locked.key} is encrypted",
        Pair(str(tmp_path / "none"), one.key): f"{tmp_path / 'none'} cannot be read",
        Pair(one.cert, str(tmp_path / "none")): f"{tmp_path / 'none'} cannot be read",
        Pair(one.cert, str(tmp_path)): f"{tmp_path} cannot be read",
        Pair(str(tmp_path / "text"), one.key): "are no certificate and its key",
        Pair(one.key, one.cert): "are no certificate and its key",
        Pair(one.cert, one.cert): "are no certificate and its key",
    }
    for pair, words in cases.items():
        ((id, severity, what),) = found(pair)
        assert (id, severity) == ("S055", "error")
        assert words in what
        with pytest.raises(UserError):
            Certificate(pair)


def trusting(*pairs):
    context = ssl.create_default_context()
    for pair in pairs:
        context.load_verify_locations(pair.cert)
    return context


@contextmanager
def shaking(certificate):
    """A server that shakes hands and no more, at a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as port:

        def accept():
            while True:
                try:
                    client, _ = port.accept()
                except OSError:
                    return
                with client:
                    try:
                        with certificate.context.wrap_socket(client, server_side=True) as agreed:
                            agreed.recv(1)
                    except (ssl.SSLError, ConnectionError):
                        continue

        threading.Thread(target=accept, daemon=True).start()
        yield port.getsockname()[1]
        port.shutdown(socket.SHUT_RDWR)


def serial(port, *pairs, name="localhost"):
    """Of the certificate that a client is shown."""
    context = trusting(*pairs)
    context.check_hostname = bool(name)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname=name) as agreed,
    ):
        return int(agreed.getpeercert()["serialNumber"], 16)


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_renewed_certificate_is_shown_to_the_next_client_once_it_is_whole(tmp_path, caplog, name):
    first, second = certs.make(tmp_path, number=1), certs.make(tmp_path, "b", number=2)
    both = Pair(str(tmp_path / "both.pem"), "")
    Path(both.cert).write_bytes(Path(first.cert).read_bytes() + Path(second.cert).read_bytes())
    with shaking(Certificate(first)) as port:
        shown = partial(serial, port, both, name=name)
        assert (shown(), shown()) == (1, 1)
        Path(second.cert).replace(first.cert)  # and its key is still to come
        assert (shown(), shown()) == (1, 1)
        assert caplog.text.count("the certificate read before stays") == 1
        Path(second.key).replace(first.key)
        assert (shown(), shown()) == (2, 2)
        Path(first.key).unlink()
        assert shown() == 2


def ask_port(port, tls=None, path="/livez"):
    """A raw request, whole or as far as it gets."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        end = tls.wrap_socket(plain, server_hostname="localhost") if tls else plain
        with end:
            end.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            told = b""
            try:
                while more := end.recv(4096):
                    told += more
            except (ConnectionError, ssl.SSLError):
                pass
            return told


def test_the_responder_speaks_tls_and_no_plain_http(tmp_path, monkeypatch):
    monkeypatch.setattr(front, "PATIENT", 1.0)
    pair = certs.make(tmp_path)
    with Front("127.0.0.1", 0, Certificate(pair).context) as port:
        port.state = "starting"
        number = port.public.getsockname()[1]
        assert ask_port(number, trusting(pair)).endswith(b'{"status": "alive", "state": "starting"}')
        assert ask_port(number, trusting(pair), "/v1/models").startswith(b"HTTP/1.1 503")
        assert b"HTTP" not in ask_port(number)
        with httpx.Client(base_url=f"https://localhost:{number}", verify=trusting(pair), trust_env=False) as http:
            assert [http.get("/livez").status_code for _ in range(3)] == [200] * 3
        with socket.create_connection(("127.0.0.1", number), timeout=60) as silent:
            assert silent.recv(1) == b""  # it shook no hands


def test_an_engine_behind_tls_is_proven_served_and_stopped(tmp_path, monkeypatch):
    """From first to last: the port, the engine at the same port, and the supervisor's own socket, which is plain."""
    monkeypatch.setattr(processes, "EXIT_GRACE", 1)
    pair = certs.make(tmp_path)
    supervised.prepare(tmp_path, monkeypatch)
    job = supervised.make(tmp_path, "good")
    job.command.env[TLS] = '["{}", "{}"]'.format(*pair)
    job = job._replace(tls=pair)
    assert job.url == f"https://127.0.0.1:{job.port}"
    monkeypatch.setenv("SSL_CERT_FILE", pair.cert)
    seen, states = [], []

    def ready():
        seen.append(ask_port(job.port, trusting(pair), "/readyz"))
        seen.append(ask_port(job.port))
        with probe.client(f"{job.url}/v1") as http:
            seen.append(probe.wait(http, 60))
        monkeypatch.delenv("SSL_CERT_FILE")
        with probe.client(job.url) as http, pytest.raises(UserError) as error:
            probe.wait(http, 60)
        seen.append(error.value.fix)
        waited = CliRunner().invoke(main, ["wait", job.url])
        seen.append((waited.exit_code, "export SSL_CERT_FILE=" in waited.output))
        os.kill(os.getpid(), signal.SIGTERM)

    def report(line):
        states.append(line.partition(":")[0])
        if states[-1] == "starting":
            seen.append(ask_port(job.port, trusting(pair)))

    supervisor.run(job, report, ready)
    assert states == ["starting", "ready", "draining", "stopped"]
    assert b'"state": "starting"' in seen[0]
    assert seen[1].startswith(b"HTTP/1.1 200 OK")
    assert b"x-serve-start" in seen[1]
    assert b"200 OK" not in seen[2]
    assert seen[3:] == ["", "export SSL_CERT_FILE=FILE, the server's certificate or that of who signed it", (2, True)]
    assert supervised.left(tmp_path) == []


def errors_of(url):
    """What each client of ours says of a server."""
    with pytest.raises(UserError) as asked:
        ask(url, "x", effort="", model="m", key="", max_tokens=1, write=print)
    import asyncio

    async def compare():
        one = endpoint.Endpoint(url=url)
        async with endpoint.client(one) as client:
            await endpoint.served(client, one, "base")

    with pytest.raises(UserError) as compared:
        asyncio.run(compare())
    return asked.value, compared.value


def test_clients_are_told_how_to_trust_and_when_the_name_is_another(tmp_path, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    pair, other = certs.make(tmp_path), certs.make(tmp_path, "far", host="elsewhere.example")
    with shaking(Certificate(pair)) as port:
        for error in errors_of(f"https://localhost:{port}/v1"):
            assert "CERTIFICATE_VERIFY_FAILED" in error.why
            assert error.fix.startswith("export SSL_CERT_FILE=")
    monkeypatch.setenv("SSL_CERT_FILE", other.cert)
    with shaking(Certificate(other)) as port:
        for error in errors_of(f"https://localhost:{port}/v1"):
            assert error.fix == "use the name that the certificate is for, in the URL"
    assert distrust(ConnectionRefusedError("no")) == ""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="SSL_CERT_FILE"):
        probe.client("https://localhost:1")


def test_both_files_are_given_or_none(tmp_path):
    pair = certs.make(tmp_path)
    assert Options(tls_cert=pair.cert, tls_key=pair.key).tls == pair
    assert Options().tls is None
    for words in (["--tls-cert", pair.cert], ["--tls-key", pair.key]):
        out = CliRunner().invoke(main, ["run", str(tmp_path), *words])
        assert (out.exit_code, "--tls-cert and --tls-key go together" in out.output) == (2, True)
    out = CliRunner().invoke(main, ["run", str(tmp_path), "--", "--ssl-certfile", pair.cert])
    assert (out.exit_code, "use --tls-cert and --tls-key before the --" in out.output) == (2, True)
