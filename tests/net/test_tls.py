"""TLS with Ray's variables, end to end, with a CA and certificates made for the test by the openssl command."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from concoord_ray.errors import ConfigurationError
from concoord_ray.net import tls
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.handshake import Refusal
from concoord_ray.net.identity import Address
from concoord_ray.net.listener import Listener
from tests.net.ends import CLIENT, CONFIG, REPLICA, SECRET, Loop, Recorder, Stranger, config, run, until

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


def make_certificates(folder: Path) -> Path:
    """A CA in ``ca.pem``, and a certificate of it in ``cert.pem`` and ``key.pem`` that names no host."""
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", folder / "ca.key", "-out", folder / "ca.pem", "-days", "2",
            "-subj", "/CN=test CA", "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    openssl("req", *new_key, "-keyout", folder / "key.pem", "-out", folder / "cert.csr", "-subj", "/CN=ray-internal")
    openssl("x509", "-req", "-in", folder / "cert.csr", "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key",
            "-CAcreateserial", "-out", folder / "cert.pem", "-days", "2")  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def foreign_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("foreign"))


def use(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Set Ray's variables to the files in ``folder``."""
    monkeypatch.setenv("RAY_USE_TLS", "1")
    monkeypatch.setenv("RAY_TLS_SERVER_CERT", str(folder / "cert.pem"))
    monkeypatch.setenv("RAY_TLS_SERVER_KEY", str(folder / "key.pem"))
    monkeypatch.setenv("RAY_TLS_CA_CERT", str(folder / "ca.pem"))


def test_without_rays_variable_there_is_no_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    assert tls.from_environment() is None
    monkeypatch.setenv("RAY_USE_TLS", "0")
    assert tls.from_environment() is None


@pytest.mark.parametrize("name", ["RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT"])
def test_files_that_are_missing_or_wrong_are_named(
    monkeypatch: pytest.MonkeyPatch, certificates: Path, tmp_path: Path, name: str
) -> None:
    use(monkeypatch, certificates)
    monkeypatch.delenv(name)
    with pytest.raises(ConfigurationError, match=f"{name} is not: set it"):
        tls.from_environment()
    monkeypatch.setenv(name, str(tmp_path / "absent.pem"))
    with pytest.raises(ConfigurationError, match=f"{name}=.*absent.pem.*cannot be read"):
        tls.from_environment()
    (tmp_path / "garbage.pem").write_text("garbage")
    monkeypatch.setenv(name, str(tmp_path / "garbage.pem"))
    with pytest.raises(ConfigurationError, match=f"{name}=.*garbage.pem"):
        tls.from_environment()


def test_frames_go_both_ways_over_tls(new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path) -> None:
    use(monkeypatch, certificates)
    contexts = tls.from_environment()
    assert contexts is not None

    async def main() -> None:
        client = Recorder()
        dialer = Dialer(CLIENT, SECRET, CONFIG, client, REPLICA.member, tls=contexts[1])
        async with Listener(REPLICA, SECRET, CONFIG, Recorder(echo=True), tls=contexts[0]) as listener:
            dialer.dial(await listener.start("127.0.0.1", 0))
            await until(lambda: dialer.connection is not None)
            (connection,) = client.connections
            sent = [b"small", b"L" * (2 << 20), b"small again"]
            for payload in sent:
                connection.send(payload)
            await until(lambda: len(client.payloads) == len(sent))
            assert client.payloads == sent
            assert tls.channel_binding(connection._transport)
            dialer.close()
            await dialer.wait_closed()
            assert client.ended == [(connection, None)]

    run(new_loop, main())


