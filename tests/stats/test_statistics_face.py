"""The names that others rely on are there."""

import inspect

import atlas.stats


def test_the_names_exported_are_the_names_promised():
    assert atlas.stats.__all__ == sorted(
        [
            "OverfittingStudy",
            "always_valid_p",
            "automatic_block",
            "breach_probability",
            "clopper_pearson",
            "combinatorial_splits",
            "deflated_sharpe",
            "expected_maximum_sharpe",
            "max_drawdown",
            "minimum_track_record",
            "overfitting_probability",
            "overfitting_study",
            "probabilistic_sharpe",
            "psi",
            "psi_critical",
            "purged_splits",
            "sharpe_difference",
            "sharpe_difference_bootstrap",
            "sharpe_error",
            "sharpe_ratio",
            "skew_and_kurtosis",
            "triple_barrier",
            "uniqueness_weights",
            "walk_forward_efficiency",
            "walk_forward_splits",
        ]
    )


def test_every_exported_function_has_a_docstring_that_opens_with_a_sentence():
    openings = [
        (inspect.getdoc(getattr(atlas.stats, name)) or "").splitlines()[0]
        for name in atlas.stats.__all__
    ]
    assert [line for line in openings if not line.endswith(".")] == []
