"""The CIFAR networks of the CRD tables (Tian et al. 2020), with the parameter names of their public checkpoints."""
