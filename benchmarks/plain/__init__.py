"""The straightforward formulation of every stage, written plainly from the published descriptions.

Nothing here imports robis: these are the other side of the comparisons, and the answer that robis's has to equal.
"""
