-- The document is what counts, and `mac` proves it together with the digest; the other columns repeat it.
CREATE TABLE sessions (
    token_digest BLOB PRIMARY KEY NOT NULL,
    id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    level TEXT NOT NULL,
    begun_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    document BLOB NOT NULL,
    mac BLOB NOT NULL
);
CREATE INDEX sessions_by_account ON sessions (account_id, begun_at);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

CREATE TABLE network_blocks (
    network TEXT PRIMARY KEY NOT NULL,
    document BLOB NOT NULL
);

-- Nobody had a role before there were pages.
ALTER TABLE accounts ADD COLUMN role TEXT NOT NULL DEFAULT '';
DROP INDEX accounts_by_summary;
CREATE INDEX accounts_by_summary ON accounts (id, state, factors, role);
-- Counted through this in one go, without sorting a million rows. The account without an id is the deployment's own.
CREATE INDEX accounts_by_kind ON accounts (state, factors, role) WHERE id > '' AND state <> 'deleted';
