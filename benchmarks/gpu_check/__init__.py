"""Everything of robis that runs on a GPU, checked and measured in ten minutes: `benchmarks/gpu_check.sh`."""
