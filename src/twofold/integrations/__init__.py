"""Twofold inside the applications of others: one module for each framework, thin, over `guard` and `gate`."""
