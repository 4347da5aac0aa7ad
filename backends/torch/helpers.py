"""Functions that emitted files define when they need them: operators that PyTorch has no short form for.

Each is complete Python source, with what it calls named in `NEEDS`. They are part of the emitted file, so they are
written to be read.
"""

from __future__ import annotations

from collections.abc import Collection

BLOCK = '''
class Block(nn.Module):
    """A named group of modules, parameters and buffers."""

    def __init__(self, /, **members: nn.Module | Tensor) -> None:
        super().__init__()
        for name, member in members.items():
            setattr(self, name, member)
'''

QUANTIZE = '''
def quantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int,
    dtype: torch.dtype,
    axis: int = 1,
    block: int = 0,
    limits: tuple[int, int] | None = None,
) -> Tensor:
    """Rounds x / scale + zero_point to integers, which saturate at limits or those of dtype.

    scale and zero_point are single numbers, vectors along axis, or one number per block of it.
    """
    low, high = limits or (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    levels = torch.round(x / along(scale, x, axis, block)) + along(zero_point, x, axis, block)
    return levels.clamp(low, high).to(dtype)
'''

DEQUANTIZE = '''
def dequantize(
    x: Tensor,
    scale: Tensor | float,
    zero_point: Tensor | int = 0,
    axis: int = 1,
    block: int = 0,
) -> Tensor:
    """The real numbers (x - zero_point) * scale of a quantized tensor."""
    dtype = scale.dtype if isinstance(scale, Tensor) else torch.float32
    offset = along(zero_point, x, axis, block)
    levels = x.to(torch.int32) - (offset.to(torch.int32) if isinstance(offset, Tensor) else offset)
    return levels.to(dtype) * along(scale, x, axis, block)
'''

ALONG = '''
def along(v: Tensor | float, x: Tensor, axis: int, block: int) -> Tensor | float:
    """A number, vector or block-wise tensor in a shape that broadcasts over x."""
    if not isinstance(v, Tensor) or v.dim() == 0:
        return v
    if block:
        return v.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
    if v.dim() > 1:
        return v
    return v.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])
'''

DYNAMIC_QUANTIZE = '''
def dynamic_quantize(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x as uint8 over its own range, with the scale and the zero point."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round(-low / scale).clamp(0, 255)
    levels = (torch.round(x / scale) + zero_point).clamp(0, 255)
    return levels.to(torch.uint8), scale, zero_point.to(torch.uint8)
'''

INTEGER_MATMUL = '''
def integer_matmul(
    a: Tensor, b: Tensor, a_zero: Tensor | int = 0, b_zero: Tensor | int = 0
) -> Tensor:
    """The product of 8-bit matrices in int32; zero points per tensor, row of a or column of b."""
    if isinstance(a_zero, Tensor) and a_zero.dim() == 1:
        a_zero = a_zero.unsqueeze(-1) if a.dim() > 1 else a_zero.squeeze()
    return ((a.double() - a_zero) @ (b.double() - b_zero)).to(torch.int32)
'''

INTEGER_CONV = '''
def integer_conv(
    x: Tensor,
    weight: Tensor,
    x_zero: Tensor | int = 0,
    weight_zero: Tensor | int = 0,
    **options: object,
) -> Tensor:
    """The convolution of 8-bit tensors in int32; weight_zero may be per output channel."""
    x, weight = x.double() - x_zero, weight.double() - along(weight_zero, weight, 0, 0)
    conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.dim()]
    return conv(x, weight, **options).to(torch.int32)
'''

GATHER_ND = '''
def gather_nd(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """Slices of x at the index tuples in the last axis of indices, after shared leading axes."""
    if batch_dims == 0:
        return x[tuple(indices.unbind(-1))]
    pairs = zip(x.flatten(0, batch_dims - 1), indices.flatten(0, batch_dims - 1))
    parts = [part[tuple(index.unbind(-1))] for part, index in pairs]
    return torch.stack(parts).unflatten(0, x.shape[:batch_dims])
'''

SCATTER_ND = '''
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, reduction: str = "none") -> Tensor:
    """A copy of x with updates put or added at the index tuples in the last axis of indices."""
    index = tuple(indices.unbind(-1))
    if reduction == "add":
        return x.index_put(index, updates, accumulate=True)
    return x.index_put(index, updates)
'''

