-- Events that dispatchers took; `key` stands for application and event id. Settled: everything that follows from the event is done.
-- Settling changes no index, and finds room on its page.
CREATE TABLE claims (
    key bytea PRIMARY KEY,
    at timestamptz NOT NULL,
    settled boolean NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX claims_by_age ON claims (at);
