"""Datasets as LightningDataModules, and stateless augmentation."""
