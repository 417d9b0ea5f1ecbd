"""LightningModules: single teacher and several teachers over one base."""
