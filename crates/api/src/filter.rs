//! Fields of a query that choose among events and attempts, and their description.

use hooklane_store::history::{Range, Status, StatusClass};
use hooklane_types::{Channel, EventType, UnixMillis};
use serde_json::{Value, json};

use crate::operation::Operation;
use crate::query::Query;

/// Most event types of a query.
const EVENT_TYPES_MAX: usize = 100;
/// Event types and channels, as a regular expression.
const NAME: &str = r"^[a-zA-Z0-9\-_.]+$";

/// Which of the API's statuses. Nothing here is ever `Sending` or `Canceled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StatusFilter {
    /// Any.
    Any,
    /// This one.
    Is(Status),
    /// One that nothing has.
    Never,
}

impl Query {
    /// A time, as RFC 3339.
    pub(crate) fn time(&mut self, name: &str) -> Option<UnixMillis> {
        let text = self.take(name)?;
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(UnixMillis(time.as_millisecond())),
            Err(_) => {
                self.add(
                    name,
                    "this is a time as RFC 3339 has it, with its zone: 2026-01-31T12:00:00Z",
                );
                None
            }
        }
    }

    /// `after` and `before`.
    pub(crate) fn range(&mut self) -> Range {
        Range {
            after: self.time("after"),
            before: self.time("before"),
        }
    }

    /// `event_types`: several in one field, or several fields.
    pub(crate) fn event_types(&mut self) -> Vec<EventType> {
        let texts = self.take_all("event_types");
        let names = texts.iter().flat_map(|text| text.split(','));
        let mut types = Vec::new();
        for name in names {
            match EventType::parse(name) {
                Ok(name) => types.push(name),
                Err(error) => self.add("event_types", &error.to_string()),
            }
        }
        if types.len() > EVENT_TYPES_MAX {
            self.add(
                "event_types",
                &format!("at most {EVENT_TYPES_MAX} can be asked for"),
            );
        }
        types
    }

    pub(crate) fn channel(&mut self) -> Option<Channel> {
        let text = self.take("channel")?;
        let read = Channel::parse(&text);
        read.map_err(|error| self.add("channel", &error.to_string())).ok()
    }

    pub(crate) fn status(&mut self) -> StatusFilter {
        match self.take("status").as_deref() {
            None => StatusFilter::Any,
            Some("0") => StatusFilter::Is(Status::Delivered),
            Some("1") => StatusFilter::Is(Status::Pending),
            Some("2") => StatusFilter::Is(Status::Dead),
            Some("3" | "4") => StatusFilter::Never,
            Some(_) => {
                self.add("status", "a status is 0, 1, 2, 3 or 4");
                StatusFilter::Any
            }
        }
    }

    pub(crate) fn status_class(&mut self) -> Option<StatusClass> {
        match self.take("status_code_class")?.as_str() {
            "0" => Some(StatusClass::None),
            "100" => Some(StatusClass::Informational),
            "200" => Some(StatusClass::Success),
            "300" => Some(StatusClass::Redirection),
            "400" => Some(StatusClass::ClientError),
            "500" => Some(StatusClass::ServerError),
            _ => {
                self.add("status_code_class", "a class is 0, 100, 200, 300, 400 or 500");
                None
            }
        }
    }
}

impl Operation {
    /// Has `before`, `after`, `event_types` and `channel`.
    pub(crate) fn chooses(self) -> Operation {
        let name = |length: u16| json!({"type": "string", "maxLength": length, "pattern": NAME});
        self.time("before", "What happened earlier")
            .time("after", "What happened later")
            .field(
                "event_types",
                "Of one of these types; several stand with commas between them",
                json!({"type": "array", "items": name(256), "minItems": 1, "maxItems": EVENT_TYPES_MAX}),
            )
            .field("channel", "Of this channel", name(128))
    }

    /// Has `status` and `expanded_statuses`.
    pub(crate) fn chooses_status(self) -> Operation {
        let statuses = json!({"type": "integer", "enum": [0, 1, 2, 3, 4]});
        self.field(
            "status",
            "0 delivered, 1 pending, 2 given up; nothing is 3 (sending) or 4 (cancelled)",
            statuses,
        )
        .field(
            "expanded_statuses",
            "Whether what is cancelled is called so. Nothing is",
            json!({"type": "boolean", "default": false}),
        )
    }

    /// Has a time in its query.
    pub(crate) fn time(self, name: &'static str, about: &'static str) -> Operation {
        self.field(name, about, time())
    }

    /// Has `with_content`.
    pub(crate) fn with_content(self, about: &'static str) -> Operation {
        self.field("with_content", about, json!({"type": "boolean", "default": true}))
    }
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_read_as_clients_write_it() {
        let mut query = Query::of(
            "event_types=a.b,c&event_types=d&channel=eu&status=2&status_code_class=500&after=2026-01-31T12%3A00%3A00%2B00%3A00\
             &before=2026-01-31T13:00:00.5Z",
        );
        let names: Vec<String> = query.event_types().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["a.b", "c", "d"]);
        assert_eq!(query.channel(), Some(Channel::parse("eu").unwrap()));
        assert_eq!(query.status(), StatusFilter::Is(Status::Dead));
        assert_eq!(query.status_class(), Some(StatusClass::ServerError));
        let range = query.range();
        assert_eq!(range.after, Some(UnixMillis(1_769_860_800_000)));
        assert_eq!(range.before, Some(UnixMillis(1_769_864_400_500)));
        assert!(query.finish().is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for wrong in [
            "event_types=a b",
            "event_types=",
            "channel=",
            "status=5",
            "status=fail",
            "status_code_class=404",
            "after=yesterday",
            "before=2026-01-31T12:00:00",
            "tag=x",
        ] {
            let mut query = Query::of(wrong);
            query.event_types();
            query.channel();
            query.status();
            query.status_class();
            query.range();
            assert!(query.finish().is_err(), "{wrong}");
        }
        assert_eq!(Query::of("status=4").status(), StatusFilter::Never);
    }
}
