"""Is the good set good? Defects, copies, and odd images among those that a model is to learn from."""
