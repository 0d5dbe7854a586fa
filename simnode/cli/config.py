"""What `simnode serve` is set to. Enters: a TOML file and options. Leaves: `NodeSettings`. Next: `supervise.py`.

The file has the options' names, without the dashes before them::

    port = 7509
    memory-budget = "2GiB"
    token = ["secret"]
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails

from simnode.cli.choices import ChunkedResponses, LogFormat, StoreKind
from simnode.cli.environment import variable_of
from simnode.live.settings import GIB, NodeSettings
from simnode.metrics.cgroups import usable_cpus
from simnode.node.hosts import AllowedHosts, is_host
from simnode.protocol.limits import MIB
from simnode.storage.text_file import NotUtf8, read_text

MAX_PORT = 65535


class ConfigError(Exception):
    """A wrong setting, or a file that is no TOML (the user's fault). Says which, and where."""


def default_handlers() -> int:
    """One for each CPU to use; at least two, so that one that dies is not the last."""
    return max(2, usable_cpus())


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _as_data_dir(value: Path) -> Path:
    """No shell has expanded `~` in a file, or after `=`."""
    path = Path(os.path.expanduser(value))
    if path.parts and path.parts[0].startswith("~"):
        raise ValueError(f"there is no home directory {path.parts[0]}")
    return path


def _as_address(value: str) -> str:
    """An address or a name to listen on, in lower case; brackets around an IPv6 address go."""
    host = value.lower()
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    if not is_host(host):
        what = "an address or a name of this machine, without scheme and port"
        raise ValueError(f"{value!r} is not {what}; 0.0.0.0 and :: stand for all addresses")
    return host


def _as_allowed(values: tuple[str, ...]) -> tuple[str, ...]:
    AllowedHosts.of(values)  # what is not understood fails here, not when the node runs
    return values


DataDir = Annotated[Path, AfterValidator(_as_data_dir)]
Host = Annotated[str, AfterValidator(_as_address)]
Port = Annotated[NonNegativeInt, Field(le=MAX_PORT)]
Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_as_list)]


class ServeConfig(BaseModel):
    """The options of `simnode serve`; see its help for what they mean. Sizes in bytes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"), validate_default=False
    )

    host: Host = "127.0.0.1"
    port: Port = 7509
    metrics_host: Host = "127.0.0.1"
    metrics_port: Port = 9509
    handlers: PositiveInt = Field(default_factory=default_handlers)
    connections_per_handler: PositiveInt = 1000
    data_dir: DataDir | None = None
    allow_lost_segments: bool = False
    store: StoreKind | None = None
    memory_budget: Annotated[ByteSize, Field(ge=MIB)] = ByteSize(GIB)
    chunked_responses: ChunkedResponses = ChunkedResponses.OPT_IN
    token: Words = ()
    allowed_host: Annotated[Words, AfterValidator(_as_allowed)] = ()
    log_format: LogFormat = LogFormat.TEXT

    @model_validator(mode="after")
    def _settings_agree(self) -> Self:
        if self.store is StoreKind.DISK and self.data_dir is None:
            raise ValueError("store 'disk' needs a data-dir")
        if self.store is StoreKind.MEMORY and self.data_dir is not None:
            raise ValueError("store 'memory' keeps nothing in a data-dir; leave one of them out")
        if self.port and self.port == self.metrics_port and self._ports_collide:
            raise ValueError(f"port and metrics-port are both {self.port}; choose another for one of them, or 0")
        return self

    @property
    def _ports_collide(self) -> bool:
        hosts = {self.host, self.metrics_host}
        return len(hosts) == 1 or bool(hosts & {"0.0.0.0", "::"})

    @property
    def is_durable(self) -> bool:
        """Whether contracts outlive the node."""
        return self.data_dir is not None

    def node_settings(self, run_dir: Path) -> NodeSettings:
        """The same for the node's processes."""
        return NodeSettings(
            run_dir=run_dir,
            data_dir=run_dir / "data" if self.data_dir is None else self.data_dir.resolve(),
            durable=self.is_durable,
            allow_lost_segments=self.allow_lost_segments,
            host=self.host,
            port=self.port,
            metrics_host=self.metrics_host,
            metrics_port=self.metrics_port,
            handlers=self.handlers,
            connections_per_handler=self.connections_per_handler,
            memory_budget_bytes=int(self.memory_budget),
            always_chunk=self.chunked_responses is ChunkedResponses.ALWAYS,
            allowed_hosts=frozenset(self.allowed_host),
            tokens=frozenset(self.token),
            json_logs=self.log_format is LogFormat.JSON,
        )


def load_config(
    file: Path | None, options: Mapping[str, Any], *, from_environment: Collection[str] = ()
) -> ServeConfig:
    """The settings of a file, and of the command line and the environment, which win.

    Args:
        file: TOML; None: no file.
        options: of the command line and the environment, by the names of the file; None and empty lists
            were not given.
        from_environment: the options that came from there, so that an error names the variable.

    Raises:
        ConfigError: the file cannot be read or is no TOML, or a setting is unknown or wrong.
    """
    file = None if file is None else Path(os.path.expanduser(file))
    text = "" if file is None else _read(file)
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: {error}") from error
    given = {name: value for name, value in options.items() if value not in (None, [])}
    try:
        return ServeConfig.model_validate(settings | given)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        place = _place(details, file, text, given, from_environment)
        raise ConfigError(f"{place}{_explain(details)}") from error


def _read(file: Path) -> str:
    try:
        return read_text(file)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except NotUtf8 as error:
        raise ConfigError(f"{file}: {error}") from error


def _place(
    details: ErrorDetails, file: Path | None, text: str, given: Mapping[str, Any], from_environment: Collection[str]
) -> str:
    """`--port: `, `SIMNODE_PORT: ` or `node.toml:3: port: `."""
    if not details["loc"]:
        return ""
    key = str(details["loc"][0])
    if key in from_environment:
        return f"{variable_of(key)}: "
    if key in given or file is None:
        return f"--{key}: "
    # tomllib keeps no positions; the settings are plain `key = value` lines
    found = re.search(rf"""^[ \t]*(?:\[+)?["']?{re.escape(key)}["']?[ \t]*[=.\]]""", text, re.MULTILINE)
    line = "" if found is None else f":{text.count(chr(10), 0, found.start()) + 1}"
    return f"{file}{line}: {key}: "


def _explain(details: ErrorDetails) -> str:
    if details["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in ServeConfig.model_fields.items()]
        near = difflib.get_close_matches(str(details["loc"][0]).replace("_", "-"), known, n=1)
        return "no such setting" + (f"; do you mean {near[0]}?" if near else f"; there are {', '.join(known)}")
    message = details["msg"].removeprefix("Value error, ")
    return message[0].lower() + message[1:]
