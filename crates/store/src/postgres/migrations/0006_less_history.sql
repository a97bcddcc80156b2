-- Fewer rows and index entries for an event and its attempt. The attempts of an event are few enough to be sorted when they are asked for; the
-- events of an endpoint are listed status by status; whatever stands on its own day is forgotten with it, and only what does not is looked for by its age. The state
-- of a delivery's first run to its first target stands beside where its event stands: mostly there is no other.
DROP INDEX attempts_by_event;
DROP INDEX destinations_by_time;
DROP INDEX events_by_age;
CREATE INDEX events_of_other_days ON events (at_ms) WHERE at_ms < day * 86400000::bigint;
ALTER TABLE destinations
    ADD COLUMN last_at_ms bigint,
    ADD COLUMN last_id text COLLATE "C",
    ADD COLUMN again_at_ms bigint,
    ADD COLUMN ended_at_ms bigint,
    ADD COLUMN ended_by text COLLATE "C",
    ADD COLUMN dead text COLLATE "C";
UPDATE destinations AS d SET last_at_ms = r.last_at_ms, last_id = r.last_id, again_at_ms = r.again_at_ms, ended_at_ms = r.ended_at_ms,
    ended_by = r.ended_by, dead = r.dead
FROM deliveries AS r
WHERE r.day = d.day AND r.application = d.application AND r.event = d.event AND r.endpoint = d.endpoint AND r.run = 0 AND r.target = 0;
DELETE FROM deliveries WHERE run = 0 AND target = 0;
