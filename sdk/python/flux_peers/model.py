"""What the server tells about peers, capabilities, events and context, as Python values."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Peer:
    """A live peer. `capabilities` are `{name, description?, schema?, …}`; `started_at` is in ms since 1970."""

    id: str
    name: str
    capabilities: list[dict[str, Any]] = field(default_factory=list)
    workspaces: list[str] = field(default_factory=list)
    started_at: int = 0

    @classmethod
    def read(cls, text: str) -> Peer:
        found = json.loads(text)
        return cls(
            found.get("id", ""),
            found.get("name", ""),
            found.get("capabilities", []),
            found.get("workspaces", []),
            found.get("startedAt", 0),
        )


@dataclass(frozen=True)
class Event:
    """Something another peer did in a workspace.

    `type` is peer:joined, peer:left, ctx:updated, stream:data or stream:end. `left` says how a peer left (stopped, expired or
    disconnected), `seq` numbers the chunks of a stream, `version` and `deleted` belong to ctx:updated, and `error` says
    why a stream broke off.
    """

    type: str
    workspace: str
    peer_id: str
    peer_name: str
    key: str | None = None
    data: Any = None
    seq: int | None = None
    version: int | None = None
    deleted: bool = False
    left: str | None = None
    error: str | None = None

    @classmethod
    def read(cls, found: dict[str, Any]) -> Event:
        return cls(
            str(found.get("type", "")),
            str(found.get("workspace", "")),
            str(found.get("peerId", "")),
            str(found.get("peerName", "")),
            found.get("key"),
            found.get("data"),
            found.get("seq"),
            found.get("version"),
            bool(found.get("deleted", False)),
            found.get("left"),
            found.get("error"),
        )


@dataclass(frozen=True)
class Answer:
    """What one peer answered to a call that went to many."""

    peer_id: str
    peer_name: str
    ok: bool
    data: Any = None
    error: str | None = None

    @classmethod
    def read(cls, found: dict[str, Any]) -> Answer:
        return cls(found.get("peerId", ""), found.get("peerName", ""), bool(found.get("ok")), found.get("data"), found.get("error"))


@dataclass(frozen=True)
class Description:
    """A capability: who has it (`{id, name, running, queued}`), how often it was called and failed."""

    name: str
    description: str | None
    schema: Any
    peers: list[dict[str, Any]]
    calls: int
    failed: int

    @classmethod
    def read(cls, text: str) -> Description:
        found = json.loads(text)
        peers, calls, failed = found.get("peers", []), found.get("calls", 0), found.get("failed", 0)
        return cls(found.get("name", ""), found.get("description"), found.get("schema"), peers, calls, failed)


class Versioned(NamedTuple):
    """A value of the context with its version."""

    value: Any
    version: int


class Change(NamedTuple):
    """A past value of the context, and the peer that wrote it."""

    version: int
    value: Any
    peer_id: str | None


def to_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def to_text(value: Any) -> str:
    """A string as it is, anything else as JSON: how this protocol writes context and chunks."""
    return value if isinstance(value, str) else to_json(value)


def from_text(text: str) -> Any:
    """What `to_text` wrote. A string that is JSON comes back as what it says, as in every client of this protocol."""
    try:
        return json.loads(text)
    except ValueError:
        return text
