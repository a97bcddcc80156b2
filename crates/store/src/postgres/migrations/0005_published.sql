-- Events that were published over HTTP with an id of the producer's own, and confirmed; `key` stands for application and event id.
-- request: a hash over the request, which is answered the same way when it comes again.
CREATE TABLE published (
    key bytea PRIMARY KEY,
    accepted_at_ms bigint NOT NULL,
    request bytea
);
CREATE INDEX published_by_age ON published (accepted_at_ms);
