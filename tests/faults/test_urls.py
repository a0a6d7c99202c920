"""Rows 22 to 24: addresses that lead inwards, change their mind, or never end."""

from __future__ import annotations

import gzip
import itertools
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kinema.errors import (
    FetchFailed,
    MediaError,
    MediaNotFound,
    NotMedia,
    TooLarge,
    Truncated,
    UrlNotAllowed,
)
from kinema.video import LOCAL, Access, UrlRules, load_frames
from kinema.video.access import Budget
from kinema.video.fetch import Fetcher
from kinema.video.url_gate import is_public, parse
from support.clips import make_clip, read_boards
from support.web import Answer, drip, reply, serve

HOST = "media.test"
RULES = UrlRules(
    private_hosts=(HOST,), connect_seconds=1.0, read_seconds=0.3, total_seconds=1.0, max_retries=1
)


@pytest.fixture(autouse=True)
def nothing_stays_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No temporary file, no thread."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    before = threading.active_count()
    yield
    assert list((tmp_path / "temporary").iterdir()) == []
    assert threading.active_count() == before


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("urls") / "clip.mp4"
    make_clip(path, num_frames=20)
    return path.read_bytes()


def here(host: str, port: int) -> list[str]:
    return ["127.0.0.1"]


def fetch(
    answer: Answer,
    path: str = "/clip.mp4?token=secret",
    *,
    rules: UrlRules = RULES,
    allowed_bytes: int = 1 << 20,
    resolve: Callable[[str, int], list[str]] = here,
) -> bytes:
    with serve(answer) as server:
        fetcher = Fetcher(rules, Budget(fetched_bytes=allowed_bytes), resolve=resolve)
        name, part = fetcher.fetch(f"http://{HOST}:{server.port}{path}")
    assert "secret" not in name
    with part.open() as file:
        return file.read()


FORBIDDEN = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://[::1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://0.0.0.0/",
    "http://0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://240.0.0.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[2002:7f00:1::]/",
    "http://[fe80::1]/",
    "http://[fec0::1]/",
    "http://[fd00::1]/",
    "http://[::]/",
    "http://127.0.0.1\\@1.1.1.1/",
    "http://1.1.1.1\\@127.0.0.1/",
    "http://user:word@1.1.1.1/",
    "http://1.1.1.1@127.0.0.1/",
    "http://1.1.1.1 .nip.io/",
    "http://1.1.1.1\t/",
    "http://1.1.1.1\r\nHost: x/",
    "http://1.1.1.1:99999/",
    "http://①②⑦.0.0.1/",
    "http:///x",
    "gopher://1.1.1.1/",
    "ftp://1.1.1.1/clip.mp4",
    "rtmp://1.1.1.1/live",
    "FILE2://x",
]


