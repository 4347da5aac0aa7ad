"""The modules, parameters and buffers of the emitted class: a tree whose paths are the keys of its state_dict.

A path such as ("layer1", "0", "conv1") is the original one wherever the model still has it. Children with the indices
0..n-1 become an `nn.ModuleList` (equal neighbours a comprehension), other indices an `nn.ModuleDict`, names a `Block`.
One tensor is registered once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from ...ir import DType, Tensor
from .code import Code, Member, Variable, call, form, quoted, raw, sequence
from .layout import statement
from .names import DICT_ATTRIBUTES, is_component, numbered, unused
from .progression import numbered_names, progression, span

Path = tuple[str, ...]

FEWEST = 3
"""From how many numbered modules on a group is written as one comprehension."""

TORCH_TYPES = {
    DType.F32: "float32", DType.F64: "float64", DType.F16: "float16", DType.BF16: "bfloat16", DType.I8: "int8",
    DType.I16: "int16", DType.I32: "int32", DType.I64: "int64", DType.U8: "uint8", DType.U16: "uint16",
    DType.U32: "uint32", DType.U64: "uint64", DType.BOOL: "bool",
}  # fmt: skip
"""Element types that emitted code can hold."""


@dataclass(slots=True)
class Leaf:
    """A module, parameter or buffer and the expression that makes it; `persistent` ones have weights in the file."""

    member: Member
    value: Code
    is_module: bool = False
    trainable: bool = False
    persistent: bool = True


@dataclass(slots=True)
class Container:
    """An inner node of the tree."""

    children: dict[str, Container | Leaf] = field(default_factory=dict[str, "Container | Leaf"])

    @property
    def kind(self) -> str:
        """list, dict, parameters or block: what holds the children."""
        names = set(self.children)
        if all(n.isidentifier() for n in names):
            return "block"
        if all(isinstance(c, Leaf) and c.trainable for c in self.children.values()):
            return "parameters"
        if any(isinstance(c, Leaf) and not c.is_module for c in self.children.values()) or names & DICT_ATTRIBUTES:
            return "block"
        return "list" if names == {str(i) for i in range(len(names))} else "dict"


class Members:
    """Collects what `__init__` makes; `weights` are the tensors by state_dict key.

    `keys` are the paths that belong to tensors, by their identities: nothing else gets these. `original` are all keys
    of the state_dict that the model came with; `constants` those of stored buffers that are not among them.
    """

    def __init__(self, keys: Mapping[Path, int] | None = None, original: Collection[str] = ()) -> None:
        self.root = Container()
        self.keys = dict(keys or {})
        self.taken = {path[:n] for path in self.keys for n in range(1, len(path) + 1)}
        self.weights: dict[str, Tensor] = {}
        self.original, self.constants = original, set[str]()
        self.owners: dict[int, Member] = {}
        self.modules: dict[Hashable, Member] = {}
        self.held: list[Tensor] = []
        self.ties: list[tuple[Member, str, Member]] = []
        self.aliases: list[tuple[Path, Member]] = []

    # Registration

    def module(self, wish: Path, value: Code, tensors: Mapping[str, Tensor], key: Hashable) -> Member:
        """A module with these tensors; the same one again for an equal `key` (same constants and options)."""
        found = self.modules.get(key)
        if found is None:
            path = self.free_path(wish, {(*wish, name): tensor for name, tensor in tensors.items()})
            found = self.modules[key] = Member(path[-1])
            self.put(path, Leaf(found, value, is_module=True))
            for name, tensor in tensors.items():
                self.weights[".".join((*path, name))] = tensor
        return found

    def own(self, tensor: Tensor, module: Member, name: str) -> None:
        """Says that `tensor` is the parameter `name` of a module, for others that share it."""
        if id(tensor) not in self.owners:
            self.owners[id(tensor)] = Attribute(module, name)
            self.held.append(tensor)

    def tied(self, wish: Path, value: Code, tensors: Mapping[str, Tensor], key: Hashable) -> Member:
        """A module some of whose parameters are others' as well: they are assigned after the modules are made."""
        made = self.module(wish, value, tensors, key)
        for name, tensor in tensors.items():
            owner = self.owners.get(id(tensor))
            if owner is not None and (made, name, owner) not in self.ties:
                self.ties.append((made, name, owner))
            self.own(tensor, made, name)
        return made

    def alias(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        """A second name for the module that holds all of these tensors under the same names, where there is one."""
        owners = [self.owners.get(id(t)) for t in tensors.values()]
        modules = {o.module for o, n in zip(owners, tensors, strict=True) if isinstance(o, Attribute) and o.hint == n}
        module = modules.pop() if len(modules) == 1 and all(isinstance(o, Attribute) for o in owners) else None
        parent, names = self.at(path[:-1]), self.names()
        if module is None or self.at(path) is not None:
            for name, tensor in tensors.items():
                self.alias_tensor((*path, name), tensor)
        elif isinstance(parent, Container) and parent.kind == "block" and module in names:
            self.aliases.append((path, module))
            self.weights.update({".".join((*path, name)): tensor for name, tensor in tensors.items()})

    def alias_tensor(self, path: Path, tensor: Tensor) -> None:
        """A second name for a parameter, where its place is a module of the network's own."""
        owner, parent = self.owners.get(id(tensor)), self.at(path[:-1])
        if owner is None or owner not in self.names() or not isinstance(parent, Container):
            return
        if parent.kind == "block" and path[-1] not in parent.children:
            self.aliases.append((path, owner))
            self.weights[".".join(path)] = tensor

    def tensor(self, wish: Path, tensor: Tensor, *, trainable: bool, value: Code | None = None) -> Member:
        """A parameter (`trainable`) or buffer; `value` makes it from a literal instead of from the weights' file."""
        found = self.owners.get(id(tensor))
        if found is None:
            path = self.free_path(wish, {wish: tensor})
            found = self.owners[id(tensor)] = Member(path[-1])
            self.held.append(tensor)
            made = value or zeros(tensor)
            self.put(
                path, Leaf(found, call("nn.Parameter", made) if trainable else made, False, trainable, value is None)
            )
            if value is None:
                self.weights[".".join(path)] = tensor
                self.note_constant(path, trainable)
        return found

    def note_constant(self, path: Path, trainable: bool) -> None:
        if self.original and not trainable and ".".join(path) not in self.original:
            self.constants.add(".".join(path))

    def free_path(self, wish: Path, held: Mapping[Path, Tensor] | None = None) -> Path:
        """The wished path, or a similar one where it is taken or runs through a module; `held` are the tensors that
        will stand there."""
        own = any(self.keys.get(path) == id(tensor) for path, tensor in (held or {}).items())
        parents = [wish[:n] for n in range(1, len(wish)) if self.keys.get(wish[:n]) is not None]
        node: Container | None = self.root
        for depth, name in enumerate(wish[:-1]):
            child = node.children.get(name) if node is not None else None
            if isinstance(child, Leaf) or wish[: depth + 1] in parents:
                joined = "_".join(wish[depth:])
                return self.free_path((*wish[:depth], f"index_{joined}" if joined[0].isdigit() else joined), held)
            node = child
        children = node.children if node is not None else {}
        taken = {path[-1] for path in self.taken if path[:-1] == wish[:-1]} if wish in self.taken and not own else set()
        stem = wish[-1]
        if stem not in children and stem not in taken:
            return wish
        stem = f"index_{stem}" if stem.isdigit() else stem
        name = next(n for n in numbered(stem) if n not in children and n not in taken)
        return (*wish[:-1], name)

    def at(self, path: Path) -> Container | Leaf | None:
        """What stands at a path."""
        node: Container | Leaf | None = self.root
        for name in path:
            node = node.children.get(name) if isinstance(node, Container) else None
        return node

    def path_of(self, member: Member) -> Path | None:
        """Where a leaf stands."""
        return next((path for path, leaf in leaves(self.root, ()) if leaf.member is member), None)

    def move(self, member: Member, container: Path) -> None:
        """Puts a constant of its own into a container, under its name without a number."""
        old = self.path_of(member)
        assert old is not None
        parent, leaf, home = self.at(old[:-1]), self.at(old), self.at(container)
        assert isinstance(parent, Container)
        assert isinstance(leaf, Leaf)
        assert isinstance(home, Container)
        del parent.children[old[-1]]
        stem = old[-1].rstrip("_0123456789")
        name = unused(stem if is_component(stem) else old[-1], home.children)
        home.children[name] = leaf
        if leaf.persistent:
            self.weights[".".join((*container, name))] = self.weights.pop(".".join(old))
            self.constants.discard(".".join(old))
            self.note_constant((*container, name), leaf.trainable)

    def put(self, path: Path, leaf: Leaf) -> None:
        node = self.root
        for name in path[:-1]:
            child = node.children.setdefault(name, Container())
            assert isinstance(child, Container)
            node = child
        node.children[path[-1]] = leaf

    def prune(self, used: set[Member]) -> None:
        """Forgets members that no statement uses."""
        used = used | {m.module for m in used if isinstance(m, Attribute)}
        self._prune(self.root, (), used)
        kept = set(self.names())
        self.ties = [t for t in self.ties if t[0] in kept and t[2] in kept]

    def _prune(self, node: Container, path: Path, used: set[Member]) -> None:
        for name, child in list(node.children.items()):
            here = (*path, name)
            if isinstance(child, Container):
                self._prune(child, here, used)
                if not child.children:
                    del node.children[name]
            elif child.member not in used:
                del node.children[name]
                prefix = ".".join(here)
                for key in [k for k in self.weights if k == prefix or k.startswith(prefix + ".")]:
                    del self.weights[key]
                    self.constants.discard(key)

    # Rendering

    def names(self) -> dict[Variable, str]:
        """How `forward` reaches each member."""
        return self.names_in(self.root)

    def names_in(self, node: Container) -> dict[Variable, str]:
        """The same for the class that a container becomes."""
        found: dict[Variable, str] = {}
        self._names(node, "self", found)
        for member in self.owners.values():
            if isinstance(member, Attribute) and member.module in found:
                found[member] = f"{found[member.module]}.{member.hint}"
        return found

    def _names(self, node: Container, prefix: str, found: dict[Variable, str]) -> None:
        for name, child in node.children.items():
            reached = self.reached(node, prefix, name)
            if isinstance(child, Leaf):
                found[child.member] = reached
            else:
                self._names(child, reached, found)

    @staticmethod
    def reached(node: Container, prefix: str, name: str) -> str:
        """The expression of a child, its parent being reached by `prefix`."""
        if name.isidentifier():
            return f"{prefix}.{name}"
        match node.kind:
            case "block":
                return f'getattr({prefix}, "{name}")'
            case "list":
                return f"{prefix}[{name}]"
            case _:
                return f'{prefix}["{name}"]'

    def lists(self) -> list[tuple[str, int]]:
        """Every `nn.ModuleList` as `forward` reaches it, and its length."""
        return self.lists_in(self.root)

    def lists_in(self, node: Container) -> list[tuple[str, int]]:
        """The same for the class that a container becomes."""
        found: list[tuple[str, int]] = []
        self._lists(node, "self", found)
        return found

    def _lists(self, node: Container, prefix: str, found: list[tuple[str, int]]) -> None:
        if node.kind == "list":
            found.append((prefix, len(node.children)))
        for name, child in node.children.items():
            if isinstance(child, Container):
                self._lists(child, self.reached(node, prefix, name), found)

    def series_in(self, node: Container, prefix: str = "self") -> list[tuple[str, list[str]]]:
        """The groups of numbered modules inside a container: how they are reached, and the modules' names."""
        found = [(prefix, list(node.children))] if prefix != "self" and series(node) is not None else []
        for name, child in node.children.items():
            if isinstance(child, Container):
                found += self.series_in(child, self.reached(node, prefix, name))
        return found

    def groups(self) -> list[str]:
        """Every group of modules inside a group, as `forward` reaches it."""
        return self.groups_in(self.root)

    def groups_in(self, node: Container, prefix: str = "self") -> list[str]:
        """The same for the class that a container becomes."""
        found: list[str] = []
        for name, child in node.children.items():
            if isinstance(child, Container) and child.kind == "block" and name.isidentifier():
                here = self.reached(node, prefix, name)
                found += [*([here] if prefix != "self" else []), *self.groups_in(child, here)]
        return found

    @property
    def needs_block(self) -> bool:
        """True when the file needs the class `Block`: for groups inside lists."""
        return _has_block(self.root)

    @property
    def base(self) -> str:
        """The class to derive from: one whose children may be called 0, 1, ... where they are."""
        return {"list": "nn.ModuleList", "dict": "nn.ModuleDict"}.get(self.root.kind, "nn.Module")

    def lines(self, depth: int) -> list[str]:
        """The statements of `__init__`."""
        if self.base != "nn.Module":
            items = _value(self.root).render({})[len(self.base) :]
            lines = statement(f"super().__init__{items}", depth)
        else:
            lines = statement("super().__init__()", depth)
            for name, child in self.root.children.items():
                lines += [line for text in self.registered(name, child) for line in statement(text, depth)]
        names = self.names()
        for module, name, owner in self.ties:
            lines += statement(f"{names[module]}.{name} = {names[owner]}", depth)
        for path, module in self.aliases:
            lines += statement(f"{self.place(path)} = {names[module]}", depth)
        return lines

    def place(self, path: Path) -> str:
        """How `__init__` reaches a path."""
        node, reached = self.root, "self"
        for name in path:
            reached = self.reached(node, reached, name)
            child = node.children.get(name)
            node = child if isinstance(child, Container) else node
        return reached

    @classmethod
    def registered(cls, name: str, child: Container | Leaf, parent: str = "self") -> list[str]:
        """The statements that make a child; one without a class of its own is an `nn.Module` that gets its children."""
        if isinstance(child, Container) and child.kind == "block" and name.isidentifier() and series(child) is None:
            here = f"{parent}.{name}"
            inner = [line for n, c in child.children.items() for line in cls.registered(n, c, here)]
            return [f"{here} = nn.Module()", *inner]
        made = _value(child).render({})
        if name.isidentifier():
            return [f"{parent}.{name} = {made}"]
        kind = "module"
        if isinstance(child, Leaf) and not child.is_module:
            kind = "parameter" if child.trainable else "buffer"
        return [f"{parent}.register_{kind}({quoted(name)}, {made})"]


class Attribute(Member):
    """A parameter of a module that another node uses as well."""

    __slots__ = ("module",)

    def __init__(self, module: Member, name: str) -> None:
        super().__init__(name)
        self.module = module


def leaves(node: Container, path: Path) -> Iterator[tuple[Path, Leaf]]:
    """The leaves under a container, with their paths."""
    for name, child in node.children.items():
        if isinstance(child, Leaf):
            yield (*path, name), child
        else:
            yield from leaves(child, (*path, name))


def zeros(tensor: Tensor) -> Code:
    """An expression of the tensor's shape and type for `load_state_dict` to fill."""
    options = {} if tensor.dtype is DType.F32 else {"dtype": raw(f"torch.{TORCH_TYPES[tensor.dtype]}")}
    return call("torch.zeros", *(tensor.shape if tensor.shape else ((),)), **options)


def _has_block(node: Container, inside: bool = False) -> bool:
    inside = inside or node.kind != "block"
    return any(
        (c.kind == "block" and (inside or not n.isidentifier()) and series(c) is None)
        or _has_block(c, inside or not n.isidentifier())
        for n, c in node.children.items()
        if isinstance(c, Container)
    )


def _value(node: Container | Leaf) -> Code:
    if isinstance(node, Leaf):
        buffer = not node.is_module and not node.trainable
        return (
            call("nn.Buffer", node.value, **({} if node.persistent else {"persistent": False}))
            if buffer
            else node.value
        )
    made = {name: _value(child) for name, child in node.children.items()}
    match node.kind:
        case "list":
            return _module_list([made[str(i)] for i in range(len(made))])
        case "dict":
            return call("nn.ModuleDict", _display(made))
        case "parameters":
            return call("nn.ParameterDict", _display(made))
        case _ if (made_alike := series(node)) is not None:
            return raw(f"nn.ModuleDict({{{made_alike}}})")
        case _ if not all(name.isidentifier() for name in made):
            return form("Block(**{0})", _display(made))
        case _:
            return call("Block", **made)


def series(node: Container) -> str | None:
    """What a group of modules with numbered names is made of, `f"layer{i}": Layer(8 + 4 * i) for i in range(6)`."""
    alike = [c.value.render({}) for c in node.children.values() if isinstance(c, Leaf) and c.is_module]
    named = numbered_names(list(node.children)) if len(alike) == len(node.children) >= FEWEST else None
    made = progression(alike, named[1]) if named is not None else None
    if named is None or made is None or set(node.children) & DICT_ATTRIBUTES:
        return None
    return f'f"{named[0]}{{i}}": {made} for i in {span(named[1], len(alike))}'


def _display(items: Mapping[str, Code]) -> Code:
    pairs = [Code((f"{quoted(name)}: ", *value.parts)) for name, value in items.items()]
    return sequence(pairs, "{", "}")


def _module_list(items: Sequence[Code]) -> Code:
    """Equal neighbours are written once, in a comprehension."""
    runs = [(text, len(list(run))) for text, run in groupby(item.render({}) for item in items)]
    if len(runs) == 1 and runs[0][1] > 1:
        return raw(f"nn.ModuleList({runs[0][0]} for _ in range({runs[0][1]}))")
    parts = [f"*({text} for _ in range({count}))" if count > 1 else text for text, count in runs]
    return raw(f"nn.ModuleList([{', '.join(parts)}])")
