"""Union-find over channel atoms: ties are transitive, frozen wins, the first reason stays."""

from __future__ import annotations

import numpy as np
import pytest
from tersor.transforms.prune.atoms import Atoms, Reason

WHY, OTHER = Reason("Softmax", "attn", "it is a sum"), Reason("TopK", "sort", "it sorts")


def test_ties_are_transitive():
    atoms = Atoms()
    a, b, c = atoms.fresh(3), atoms.fresh(3), atoms.fresh(3)
    atoms.tie(a, b)
    atoms.tie(b, c)
    assert np.array_equal(atoms.roots(a), atoms.roots(c))
    assert len(set(atoms.roots(a).tolist())) == 3


def test_repeated_atoms_in_one_tie_all_join():
    atoms = Atoms()
    one, many = atoms.fresh(1), atoms.fresh(5)
    atoms.tie(np.repeat(one, 5), many)
    assert set(atoms.roots(many).tolist()) == set(atoms.roots(one).tolist())


def test_freezing_one_atom_freezes_its_class_and_keeps_the_first_reason():
    atoms = Atoms()
    a, b = atoms.fresh(4), atoms.fresh(4)
    atoms.tie(a, b)
    atoms.freeze(a[:1], WHY)
    atoms.freeze(b, OTHER)
    assert not atoms.any_active(a)
    assert atoms.reasons(a[:1]) == [WHY]
    assert atoms.reasons(b[1:]) == [OTHER]


def test_a_tie_with_a_frozen_atom_freezes_with_that_atoms_reason():
    atoms = Atoms()
    a = atoms.fresh(3)
    atoms.tie(a, atoms.frozen(WHY))
    assert atoms.reasons(a) == [WHY]
    assert not atoms.any_active(a)


def test_frozen_classes_that_meet_keep_their_own_reasons():
    atoms = Atoms()
    a, b = atoms.fresh(1), atoms.fresh(1)
    atoms.freeze(a, WHY)
    atoms.freeze(b, OTHER)
    atoms.tie(a, b)
    assert (atoms.reasons(a), atoms.reasons(b)) == ([WHY], [OTHER])


def test_atoms_survive_growth():
    atoms = Atoms()
    first = atoms.fresh(10)
    atoms.freeze(first[:5], WHY)
    last = atoms.fresh(100_000)
    assert atoms.active(first).tolist() == [False] * 5 + [True] * 5
    assert atoms.active(last).all()
    assert len(np.unique(atoms.roots(last))) == 100_000


@pytest.mark.parametrize("seed", range(20))
def test_classes_equal_those_of_a_naive_union(seed):
    generator = np.random.default_rng(seed)
    atoms, size = Atoms(), 60
    ids = atoms.fresh(size)
    classes = [{i} for i in range(size)]
    frozen: set[int] = set()
    for _ in range(12):
        a, b = generator.integers(0, size, (2, int(generator.integers(1, 8))))
        atoms.tie(ids[a], ids[b])
        for i, j in zip(a.tolist(), b.tolist(), strict=True):
            merged = classes[i] | classes[j]
            for k in merged:
                classes[k] = merged
        victim = int(generator.integers(0, size))
        if generator.random() < 0.2:
            atoms.freeze(ids[victim : victim + 1], WHY)
            frozen.add(victim)
    active = atoms.active(ids)
    roots = atoms.roots(ids)
    for i in range(size):
        assert active[i] == (not classes[i] & frozen)
        if active[i]:
            assert {j for j in range(size) if roots[j] == roots[i]} == classes[i]
