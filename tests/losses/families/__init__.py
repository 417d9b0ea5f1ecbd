"""One file a family of losses, each with a list of settings; tests/losses/settings.py joins them."""
