"""Whole histories of one saga in a world where everything that can go wrong does, on the production rules."""
