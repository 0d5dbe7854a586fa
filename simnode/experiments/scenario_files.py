"""Scenarios as files. Enters: a name or a path. Leaves: a `Scenario`, or what is wrong where. Next: `payloads.py`."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simnode.experiments.scenario import Location, Scenario, contradictions
from simnode.storage.text_file import NotUtf8, read_text

SHIPPED = files("simnode.experiments") / "scenarios"
SUFFIX = ".toml"

_HEADER = re.compile(r"^\s*(\[\[|\[)\s*([A-Za-z0-9_.\- ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"^\s*([A-Za-z0-9_-]+)\s*=")


class ScenarioError(Exception):
    """A scenario that cannot be run (its author's fault); each line of the text names file, line and key."""


def shipped_names() -> list[str]:
    """The scenarios that come with the package."""
    names = (entry.name for entry in SHIPPED.iterdir())
    return sorted(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))


def load_scenario(name_or_path: str) -> Scenario:
    """The scenario of a shipped name (`quickstart`), or in a file.

    Raises:
        ScenarioError: there is none, or something in it is wrong.
    """
    source = _find(name_or_path)
    try:
        text = read_text(source)
    except OSError as error:
        raise ScenarioError(f"{name_or_path}: {error.strerror}") from error
    except NotUtf8 as error:
        raise ScenarioError(f"{name_or_path}: {error}") from error
    return parse_scenario(text, str(source) if isinstance(source, Path) else name_or_path + SUFFIX)


def parse_scenario(text: str, file_name: str) -> Scenario:
    """The scenario in a TOML text.

    Args:
        text: the document.
        file_name: for the messages.

    Raises:
        ScenarioError: something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{file_name}: {error}") from error
    try:
        scenario = Scenario.model_validate(document)
    except ValidationError as error:
        problems = [
            (_key_location(where, document), message.removeprefix("Value error, ")) for where, message in _causes(error)
        ]
    else:
        problems = list(contradictions(scenario))
        if not problems:
            return scenario
    lines = _lines_of_keys(text)
    raise ScenarioError("\n".join(_describe(file_name, lines, where, message) for where, message in problems))


def _find(name_or_path: str) -> Path | Traversable:
    path = Path(os.path.expanduser(name_or_path))
    if path.is_file():
        return path
    if name_or_path in shipped_names():
        return SHIPPED / (name_or_path + SUFFIX)
    raise ScenarioError(
        f"{name_or_path}: no such file, and no shipped scenario; those are {', '.join(shipped_names())}"
    )


def _causes(error: ValidationError) -> list[tuple[Location, str]]:
    """Where and why, without what only follows: a list whose items are wrong counts as empty, too."""
    found: list[tuple[Location, str]] = [(detail["loc"], detail["msg"]) for detail in error.errors()]
    return [
        (where, message)
        for where, message in found
        if not any(other != where and other[: len(where)] == where for other, _ in found)
    ]


def _key_location(location: Location, document: Any) -> Location:
    """The part of pydantic's location that is in the document: a union's tag is in the location only."""
    kept: list[str | int] = []
    here = document
    for at, part in enumerate(location):
        is_last = at == len(location) - 1
        if isinstance(here, dict) and part in here:
            here = here[part]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif not is_last:
            continue
        kept.append(part)
    return tuple(kept)


def _describe(file_name: str, lines: dict[Location, int], where: Location, message: str) -> str:
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where).lstrip(".")
    known = next((where[:length] for length in range(len(where), 0, -1) if where[:length] in lines), None)
    line = "" if known is None else f":{lines[known]}"
    return f"{file_name}{line}: {key or 'the document'}: {message}"


def _lines_of_keys(text: str) -> dict[Location, int]:
    """On which line each table and each key of it begins, from 1: tomllib does not tell.

    Keys inside inline tables and arrays are found by the key that they are the value of.
    """
    return dict(_walk(text))


def _walk(text: str) -> Iterator[tuple[Location, int]]:
    table: Location = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (header := _HEADER.match(line)) is not None:
            name = header[2]
            table = tuple(part.strip() for part in name.split("."))
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                yield table, number
                table = (*table, counts[name])
            yield table, number
        elif (key := _KEY.match(line)) is not None:
            yield (*table, key[1]), number
