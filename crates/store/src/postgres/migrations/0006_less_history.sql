-- Fewer rows and index entries for an event and its attempt.
-- * The attempts of an event are few enough to be sorted when they are asked for; the events of an endpoint are listed status by status.
-- * Whatever stands on its own day is forgotten with it; only what does not is looked for by its age.
-- * Whoever looks for an event finds no index but the primary key that begins as its question does: the others begin with the endpoint. Statistics
--   of a day that is new, or none, cannot lead to another.
-- * The state of a delivery's first run to its first target stands beside where its event stands: mostly there is no other. What is in deliveries
--   stays there, and counts as well.
-- A recorder of the version before would not know of that: it stops at the column that has another name, and its records wait.
SELECT pg_advisory_xact_lock(hashtextextended('hooklane history ' || current_schema(), 0));
CREATE INDEX attempts_of_endpoint ON attempts (endpoint, application, at_ms, id);
CREATE INDEX attempts_of_endpoint_failed ON attempts (endpoint, application, at_ms, id) WHERE failed;
CREATE INDEX destinations_of_endpoint ON destinations (endpoint, application, status, event_at_ms, event);
CREATE INDEX events_of_other_days ON events (at_ms) WHERE at_ms < day * 86400000::bigint;
LOCK TABLE events, attempts, deliveries, destinations IN ACCESS EXCLUSIVE MODE;
DROP INDEX attempts_by_event, attempts_by_endpoint, attempts_failed, destinations_by_time, destinations_by_status, events_by_age;
ALTER TABLE deliveries RENAME COLUMN last_id TO last_attempt;
ALTER TABLE destinations
    ADD COLUMN last_at_ms bigint,
    ADD COLUMN last_attempt text COLLATE "C",
    ADD COLUMN again_at_ms bigint,
    ADD COLUMN ended_at_ms bigint,
    ADD COLUMN ended_by text COLLATE "C",
    ADD COLUMN dead text COLLATE "C";
