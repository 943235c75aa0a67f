"""Tensors that a client's numbers describe: what is allocated, looped over or repeated is bounded before."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve.formats.tensors import (
    MAX_CHARACTERS,
    MAX_TENSORS,
    InferRequest,
    TensorSpec,
    pack_request,
    read_request,
    unpack_request,
)
from serve.limits.refusal import Refusal

SPECS = [TensorSpec("features", "FP32", (-1, -1, 3)), TensorSpec("lengths", "INT32", (-1,))]


def body(
    features: object = (0, 1, 2), shape: object = (1, 1, 3), lengths: object = (1,), **members: Any
) -> bytes:
    tensors = [
        {"name": "features", "datatype": "FP32", "shape": shape, "data": features},
        {"name": "lengths", "datatype": "INT32", "shape": [1], "data": lengths},
    ]
    return json.dumps({"inputs": tensors} | members).encode()


def read(text: bytes) -> InferRequest:
    return read_request(text, None, SPECS)


def refusal_of(text: bytes) -> str:
    with pytest.raises(Refusal) as refusal:
        read(text)
    assert refusal.value.status == 400
    assert len(refusal.value.detail) < 1000
    return refusal.value.detail


numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False, width=32)


@settings(deadline=None)
@given(st.data(), st.integers(0, 3), st.integers(0, 4))
def test_flat_and_nested_numbers_are_what_numpy_makes_of_them(data, batch, frames):
    size = batch * frames * 3
    values = data.draw(st.lists(numbers, min_size=size, max_size=size))
    expected = np.array(values, dtype=np.float64).reshape(batch, frames, 3).astype(np.float32)
    for given_data in (values, expected.tolist() if size else values):
        features = read(body(given_data, [batch, frames, 3])).inputs["features"]
        assert features.dtype == np.dtype("<f4")
        np.testing.assert_array_equal(features, expected)


NOT_NUMBERS = ["1", True, False, None, [], [1], {}, "x" * 100]


@pytest.mark.parametrize("thing", NOT_NUMBERS, ids=repr)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_thing_that_is_no_number_is_refused_wherever_it_stands(thing, place):
    for number in (0, 0.5):
        values: list[object] = [number] * 3
        values[place] = thing
        refusal_of(body(values))
        refusal_of(body([[values]]))
    refusal_of(body(lengths=[thing]))
    refusal_of(body(lengths=[[thing]]))


@pytest.mark.parametrize("length", [0.5, 1.0, 2**31, -(2**31) - 1, 2**63, 2**64, 10**30, 1e300])
def test_integers_that_are_none_or_do_not_fit_are_refused(length):
    refusal_of(body(lengths=[length]))


@pytest.mark.parametrize("length", [2**31 - 1, -(2**31), 0])
def test_integers_that_fit_are_read(length):
    assert read(body(lengths=[length])).inputs["lengths"].tolist() == [length]


@pytest.mark.parametrize(
    "value", ["1e39", "-1e39", "1e400", "NaN", "Infinity", "1" + "0" * 400, "1_0", "0x1"]
)
def test_floats_that_do_not_fit_are_refused(value):
    refusal_of(body([0.5, 0.5, 0.5]).replace(b"0.5", value.encode(), 1))


@pytest.mark.parametrize(
    "shape",
    [
        None,
        3,
        "3",
        [],
        [3],
        [1, 3],
        [1, 1, 1, 3],
        [1, 1, 4],
        [1, -1, 3],
        [-1, -1, 3],
        [1, 1.0, 3],
        [True, 1, 3],
    ]
    + [[1, 2**31, 3], [1, 2**63, 3], [1, "1", 3], [1, [1], 3], [1, 2, 3], [0, 1, 3], [[[[]]]], [1] * 100_000],
    ids=lambda shape: repr(shape)[:30],
)
def test_shapes_that_are_not_the_models_or_the_datas_are_refused(shape):
    refusal_of(body(shape=shape))


@pytest.mark.parametrize("datatype", [None, 1, "FP64", "fp32", "BYTES", ["FP32"], {"a": 1}, "F" * 100_000])
def test_datatypes_that_are_not_the_models_are_refused(datatype):
    call = json.loads(body())
    call["inputs"][0]["datatype"] = datatype
    refusal_of(json.dumps(call).encode())


FLAGS = [
    ("binary_data_output", "request"),
    ("sequence_start", "request"),
    ("sequence_end", "request"),
    ("binary_data", "output"),
]
COUNTS = [("timeout", "request"), ("priority", "request"), ("sequence_id", "request")]
COUNTS += [("classification", "output"), ("binary_data_size", "input"), ("shared_memory_offset", "output")]


def with_parameter(name: str, owner: str, value: object) -> bytes:
    call = json.loads(body(outputs=[{"name": "log_posteriors"}]))
    {"request": call, "input": call["inputs"][0], "output": call["outputs"][0]}[owner]["parameters"] = {
        name: value
    }
    return json.dumps(call).encode()


@pytest.mark.parametrize("value", ["false", "true", 0, 1, 0.0, None, [], {}, [True]], ids=repr)
@pytest.mark.parametrize("name, owner", FLAGS)
def test_flags_are_booleans(name, owner, value):
    assert name in refusal_of(with_parameter(name, owner, value))


@pytest.mark.parametrize("value", [True, 1.5, -1, None, [], {}, [1], 10**30], ids=repr)
@pytest.mark.parametrize("name, owner", COUNTS)
def test_counts_are_whole_numbers(name, owner, value):
    assert name in refusal_of(with_parameter(name, owner, value))


@pytest.mark.parametrize("owner", ["request", "input", "output"])
@pytest.mark.parametrize("value", [None, [1], {"a": 1}])
def test_parameters_of_any_name_are_scalars(owner, value):
    """As the protocol has it; nothing nested goes further than here."""
    assert "own" in refusal_of(with_parameter("own", owner, value))
    assert read(with_parameter("own", owner, "x")).parameters == {}


@pytest.mark.parametrize("member", ["parameters", "outputs", "inputs", "id"])
@pytest.mark.parametrize("value", [0, True, "", [1], ["x"], [None], {"a": []}, [[]]], ids=repr)
def test_members_of_another_type_are_refused(member, value):
    if (member, value) == ("id", ""):
        assert read(body(id="")).id == ""
        return
    refusal_of(body(**{member: value}))


@pytest.mark.parametrize("depth", [5, 500, 980, 1100, 100_000])
@pytest.mark.parametrize(
    "place",
    [
        '"parameters": {"a": Q}',
        '"id": Q',
        '"inputs": Q',
        '"outputs": Q',
        '"own": Q',
        '"inputs": [{"name": Q}]',
    ],
)
def test_depth_costs_nothing_wherever_it_stands(place, depth):
    """Refused, or (a member that nobody reads) dropped: what is handed on is flat."""
    nested = "[" * depth + "]" * depth
    text = body().decode()[:-1] + ", " + place.replace("Q", nested) + "}"
    try:
        call = read(text.encode())
    except Refusal as refusal:
        assert refusal.status == 400 and len(refusal.detail) < 300
    else:
        assert "own" in place
        assert json.dumps(pack_request(call)[0]).count("[") < 10


@pytest.mark.parametrize("depth", [5, 500, 980, 1100])
@pytest.mark.parametrize("member", ["datatype", "shape", "data", "name", "parameters"])
def test_depth_within_a_tensor_is_refused(member, depth):
    text = json.dumps(json.loads(body())["inputs"][0] | {member: "Q"}).replace(
        '"Q"', "[" * depth + "]" * depth
    )
    refusal_of(f'{{"inputs": [{text}]}}'.encode())


def test_names_ids_and_lists_have_bounds():
    long = "x" * (MAX_CHARACTERS + 1)
    refusal_of(body(id=long))
    refusal_of(body(outputs=[{"name": long}]))
    refusal_of(body(outputs=[{"name": "log_posteriors"}] * (MAX_TENSORS + 1)))
    refusal_of(body(inputs=[{"name": "a"}] * (MAX_TENSORS + 1)))
    refusal_of(body(parameters={"sequence_id": long}))
    refusal_of(body(parameters={long * 1000: []}))


def test_the_largest_head_that_is_handed_on_is_one_that_the_server_reads():
    from serve.workers.frames import MAX_HEAD_BYTES

    text = "\U0001f600" * MAX_CHARACTERS
    parameters = {"sequence_id": text, "shared_memory_region": text, "timeout": 2**64 - 1}
    names = [f"{number:03}{text[3:]}" for number in range(MAX_TENSORS)]
    outputs = [{"name": name, "parameters": parameters | {"binary_data": True}} for name in names]
    head, _ = pack_request(read(body(id=text, outputs=outputs, parameters=parameters)))
    assert len(json.dumps(head)) < MAX_HEAD_BYTES


@pytest.mark.parametrize(
    "features, shape",
    [
        ([0] * 60_000 + ["x" * 60_000], [1, 1, 3]),
        ([0] * 59_999 + ["x" * 60_000], [1, 20_000, 3]),
        ([[0] * 60_000, "x" * 60_000], [1, 20_000, 3]),
        ([0.5] * 60_000, [1, 2**31 - 1, 3]),
        ([[[]] * 60_000], [1, 60_000, 3]),
        ([[[0] * 3] * 20_000, [0]], [2, 20_000, 3]),
        ([0] * 59_999 + [10**4000], [1, 20_000, 3]),
    ],
)
def test_a_body_costs_a_small_multiple_of_its_size(features, shape):
    text = body(features, shape)
    tracemalloc.start()
    try:
        refusal_of(text)
        assert tracemalloc.get_traced_memory()[1] < 40 * len(text)
    finally:
        tracemalloc.stop()


def binary(sizes: tuple[object, ...], data: bytes) -> tuple[bytes, str]:
    tensors = [
        {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": shape,
            "parameters": {"binary_data_size": size},
        }
        for spec, shape, size in zip(SPECS, ([1, 1, 3], [1]), sizes, strict=True)
    ]
    text = json.dumps({"inputs": tensors}).encode()
    return text + data, str(len(text))


def test_binary_tensors_are_read_in_the_order_of_the_inputs():
    data = np.array([0.5, 1, 2], "<f4").tobytes() + np.array([7], "<i4").tobytes()
    call = read_request(*binary((12, 4), data), SPECS)
    again = unpack_request(*pack_request(call))
    for one in (call, again):
        assert one.inputs["features"].tolist() == [[[0.5, 1, 2]]]
        assert one.inputs["lengths"].tolist() == [7]
        assert all(values.flags.aligned for values in one.inputs.values())


@pytest.mark.parametrize(
    "sizes, num_bytes",
    [((12, 4), 15), ((12, 4), 17), ((16, 4), 20), ((2**62, 4), 16), ((12, 2**63), 16), ((0, 16), 16)]
    + [
        ((12.0, 4), 16),
        ((True, 4), 16),
        (("12", 4), 16),
        ((-12, 4), 16),
        ((None, 4), 16),
        ((12, 10**30), 16),
    ],
)
def test_binary_tensors_of_other_sizes_are_refused(sizes, num_bytes):
    with pytest.raises(Refusal) as refusal:
        read_request(*binary(sizes, b"\0" * num_bytes), SPECS)
    assert refusal.value.status == 400
