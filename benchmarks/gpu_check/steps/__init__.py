"""The steps of the check: a module each, whose `run` is called in a process of its own."""
