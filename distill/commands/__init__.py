"""Commands of `distill`, one file each; every file has ``main(arguments) -> exit code``."""
