"""The trees of a model's JSON, all of them at once: one array a field, with every tree's nodes in a row."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from serving.errors import cut

NO_PARENT = 2**31 - 1
DEEPEST = 4096  # levels of a tree: XGBoost walks down by recursion, of some 40 bytes of its stack a level
_COUNT = re.compile("[0-9]{1,9}")
_INTEGERS = ("left_children", "right_children", "parents", "split_indices")
_FLAGS = ("split_type", "default_left")
_NUMBERS = ("split_conditions",)
_UNUSED = ("base_weights", "loss_changes", "sum_hessian")  # in predictions
# of splits by category, which features that are numbers have none of
_EMPTY = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
_FLOAT32_MAX = float(np.finfo(np.float32).max)
Integers = NDArray[np.int64]


class Malformed(ValueError):
    """What of a model is not as it must be: the field, what was expected, what came."""


@dataclass(frozen=True)
class Forest:
    """The fields of all nodes; `starts`: where each tree's begin, and where the last one's end."""

    starts: Integers
    fields: dict[str, NDArray[Any]]

    def refuse(self, wrong: NDArray[np.bool_], field: str, expected: str) -> None:
        """Raise `Malformed` for the first node that is wrong."""
        if wrong.any():
            at = int(wrong.argmax())
            tree = int(np.searchsorted(self.starts, at, side="right")) - 1
            where = f"{field} of tree {tree}, node {at - self.starts[tree]}"
            raise Malformed(f"{where}: expected {expected}, got {self.fields[field][at]}")


def check_forest(model: Any, features: int, groups: int) -> int:  # noqa: ANN401
    """The number of trees. Raises `Malformed`, and what a document of another shape raises."""
    trees = model["trees"]
    told = count(model["gbtree_model_param"], "num_trees")
    count(model["gbtree_model_param"], "num_parallel_tree")
    info = integers(model["tree_info"], "tree_info")
    rounds = integers(model["iteration_indptr"], "iteration_indptr")
    if not told == len(trees) == len(info):
        raise Malformed(f"num_trees: expected {told} trees, got {len(trees)}, and {len(info)} in tree_info")
    if len(info) and (info.min() < 0 or info.max() >= groups):
        raise Malformed(f"tree_info: expected outputs below {groups}, got {info.min()} to {info.max()}")
    if not len(rounds) or rounds[0] != 0 or rounds[-1] != told or (np.diff(rounds) < 0).any():
        raise Malformed(f"iteration_indptr: expected what rises from 0 to {told}, got {cut(rounds.tolist())}")
    if any(model.get("cats", {}).values()):
        raise Malformed("cats: expected no categories, for the features are numbers")
    if trees:
        _check_nodes(
            _gather(trees, features), features, np.array([count(t["tree_param"], "num_deleted") for t in trees])
        )
    return told


def _gather(trees: Sequence[Any], features: int) -> Forest:
    for number, tree in enumerate(trees):
        # XGBoost puts a tree where its id says
        if type(tree["id"]) is not int or tree["id"] != number:
            raise Malformed(f"id of tree {number}: expected {number}, got {cut(tree['id'])}")
        parameters = tree["tree_param"]
        if count(parameters, "num_feature") != features or count(parameters, "size_leaf_vector") > 1:
            raise Malformed(f"tree_param of tree {number}: expected {features} features and scalar leaves")
        if any(tree[field] for field in _EMPTY):
            raise Malformed(f"categories of tree {number}: expected none, for the features are numbers")
    sizes = np.array([count(tree["tree_param"], "num_nodes") for tree in trees])
    fields: dict[str, NDArray[Any]] = {}
    for field in _INTEGERS + _FLAGS + _NUMBERS + _UNUSED:
        lengths = np.array([len(tree[field]) if isinstance(tree[field], list) else -1 for tree in trees])
        if (wrong := (lengths != sizes) | (sizes == 0)).any():
            tree = int(wrong.argmax())
            raise Malformed(f"{field} of tree {tree}: expected num_nodes, {sizes[tree]}, got {lengths[tree]}")
        if read := _READ.get(field):
            fields[field] = read(list(chain.from_iterable(tree[field] for tree in trees)), field)
    return Forest(np.concatenate([[0], np.cumsum(sizes)]), fields)


def _check_nodes(forest: Forest, features: int, deleted: Integers) -> None:
    """A node has two children or none, and one parent, but for the root: walking down must come to an end."""
    fields, sizes = forest.fields, np.diff(forest.starts)
    start, size = np.repeat(forest.starts[:-1], sizes), np.repeat(sizes, sizes)
    left, right = fields["left_children"], fields["right_children"]
    leaf = left == -1
    forest.refuse(leaf & (right != -1), "right_children", "-1, for a leaf")
    for field, child in (("left_children", left), ("right_children", right)):
        forest.refuse(~leaf & ((child < 1) | (child >= size)), field, "a node of the tree below its root")
    inner = np.flatnonzero(~leaf)
    children = np.concatenate([left[inner], right[inner]]) + np.concatenate([start[inner]] * 2)
    parents = np.bincount(children, minlength=len(left))
    forest.refuse(parents > 1, "parents", "one parent")
    owed = np.full(len(left), NO_PARENT)
    owed[children] = np.concatenate([inner - start[inner]] * 2)
    forest.refuse(
        (owed != fields["parents"]) & ((parents == 1) | (start == np.arange(len(left)))), "parents", "its parent"
    )
    _check_depth(forest, leaf, left + start, right + start)
    # those that pruning cut off stay in the arrays
    loose = np.add.reduceat((parents == 0).astype(np.int64), forest.starts[:-1]) - 1
    if (wrong := loose != deleted).any():
        tree = int(wrong.argmax())
        raise Malformed(
            f"num_deleted of tree {tree}: expected {loose[tree]}, the nodes of no parent; got {deleted[tree]}"
        )
    split = fields["split_indices"]
    forest.refuse(~leaf & ((split < 0) | (split >= features)), "split_indices", f"a feature below {features}")
    forest.refuse(fields["split_type"] != 0, "split_type", "0, a split by number")
    forest.refuse(fields["default_left"] > 1, "default_left", "0 or 1")


def _check_depth(forest: Forest, leaf: NDArray[np.bool_], left: Integers, right: Integers) -> None:
    """Walk down all trees at once; `left` and `right` are places among all nodes."""
    level, nodes = 0, forest.starts[:-1]
    while len(nodes):
        inner = nodes[~leaf[nodes]]
        if level > DEEPEST:
            tree = int(np.searchsorted(forest.starts, nodes[0], side="right")) - 1
            raise Malformed(f"left_children of tree {tree}: expected at most {DEEPEST} levels, got more")
        level, nodes = level + 1, np.concatenate([left[inner], right[inner]])


def integers(values: Any, field: str) -> Integers:  # noqa: ANN401
    """A list of whole numbers. Raises `Malformed`."""
    found = _array(values, field)
    if found.dtype.kind != "i" and found.size:
        raise Malformed(f"{field}: expected whole numbers, got {cut(values)}")
    return found.astype(np.int64, copy=False)


def numbers(values: Any, field: str) -> NDArray[np.float64]:  # noqa: ANN401
    """A list of numbers which are finite as float32, too. Raises `Malformed`."""
    found = _array(values, field)
    if found.dtype.kind not in "if":
        raise Malformed(f"{field}: expected numbers, got {cut(values)}")
    if (wrong := ~(np.abs(found) <= _FLOAT32_MAX)).any():
        raise Malformed(f"{field}: expected finite numbers, got {found[wrong.argmax()]}")
    return found.astype(np.float64, copy=False)


def _array(values: Any, field: str) -> NDArray[Any]:  # noqa: ANN401
    try:
        found = np.array(values)
    except (ValueError, OverflowError):  # lists in the list
        found = np.zeros(())
    if not isinstance(values, list) or found.ndim != 1:
        raise Malformed(f"{field}: expected a list of numbers, got {cut(values)}")
    return found


def _flags(values: list[Any], field: str) -> NDArray[np.uint8]:
    try:
        return np.frombuffer(bytes(values), np.uint8)
    except (ValueError, TypeError):
        raise Malformed(f"{field}: expected 0 or 1, got {cut(values)}") from None


def count(parameters: Any, field: str) -> int:  # noqa: ANN401
    """A count, which XGBoost writes as text. Raises `Malformed`."""
    if not (isinstance(text := parameters[field], str) and _COUNT.fullmatch(text)):
        raise Malformed(f"{field}: expected a count, got {cut(text)}")
    return int(text)


_READ: Mapping[str, Callable[[list[Any], str], NDArray[Any]]] = {
    **dict.fromkeys(_INTEGERS, integers),
    **dict.fromkeys(_FLAGS, _flags),
    **dict.fromkeys(_NUMBERS, numbers),
}
