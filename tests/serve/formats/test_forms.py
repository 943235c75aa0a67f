"""Forms with one file, read to their last boundary or refused."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.formats.bodies import MAX_PARTS, read_form, read_multipart
from serve.limits.refusal import Refusal

FORM = "multipart/form-data; boundary=b"
DISPOSITION = b'content-disposition: form-data; name="file"; filename="a/u1.wav"\r\n'
WHOLE = b"--b\r\n" + DISPOSITION + b"\r\nspeech\r\n--b--\r\n"


def detail_of(body: bytes, content_type: str = FORM) -> str:
    with pytest.raises(Refusal) as refusal:
        read_multipart(body, content_type)
    assert refusal.value.status == 400
    return refusal.value.detail


@settings(deadline=None)
@given(st.binary(max_size=2000), st.text("\r\n-ab \t", max_size=50))
def test_a_form_of_another_implementation_gives_the_file_back(data, text):
    for content in (data, text.encode()):
        request = httpx.Request("POST", "http://x", files={"file": ("folder/u1.wav", content, "audio/wav")})
        part = read_multipart(request.read(), request.headers["content-type"])
        assert part.data == content
        assert (part.stem, part.headers["content-type"]) == ("u1", "audio/wav")


@pytest.mark.parametrize("tail", [b"", b"\r\n", b"\n", b"\r\n\r\n", b" \r\n"])
def test_white_space_may_follow_the_last_boundary(tail):
    assert read_multipart(WHOLE.removesuffix(b"\r\n") + tail, FORM).data == b"speech"


def test_what_only_begins_like_a_boundary_is_data():
    data = b"speech\r\n--b-\r\n--bee\r\n\r\n--"
    assert read_multipart(WHOLE.replace(b"speech", data), FORM).data == data


def test_a_form_cut_anywhere_is_refused():
    end = WHOLE.removesuffix(b"\r\n")
    for size in range(len(end)):
        detail_of(end[:size])


@pytest.mark.parametrize(
    "body",
    [
        b"preamble\r\n" + WHOLE,
        WHOLE + b"epilogue",
        WHOLE + b"\r\n" * 100 + b"x",
        WHOLE + WHOLE,
        WHOLE + b"--b--\r\n",
        WHOLE.replace(b"--b--\r\n", b"--b\r\n"),
        WHOLE.replace(b"\r\n--b--", b"--b--"),
        WHOLE.replace(b"--b--", b"--c--"),
        WHOLE.replace(b"\r\n", b"\n"),
    ],
)
def test_what_lies_outside_of_the_parts_is_refused(body):
    detail_of(body)


def part_named(name: str, data: str = "1") -> bytes:
    return f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{data}\r\n'.encode()


def test_other_parts_are_refused_by_name():
    file = WHOLE.removesuffix(b"--b--\r\n")
    assert "'topk'" in detail_of(part_named("topk") + file + b"--b--\r\n")
    assert "'topk'" in detail_of(file + part_named("topk") + b"--b--\r\n")
    assert "2 parts" in detail_of(file + file + b"--b--\r\n")
    assert "''" in detail_of(b"--b\r\n\r\nspeech\r\n--b--\r\n")
    assert len(detail_of(part_named("x" * 3000) + b"--b--\r\n")) < 200
    assert str(MAX_PARTS) in detail_of(part_named("file") * (MAX_PARTS + 1) + b"--b--\r\n")


def test_parts_beside_the_file_are_taken_by_name():
    file, text = WHOLE.removesuffix(b"--b--\r\n"), part_named("text", "zwölf")
    for body in (file + text, text + file):
        form = read_form(body + b"--b--\r\n", FORM, "text")
        assert (form["file"].data, form["text"].text()) == (b"speech", "zwölf")
        for size in range(len(body)):
            with pytest.raises(Refusal):
                read_form(body[:size], FORM, "text")
    for body, said in (
        (file + text + text, "2 parts are named 'text', expected one"),
        (text, "0 parts are named 'file', expected one"),
        (file + part_named("topk"), "named 'topk', expected only 'file' or 'text'"),
        (file + text + b"--b--\r\nmore", "does not end with its boundary"),
    ):
        with pytest.raises(Refusal) as refusal:
            read_form(body + b"--b--\r\n", FORM, "text")
        assert said in refusal.value.detail
    latin = read_form(file + text.replace("ö".encode(), b"\xf6") + b"--b--\r\n", FORM, "text")
    with pytest.raises(Refusal, match="text: not UTF-8 at byte 2"):
        latin["text"].text()


def test_a_header_twice_is_refused():
    """A proxy may have looked at the other one."""
    assert "content-disposition" in detail_of(WHOLE.replace(DISPOSITION, DISPOSITION * 2))


@pytest.mark.parametrize("again", ['name="file"', "NAME=other", 'filename="b.wav"', "Name = x"])
def test_a_parameter_twice_is_refused(again):
    """A proxy may have looked at the other one."""
    header = DISPOSITION.removesuffix(b"\r\n") + f"; {again}\r\n".encode()
    assert "Content-Disposition gives" in detail_of(WHOLE.replace(DISPOSITION, header))


def test_a_boundary_twice_is_refused():
    assert detail_of(WHOLE, FORM + "; boundary=c") == "the Content-Type gives 'boundary' more than once"
    assert "boundary" in detail_of(WHOLE, FORM + ", " + FORM)  # of two header lines


def test_what_is_quoted_is_no_parameter():
    header = b'content-disposition: form-data; name="file"; filename="u;name=2;name=\\"3.wav"\r\n'
    assert read_multipart(WHOLE.replace(DISPOSITION, header), FORM).stem == 'u;name=2;name="3'


@pytest.mark.parametrize("coding", ["binary", "8BIT", "7bit"])
def test_transfer_encodings_that_change_nothing_are_taken(coding):
    header = f"content-transfer-encoding: {coding}\r\n".encode()
    assert read_multipart(WHOLE.replace(DISPOSITION, DISPOSITION + header), FORM).data == b"speech"


@pytest.mark.parametrize("coding", ["base64", "quoted-printable", "x-gzip", ""])
def test_other_transfer_encodings_are_refused(coding):
    """RFC 7578, 4.7: nobody sends them; undecoded they would be taken for audio."""
    header = f"content-transfer-encoding: {coding}\r\n".encode()
    detail = detail_of(WHOLE.replace(DISPOSITION, DISPOSITION + header))
    assert detail == f"a part has the Content-Transfer-Encoding {coding!r}, expected binary"


@pytest.mark.parametrize(
    "headers",
    [b"x" * 1_000_000, b"x: " + b"y" * 1_000_000 + b"\r\n", b"".join(b"x%d: y\r\n" % k for k in range(5000))],
)
def test_headers_of_a_part_have_bounds(headers):
    detail_of(WHOLE.replace(DISPOSITION, headers + DISPOSITION))


@pytest.mark.parametrize(
    "content_type", ["multipart/form-data", "multipart/form-data; boundary=", FORM.upper()]
)
def test_the_boundary_is_looked_for_in_the_media_type(content_type):
    detail_of(WHOLE, content_type)


def test_a_bad_form_is_not_written_to_the_log(caplog):
    """Its sender could fill it."""
    detail_of(b"--b\r\nx\ry: 1\r\n\r\n1\r\n--b--\r\n")
    detail_of(WHOLE + b"epilogue")
    assert caplog.records == []
