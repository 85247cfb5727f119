"""Everything that knows Snakemake: project, stages, digests, jobs."""
