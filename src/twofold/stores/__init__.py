"""Where accounts are kept: one file per database behind the ports of `twofold.ports`, and numbered migrations.

Stores know documents and rows; they know no factor and no rule.
"""
