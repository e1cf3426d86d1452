"""The rules, pure: accounts, enrollment, verification, the throttle, recovery, the audit chain, the codec.

No I/O, no clock and no randomness live here; what they would give comes in as arguments.
"""
