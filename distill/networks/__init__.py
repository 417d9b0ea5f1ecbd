"""Networks that can be teacher or student: the CIFAR networks of the CRD tables, digits, timm, transformers."""
