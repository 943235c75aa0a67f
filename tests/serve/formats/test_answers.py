"""Answers in pieces: together they are what orjson writes of the whole."""

import gzip
import tracemalloc
import zlib

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.formats import answers
from serve.formats.tensors import TensorSpec, write_response

FIELDS = {"utt_id": 'a "name"', "num_frames": 3}


def matrix(rows: int, columns: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)


def whole(fields: dict, **matrices: np.ndarray) -> bytes:
    return orjson.dumps(fields | matrices, option=orjson.OPT_SERIALIZE_NUMPY)


@given(rows=st.integers(1, 400), columns=st.integers(1, 700), top_k=st.sampled_from([None, 1, 5]))
@settings(max_examples=40, deadline=None)
def test_pieces_of_json_are_those_of_the_whole(rows, columns, top_k):
    values = matrix(rows, columns)
    pieces = list(answers.json_pieces(FIELDS, values, top_k))
    if top_k is None:
        expected = whole(FIELDS, values=values)
    else:
        pdf_ids, best = answers.top(values, top_k)
        expected = whole(FIELDS, pdf_ids=pdf_ids, values=best)
    assert b"".join(pieces) == expected


@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 60),
    count=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_the_top_is_what_sorting_gives_and_equal_ones_come_by_pdf_id(rows, columns, count, seed):
    """Few different values, so that most are equal, and some that are minus infinity."""
    of = np.array([-np.inf, -3, -2, -0.0, 0.0, 1], np.float32)
    values = np.random.default_rng(seed).choice(of, (rows, columns))
    pdf_ids, best = answers.top(values, count)
    for row, ids, found in zip(values, pdf_ids, best, strict=True):
        expected = sorted(range(columns), key=lambda pdf_id: (-row[pdf_id], pdf_id))[:count]
        assert ids.tolist() == expected
        assert np.array_equal(found, row[expected])


def test_a_large_answer_is_made_as_it_is_taken_and_a_small_one_at_once():
    values = matrix(2000, 300)
    encoded = answers.encode(answers.JSON, FIELDS, values, None)
    assert sum(map(len, encoded.chunks)) < 3_000_000
    rest = list(encoded.rest)
    assert max(map(len, rest)) < 2_000_000
    assert b"".join([*encoded.chunks, *rest]) == whole(FIELDS, values=values)
    small = answers.encode(answers.JSON, FIELDS, matrix(3, 4), None)
    assert small.rest is None


@pytest.mark.parametrize(
    ("encoding", "decompress"), [("gzip", gzip.decompress), ("deflate", zlib.decompress), (None, bytes)]
)
def test_a_large_infer_response_is_made_as_it_is_taken(encoding, decompress):
    values = matrix(2000, 300)
    encoded, _ = write_response(
        {"id": "1"}, [(TensorSpec("log_posteriors", "FP32", (-1, -1)), values)], False
    )
    body = answers.compressed(encoded, encoding) if encoding else encoded
    rest = list(body.rest)
    assert max(map(len, rest)) < 2_000_000
    (output,) = orjson.loads(decompress(b"".join([*body.chunks, *rest])))["outputs"]
    assert output["data"] == orjson.loads(orjson.dumps(values.ravel(), option=orjson.OPT_SERIALIZE_NUMPY))


@given(rows=st.integers(0, 30), columns=st.integers(0, 2000), binary=st.booleans())
@settings(max_examples=30, deadline=None)
def test_an_infer_response_is_that_of_the_whole(rows, columns, binary):
    values = matrix(rows, columns)
    spec = TensorSpec("log_posteriors", "FP32", (-1, -1))
    encoded, json_size = write_response({"model_name": "m"}, [(spec, values)], binary)
    text = b"".join([*encoded.chunks, *(encoded.rest or ())])
    output = spec.describe() | {"shape": [rows, columns]}
    if binary:
        assert text[json_size:] == values.tobytes()
        text = text[:json_size]
        output |= {"parameters": {"binary_data_size": values.nbytes}}
    else:
        assert json_size is None
        output |= {"data": values.ravel().tolist()}
    answer = orjson.loads(text)
    answer["outputs"][0]["data" if not binary else "name"] = output["data" if not binary else "name"]
    assert answer == {"model_name": "m", "outputs": [output]}
    if not binary:
        data = np.array(orjson.loads(text)["outputs"][0]["data"], np.float32)
        assert np.array_equal(data, values.ravel())


def test_the_best_of_many_frames_take_little_memory_beside_them():
    values = matrix(4000, 1000)
    tracemalloc.start()
    try:
        pdf_ids, best = answers.top(values, 40)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * values.nbytes  # sorting all at once took five times as much
    expected = np.argsort(-values, axis=1, kind="stable")[:, :40]
    assert np.array_equal(pdf_ids, expected)
    assert np.array_equal(best, np.take_along_axis(values, expected, axis=1))