PAD_EDGES = '''
def pad_axes(
    x: Tensor, pads: list[int], mode: str, value: float = 0.0, axes: list[int] | None = None
) -> Tensor:
    """Padding by index: pads holds before and after of each axis, mode says with what."""
    pairs = zip(pads[::2], pads[1::2])
    for axis, (before, after) in zip([a % x.dim() for a in axes or range(x.dim())], pairs):
        size = x.shape[axis]
        index = torch.arange(-before, size + after, device=x.device)
        if mode == "reflect" and size > 1:
            index = (size - 1) - ((index % (2 * size - 2)) - (size - 1)).abs()
        inside = (index >= 0) & (index < size)
        index = index % size if mode == "wrap" else index.clamp(0, max(size - 1, 0))
        x = x.index_select(axis, index)
        if mode == "constant" and before + after > 0:
            shape = [-1 if i == axis else 1 for i in range(x.dim())]
            x = torch.where(inside.reshape(shape), x, torch.full_like(x, value))
    return x
'''

RESIZE_AXIS = '''
def resize_axis(
    x: Tensor, axis: int, size: int, scale: float, mode: str, transform: str, rounding: str
) -> Tensor:
    """Nearest or linear interpolation along one axis to `size` elements."""
    length = x.shape[axis]
    resized = scale * length
    at = torch.arange(size, dtype=torch.float32, device=x.device)
    if transform == "half_pixel":
        at = (at + 0.5) / scale - 0.5
    elif transform == "half_pixel_symmetric":
        at = length / 2 * (1 - size / resized) + (at + 0.5) / scale - 0.5
    elif transform == "pytorch_half_pixel":
        at = (at + 0.5) / scale - 0.5 if size > 1 else at * 0
    elif transform == "align_corners":
        at = at * (length - 1) / (resized - 1) if resized > 1 else at * 0
    else:
        at = at / scale
    if mode == "nearest":
        near = {
            "round_prefer_floor": lambda: torch.ceil(at - 0.5),
            "round_prefer_ceil": lambda: torch.floor(at + 0.5),
            "floor": lambda: torch.floor(at),
            "ceil": lambda: torch.ceil(at),
        }[rounding]()
        return x.index_select(axis, near.long().clamp(0, length - 1))
    at = at.clamp(0, length - 1)
    low = torch.floor(at).long()
    shape = [-1 if i == axis else 1 for i in range(x.dim())]
    part = (at - low).to(x.dtype).reshape(shape)
    left = x.index_select(axis, low)
    right = x.index_select(axis, (low + 1).clamp(max=length - 1))
    return left * (1 - part) + right * part
'''

TOP_K = '''
def top_k(x: Tensor, k: int, dim: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """The k largest or smallest elements and their indices; of equal ones the first comes first."""
    values, indices = torch.sort(x, dim=dim, descending=largest, stable=True)
    return values.narrow(dim, 0, k), indices.narrow(dim, 0, k)
'''

ROTATE = '''
def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, heads: int = 0, size: int = 0, interleaved: bool = False
) -> Tensor:
    """Rotary embedding of [batch, heads, length, size] or [batch, length, heads * size]."""
    flat = x.dim() == 3
    if flat:
        x = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    size = size or x.shape[-1]
    part, rest = x[..., :size], x[..., size:]
    cos, sin = (t.unsqueeze(1)[..., : size // 2] for t in (cos, sin))
    if interleaved:
        a, b = part[..., 0::2], part[..., 1::2]
        part = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    else:
        a, b = part.chunk(2, -1)
        part = torch.cat((a * cos - b * sin, a * sin + b * cos), -1)
    x = torch.cat((part, rest), -1)
    return x.transpose(1, 2).flatten(2) if flat else x
'''

ATTENTION = '''
def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    query_heads: int = 0,
    key_heads: int = 0,
    scale: float | None = None,
    causal: bool = False,
    past: int = 0,
    softcap: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention; operands are 4-D, or 3-D with the heads side by side.

    `past` keys come before those of the first query where later ones are hidden (`causal`).
    """
    flat = query.dim() == 3
    if flat:
        query = query.unflatten(-1, (query_heads, -1)).transpose(1, 2)
        key, value = (t.unflatten(-1, (key_heads, -1)).transpose(1, 2) for t in (key, value))
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = (query * scale**0.5) @ (key * scale**0.5).transpose(-1, -2)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if causal:
        rows, columns = scores.shape[-2:]
        allowed = torch.ones(rows, columns, dtype=torch.bool, device=scores.device).tril(past)
        scores = scores.masked_fill(~allowed, float("-inf"))
    if mask is not None:
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, float("-inf"))
        else:
            scores = scores + mask
    blocked = scores.isneginf().all(-1, keepdim=True)  # rows that may look at nothing give zeros
    x = torch.softmax(scores, -1).masked_fill(blocked, 0.0) @ value
    return x.transpose(1, 2).flatten(2) if flat else x
'''

