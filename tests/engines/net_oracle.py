"""The nets computed once more, slowly, row by row and in 64-bit floats."""

import numpy as np


def prepared(weights, rows):
    """Normalise one row at a time: shape (length, n_features) to (length, n_features + 1)."""
    out = []
    for row in rows.astype(np.float64):
        values, nulls = [], 0
        for x, mean, scale in zip(row, weights["mean"], weights["scale"], strict=True):
            nulls += np.isnan(x)
            z = (x - float(mean)) * float(scale) if not np.isnan(x) else 0.0
            values.append(min(max(z, -8.0), 8.0))
        out.append([*values, nulls / len(row)])
    return np.array(out)


def logistic(x):
    return 1.0 / (1.0 + np.exp(-x))


def lstm(weights, units, rows):
    """The last output of the last layer, times the head."""
    values = prepared(weights, rows)
    for layer, size in enumerate(units):
        W, R = weights[f"input_{layer}"][0], weights[f"recurrence_{layer}"][0]
        bias = weights[f"bias_{layer}"][0].reshape(2, -1).sum(axis=0)
        hidden, cell, outputs = np.zeros(size), np.zeros(size), []
        for value in values:
            gates = W @ value + R @ hidden + bias
            i, o, f, c = (gates[k * size : (k + 1) * size] for k in range(4))
            cell = logistic(f) * cell + logistic(i) * np.tanh(c)
            hidden = logistic(o) * np.tanh(cell)
            outputs.append(hidden)
        values = np.array(outputs)
    return float(values[-1] @ weights["head"][:, 0] + weights["head_bias"][0])


def transformer(weights, heads, layers, rows):
    """The last row after the last layer, normalised, times the head."""
    w = {name: weight.astype(np.float64) for name, weight in weights.items()}

    def norm(name, layer, row):
        centred = row - row.mean()
        scaled = centred / np.sqrt((centred**2).mean() + 1e-5)
        return scaled * w[f"{name}_gain{layer}"] + w[f"{name}_shift{layer}"]

    values = prepared(weights, rows) @ w["embedding"] + w["positions"]
    for layer in range(layers):
        seen = np.array([norm("attention", f"_{layer}", row) for row in values])
        query, key, value = (
            seen @ w[f"{name}_{layer}"] + w[f"{name}_bias_{layer}"]
            for name in ("query", "key", "value")
        )
        found = np.empty_like(values)
        width = values.shape[1] // heads
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            for t in range(len(values)):
                fit = [query[t, part] @ key[s, part] / np.sqrt(width) for s in range(len(values))]
                share = np.exp(fit - np.max(fit))
                found[t, part] = (share / share.sum()) @ value[:, part]
        values = values + found @ w[f"mix_{layer}"] + w[f"mix_bias_{layer}"]
        inner = np.array([norm("forward", f"_{layer}", row) for row in values])
        inner = np.maximum(inner @ w[f"widen_{layer}"] + w[f"widen_bias_{layer}"], 0.0)
        values = values + inner @ w[f"narrow_{layer}"] + w[f"narrow_bias_{layer}"]
    return float(norm("last", "", values[-1]) @ w["head"][:, 0] + w["head_bias"][0])
