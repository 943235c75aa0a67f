"""HTTP/1.1 as RFC 9110 and RFC 9112 have it, over plain sockets; what their sections say is the oracle."""

import json
import re

import numpy as np
import pytest

from tests.helpers.http_text import BODY, CLOSE, GET, POST, UPGRADE, chunked, said_to, sized, statuses
from tests.helpers.serving import npy

# Upgrade: RFC 9110, 7.8


@pytest.mark.parametrize("framed", [sized(BODY), chunked(BODY[:100], BODY[100:])], ids=["sized", "chunked"])
def test_an_upgrade_is_ignored_and_the_body_read(server, framed):
    plain = said_to(server, POST + b"connection: close\r\n" + framed)
    upgrading = UPGRADE.replace(b"Upgrade,", b"close, Upgrade,")
    for packets in ([POST + upgrading + framed], [POST + upgrading + framed[:40], framed[40:]]):
        said = said_to(server, *packets)
        assert statuses(said) == [200]
        assert said.partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]


def test_the_body_of_an_upgrading_request_is_no_request(server):
    inner = b"GET /v2/models/SMUGGLED HTTP/1.1\r\nhost: x\r\n\r\n"
    head = b"POST /v1/posteriors HTTP/1.1\r\nhost: x\r\n" + UPGRADE
    said = said_to(server, head + b"content-length: %d\r\n\r\n" % len(inner), inner, GET + CLOSE)
    assert statuses(said) == [415, 200]
    assert b"SMUGGLED" not in said


def test_upgrading_requests_behind_one_another_are_answered_in_order(server):
    said = said_to(server, (POST + UPGRADE + sized(BODY)) * 3 + GET + b"upgrade: websocket\r\n" + CLOSE)
    assert statuses(said) == [200] * 4
    assert said.endswith(b'{"status":"alive"}')


def test_where_packets_end_makes_no_difference(server):
    """Upgrades, chunks, trailers and requests behind one another, cut anywhere."""
    stream = POST + UPGRADE + chunked(BODY[:700], BODY[700:], trailers=b"a: b\r\n") + GET + b"\r\n"
    stream += POST + sized(BODY) + GET + UPGRADE + b"\r\n" + b"GET /nothing HTTP/1.1\r\nhost: x\r\n" + CLOSE
    rng = np.random.default_rng(1)
    for count in (0, 3, 10, 40, 200):
        cuts = sorted(rng.integers(0, len(stream), count))
        packets = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, None], strict=True)]
        said = said_to(server, *filter(None, packets), pause_s=0.002)
        assert statuses(said) == [200] * 4 + [404]


def test_connect_is_refused(server):
    assert statuses(said_to(server, b"CONNECT x:80 HTTP/1.1\r\nhost: x:80\r\n\r\n" + GET + CLOSE)) == [501]


# HTTP/1.0: RFC 9112, 6.1; RFC 9110, 10.1.1


def test_http_1_0_gets_no_chunks(server):
    """The answer is above 1 MB, for which HTTP/1.1 gets chunks."""
    rng = np.random.default_rng(0)
    framed = sized(npy(rng.standard_normal((500, 123)).astype(np.float32)))
    head = (
        b"POST /v1/posteriors HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/x-npy\r\n"
    )
    newer, older = (said_to(server, one + framed) for one in (head, head.replace(b"/1.1", b"/1.0")))
    assert b"transfer-encoding: chunked" in newer
    assert b"transfer-encoding" not in older
    values = json.loads(older.partition(b"\r\n\r\n")[2])["values"]
    assert np.shape(values) == (500, 400)
    pieces = re.split(rb"\r\n[0-9a-f]+\r\n", b"\r\n" + newer.partition(b"\r\n\r\n")[2])
    assert json.loads(b"".join(pieces).strip())["values"] == values


def test_http_1_0_needs_no_host_and_is_closed(server):
    said = said_to(server, b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert statuses(said) == [200]
    assert b"connection: close" in said


@pytest.mark.parametrize(
    ("version", "expect", "first"), [(b"1.0", b"100-continue", 200), (b"1.1", b"100-Continue", 100)]
)
def test_only_http_1_1_is_told_to_continue(server, version, expect, first):
    head = POST.replace(b"1.1", version) + b"connection: close\r\nexpect: %s\r\ncontent-length: %d\r\n\r\n"
    said = said_to(server, head % (expect, len(BODY)), BODY)
    assert statuses(said) == [first, 200][first == 200 :]


# Whose request it is, and where it ends: RFC 9112, 3.2, 5.1, 5.2, 6.1, 6.3

HOSTS = {
    b"": 400,
    b"host: a\r\nhost: a\r\n": 400,
    b"host: a\r\nhost: b\r\n": 400,
    b"host: a, b\r\n": 400,
    b"host: a b\r\n": 400,
    b"host: a/b\r\n": 400,
    b"host: u@a\r\n": 400,
    b"host: [::1\r\n": 400,
    b"host: a:b\r\n": 400,
    b"host: \xe9\r\n": 400,
    b"host:\r\n": 200,
    b"host: a\r\n": 200,
    b"host: \t a \t \r\n": 200,
    b"host: a.b_c-d:8000\r\n": 200,
    b"host: [::1]:80\r\n": 200,
    b"host: %41\r\n": 200,
}


@pytest.mark.parametrize("host", HOSTS)
def test_exactly_one_valid_host_is_needed(server, host):
    assert statuses(said_to(server, b"GET /healthz HTTP/1.1\r\n" + host + CLOSE)) == [HOSTS[host]]


def test_white_space_around_a_value_is_no_part_of_it(server):
    head = POST + b"x-timeout-ms: \t5000 \t\r\nconnection: close \r\ntransfer-encoding:\tchunked \r\n\r\n"
    assert statuses(said_to(server, head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))) == [200]


