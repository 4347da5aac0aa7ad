"""Pruning a large network with its proof: python benchmarks/prune_scale.py [--layers 8] [--width 4096] [--hidden 10240]

A stack of gated layers with random weights, by default 1.007 billion parameters (8 GB of memory), loses half of its
hidden units. Prints CPU seconds, of making the weights and of pruning and proving, the peak of memory, and what the
pass says of itself.
"""

from __future__ import annotations

import argparse
import resource
import time

import tersor as ts
from tersor.ir import Dense
from tersor.transforms.base import Context

LAYER = """
  @g{i} : f32[{width},{hidden}] = random({seed}0)
  @u{i} : f32[{width},{hidden}] = random({seed}1)
  @d{i} : f32[{hidden},{width}] = random({seed}2)
  %a{i} = MatMul(%x{i}, @g{i})
  %s{i} = Swish(%a{i})
  %b{i} = MatMul(%x{i}, @u{i})
  %m{i} = Mul(%s{i}, %b{i})
  %r{i} = MatMul(%m{i}, @d{i})
  %x{next} = Add(%x{i}, %r{i})"""
SMALL = 0.01
"""By how much random weights are made smaller, so that numbers stay finite."""


def stack(layers: int, width: int, hidden: int) -> ts.Model:
    body = "".join(LAYER.format(i=i, next=i + 1, seed=i + 1, width=width, hidden=hidden) for i in range(layers))
    model = ts.Model(ts.parse(f"graph(%x0: f32[1,16,{width}]) -> (y) {{{body}\n  return %x{layers}\n}}"))
    for value in model.graph.constants():
        value.const = Dense(value.tensor.numpy() * SMALL)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--hidden", type=int, default=10240)
    options = parser.parse_args()
    started = time.process_time()
    model = stack(options.layers, options.width, options.hidden)
    made = time.process_time()
    outcome = ts.Prune(ratio=0.5).run(model, Context())
    done = time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"made {made - started:.1f} s, pruned and proved {done - made:.1f} s, peak {peak:.0f} MB")
    print(*outcome.notes, sep="\n")


if __name__ == "__main__":
    main()
