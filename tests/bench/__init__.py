"""Benches: what something costs beside the same thing done plainly, measured in one run. They print ratios and assert none."""
