"""Packs: frozen models that inspect one image at a time, with the masks of the workflow."""
