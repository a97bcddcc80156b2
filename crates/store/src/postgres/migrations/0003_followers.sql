-- Processes that route by the catalog, and the revision by which each does.
CREATE TABLE followers (
    id text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    seen_at timestamptz NOT NULL
);
