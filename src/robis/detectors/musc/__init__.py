"""MuSc (arXiv 2401.16753): the images of a split score each other."""
