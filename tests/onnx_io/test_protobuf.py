"""Fields of protobuf messages, against the protobuf package and its specification."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from asr_bn.onnx_io.protobuf import fields, varint


def encoded(value: int) -> bytes:
    """A varint, as the specification's example has it: 150 is 96 01."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def test_the_specifications_examples():
    assert varint(memoryview(b"\x96\x01"), 0) == (150, 2)
    assert encoded(150) == b"\x96\x01"
    message = memoryview(b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01")
    assert [(number, value if type(value) is int else bytes(value)) for number, value in fields(message)] == [
        (1, 150),
        (2, b"testing"),
        (3, b"\x08\x96\x01"),
    ]


@given(st.integers(0, 2**64 - 1))
def test_integers_of_any_size_are_read(value):
    assert varint(memoryview(encoded(value)), 0) == (value, len(encoded(value)))


@settings(deadline=None)
@given(
    st.text(max_size=20),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5),
    st.lists(st.floats(width=32), max_size=5),
    st.binary(max_size=50),
)
def test_fields_are_those_that_protobuf_writes(name, dims, floats, raw):
    tensor = TensorProto(name=name, dims=dims, float_data=floats, raw_data=raw)
    found = list(fields(memoryview(tensor.SerializeToString())))
    assert [value for number, value in found if number == 1] == [dim % 2**64 for dim in dims]
    assert [bytes(value).decode() for number, value in found if number == 8] == [name]
    assert [bytes(value) for number, value in found if number == 9] == [raw]
    packed = b"".join(bytes(value) for number, value in found if number == 4)
    np.testing.assert_array_equal(np.frombuffer(packed, "<f4"), np.array(floats, np.float32))


@pytest.mark.parametrize(
    "data",
    [b"\x08", b"\x0a\x05abc", b"\x0b", b"\x00\x01", b"\x09\x00", b"\xff" * 11, b"\x80" * 5 + b"\x10\x00"],
)
def test_what_is_no_message_is_refused(data):
    with pytest.raises(ValueError):
        list(fields(memoryview(data)))
