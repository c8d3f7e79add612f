"""Tool schemas and tool calls of a row, in the form that chat templates expect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from finetooth.data.formats.text_columns import InvalidRowError, parse_list
from finetooth.data.render.turns import EMPTY

CALL_KEYS = {"id", "type", "index", "function", "name", "arguments"}


def read_tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    """Function schemas, a list or its JSON text; a bare schema is wrapped in {type, function}."""
    if value is None or value == "" or value == []:
        return ()
    tools = parse_list(value)
    if tools is None or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidRowError("tools is not a list of function schemas")
    for number, tool in enumerate(tools, 1):
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRowError(f"tool {number} has no function with a name")
    return tuple(tool if "function" in tool else {"type": "function", "function": tool} for tool in tools)


def read_calls(number: int, calls: Any) -> list[dict[str, Any]]:
    """The calls of message `number`, each {type, id?, function: {name, arguments: object}}."""
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise InvalidRowError(f"tool_calls of message {number} is not a list of objects")
    result = []
    for call in calls:
        function = call.get("function", call)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not name:
            raise InvalidRowError(f"a tool call of message {number} has no function with a name")
        # Llama's templates name the arguments `parameters`.
        key = "parameters" if function.get("arguments") in EMPTY else "arguments"
        entries = {**call, **function}
        known = {*CALL_KEYS, key}
        unknown = next((one for one in entries if one not in known and entries[one] not in EMPTY), None)
        if unknown:
            raise InvalidRowError(
                f"the call of {name} in message {number} has the key {unknown!r}, which would be dropped"
            )
        arguments = function.get(key)
        if isinstance(arguments, str) and arguments.strip():
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                raise InvalidRowError(
                    f"the arguments of {name} in message {number} are not valid JSON"
                ) from None
        arguments = arguments or {}
        if not isinstance(arguments, Mapping):
            raise InvalidRowError(f"the arguments of {name} in message {number} are not an object")
        id = {"id": str(call["id"])} if call.get("id") is not None else {}
        result.append({"type": "function", **id, "function": {"name": name, "arguments": dict(arguments)}})
    return result
