"""PyTorch source out: `emit` writes a folder, `to_module` makes a module from the same source."""

from .emit import Emitted, emit, to_module, to_runner

__all__ = ["Emitted", "emit", "to_module", "to_runner"]
