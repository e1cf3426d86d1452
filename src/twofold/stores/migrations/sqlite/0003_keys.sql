-- Which master key wrapped a key, how often it sealed (reserved in blocks), and what became of it. The rows of master
-- keys themselves have an address, and a code that proves who wrote it.
ALTER TABLE keyring ADD COLUMN master TEXT NOT NULL DEFAULT '';
ALTER TABLE keyring ADD COLUMN uses INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keyring ADD COLUMN retired_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keyring ADD COLUMN empty_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keyring ADD COLUMN unwrapped_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE keyring ADD COLUMN uri TEXT NOT NULL DEFAULT '';
ALTER TABLE keyring ADD COLUMN mac BLOB NOT NULL DEFAULT x'';

-- The processes that serve this database, as they last said themselves.
CREATE TABLE nodes (
    id TEXT PRIMARY KEY NOT NULL,
    seen_at INTEGER NOT NULL,
    document BLOB NOT NULL
);
