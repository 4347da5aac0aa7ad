"""Names for emitted code: identifiers, class names and module paths made from whatever a model calls its parts.

A model's names are data. Everything that comes out of here is plain ASCII, an identifier where it stands for one, and
never a keyword, a builtin, one of the emitted file's own names or an attribute of `torch.nn.Module`.
"""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable

from .helpers import HELPERS

WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}\Z")
COMPONENT = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_]*|\d+|[A-Za-z][A-Za-z0-9_-]*)\Z")
LONGEST = 40

MODULE_NAMES = frozenset(
    {
        "torch", "nn", "F", "math", "Tensor", "Path", "OrderedDict", "Callable", "load_file", "load", "self", *HELPERS,
    }
)  # fmt: skip
"""Names that an emitted file binds itself."""

RESERVED = frozenset(keyword.kwlist) | frozenset(keyword.softkwlist) | frozenset(dir(builtins)) | MODULE_NAMES

MODULE_ATTRIBUTES = frozenset(
    [
        "T_destination",
        "add_module",
        "apply",
        "bfloat16",
        "buffers",
        "call_super_init",
        "children",
        "compile",
        "cpu",
        "cuda",
        "double",
        "dump_patches",
        "eval",
        "extra_repr",
        "float",
        "forward",
        "get_buffer",
        "get_extra_state",
        "get_parameter",
        "get_submodule",
        "half",
        "ipu",
        "load_state_dict",
        "modules",
        "mtia",
        "named_buffers",
        "named_children",
        "named_modules",
        "named_parameters",
        "parameters",
        "register_backward_hook",
        "register_buffer",
        "register_forward_hook",
        "register_forward_pre_hook",
        "register_full_backward_hook",
        "register_full_backward_pre_hook",
        "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook",
        "register_module",
        "register_parameter",
        "register_state_dict_post_hook",
        "register_state_dict_pre_hook",
        "requires_grad_",
        "set_extra_state",
        "set_submodule",
        "share_memory",
        "state_dict",
        "to",
        "to_empty",
        "train",
        "training",
        "type",
        "xpu",
        "zero_grad",
    ]
)
"""Public attributes of `nn.Module`, which a child or parameter must not be called."""

DICT_ATTRIBUTES = frozenset({"clear", "items", "keys", "pop", "update", "values"})
"""What `nn.ModuleDict` adds to them."""


def ascii_words(text: str) -> str:
    """The text's letters and digits in ASCII, anything between them as an underscore."""
    plain = unicodedata.normalize("NFKD", text[:200]).encode("ascii", "ignore").decode("ascii")
    return re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")


def identifier(text: str, fallback: str) -> str:
    """A lower-case variable name from a hint; `fallback` where nothing usable is left."""
    words = ascii_words(text)
    if not words or words[0].isdigit() or words.lower() == "l":
        words = f"{fallback}_{words}".rstrip("_")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", words[:LONGEST]).lower().strip("_")
    return f"{words}_" if words in RESERVED else words


def class_name(text: str, fallback: str = "Network") -> str:
    """A CapWords name from a hint."""
    words = [w for w in ascii_words(text).split("_") if w]
    name = "".join(w[0].upper() + w[1:] for w in words)[:LONGEST]
    if not name or name[0].isdigit():
        name = fallback + name
    return f"{name}Module" if name in RESERVED or not WORD.match(name) else name


def path_of(text: str) -> tuple[str, ...] | None:
    """The components of a path such as "layer1.0.conv1"; None where a component could not be an attribute."""
    parts = tuple(text.split("."))
    return parts if len(text) <= 300 and all(is_component(p) for p in parts) else None


def is_component(text: str) -> bool:
    """True for what may name a child of a module: an index, letters and hyphens, or an identifier that hides nothing
    of `nn.Module`."""
    if not COMPONENT.match(text) or text.startswith("_") or len(text) > 60:
        return False
    return not (keyword.iskeyword(text) or text in MODULE_ATTRIBUTES) and (text == "0" or not text.startswith("0"))


def plain_text(text: str) -> str:
    """Text that may stand in a comment or docstring: printable ASCII without quotes and backslashes."""
    return re.sub(r"[^A-Za-z0-9 _.,:;()\[\]<>=+*/-]+", "?", text)[:80]


def unused(wanted: str, taken: Collection[str]) -> str:
    """`wanted`, or it with the first number that makes it unique."""
    if wanted not in taken:
        return wanted
    return next(name for name in numbered(wanted) if name not in taken)


def numbered(stem: str) -> Iterable[str]:
    """stem2, stem3, ... (stem_2, ... where the stem ends in a digit)."""
    joint = "_" if stem[-1:].isdigit() else ""
    number = 2
    while True:
        yield f"{stem}{joint}{number}"
        number += 1
