"""Objects of JSON bodies: their fields and parameters, of the types and sizes that are expected."""

from typing import Any

import orjson

from serve.limits.refusal import Refusal, shown

MAX_CHARACTERS = 256
# The parameters that the protocol and Triton's extensions define; others may have any of these types.
_PARAMETERS: dict[str, tuple[type, ...]] = {
    "binary_data": (bool,),
    "binary_data_output": (bool,),
    "binary_data_size": (int,),
    "classification": (int,),
    "priority": (int,),
    "sequence_end": (bool,),
    "sequence_id": (int, str),
    "sequence_start": (bool,),
    "shared_memory_byte_size": (int,),
    "shared_memory_offset": (int,),
    "shared_memory_region": (str,),
    "timeout": (int,),
}
_ANY_TYPE = (bool, int, float, str)

Parameters = dict[str, bool | int | str]


def parse_json(text: bytes | memoryview) -> Any:
    """Return what a JSON text says.

    Raises:
        Refusal: 400 it is none.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refusal(400, f"failed to parse the request JSON buffer: {error}") from error


def json_object(value: Any, what: str) -> dict[str, Any]:
    """Return ``value``, an object of a JSON text.

    Raises:
        Refusal: 400 ``what`` is none.
    """
    if not isinstance(value, dict):
        raise Refusal(400, f"{what}: expected a JSON object")
    return value


def known_fields(value: object, what: str, *known: str) -> dict[str, object]:
    """Return the object ``value`` of a JSON body.

    Raises:
        Refusal: 400 ``what`` is no object, or has a field that is not ``known``.
    """
    fields = json_object(value, what)
    for name in fields.keys() - set(known):
        expected = ", ".join(known) or "none"
        raise Refusal(400, f"{what}: unknown field {shown(name)}, expected {expected}")
    return fields


def read_parameters(owner: dict[str, Any], what: str) -> Parameters:
    """Return the parameters of a request or tensor that are known here.

    Raises:
        Refusal: 400 one is of another type, or out of range.
    """
    known = {}
    for name, value in json_object(owner.get("parameters", {}), what).items():
        types = _PARAMETERS.get(name, _ANY_TYPE)
        if type(value) not in types:
            wanted = " or ".join(kind.__name__ for kind in types)
            raise Refusal(400, f"{what}: {shown(name)} is {shown(value)}, expected {wanted}")
        if name not in _PARAMETERS:
            continue
        if type(value) is int and value < 0 or type(value) is str and len(value) > MAX_CHARACTERS:
            raise Refusal(400, f"{what}: {name} is {shown(value)}, which is out of range")
        known[name] = value
    return known
