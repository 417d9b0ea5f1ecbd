"""Schedules: one file each; progress in, number out."""
