-- The document is what counts, and `mac` proves it; `state` and `factors` repeat what lists ask for.
-- No foreign keys: an account's row outlives it as a tombstone, and its deletion erases the other rows itself.
-- Rows wider than a twentieth of a page are faster with a rowid, so the larger tables have one.
CREATE TABLE accounts (
    id TEXT PRIMARY KEY NOT NULL,
    version INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    document BLOB NOT NULL,
    mac BLOB NOT NULL,
    state TEXT NOT NULL,
    factors TEXT NOT NULL,
    created_at INTEGER NOT NULL
);
-- Lists look through this alone; what most attempts change is not in it.
CREATE INDEX accounts_by_summary ON accounts (id, state, factors);

CREATE TABLE events (
    account_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    salt BLOB,
    payload TEXT,
    digest BLOB NOT NULL,
    PRIMARY KEY (account_id, seq)
);

CREATE TABLE contacts (
    kind TEXT NOT NULL,
    key_hmac BLOB NOT NULL,
    account_id TEXT NOT NULL,
    PRIMARY KEY (kind, key_hmac, account_id)
) WITHOUT ROWID;
CREATE INDEX contacts_by_account ON contacts (account_id);

CREATE TABLE claims (
    kind TEXT NOT NULL,
    key_hmac BLOB NOT NULL,
    account_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (kind, key_hmac)
) WITHOUT ROWID;
CREATE INDEX claims_by_account ON claims (account_id);

CREATE TABLE applications (
    id TEXT PRIMARY KEY NOT NULL,
    created_at INTEGER NOT NULL,
    document BLOB NOT NULL
);

-- The window comes first: old windows lie together and go at once.
CREATE TABLE rate (
    window INTEGER NOT NULL,
    key_hmac BLOB NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (window, key_hmac)
) WITHOUT ROWID;

CREATE TABLE outbox (
    id TEXT PRIMARY KEY NOT NULL,
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    payload BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL
);
CREATE INDEX outbox_by_due ON outbox (due_at);
CREATE INDEX outbox_by_account ON outbox (account_id);

CREATE TABLE keyring (
    id TEXT PRIMARY KEY NOT NULL,
    purpose TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
    wrapped BLOB NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE settings (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
);
