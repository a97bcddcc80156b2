-- Texts are ordered by their bytes, whatever the database's locale.
-- catalog.forgotten: removals up to this revision are not told any more.
CREATE TABLE catalog (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    revision bigint NOT NULL,
    forgotten bigint NOT NULL
);
INSERT INTO catalog (revision, forgotten) VALUES (0, 0);
CREATE TABLE documents (
    kind text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    uid text COLLATE "C",
    created_at_ms bigint NOT NULL,
    updated_at_ms bigint NOT NULL,
    revision bigint NOT NULL,
    content text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, scope, id)
);
CREATE UNIQUE INDEX documents_by_uid ON documents (kind, scope, uid) WHERE uid IS NOT NULL;
CREATE INDEX documents_by_id ON documents (id, kind);
CREATE INDEX documents_by_revision ON documents (revision);
CREATE TABLE removals (
    kind text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    revision bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (kind, scope, id)
);
CREATE INDEX removals_by_revision ON removals (revision);
