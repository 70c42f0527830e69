"""Peers of flux: processes and agents that find each other, call each other, and share workspaces, context and streams."""

from .client import Flux
from .errors import FluxError
from .model import Answer, Change, Description, Event, Peer, Versioned
from .streams import Chunk
from .work import Call

__all__ = ["Answer", "Call", "Change", "Chunk", "Description", "Event", "Flux", "FluxError", "Peer", "Versioned"]
__version__ = "0.1.0"
