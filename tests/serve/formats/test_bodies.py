"""Bodies read to their end or refused, within bounds that are checked before."""

import asyncio
import gzip
import io
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from serve.formats.bodies import MAX_GZIP_MEMBERS, inflate, read_body, read_npy
from serve.limits.refusal import Refusal

MOST = 1 << 20


def status_of(encoding: str, body: bytes) -> int:
    with pytest.raises(Refusal) as refusal:
        inflate(body, encoding, MOST)
    return refusal.value.status


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=5), st.integers(0, 9))
def test_every_member_of_gzip_data_is_read(parts, level):
    """RFC 1952, 2.2: the members follow one another; Python's own reader is the oracle."""
    body = b"".join(gzip.compress(part, level) for part in parts)
    assert inflate(body, "gzip", MOST) == gzip.decompress(body) == b"".join(parts)


def test_members_longer_than_a_step_are_read():
    parts = [np.random.default_rng(seed).bytes(200_000) for seed in range(3)]
    body = b"".join(map(gzip.compress, parts))
    assert inflate(body, "x-gzip", MOST) == b"".join(parts)
    whole = b"".join(parts)
    assert inflate(zlib.compress(whole), "deflate", MOST) == whole


@pytest.mark.parametrize("tail", [b"x", b"\0", b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08" + b"\0" * 7, b"\r\n"])
@pytest.mark.parametrize("encoding, compress", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_what_follows_compressed_data_is_refused(encoding, compress, tail):
    assert status_of(encoding, compress(b"speech" * 100) + tail) == 400


@pytest.mark.parametrize("encoding, compress", [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_data_cut_anywhere_are_refused(encoding, compress):
    body = compress(b"speech" * 10)
    if encoding == "gzip":
        body += compress(b"more")
    whole = {0, len(compress(b"speech" * 10))} if encoding == "gzip" else {0}
    for size in range(len(body)):
        if size not in whole or size == 0:
            assert status_of(encoding, body[:size]) == 400, size


def test_a_second_zlib_stream_is_refused():
    assert status_of("deflate", zlib.compress(b"a") + zlib.compress(b"b")) == 400


def test_the_bound_holds_for_all_members_together():
    half = gzip.compress(b"\0" * (MOST // 2))
    assert len(inflate(half + half, "gzip", MOST)) == MOST
    assert status_of("gzip", half + half + gzip.compress(b"\0")) == 413
    assert status_of("gzip", gzip.compress(b"\0" * (MOST + 1))) == 413


def test_members_are_counted():
    """Empty ones would cost time, and no room."""
    empty = gzip.compress(b"")
    assert inflate(empty * MAX_GZIP_MEMBERS, "gzip", MOST) == b""
    assert status_of("gzip", empty * (MAX_GZIP_MEMBERS + 1)) == 400


def test_a_bomb_costs_no_more_than_the_bound():
    bomb = gzip.compress(b"\0" * 100_000_000)
    tracemalloc.start()
    try:
        assert status_of("gzip", bomb) == 413
        assert tracemalloc.get_traced_memory()[1] < 3 * MOST
    finally:
        tracemalloc.stop()


def receive(body: bytes, *headers: tuple[bytes, bytes]) -> bytes:
    async def messages() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "headers": list(headers)}
    return asyncio.run(read_body(Request(scope, messages), MOST, 5.0))


@pytest.mark.parametrize("value", [b"1" * 5000, b"1" * 19, b"2000000"])
def test_a_length_beyond_the_bound_is_refused_before_the_body(value):
    with pytest.raises(Refusal) as refusal:
        receive(b"", (b"content-length", value))
    assert refusal.value.status == 413


@pytest.mark.parametrize("value", [b"\xb2", b"", b"-1", b"1e3"])
def test_a_length_that_is_none_is_left_to_the_protocol(value):
    assert receive(b"abc", (b"content-length", value)) == b"abc"


def test_encodings_over_two_header_lines_are_one_list():
    body = gzip.compress(b"speech")
    assert receive(body, (b"content-encoding", b"GZIP")) == b"speech"
    with pytest.raises(Refusal) as refusal:
        receive(body, (b"content-encoding", b"identity"), (b"content-encoding", b"gzip"))
    assert refusal.value.status == 415


def header(text: str, version: int = 1, encoding: str = "latin-1") -> bytes:
    size = {1: "<H", 2: "<I", 3: "<I"}[version]
    data = text.encode(encoding) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(size, len(data)) + data


VALUES = np.arange(6, dtype="<f4").tobytes()
HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (02, 3), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 03), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n\n",
    "{'shape': (2, 3), 'descr': '<f4', 'fortran_order': True}",
    "{'descr':'=f4','fortran_order':False,'shape':(2,3)}",
    '{"descr": "f4", "fortran_order": False, "shape": (2, 3)}',
    "{'descr': 'float32', 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': '|f4', 'fortran_order': False, 'shape': (2, 3)}",
    "  {'descr': '<f4',\n 'fortran_order': False, 'shape': (0x2, 3)} # comment",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2 0, 3)}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (2, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': [2, 3]}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3.0)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, -3)}",
    "{'descr': '<f4', 'fortran_order': False}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'x': 1}",
    "{'descr': 'f4' 'x', 'fortran_order': False, 'shape': (2, 3)}",
    "{'descr': f4, 'fortran_order': False, 'shape': (2, 3)}",
    "dict(descr='<f4', fortran_order=False, shape=(2, 3))",
    "('<f4', False, (2, 3))",
    "",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 6)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2_, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1" * 5000 + ", 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': " + "(" * 3000 + ")" * 3000 + "}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 9000 + "2, 3)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}" + " " * 20_000,
]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("text", HEADERS, ids=lambda text: text[:70])
def test_headers_are_read_as_numpy_reads_them(text, version):
    data = header(text, version) + VALUES
    try:
        expected = np.load(io.BytesIO(data))
    except Exception:  # numpy's are of many kinds
        with pytest.raises(Refusal) as refusal:
            read_npy(data)
        assert refusal.value.status == 400
        assert len(refusal.value.detail) < 300
    else:
        np.testing.assert_array_equal(read_npy(data), expected)


@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_integers_of_python_2_are_read_as_numpy_reads_them():
    data = header("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 3L), }") + VALUES
    np.testing.assert_array_equal(read_npy(data), np.load(io.BytesIO(data)))


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_matrices_that_numpy_wrote_are_read(dtype, order, version):
    matrix = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype, order=order)
    stream = io.BytesIO()
    np.lib.format.write_array(stream, matrix, version)
    read = read_npy(stream.getvalue())
    assert read.dtype == np.float32 and read.flags.c_contiguous
    np.testing.assert_array_equal(read, matrix.astype(np.float32))


@pytest.mark.parametrize(
    "descr, size",
    [("'<i4'", 24), ("'<c8'", 48), ("'|S4'", 24), ("'<U1'", 24), ("'|b1'", 6), ("'|O'", 48), ("'<M8[s]'", 48)]
    + [("[('a', '<f4')]", 24), ("('<f4', (3,))", 72), ("'<f16'", 96), ("'|V4'", 24)],
)
def test_other_types_are_no_features(descr, size):
    data = header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': (2, 3)}}") + b"\0" * size
    with pytest.raises(Refusal) as refusal:
        read_npy(data)
    assert refusal.value.status in (400, 422)


@pytest.mark.parametrize("shape", ["()", "(6,)", "(1, 2, 3)", "(6, 1, 1, 1)"])
def test_other_dimensions_are_no_features(shape):
    with pytest.raises(Refusal) as refusal:
        read_npy(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}") + VALUES)
    assert refusal.value.status == 422


@pytest.mark.parametrize(
    "shape",
    [
        "(10**9, 3)",
        "(1000000000000, 123)",
        "(2, 4)",
        "(0, 3)",
        f"({2**62}, {2**62})",
        f"(0, {10**30})",
        f"({2**63 - 1}, 0)",
    ],
)
def test_no_more_is_allocated_than_the_data_hold(shape):
    tracemalloc.start()
    try:
        with pytest.raises(Refusal):
            read_npy(header(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}") + VALUES)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("change", [-24, -4, -1, 1, 4, 24])
def test_values_cut_short_or_followed_by_more_are_refused(change):
    data = header(HEADERS[0]) + VALUES
    with pytest.raises(Refusal) as refusal:
        read_npy(data[:change] if change < 0 else data + b"\0" * change)
    assert refusal.value.status == 400


@pytest.mark.parametrize("literal", ["123 if 1else 2", "'\\d'", "0x7bor 1"])
def test_what_python_says_of_a_header_is_not_written_to_the_log(literal):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': (1, {literal})}}\n".encode()
    body = b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text
    work = f"try:\n    read_npy({body!r})\nexcept Exception as e: print(e)"
    script = f"from serve.formats.bodies import read_npy\n{work}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the features" in result.stdout
    assert result.stderr == ""
