"""The fields of a protobuf message, read one by one without parsing the rest.

Source: "Encoding", protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

Field = tuple[int, "int | memoryview"]

_FIXED = {1: 8, 5: 4}
_VARINT, _BYTES = 0, 2
_LARGEST_TAG = (1 << 32) - 1


def fields(message: memoryview) -> Iterator[Field]:
    """Yield the number and value of each field: an integer, or the bytes of a text or message.

    Raises:
        ValueError: cut short, or not a message.

    >>> [number for number, _ in fields(memoryview(b"\\x08\\x96\\x01\\x12\\x02ok"))]
    [1, 2]
    """
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        number, kind = tag >> 3, tag & 7
        if number == 0 or tag > _LARGEST_TAG:
            raise ValueError("not a protobuf message")
        if kind == _VARINT:
            value, at = varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = varint(message, at)
        elif kind in _FIXED:
            size = _FIXED[kind]
        else:
            raise ValueError("not a protobuf message")
        if size > len(message) - at:
            raise ValueError("cut short")
        content = message[at : at + size]
        yield number, content if kind == _BYTES else int.from_bytes(content, "little")
        at += size


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read an integer of seven bits a byte; return it and the position after it.

    Raises:
        ValueError: cut short, or of more than ten bytes.
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("cut short")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("not a protobuf message")
