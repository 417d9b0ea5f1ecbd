"""Stateless augmentation: sample(key) -> parameters, apply(images, parameters), batched on any device."""

from distill.data.augment.base import Augment, Compose
from distill.data.augment.crops import CropFlip, ResizedCropFlip
from distill.data.augment.cutout import Cutout
from distill.data.augment.randaugment import RandAugment

__all__ = ["Augment", "Compose", "CropFlip", "Cutout", "RandAugment", "ResizedCropFlip"]
