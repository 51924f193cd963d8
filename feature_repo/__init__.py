"""The feature repository: what `feast apply` registers."""
