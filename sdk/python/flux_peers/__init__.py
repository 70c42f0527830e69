"""Peers of flux: processes and agents that find each other, call each other, and share workspaces, context and streams."""

from .client import Flux
from .errors import FluxError, WrongType
from .model import Answer, Change, Description, Event, Peer, Versioned
from .streams import Chunk, End
from .work import Call

__all__ = ["Answer", "Call", "Change", "Chunk", "Description", "End", "Event", "Flux", "FluxError", "Peer", "Versioned", "WrongType"]
__version__ = "0.1.0"
