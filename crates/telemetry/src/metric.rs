//! The names of all metrics, what they mean, and their labels: docs/TELEMETRY.md is the same list for people.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, in seconds.
    Seconds,
}

macro_rules! metrics {
    ($($variant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        /// Every metric of Hooklane. Labels come from closed sets or from configuration, never from messages.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Metric {
            $(#[doc = $help] $variant,)*
        }

        impl Metric {
            /// All metrics, in the order of their declaration.
            pub const ALL: &'static [Metric] = &[$(Metric::$variant,)*];

            /// Its name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name,)* }
            }

            /// What it says.
            pub fn help(self) -> &'static str {
                match self { $(Metric::$variant => $help,)* }
            }

            /// What it is.
            pub fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind,)* }
            }

            /// Its labels' names, in the order in which values are given.
            pub fn labels(self) -> &'static [&'static str] {
                match self { $(Metric::$variant => &[$($label),*],)* }
            }
        }
    };
}

metrics! {
    EventsAccepted Counter "hooklane_events_accepted_total" ["way"] "Events confirmed by the broker, by way (http, cloudevents).";
    EventsRefused Counter "hooklane_events_refused_total" ["reason"] "Publish requests refused, by reason.";
    EventIdsUnanswered Counter "hooklane_event_ids_unanswered_total" ["reason"] "Times that the store was not asked about an eventId, or did not answer in time, by reason (late, away, breaker): its repeat may be accepted.";
    ApiRequests Counter "hooklane_api_requests_total" ["outcome"] "Requests to the management API, by outcome (2xx, 4xx, 5xx).";
    ShelfTaken Counter "hooklane_shelf_taken_total" ["shelf", "by"] "Messages that left a shelf over the API, by shelf (dead, faults) and how (replay, purge).";
    PublishSeconds Seconds "hooklane_publish_duration_seconds" [] "From a publish request's last byte to the broker's confirm.";
    EventsConsumed Counter "hooklane_events_consumed_total" ["queue"] "Messages taken from a work queue.";
    EventsUnmatched Counter "hooklane_events_unmatched_total" [] "Events that no endpoint wanted.";
    EventsDuplicate Counter "hooklane_events_duplicate_total" [] "Events dropped because their id was claimed before.";
    EventAgeSeconds Seconds "hooklane_event_age_seconds" [] "From acceptance to the start of the first attempt.";
    ClaimsHeld Gauge "hooklane_claims_entries" [] "Ids in the claim window. In PostgreSQL: of all processes, and about as many.";
    ClaimsWindowSeconds Gauge "hooklane_claims_window_seconds" [] "Age of the oldest id in the claim window: how far back a repeat is noticed.";
    ClaimsUnanswered Counter "hooklane_claims_unanswered_total" ["reason"] "Events that went out unclaimed, by reason (late, away, breaker).";
    ClaimsSaved Counter "hooklane_claims_saved_total" [] "Ids of settled events written to disk, so that their repeats are noticed after a restart.";
    ClaimsUnsaved Gauge "hooklane_claims_unsaved" [] "Ids of settled events that wait to be written to disk.";
    ClaimsSaveFailures Counter "hooklane_claims_save_failures_total" [] "Writes of settled ids that the disk refused; they are tried again.";
    ClaimsUnsavedDropped Counter "hooklane_claims_unsaved_dropped_total" [] "Settled ids that are never written to disk, because too many waited.";
    Attempts Counter "hooklane_attempts_total" ["outcome"] "Attempts by outcome (2xx, 3xx, 4xx, 5xx, or why no status came).";
    AttemptSeconds Seconds "hooklane_attempt_duration_seconds" [] "Duration of attempts.";
    AttemptsInFlight Gauge "hooklane_attempts_in_flight" [] "Attempts in flight.";
    BytesHeld Gauge "hooklane_bodies_held_bytes" [] "Bytes of message bodies held by the process.";
    Deliveries Counter "hooklane_deliveries_total" ["outcome"] "Deliveries that ended, by outcome (delivered, dead).";
    DeadLetters Counter "hooklane_dead_letters_total" ["reason"] "Deliveries given up, by reason.";
    Retries Counter "hooklane_retries_total" [] "Retries put on the delay ladder.";
    Parks Counter "hooklane_parks_total" ["reason"] "Deliveries parked without an attempt (sick, limit, throttled, paused, disabled, unknown).";
    Faults Counter "hooklane_faults_total" ["reason"] "Messages that the pipeline could not handle, by reason.";
    Suspects Counter "hooklane_suspects_total" ["verdict"] "Suspect messages by verdict (cleared, convicted).";
    RecordsWritten Counter "hooklane_records_written_total" ["queue"] "Records put on their way into the history, by queue (contents, records, deaths).";
    RecordsDropped Counter "hooklane_records_dropped_total" ["queue"] "Records that the history will never have, because their queue was full.";
    RecordsKept Counter "hooklane_records_kept_total" [] "Records written to the history.";
    RecordsRefused Counter "hooklane_records_refused_total" [] "Records that the history cannot keep; they are put on the shelf of faults.";
    ChangesLate Counter "hooklane_changes_late_total" [] "Changes of the API that were answered before every process routed by them.";
    RecorderWaits Counter "hooklane_recorder_waits_total" [] "Times that the recorder waited because the store was away or had no room.";
    EndpointsSick Gauge "hooklane_endpoints_sick" [] "Endpoints that get nothing new on the fast path.";
    EndpointAttempts Counter "hooklane_endpoint_attempts_total" ["endpoint", "outcome"] "Attempts per endpoint; endpoints beyond the label bound count as 'other'.";
    EndpointInFlight Gauge "hooklane_endpoint_in_flight" ["endpoint"] "Attempts in flight per endpoint; endpoints beyond the label bound count as 'other'.";
    ConnectionsOpened Counter "hooklane_http_connections_opened_total" [] "Connections opened to endpoints.";
    ConnectionsOpen Gauge "hooklane_http_connections_open" [] "Connections to endpoints open now.";
    DnsLookups Counter "hooklane_dns_lookups_total" ["result"] "Name look-ups (hit, miss, failed).";
    DnsEntries Gauge "hooklane_dns_entries" [] "Names in the DNS cache.";
    TlsHandshakes Counter "hooklane_tls_handshakes_total" ["kind"] "TLS handshakes with endpoints (full, resumed).";
    TlsSessions Gauge "hooklane_tls_sessions_entries" [] "Servers in the TLS session cache.";
    AddressesBlocked Counter "hooklane_addresses_blocked_total" [] "Connections refused because the address lies inside.";
    BrokerConnected Gauge "hooklane_broker_connected" ["connection"] "1 while the connection (publish, consume) is up.";
    BrokerReconnects Counter "hooklane_broker_reconnects_total" ["connection"] "Connections made again after a loss.";
    BrokerBlocked Gauge "hooklane_broker_blocked" [] "1 while the broker blocks publishing (memory or disk alarm).";
    BrokerPublishes Counter "hooklane_broker_publishes_total" ["result"] "Publishes by result (confirmed, refused, failed).";
    ChannelsRecycled Counter "hooklane_broker_channels_recycled_total" ["reason"] "Consuming channels closed and opened again, by reason.";
    QueueDepth Gauge "hooklane_queue_depth" ["queue"] "Messages ready in a queue, looked at every few seconds.";
    ConsumingPaused Gauge "hooklane_consuming_paused" ["queue"] "1 while a queue is not consumed because the inner backlog is over its bound.";
    ConfigReloads Counter "hooklane_config_reloads_total" ["result"] "Reloads of the settings file (applied, refused).";
    ConfigEndpoints Gauge "hooklane_config_endpoints" [] "Endpoints in force.";
}
