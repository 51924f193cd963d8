"""Whether a forest of trees is safe to hand to XGBoost, which trusts the files that it loads.

A child that points outside its tree makes XGBoost read outside its memory, and a tree that loops
never ends: one changed byte in ten ends or hangs the process. So every index is checked first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas.engines.ubjson import read_ubjson
from atlas.errors import ArtifactCorrupt

__all__ = ["check_forest"]

_OBJECTIVES = frozenset({"binary:logistic", "reg:squarederror"})
_LEAF = -1
_INTEGERS, _FLOATS, _FLAGS = np.dtype(">i4"), np.dtype(">f4"), np.dtype(">u1")
# What a tree keeps of each node.
_NODE_ARRAYS = {
    "base_weights": _FLOATS,
    "default_left": _FLAGS,
    "left_children": _INTEGERS,
    "loss_changes": _FLOATS,
    "parents": _INTEGERS,
    "right_children": _INTEGERS,
    "split_conditions": _FLOATS,
    "split_indices": _INTEGERS,
    "split_type": _FLAGS,
    "sum_hessian": _FLOATS,
}
_CATEGORY_ARRAYS = ("categories", "categories_nodes", "categories_segments", "categories_sizes")


def check_forest(data: bytes) -> str:
    """Return the objective of numeric trees that stay inside themselves.

    Raises
    ------
    ArtifactCorrupt
        The message names the first thing that is wrong.
    """
    try:
        return _check_model(read_ubjson(data))
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, ArtifactCorrupt):
            raise
        raise _refusal(f"{type(error).__name__} {error}") from error


def _check_model(model: Any) -> str:
    learner = model["learner"]
    parameters = learner["learner_model_param"]
    n_features = _number(parameters["num_feature"])
    booster = learner["gradient_booster"]
    forest = booster["model"]
    trees = forest["trees"]
    n_trees = len(trees)
    objective: str = learner["objective"]["name"]
    facts = {
        "version": len(model["version"]) == 3,
        "objective": objective in _OBJECTIVES,
        "booster": booster["name"] == "gbtree",
        "number of features": n_features == len(learner["feature_names"]) > 0,
        "feature names": all(isinstance(name, str) for name in learner["feature_names"]),
        "feature types": len(learner["feature_types"]) == 0,
        "classes": parameters["num_class"] == "0",
        "targets": parameters["num_target"] == "1",
        "base score": np.isfinite(float(parameters["base_score"].strip("[]"))),
        "parallel trees": forest["gbtree_model_param"]["num_parallel_tree"] == "1",
        "number of trees": _number(forest["gbtree_model_param"]["num_trees"]) == n_trees,
        "groups": list(forest["tree_info"]) == [0] * n_trees,
        "rounds": list(forest["iteration_indptr"]) == list(range(n_trees + 1)),
        "categories": all(len(part) == 0 for part in forest.get("cats", {}).values()),
    }
    for fact, holds in facts.items():
        if not holds:
            raise _refusal(f"another {fact}")
    for number, tree in enumerate(trees):
        _check_tree(tree, number, n_features)
    return objective


def _check_tree(tree: Any, number: int, n_features: int) -> None:
    parameters = tree["tree_param"]
    n_nodes = _number(parameters["num_nodes"])
    arrays = {name: tree[name] for name in _NODE_ARRAYS}
    for name, dtype in _NODE_ARRAYS.items():
        array = arrays[name]
        if not isinstance(array, np.ndarray) or (array.dtype, len(array)) != (dtype, n_nodes):
            raise _refusal(f"tree {number} without {n_nodes} values of {name}")
    facts = {
        "identity": tree["id"] == number,
        "root": n_nodes >= 1,
        "width": _number(parameters["num_feature"]) == n_features,
        "leaf size": parameters["size_leaf_vector"] == "1",
        "deleted nodes": 0 <= _number(parameters["num_deleted"]) < max(n_nodes, 1),
        "categories": all(len(tree[name]) == 0 for name in _CATEGORY_ARRAYS),
        "kind of split": not arrays["split_type"].any(),
        "default": bool((arrays["default_left"] <= 1).all()),
    }
    for fact, holds in facts.items():
        if not holds:
            raise _refusal(f"another {fact} of tree {number}")
    left, right = arrays["left_children"], arrays["right_children"]
    inner = left != _LEAF
    if not np.array_equal(inner, right != _LEAF):
        raise _refusal(f"a node with one child in tree {number}")
    # The root is nobody's child and no node has two parents: so no way from the root loops.
    children = np.concatenate((left[inner], right[inner]))
    inside = (children >= 1) & (children < n_nodes)
    if not inside.all() or len(np.unique(children)) != len(children):
        raise _refusal(f"a branch that leaves tree {number} or grows together")
    _check_parents(arrays, inner, number)
    splits = arrays["split_indices"][inner]
    if not ((splits >= 0) & (splits < n_features)).all():
        raise _refusal(f"a question about no feature in tree {number}")


def _check_parents(arrays: dict[str, NDArray[Any]], inner: NDArray[np.bool_], number: int) -> None:
    for side in ("left_children", "right_children"):
        owners = np.flatnonzero(inner)
        if not np.array_equal(arrays["parents"][arrays[side][inner]], owners):
            raise _refusal(f"a node of tree {number} that denies its parent")


def _number(text: Any) -> int:
    if not (isinstance(text, str) and text.isascii() and text.isdigit()):
        raise _refusal(f"{text!r} for a number")
    return int(text)


def _refusal(found: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"Expected a model that XGBoostEngine.dump wrote; found {found}. "
        "Fetch the blob again, or roll back to an earlier version."
    )
