-- The tables of SQLite (see the notes there), with what belongs to an account keyed by its id first: these can be
-- partitioned, or distributed over several servers, by its hash. `BY HASH` says which, and is left out otherwise.
-- Ids are compared byte by byte, as everywhere in Twofold.

-- In which order rows of one moment came; SQLite has its rowid for it.
CREATE SEQUENCE twofold.positions CACHE 1;

-- What changes with each attempt stands last: the log of the server leaves out how a changed row begins.
CREATE TABLE twofold.accounts (
    id text COLLATE "C" PRIMARY KEY,
    schema integer NOT NULL,
    state text COLLATE "C" NOT NULL,
    factors text COLLATE "C" NOT NULL,
    role text COLLATE "C" NOT NULL,
    stops_at bigint NOT NULL,
    created_at bigint NOT NULL,
    version bigint NOT NULL,
    mac bytea NOT NULL,
    document bytea NOT NULL
) /* BY HASH (id) */;
CREATE INDEX accounts_by_summary ON twofold.accounts (id, state, factors, role);
CREATE INDEX accounts_by_kind ON twofold.accounts (state, factors, role) WHERE id >= '!' AND state <> 'deleted';
CREATE INDEX accounts_by_stop ON twofold.accounts (id, stops_at, state, factors, role) WHERE stops_at <> 0;

CREATE TABLE twofold.events (
    account_id text COLLATE "C" NOT NULL,
    seq bigint NOT NULL,
    at bigint NOT NULL,
    kind text COLLATE "C" NOT NULL,
    salt bytea,
    payload text COLLATE "C",
    digest bytea NOT NULL,
    PRIMARY KEY (account_id, seq)
) /* BY HASH (account_id) */;

CREATE TABLE twofold.contacts (
    account_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    key_hmac bytea NOT NULL,
    PRIMARY KEY (account_id, kind, key_hmac)
) /* BY HASH (account_id) */;
CREATE INDEX contacts_by_key ON twofold.contacts (key_hmac, kind);

CREATE TABLE twofold.sessions (
    account_id text COLLATE "C" NOT NULL,
    token_digest bytea NOT NULL,
    id text COLLATE "C" NOT NULL,
    level text COLLATE "C" NOT NULL,
    begun_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    document bytea NOT NULL,
    mac bytea NOT NULL,
    position bigint NOT NULL DEFAULT nextval('twofold.positions'),
    PRIMARY KEY (account_id, token_digest)
) /* BY HASH (account_id) */;
CREATE INDEX sessions_by_token ON twofold.sessions (token_digest);
CREATE INDEX sessions_by_expiry ON twofold.sessions (expires_at);

CREATE TABLE twofold.outbox (
    account_id text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    payload bytea NOT NULL,
    created_at bigint NOT NULL,
    due_at bigint NOT NULL,
    attempts integer NOT NULL,
    position bigint NOT NULL DEFAULT nextval('twofold.positions'),
    PRIMARY KEY (account_id, id)
) /* BY HASH (account_id) */;
CREATE INDEX outbox_by_due ON twofold.outbox (due_at);
CREATE INDEX outbox_by_id ON twofold.outbox (id);

-- The one table of people that is keyed by something else than the account: it says who holds what nobody else may.
CREATE TABLE twofold.claims (
    kind text COLLATE "C" NOT NULL,
    key_hmac bytea NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    PRIMARY KEY (kind, key_hmac)
) /* BY HASH (key_hmac) */;
CREATE INDEX claims_by_account ON twofold.claims (account_id);

-- What follows belongs to the deployment: small tables, the same on every shard.
CREATE TABLE twofold.applications (
    id text COLLATE "C" PRIMARY KEY,
    created_at bigint NOT NULL,
    document bytea NOT NULL
);

CREATE TABLE twofold.rate (
    window_start bigint NOT NULL,
    key_hmac bytea NOT NULL,
    n bigint NOT NULL,
    PRIMARY KEY (key_hmac, window_start)
) /* BY HASH (key_hmac) */;
CREATE INDEX rate_by_window ON twofold.rate (window_start);

CREATE TABLE twofold.network_blocks (
    network text COLLATE "C" PRIMARY KEY,
    document bytea NOT NULL
);

CREATE TABLE twofold.keyring (
    id text COLLATE "C" PRIMARY KEY,
    purpose text COLLATE "C" NOT NULL,
    state text COLLATE "C" NOT NULL CHECK (state IN ('active', 'decrypt_only', 'destroyed')),
    wrapped bytea NOT NULL,
    created_at bigint NOT NULL,
    master text COLLATE "C" NOT NULL,
    uses bigint NOT NULL,
    retired_at bigint NOT NULL,
    empty_since bigint NOT NULL,
    unwrapped_at bigint NOT NULL,
    uri text COLLATE "C" NOT NULL,
    mac bytea NOT NULL,
    position bigint NOT NULL DEFAULT nextval('twofold.positions')
);

CREATE TABLE twofold.nodes (
    id text COLLATE "C" PRIMARY KEY,
    seen_at bigint NOT NULL,
    document bytea NOT NULL
);

CREATE TABLE twofold.settings (
    name text COLLATE "C" PRIMARY KEY,
    value text COLLATE "C" NOT NULL
);