MULTIHEAD_ATTENTION = '''
def multihead_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, heads: int, **options: float
) -> Tensor:
    """Scaled dot-product attention of [batch, length, heads * size]; keys may have fewer heads."""
    q = q.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (-1, q.shape[-1])).transpose(1, 2)
    v = v.unflatten(-1, (k.shape[1], -1)).transpose(1, 2)
    x = F.scaled_dot_product_attention(q, k, v, mask, **options)
    return x.transpose(1, 2).flatten(2)
'''

CAUSAL_MASK = '''
def causal_mask(query: Tensor, key: Tensor, mask: Tensor | None = None, past: int = 0) -> Tensor:
    """A mask that hides later keys, too; `past` keys come before that of the first query."""
    length, total = query.shape[-2], key.shape[-2]
    allowed = torch.ones(length, total, dtype=torch.bool, device=query.device).tril(past)
    if mask is None or mask.dtype == torch.bool:
        return allowed if mask is None else mask & allowed
    return mask.masked_fill(~allowed, float("-inf"))
'''

DEPTH_TO_SPACE = '''
def depth_to_space(x: Tensor, block: int) -> Tensor:
    """Moves channels into blocks of pixels: (i * block + j) * c + k goes to pixel (i, j)."""
    x = x.unflatten(1, (block, block, -1)).permute(0, 3, 4, 1, 5, 2)
    return x.flatten(4, 5).flatten(2, 3)
'''

SPACE_TO_DEPTH = '''
def space_to_depth(x: Tensor, block: int) -> Tensor:
    """Moves blocks of pixels into channels."""
    x = x.unflatten(3, (-1, block)).unflatten(2, (-1, block))
    return x.permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
'''

ONE_HOT = '''
def one_hot(indices: Tensor, depth: int, off: Tensor, on: Tensor, axis: int) -> Tensor:
    """`on` where the new axis equals the index (negative: from the end), `off` elsewhere."""
    index = indices.long()
    index = torch.where(index < 0, index + depth, index).unsqueeze(axis)
    shape = [1] * index.dim()
    shape[axis] = depth
    return torch.where(index == torch.arange(depth, device=index.device).reshape(shape), on, off)
'''

UNSQUEEZE_ALL = '''
def insert_axes(x: Tensor, axes: list[int]) -> Tensor:
    """New axes of size 1 at positions of the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x
'''

NON_MAX_SUPPRESSION = '''
def non_max_suppression(
    boxes: Tensor,
    scores: Tensor,
    limit: int,
    overlap: float,
    least: float = float("-inf"),
    centered: bool = False,
) -> Tensor:
    """Rows (sample, class, box) of the best boxes that overlap no better one by more than that."""
    if centered:
        x, y, width, height = boxes.unbind(-1)
        boxes = torch.stack((y - height / 2, x - width / 2, y + height / 2, x + width / 2), -1)
    a, b = boxes[..., :2], boxes[..., 2:]
    low, high = torch.minimum(a, b), torch.maximum(a, b)
    sides = torch.minimum(high.unsqueeze(2), high.unsqueeze(1))
    sides = (sides - torch.maximum(low.unsqueeze(2), low.unsqueeze(1))).clamp(min=0)
    area, shared = (high - low).prod(-1), sides.prod(-1)
    ratio = shared / (area.unsqueeze(2) + area.unsqueeze(1) - shared)
    chosen = []
    for sample in range(scores.shape[0]):
        for label in range(scores.shape[1]):
            kept: list[int] = []
            for box in torch.argsort(scores[sample, label], descending=True, stable=True).tolist():
                if len(kept) >= limit or scores[sample, label, box] <= least:
                    break
                if not bool((ratio[sample, box, kept] > overlap).any()):
                    kept.append(box)
            chosen += [[sample, label, box] for box in kept]
    return torch.tensor(chosen, dtype=torch.int64, device=boxes.device).reshape(-1, 3)
'''

