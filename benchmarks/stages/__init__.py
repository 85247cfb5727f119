"""One module per stage; each has `rows(options)`, which yields what it measured."""