def test_every_tls_connection_has_a_binding_of_its_own(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    use(monkeypatch, certificates)
    contexts = tls.from_environment()
    assert contexts is not None

    async def main() -> None:
        server, client = Recorder(), Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, server, tls=contexts[0]) as listener:
            address = await listener.start("127.0.0.1", 0)
            dialers = [Dialer(CLIENT, SECRET, CONFIG, client, tls=contexts[1]) for _ in range(3)]
            for dialer in dialers:
                dialer.dial(address)
            await until(lambda: len(client.connections) == len(server.connections) == 3)
            ours = {tls.channel_binding(connection._transport) for connection in client.connections}
            theirs = {tls.channel_binding(connection._transport) for connection in server.connections}
            assert ours == theirs
            assert len(ours) == 3
            for dialer in dialers:
                dialer.close()
                await dialer.wait_closed()

    run(new_loop, main())


def test_a_certificate_of_another_ca_is_refused(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path, foreign_certificates: Path
) -> None:
    use(monkeypatch, certificates)
    ours = tls.from_environment()
    use(monkeypatch, foreign_certificates)
    theirs = tls.from_environment()
    assert ours is not None
    assert theirs is not None

    async def main() -> None:
        failures: list[Exception] = []
        async with Listener(REPLICA, SECRET, CONFIG, Recorder(), tls=ours[0]) as listener:
            dialer = Dialer(CLIENT, SECRET, CONFIG, Recorder(), failed=failures.append, tls=theirs[1])
            dialer.dial(await listener.start("127.0.0.1", 0))
            await until(lambda: bool(failures))
            assert isinstance(failures[0], ConfigurationError)
            assert "use certificates of one CA" in str(failures[0])
            await until(lambda: listener.refused == 1)
            assert listener.stats.refused_by_reason == {Refusal.TLS: 1}
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


def test_a_dialer_without_a_certificate_is_refused(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    use(monkeypatch, certificates)
    contexts = tls.from_environment()
    assert contexts is not None

    async def main() -> None:
        bare = type(contexts[1])(contexts[1].protocol)
        bare.check_hostname = False
        bare.load_verify_locations(certificates / "ca.pem")
        failures: list[Exception] = []
        server = Recorder()
        async with Listener(REPLICA, SECRET, CONFIG, server, tls=contexts[0]) as listener:
            dialer = Dialer(CLIENT, SECRET, CONFIG, Recorder(), failed=failures.append, tls=bare)
            dialer.dial(await listener.start("127.0.0.1", 0))
            await until(lambda: listener.refused >= 1)
            assert listener.stats.refused_by_reason[Refusal.TLS] >= 1
            assert server.connections == []
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())


def test_a_plain_stranger_at_a_tls_port_is_refused_in_time(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path
) -> None:
    use(monkeypatch, certificates)
    contexts = tls.from_environment()
    assert contexts is not None

    async def main() -> None:
        settings = config(handshake_timeout_s=0.1, max_unauthenticated_connections=2)
        async with Listener(REPLICA, SECRET, settings, Recorder(), tls=contexts[0]) as listener:
            address = await listener.start("127.0.0.1", 0)
            garbage, mute, one_more = [await Stranger.to(address) for _ in range(3)]
            garbage.say(b"\x00" * 64)
            for stranger in (garbage, mute, one_more):
                await stranger.hear_end()
            await until(lambda: listener.refused == 3)
            assert listener.stats.unauthenticated == 0
            # Strangers count from the accept on, before TLS.
            assert listener.stats.refused_by_reason[Refusal.CROWDED] == 1

    run(new_loop, main())


def test_tls_at_a_plain_port_says_what_is_wrong(
    new_loop: Loop, monkeypatch: pytest.MonkeyPatch, certificates: Path, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, certificates)
    contexts = tls.from_environment()
    assert contexts is not None

    async def main() -> None:
        async with Listener(REPLICA, SECRET, CONFIG, Recorder()) as listener:
            dialer = Dialer(CLIENT, SECRET, CONFIG, Recorder(), tls=contexts[1])
            dialer.dial(Address("127.0.0.1", (await listener.start("127.0.0.1", 0)).port))
            await until(lambda: listener.refused >= 1)
            dialer.close()
            await dialer.wait_closed()

    run(new_loop, main())
    assert "It looks like TLS: set Ray's RAY_USE_TLS alike" in caplog.text