REVERSE_SEQUENCE = '''
def reverse_sequence(x: Tensor, lengths: Tensor, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """The first entries of each sample, as many as its length, in reverse order."""
    x = x.movedim((batch_axis, time_axis), (0, 1))
    steps = torch.arange(x.shape[1], device=x.device)
    lengths = lengths.unsqueeze(1)
    index = torch.where(steps < lengths, lengths - 1 - steps, steps)
    index = index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand_as(x)
    return x.gather(1, index).movedim((0, 1), (batch_axis, time_axis))
'''

UNIQUE = '''
def unique(
    x: Tensor, dim: int | None = None, ordered: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distinct entries, where each stands first, which one each entry is, and their counts."""
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=dim)
    inverse = inverse.flatten()
    places = torch.arange(inverse.numel(), device=x.device)
    first = torch.full_like(counts, inverse.numel()).scatter_reduce(0, inverse, places, "amin")
    if ordered:
        return values, first, inverse, counts
    order = torch.argsort(first)
    values = values[order] if dim is None else values.index_select(dim, order)
    return values, first[order], torch.argsort(order)[inverse], counts[order]
'''

CENTER_CROP_PAD = '''
def center_crop_pad(x: Tensor, sizes: tuple[int, ...], axes: tuple[int, ...]) -> Tensor:
    """Cuts or fills up with zeros on both sides of the axes, to these sizes."""
    for axis, size in zip(axes, sizes):
        excess = x.shape[axis] - size
        if excess > 0:
            x = x.narrow(axis, excess // 2, size)
        else:
            before = -excess // 2
            x = F.pad(x, [0, 0] * (x.dim() - 1 - axis) + [before, -excess - before])
    return x
'''

WRITE_CACHE = '''
def write_cache(
    cache: Tensor,
    update: Tensor,
    start: Tensor | None = None,
    axis: int = -2,
    circular: bool = False,
) -> Tensor:
    """The cache with the update in it, in each sample from its own place along the axis."""
    cache, update = cache.movedim(axis, 1), update.movedim(axis, 1)
    index = torch.arange(update.shape[1], device=cache.device).expand(update.shape[:2])
    if start is not None:
        index = index + start.unsqueeze(1)
    if circular:
        index = index % cache.shape[1]
    index = index.reshape(*index.shape, *[1] * (update.dim() - 2)).expand_as(update)
    return cache.scatter(1, index, update).movedim(1, axis)
'''

MAX_POOL_PLACES = '''
def max_pool_places(
    x: Tensor, kernel: int | tuple[int, ...], **options: object
) -> tuple[Tensor, Tensor]:
    """The largest entries of windows, and their places in the flattened tensor."""
    pool = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}[x.dim()]
    values, places = pool(x, kernel, return_indices=True, **options)
    channels = torch.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *[1] * (x.dim() - 2))
    return values, places + channels * x[0, 0].numel()
'''

HELPERS = {
    "Block": BLOCK, "along": ALONG, "quantize": QUANTIZE, "dequantize": DEQUANTIZE,
    "dynamic_quantize": DYNAMIC_QUANTIZE, "integer_matmul": INTEGER_MATMUL, "integer_conv": INTEGER_CONV,
    "gather_nd": GATHER_ND, "scatter_nd": SCATTER_ND, "pad_axes": PAD_EDGES, "resize_axis": RESIZE_AXIS,
    "max_pool_places": MAX_POOL_PLACES,
    "top_k": TOP_K, "rotate": ROTATE, "attention": ATTENTION, "multihead_attention": MULTIHEAD_ATTENTION,
    "causal_mask": CAUSAL_MASK,
    "depth_to_space": DEPTH_TO_SPACE,
    "space_to_depth": SPACE_TO_DEPTH, "one_hot": ONE_HOT, "insert_axes": UNSQUEEZE_ALL,
    "non_max_suppression": NON_MAX_SUPPRESSION, "reverse_sequence": REVERSE_SEQUENCE, "unique": UNIQUE,
    "center_crop_pad": CENTER_CROP_PAD, "write_cache": WRITE_CACHE,
}  # fmt: skip
"""Source by name, in the order in which an emitted file defines them."""

NEEDS = {"quantize": "along", "dequantize": "along", "integer_conv": "along"}


def sources(wanted: Collection[str]) -> list[str]:
    """The source of each wanted helper and of what these call, in the order of the table."""
    needed = {*wanted, *(NEEDS[name] for name in wanted if name in NEEDS)}
    return [text.strip("\n") for name, text in HELPERS.items() if name in needed]
