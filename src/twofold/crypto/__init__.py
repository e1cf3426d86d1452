"""Arithmetic on secrets, pure and small: one-time passwords, sealing, digests, tickets, receipts."""
