-- When the first of an account's authenticators stops after a reset of many, in microseconds; 0 for never.
ALTER TABLE accounts ADD COLUMN stops_at INTEGER NOT NULL DEFAULT 0;
-- Who still has to set up a new one: listed in order of id, and counted, through this alone.
CREATE INDEX accounts_by_stop ON accounts (id, stops_at, state, factors, role) WHERE stops_at <> 0;
