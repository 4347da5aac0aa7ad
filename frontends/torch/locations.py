"""Where an exported node comes from: its module's path and the line of the user's code."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from ...ir import Loc, UnsupportedError

FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
REPEATED = re.compile(r"@\d+$")
ROOT = re.compile(r"^(L\['self'\]|L__self__|self)\.?")
TORCH = os.path.dirname(torch.__file__) + os.sep
HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


class Locations:
    """Makes locations and remembers what stack traces said, since many nodes share one."""

    def __init__(self) -> None:
        self._sources: dict[str, str] = {}
        self.classes: dict[str, str] = {}
        """The names of the modules' classes by path."""

    def of(self, node: Any) -> Loc:
        """The location of an fx node."""
        meta = node.meta
        trace = meta.get("stack_trace") or ""
        source = self._sources.get(trace)
        if source is None:
            source = self._sources[trace] = source_line(trace)
        stack = meta.get("nn_module_stack")
        if stack:
            for path, kind in stack.values():
                if path not in self.classes:
                    name = kind if isinstance(kind, str) else kind.__name__
                    self.classes[path] = name.rsplit(".", 1)[-1]
        return Loc(scope_of(stack), source, node.name)


def scope_of(stack: Mapping[str, tuple[str, Any]] | None) -> str:
    """The path of the innermost module, "" for the outermost one.

    A second call of one module carries a number behind "@", which is no part of the path.
    """
    if not stack:
        return ""
    path = REPEATED.sub("", list(stack.values())[-1][0])
    return "" if path.startswith("_empty_nn_module_stack") else path_of_module(path)


def path_of_module(path: str) -> str:
    """A path as it is in the state dict, without the call's number and the name of the outermost module."""
    return ROOT.sub("", REPEATED.sub("", path))


def source_line(trace: str) -> str:
    """File name and line of the innermost frame outside torch: "resnet.py:155"; "" when there is none.

    Frames further out than this package are those of whoever asked for the export, and say nothing about the module.
    """
    for found in reversed(list(FRAME.finditer(trace))):
        file = found["file"]
        if file.startswith(HERE):
            break
        if not file.startswith((TORCH, "torch/", "<")):
            return f"{os.path.basename(file)}:{found['line']}"
    return ""


def unsupported(node: Any, what: str, why: str, do: str) -> UnsupportedError:
    """The error for an fx node, with its place in the user's code."""
    loc = Locations().of(node)
    place = f"{loc.scope or 'the outermost module'}{f' ({loc.source})' if loc.source else ''}, node {node.name}"
    return UnsupportedError(what, where=place, why=why, do=do)