@pytest.mark.fault(22)
@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_that_lead_inwards_or_read_two_ways_are_refused(address: str) -> None:
    with pytest.raises(UrlNotAllowed) as caught:
        load_frames(address)
    assert caught.value.hint
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("number", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_public_numbers_are_public(number: str) -> None:
    assert is_public(number)


@pytest.mark.fault(22)
def test_one_private_number_among_public_ones_is_enough_to_refuse() -> None:
    with pytest.raises(UrlNotAllowed, match="not a public host"):
        Fetcher(resolve=lambda *_: ["1.1.1.1", "10.0.0.1"]).fetch("http://media.test/x")


@pytest.mark.fault(22)
def test_hosts_that_are_not_on_the_list_are_not_even_resolved() -> None:
    def never(host: str, port: int) -> list[str]:
        raise AssertionError("resolved")

    with pytest.raises(UrlNotAllowed, match="not among the allowed"):
        Fetcher(UrlRules(hosts=("cdn.test",)), resolve=never).fetch("http://cdn.test.evil.test/")
    with pytest.raises(UrlNotAllowed, match="switched off"):
        Fetcher(UrlRules(enabled=False), resolve=never).fetch("http://cdn.test/")


def test_an_address_prints_without_its_query() -> None:
    address = parse("https://cdn.test:8443/a b/ü.mp4?key=secret#part".replace(" ", "%20"))
    assert str(address) == "https://cdn.test:8443/a%20b/%C3%BC.mp4"
    assert address.target.endswith("?key=secret")
    assert "secret" not in repr(address)


def test_a_video_behind_an_address_is_read(clip: bytes) -> None:
    access = Access(urls=UrlRules(private_hosts=("localhost",)))
    with serve(reply(clip)) as server:
        address = f"http://localhost:{server.port}/clip.mp4?token=secret"
        frames = load_frames(address, num_frames=5, access=access)
    assert read_boards(frames.pixels) == frames.indices.tolist()
    assert frames.source == f"http://localhost:{server.port}/clip.mp4"


def test_an_error_page_is_recognised() -> None:
    access = Access(urls=UrlRules(private_hosts=("localhost",)))
    with (
        serve(reply(b"<html>please log in")) as server,
        pytest.raises(NotMedia, match="error page"),
    ):
        load_frames(f"http://localhost:{server.port}/clip.mp4", access=access)


@pytest.mark.fault(23)
def test_a_redirect_to_a_forbidden_host_is_refused_and_not_asked(clip: bytes) -> None:
    with serve(reply(clip)) as inner:
        for target in (f"http://127.0.0.1:{inner.port}/", f"http://[::1]:{inner.port}/"):
            with pytest.raises(UrlNotAllowed):
                fetch(
                    reply(status=302, Location=target),
                    resolve=lambda h, _: ["127.0.0.1" if h == HOST else h],
                )
        assert inner.asked == []


@pytest.mark.fault(23)
@pytest.mark.parametrize("target", ["file:///etc/passwd", "gopher://x/", "http://a:b@1.1.1.1/"])
def test_a_redirect_to_a_forbidden_scheme_is_refused(target: str) -> None:
    with pytest.raises(UrlNotAllowed):
        fetch(reply(status=301, Location=target))


def test_a_redirect_within_the_host_is_followed() -> None:
    def answer(connection: object, path: str) -> None:
        go = reply(b"there") if path == "/b?x=1" else reply(status=307, Location="/b?x=1")
        go(connection, path)  # type: ignore[arg-type]

    assert fetch(answer) == b"there"


@pytest.mark.fault(23)
def test_a_redirect_loop_ends() -> None:
    with serve(reply(status=302, Location="/again")) as server:
        with pytest.raises(FetchFailed, match="more than 3 times"):
            Fetcher(RULES, resolve=here).fetch(f"http://{HOST}:{server.port}/")
        assert len(server.asked) == 2 * (RULES.max_redirects + 1)


@pytest.mark.fault(23)
def test_a_name_that_changes_its_mind_is_resolved_once_a_hop_and_checked_each_time() -> None:
    """DNS rebinding: public when checked, private when used."""
    answers = itertools.cycle([["1.1.1.1"], ["127.0.0.1"]])
    seen: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        seen.append(host)
        return next(answers) if host == "rebind.test" else ["127.0.0.1"]

    with serve(reply(b"secret")) as inner:
        with serve(reply(status=302, Location=f"http://rebind.test:{inner.port}/")) as outer:
            rules = UrlRules(private_hosts=(HOST,), connect_seconds=0.2)
            fetcher = Fetcher(rules, resolve=resolve)
            # 1.1.1.1 is what was checked, so 1.1.1.1 is what is connected to: nobody answers here.
            with pytest.raises(FetchFailed, match="does not answer"):
                fetcher.fetch(f"http://{HOST}:{outer.port}/")
            with pytest.raises(UrlNotAllowed):
                fetcher.fetch(f"http://{HOST}:{outer.port}/")
        assert inner.asked == []
    assert seen == [HOST, "rebind.test", HOST, "rebind.test"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    words = f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={HOST}".split()
    extra = ["-addext", f"subjectAltName=DNS:{HOST}", "-keyout", str(file), "-out", str(file)]
    made = subprocess.run(["openssl", *words, *extra], check=True, capture_output=True)
    if file.read_text().count("BEGIN") < 2:
        raise AssertionError(made.stderr)
    return file


@pytest.mark.needs_program("openssl")
def test_https_connects_to_the_number_and_checks_the_name(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    with serve(reply(b"safe"), certificate=certificate) as server:
        _, part = Fetcher(RULES, resolve=here, tls=trusting).fetch(f"https://{HOST}:{server.port}/")
        with part.open() as file:
            assert file.read() == b"safe"
        assert server.names == [HOST]
        assert f"Host: {HOST}:{server.port}" in server.asked
        other = UrlRules(private_hosts=("other.test",))
        with pytest.raises(FetchFailed, match="certificate"):
            Fetcher(other, resolve=here, tls=trusting).fetch(f"https://other.test:{server.port}/")
        with pytest.raises(FetchFailed, match="certificate"):
            Fetcher(RULES, resolve=here).fetch(f"https://{HOST}:{server.port}/")


SLOW: dict[str, Answer] = {
    "header byte by byte": drip(b"X", every_seconds=0.05),
    "header lines without end": drip(b"X: y\r\n", every_seconds=0.02),
    "silence": lambda connection, _: time.sleep(1.2),
    "body that drips": lambda connection, path: (
        reply(b"", length=None)(connection, path),
        drip(b"x", every_seconds=0.05)(connection, path),
    )[0],
    "body that stops": lambda connection, path: (
        reply(b"abc", length=100)(connection, path),
        time.sleep(1.2),
    )[0],
}


@pytest.mark.fault(24)
@pytest.mark.parametrize("kind", SLOW)
def test_slow_servers_are_left_at_the_deadline(kind: str) -> None:
    began = time.monotonic()
    with pytest.raises(FetchFailed, match=r"took too long|stopped answering|answered no HTTP"):
        fetch(SLOW[kind])
    assert time.monotonic() - began < 10


def endless(connection: object, path: str) -> None:
    reply(b"", length=None)(connection, path)  # type: ignore[arg-type]
    drip(bytes(1 << 16), every_seconds=0)(connection, path)  # type: ignore[arg-type]


LARGE: dict[str, Answer] = {
    "endless": endless,
    "declared": reply(b"x", length=1 << 40),
    "gzip bomb": reply(gzip.compress(bytes(64 << 20)), Content_Encoding="gzip"),
}


@pytest.mark.fault(24)
@pytest.mark.parametrize("kind", LARGE)
def test_bodies_are_cut_off_at_the_budget(kind: str) -> None:
    with pytest.raises(TooLarge, match="more than 1,048,576 bytes"):
        fetch(LARGE[kind])


def test_gzip_is_undone() -> None:
    assert fetch(reply(gzip.compress(b"plain" * 999), Content_Encoding="gzip")) == b"plain" * 999


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(b"short", length=500), Truncated),
        (reply(b"never a gzip", Content_Encoding="gzip"), FetchFailed),
        (reply(b"x", Content_Encoding="br"), FetchFailed),
        (reply(b"zz\r\nnot chunked", length=None, Transfer_Encoding="chunked"), FetchFailed),
        (lambda connection, _: connection.sendall(b"SSH-2.0-hello\r\n"), FetchFailed),
        (lambda connection, _: connection.close(), FetchFailed),
        (reply(status=403), FetchFailed),
        (reply(status=404), MediaNotFound),
        (reply(status=410), MediaNotFound),
    ],
)
def test_what_goes_wrong_upstream_is_typed(answer: Answer, kind: type[MediaError]) -> None:
    with pytest.raises(kind) as caught:
        fetch(answer)
    assert type(caught.value) is kind
    assert "secret" not in str(caught.value) + caught.value.hint


@pytest.mark.fault(24)
@pytest.mark.parametrize(("status", "times"), [(500, 2), (503, 2), (429, 2), (404, 1), (403, 1)])
def test_only_what_may_pass_is_asked_again(status: int, times: int) -> None:
    with serve(reply(status=status)) as server:
        with pytest.raises(MediaError):
            Fetcher(RULES, resolve=here).fetch(f"http://{HOST}:{server.port}/")
        assert sum(line.startswith("GET") for line in server.asked) == times


def test_a_server_that_recovers_is_believed() -> None:
    states = iter([reply(status=503), reply(b"fine")])

    def answer(connection: socket.socket, path: str) -> None:
        next(states)(connection, path)

    assert fetch(answer) == b"fine"


@pytest.mark.fault(22)
def test_private_hosts_stay_refused_by_default(clip: bytes) -> None:
    with serve(reply(clip)) as server:
        with pytest.raises(UrlNotAllowed):
            load_frames(f"http://localhost:{server.port}/", access=LOCAL)
        assert server.asked == []
