# SPDX-License-Identifier: Apache-2.0
"""Turns of a chat as people have them → `Message`: OpenAI's, TRL's, ShareGPT's, Anthropic's and Gemini's spellings.

A `Message` is a role and a text. What an assistant wrote beside its text is written into it, so that nothing that a
model learns is left out: its reasoning before the text as ``<think>``, its calls of tools behind it as ``<tool_call>``
with JSON, which is how Qwen's, Hermes' and many other templates write them. What is not text (pictures, sound, files)
makes a turn unreadable; it is never left out silently.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from reticent.core.record import Message
from reticent.data.bad_field import BadField, checked

ROLES = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "developer": "system",
    "function": "tool",
    "observation": "tool",
}
"""Names of roles in other chat data → those that chat templates know."""
_REASONING = ("reasoning_content", "reasoning", "thinking")
_WEIGHTS = ("weight", "train", "trained")
"""Keys by which a turn of the assistant says that it is not trained on."""
_TEXT_PARTS = (None, "text", "input_text", "output_text")
_SKIP = "Skip such rows (--on_bad_row skip)."


def messages_in(field: str, value: Any, *, trained: bool = True) -> tuple[Message, ...]:
    """The turns that a field holds.

    Args:
        field: its name, for errors.
        value: a list of turns; a dictionary of lists, as some data sets store it; or either as JSON, as in a CSV file.
        trained: False where all of them are context.

    Raises:
        BadField: it holds no turns, or one that cannot be read as text.
    """
    turns = _turns(field, value)
    return tuple(_message(field, turn, trained) for turn in turns)


def conversation(field: str, messages: Iterable[Message]) -> tuple[Message, ...]:
    """``messages``, if something in them is trained on.

    Raises:
        BadField: no turn of the assistant has a text that is trained on.
    """
    turns = tuple(messages)
    if not any(turn.role == "assistant" and turn.trained and turn.content.strip() for turn in turns):
        raise BadField(f"{field!r} has no turn of the assistant", "Skip such rows: there is nothing to train on.")
    return turns


def is_turns(value: Any) -> bool:
    """True if a value is a list of turns, perhaps empty."""
    return isinstance(value, list) and all(isinstance(turn, Mapping) for turn in value)


def _turns(field: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadField(f"field {field!r} is text, and no JSON list of turns", "Give a list of turns.") from error
    if isinstance(value, Mapping) and _is_columns(list(value.values())):
        return [dict(zip(value, turn, strict=True)) for turn in zip(*value.values(), strict=True)]
    if not isinstance(value, list):
        raise BadField(f"field {field!r} is a {type(value).__name__}, not a list", "Give a list of turns.")
    return value


def _is_columns(values: list[Any]) -> bool:
    return all(isinstance(column, list) for column in values) and len({len(column) for column in values}) == 1


def _message(field: str, turn: Any, trained: bool) -> Message:
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    if not isinstance(role, str):
        raise BadField(f"a turn of {field!r} has no role and content in text", 'Give {"role": "user", "content": "…"}.')
    role = ROLES.get(role.strip().lower(), role)
    says = [*_reasoning(field, turn)] if role == "assistant" else []
    told = _content(field, turn)
    says += [told] if told else []
    calls = _calls(field, turn) if role == "assistant" else []
    if told is None and not calls:
        reason = f"a turn of {field!r} has no role and content in text: its content is empty, and it calls no tool"
        raise BadField(reason, _SKIP)
    text = checked(field, "\n\n".join(says) + ("\n" if says and calls else "") + "\n".join(calls))
    learns = trained and not any(turn.get(key) in (0, False) for key in _WEIGHTS)
    return Message(role=role, content=text, trained=learns or role != "assistant")


def _content(field: str, turn: Mapping[str, Any]) -> str | None:
    """The text of a turn; None where it says that it has none."""
    content = next((turn[key] for key in ("content", "value", "parts") if turn.get(key) is not None), None)
    if content is None:
        refusal = turn.get("refusal")
        return checked(field, refusal) if refusal else None
    if isinstance(content, list):
        return "".join(_part(field, part) for part in content if not _is_aside(part))
    if isinstance(content, Mapping):
        return _part(field, content)
    if not isinstance(content, str):
        raise BadField(f"a turn of {field!r} has a {type(content).__name__} for content", f"Give text. {_SKIP}")
    return content


def _part(field: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        kind = part.get("type")
        if kind in _TEXT_PARTS and isinstance(part.get("text"), str):
            return str(part["text"])
        if kind == "refusal" and isinstance(part.get("refusal"), str):
            return str(part["refusal"])
        if kind == "tool_result":
            return _content(field, part) or ""
        if isinstance(kind, str):
            reason = f"a turn of {field!r} has a part of type {kind[:40]!r}, and only text is read"
            raise BadField(reason, _SKIP)
    raise BadField(f"a turn of {field!r} has a part that is no text", _SKIP)


def _is_aside(part: Any) -> bool:
    """True if a part of the content is reasoning or a call, which are read by themselves."""
    return isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning", "tool_use")


def _asides(turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = turn.get("content")
    return [part for part in content if _is_aside(part)] if isinstance(content, list) else []


def _reasoning(field: str, turn: Mapping[str, Any]) -> Iterable[str]:
    thoughts = [turn[key] for key in _REASONING if isinstance(turn.get(key), str)]
    thoughts += [part.get("thinking", part.get("text")) for part in _asides(turn) if part["type"] != "tool_use"]
    for thought in dict.fromkeys(thoughts):
        if checked(field, thought).strip():
            yield f"<think>\n{thought.strip()}\n</think>"


def _calls(field: str, turn: Mapping[str, Any]) -> list[str]:
    given = turn.get("tool_calls") or []
    if not isinstance(given, list):
        raise BadField(f"a turn of {field!r} has tool_calls that are no list", _SKIP)
    calls = [call.get("function") or call if isinstance(call, Mapping) else None for call in given]
    calls += [turn["function_call"]] if turn.get("function_call") else []
    calls += [part for part in _asides(turn) if part["type"] == "tool_use"]
    return [_call(field, call) for call in calls]


def _call(field: str, call: Any) -> str:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise BadField(f"a turn of {field!r} has a call of a tool without a name", _SKIP)
    arguments = call.get("arguments", call.get("input"))
    if isinstance(arguments, str):
        with suppress(ValueError, RecursionError):  # else it is kept as the text that it is
            arguments = json.loads(arguments)
    try:
        written = json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadField(f"a turn of {field!r} has a call of a tool that is no JSON", _SKIP) from error
    return f"<tool_call>\n{written}\n</tool_call>"
