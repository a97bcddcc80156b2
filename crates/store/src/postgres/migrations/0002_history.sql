-- Tables that grow are partitioned by a day since 1970: that on which the event was accepted, or a later one of which there is a partition. All
-- that became of an event stands on its event's day, so that a day is forgotten by dropping it. Texts are ordered by their bytes.
-- events.content_at_ms is NULL in a stub. attempts.failed: what is not both delivered and answered with success. deliveries.ended_at_ms is NULL
-- while it goes on, dead when it was delivered. destinations follows from deliveries and events, and is there to be listed; its run is the newest.
CREATE TABLE history (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    forgotten_before_ms bigint NOT NULL
);
INSERT INTO history (forgotten_before_ms) VALUES (0);
CREATE TABLE days (day integer PRIMARY KEY);
CREATE TABLE events (
    day integer NOT NULL,
    application text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    expunged boolean NOT NULL,
    content_at_ms bigint,
    fingerprint bigint,
    producer_id text COLLATE "C",
    event_type text COLLATE "C",
    channels text COLLATE "C",
    content_type text COLLATE "C",
    traceparent text COLLATE "C",
    headers text COLLATE "C",
    payload bytea,
    PRIMARY KEY (application, id, day)
) PARTITION BY LIST (day);
CREATE INDEX events_by_time ON events (application, at_ms, id) WHERE event_type IS NOT NULL;
CREATE INDEX events_by_type ON events (application, event_type, at_ms, id) WHERE event_type IS NOT NULL;
CREATE INDEX events_by_age ON events (at_ms);
CREATE TABLE attempts (
    day integer NOT NULL,
    application text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    target integer NOT NULL,
    run bigint NOT NULL,
    at_ms bigint NOT NULL,
    duration_ms bigint NOT NULL,
    code integer,
    retry_after_ms bigint,
    failure text COLLATE "C",
    manual boolean NOT NULL,
    delivered boolean NOT NULL,
    failed boolean NOT NULL,
    again_at_ms bigint,
    dead text COLLATE "C",
    url text COLLATE "C" NOT NULL,
    answer_expunged boolean NOT NULL,
    answer bytea,
    PRIMARY KEY (application, event, id, day)
) PARTITION BY LIST (day);
CREATE INDEX attempts_by_event ON attempts (application, event, at_ms, id);
CREATE INDEX attempts_by_endpoint ON attempts (application, endpoint, at_ms, id);
CREATE INDEX attempts_failed ON attempts (application, endpoint, at_ms, id) WHERE failed;
CREATE TABLE deliveries (
    day integer NOT NULL,
    application text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    run bigint NOT NULL,
    target integer NOT NULL,
    last_at_ms bigint,
    last_id text COLLATE "C",
    again_at_ms bigint,
    ended_at_ms bigint,
    ended_by text COLLATE "C",
    dead text COLLATE "C",
    PRIMARY KEY (application, event, endpoint, run, target, day)
) PARTITION BY LIST (day);
CREATE TABLE destinations (
    day integer NOT NULL,
    application text COLLATE "C" NOT NULL,
    event text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL,
    run bigint NOT NULL,
    event_at_ms bigint NOT NULL,
    status smallint NOT NULL,
    next_at_ms bigint,
    PRIMARY KEY (application, event, endpoint, day)
) PARTITION BY LIST (day);
CREATE INDEX destinations_by_time ON destinations (application, endpoint, event_at_ms, event);
CREATE INDEX destinations_by_status ON destinations (application, endpoint, status, event_at_ms, event);
-- Answers of requests with an idempotency key. Without a status it is being carried out.
CREATE TABLE responses (
    key bytea PRIMARY KEY,
    at_ms bigint NOT NULL,
    request bytea,
    status integer,
    body bytea
);
CREATE INDEX responses_by_age ON responses (at_ms);
