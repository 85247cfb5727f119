"""WinCLIP (arXiv 2303.14814): zero-shot and few-shot by language."""
