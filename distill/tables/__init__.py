"""Declared experiments: a paper's table as data, run anywhere, with the published numbers beside ours."""