FRAMINGS = {
    b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc": 400,
    b"content-length: 3\r\ncontent-length: 4\r\n\r\nabc": 400,
    b"content-length: 3, 3\r\n\r\nabc": 400,
    b"content-length: +3\r\n\r\nabc": 400,
    b"content-length: -3\r\n\r\nabc": 400,
    b"content-length: 0x3\r\n\r\nabc": 400,
    b"content-length: 99999999999999999999999\r\n\r\nabc": 400,
    b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: identity\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n": 501,
    b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n": 400,
    b"transfer-encoding: chunked\r\n\r\n-1\r\nabc": 400,
    b"transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc": 400,
    b"transfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n": 400,
    b"x: a\r\n b\r\n\r\n": 400,
    b"x: a\rb\r\n\r\n": 400,
    b"x: a\0b\r\n\r\n": 400,
    b"x: a\n\n": 400,
    b" x: a\r\n\r\n": 400,
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_others_may_frame_otherwise_is_refused_and_nothing_behind_it_read(server, framing):
    said = said_to(server, b"POST /v2/models/NAME HTTP/1.1\r\nhost: x\r\n" + framing + GET + CLOSE)
    assert statuses(said) in ([FRAMINGS[framing]], [405])  # 405: the path was answered before the body broke
    assert b"alive" not in said


def test_http_1_0_has_no_transfer_codings(server):
    assert statuses(said_to(server, b"POST /v1/posteriors HTTP/1.0\r\n" + chunked(b"abc"))) == [400]


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
def test_other_versions_are_refused(server, version):
    assert statuses(said_to(server, GET.replace(b"1.1", version) + b"\r\n")) == [505]


TARGETS = {
    b"http://a/healthz": 200,
    b"HTTP://a:80/healthz?x=1": 200,
    b"http://a": 200,
    b"http://a?x=1": 200,
    b"/healthz#part": 200,
    b"http:///healthz": 400,
    b"http://u@a/healthz": 400,
    b"ftp://a/healthz": 400,
    b"healthz": 400,
    b"/\xff": 400,
    b"//healthz": 404,
    b"/%00": 404,
}


@pytest.mark.parametrize("target", TARGETS)
def test_targets(server, target):
    assert statuses(said_to(server, b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n" + CLOSE)) == [
        TARGETS[target]
    ]


def test_the_server_as_a_whole_has_no_options(server):
    said = said_to(server, b"OPTIONS * HTTP/1.1\r\nhost: x\r\n" + CLOSE)
    assert statuses(said) == [405]
    assert b"allow: GET, HEAD\r\n" in said
    for method in (b"GET", b"HEAD", b"POST"):  # RFC 9112, 3.2.4: the form is that of OPTIONS only
        said = said_to(server, method + b" * HTTP/1.1\r\nhost: x\r\n" + CLOSE)
        assert statuses(said) == [400], method


@pytest.mark.parametrize("method", [b"FOO", b"get", b"GETS", b"M!#$%&'*+-.^_`|~1"])
def test_unknown_methods_are_not_implemented(server, method):
    """RFC 9110, 9.1."""
    unknown = method + b" /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    assert statuses(said_to(server, unknown)) == [501]
    assert statuses(said_to(server, GET + b"\r\n", unknown)) == [200, 501]


@pytest.mark.parametrize("line", [b"\x16\x03\x01\x02\0", b"hello\r\n\r\n", b"F(O / HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_line_is_a_bad_request(server, line):
    assert statuses(said_to(server, line)) == [400]


def test_nothing_is_read_behind_a_request_that_closes(server):
    assert statuses(said_to(server, GET + CLOSE + GET + b"\r\n")) == [200]
    two_lines = b"connection: keep-alive\r\nconnection: close\r\n\r\n"
    assert statuses(said_to(server, GET + two_lines + GET + b"\r\n")) == [200]
