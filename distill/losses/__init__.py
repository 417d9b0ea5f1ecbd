"""Losses: one file a method, pure function first, thin module below."""
