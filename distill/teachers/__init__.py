"""Teachers: networks that are read, not trained; kept outside the module tree."""
