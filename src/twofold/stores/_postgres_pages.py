"""The statements that go through many accounts of a PostgreSQL database: lists, counts, scans. Nothing is run here."""

from __future__ import annotations

SCAN_ROWS = 200

_ROW = "SELECT id, version, schema, document, mac FROM twofold.accounts"
_NARROWED = """
    ($3::text IS NULL OR state = $3) AND ($4::text IS NULL OR strpos(factors, ' ' || $4 || ' ') > 0)
    AND ($5::text IS NULL OR role = $5) AND ($6::text IS NULL OR id ~ $6)"""
# The inner statement needs the index of summaries only, so even a rare factor is found soon among a million accounts.
PAGE = f"""
    {_ROW} WHERE id IN (
        SELECT id FROM twofold.accounts WHERE id > $1 AND id >= '!' AND state <> 'deleted' AND {_NARROWED}
        ORDER BY id LIMIT $2)
    ORDER BY id"""  # noqa: S608 - our own words
# Few or all are in the index of those who have to set up an authenticator anew; it is in order of id, as pages are.
PAGE_STOPPING = f"""
    {_ROW} WHERE id IN (
        SELECT id FROM twofold.accounts WHERE id > $1 AND stops_at <> 0 AND stops_at <= $7 AND {_NARROWED}
        ORDER BY id LIMIT $2)
    ORDER BY id"""  # noqa: S608 - as above
# From the empty id on, the deployment's own row is among them.
SCAN_FIRST = f"{_ROW} WHERE id >= $1 AND ($2 OR state <> 'deleted') ORDER BY id LIMIT $3"
SCAN_NEXT = f"{_ROW} WHERE id > $1 AND ($2 OR state <> 'deleted') ORDER BY id LIMIT $3"
COUNT_BY = """
    SELECT state, factors, role, count(*) FROM twofold.accounts WHERE id >= '!' AND state <> 'deleted'
    GROUP BY state, factors, role"""
COUNT_STOPPING = "SELECT count(*), coalesce(min(stops_at), 0) FROM twofold.accounts WHERE stops_at <> 0"
ORPHANS = """
    SELECT DISTINCT account_id FROM twofold.events
    WHERE NOT EXISTS (SELECT FROM twofold.accounts WHERE id = account_id) ORDER BY account_id"""


def spell_search(search: str) -> str:
    """The regular expression of whatever contains this text, in capitals or not. Which letters are the same is said
    here: what the database takes for capitals depends on how it was set up."""
    return "".join(f"[{c}{c.swapcase()}]" if c.isalpha() else c if c.isalnum() else f"\\{c}" for c in search)
