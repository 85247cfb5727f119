"""The benchmarks, one module each.

Each has `Sizes` (what `--set` changes), its instances `FULL` and `QUICK` (on a GPU `GPU`, where that differs), and
`rows(options, sizes)`, which yields what it measures.
"""
