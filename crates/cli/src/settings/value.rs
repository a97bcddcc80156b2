//! Reading one value: what a duration, a size, an address or a URL looks like, and what to write instead.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use config::{Value, ValueKind};
use ipnet::IpNet;
use url::Url;

/// What is wrong with a value, and what to write instead. Neither quotes the value of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub wrong: String,
    /// What to do.
    pub remedy: String,
}

impl Wrong {
    /// Says both.
    pub fn new(wrong: impl fmt::Display, remedy: impl fmt::Display) -> Wrong {
        Wrong {
            wrong: wrong.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

/// A value as it was merged.
#[derive(Clone, Copy)]
pub struct Raw<'a> {
    /// The value.
    pub value: &'a Value,
    /// It comes from the environment or a flag, where there is only text.
    pub is_text_only: bool,
}

impl<'a> Raw<'a> {
    fn text(self) -> Option<&'a str> {
        match &self.value.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    fn wrong_kind(self, wanted: &str, example: &str) -> Wrong {
        let found = match &self.value.kind {
            ValueKind::Nil => "nothing",
            ValueKind::Boolean(_) => "true or false",
            ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
                "a whole number"
            }
            ValueKind::Float(_) => "a number",
            ValueKind::String(_) => "a text",
            ValueKind::Table(_) => "a table",
            ValueKind::Array(_) => "a list",
        };
        Wrong::new(
            format!("{found} stands where {wanted} is wanted"),
            format!("write it like {example}"),
        )
    }
}

/// A type that a setting can have.
pub trait Readable: Sized {
    /// Reads it from a value of any kind.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(raw: Raw<'_>) -> Result<Self, Wrong>;

    /// Reads it from text, as the environment gives it.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read_text(text: &str) -> Result<Self, Wrong> {
        let value = Value::new(None, text);
        Self::read(Raw {
            value: &value,
            is_text_only: true,
        })
    }
}

impl Readable for String {
    fn read(raw: Raw<'_>) -> Result<String, Wrong> {
        raw.text()
            .map(str::to_owned)
            .ok_or_else(|| raw.wrong_kind("a text", "`\"text\"`"))
    }
}

impl Readable for bool {
    fn read(raw: Raw<'_>) -> Result<bool, Wrong> {
        match &raw.value.kind {
            ValueKind::Boolean(truth) => Ok(*truth),
            ValueKind::String(text) if raw.is_text_only && text == "true" => Ok(true),
            ValueKind::String(text) if raw.is_text_only && text == "false" => Ok(false),
            _ => Err(raw.wrong_kind("true or false", "`true`")),
        }
    }
}

macro_rules! whole_number {
    ($($kind:ty),*) => {$(
        impl Readable for $kind {
            fn read(raw: Raw<'_>) -> Result<$kind, Wrong> {
                let number = match &raw.value.kind {
                    ValueKind::I64(number) => Some(*number),
                    ValueKind::String(text) if raw.is_text_only => text.parse().ok(),
                    _ => None,
                };
                let number = number.ok_or_else(|| raw.wrong_kind("a whole number", "`16`"))?;
                <$kind>::try_from(number).map_err(|_| {
                    Wrong::new(format!("{number} is out of bounds"), format!("write a number from 0 to {}", <$kind>::MAX))
                })
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl Readable for f64 {
    fn read(raw: Raw<'_>) -> Result<f64, Wrong> {
        match &raw.value.kind {
            ValueKind::Float(number) => Ok(*number),
            ValueKind::I64(number) => Ok(*number as f64),
            _ => Err(raw.wrong_kind("a number", "`0.2`")),
        }
    }
}

impl Readable for Duration {
    fn read(raw: Raw<'_>) -> Result<Duration, Wrong> {
        let remedy = "write a number with its unit, like \"500ms\", \"15s\", \"2m\" or \"1h 30m\"";
        match &raw.value.kind {
            ValueKind::String(text) => humantime::parse_duration(text)
                .map_err(|error| Wrong::new(format!("{text:?} is no duration: {error}"), remedy)),
            ValueKind::I64(number) => Err(Wrong::new(format!("{number} has no unit"), remedy)),
            _ => Err(raw.wrong_kind("a duration", "`\"15s\"`")),
        }
    }
}

/// A number of bytes, written like `1MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

/// Units of sizes, largest first. Bytes in powers of 1024 only: `1MB` would be read differently by different people.
const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = UNITS
            .iter()
            .find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes))
            .unwrap_or(&UNITS[3]);
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

impl Readable for Size {
    fn read(raw: Raw<'_>) -> Result<Size, Wrong> {
        let remedy = "write a whole number with its unit: B, KiB, MiB or GiB, like \"1MiB\"";
        let text = match &raw.value.kind {
            ValueKind::I64(number) => {
                return u64::try_from(*number)
                    .map(Size)
                    .map_err(|_| Wrong::new(format!("{number} is no number of bytes"), remedy));
            }
            ValueKind::String(text) => text.trim(),
            _ => return Err(raw.wrong_kind("a size", "`\"1MiB\"`")),
        };
        let (number, bytes) = UNITS
            .iter()
            .find_map(|(unit, bytes)| text.strip_suffix(unit).map(|number| (number.trim_end(), *bytes)))
            .unwrap_or((text, 1));
        let number: Option<u64> = number.parse().ok();
        number
            .and_then(|number| number.checked_mul(bytes))
            .map(Size)
            .ok_or_else(|| Wrong::new(format!("{text:?} is no size"), remedy))
    }
}

impl Readable for SocketAddr {
    fn read(raw: Raw<'_>) -> Result<SocketAddr, Wrong> {
        let text = raw
            .text()
            .ok_or_else(|| raw.wrong_kind("an address", "`\"127.0.0.1:8071\"`"))?;
        text.parse().map_err(|_| {
            Wrong::new(
                format!("{text:?} is no address with a port"),
                "write an IP address and a port, like \"127.0.0.1:8071\" or \"[::1]:8071\"; names are not looked up here",
            )
        })
    }
}

impl Readable for IpNet {
    fn read(raw: Raw<'_>) -> Result<IpNet, Wrong> {
        let text = raw
            .text()
            .ok_or_else(|| raw.wrong_kind("a network", "`\"10.0.0.0/8\"`"))?;
        let network: Option<IpNet> = text
            .parse()
            .ok()
            .or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
        let network = network.ok_or_else(|| {
            Wrong::new(
                format!("{text:?} is no network"),
                "write an address with its prefix length, like \"10.0.0.0/8\" or \"fd00::/8\", or a single address",
            )
        })?;
        if network.addr() != network.network() {
            return Err(Wrong::new(
                format!("{text:?} has bits set behind its prefix"),
                format!("write \"{}\", or a single address", network.trunc()),
            ));
        }
        Ok(network)
    }
}

/// A URL. Never quoted in a problem: many carry a secret in their user info, path or query.
impl Readable for Url {
    fn read(raw: Raw<'_>) -> Result<Url, Wrong> {
        let text = raw
            .text()
            .ok_or_else(|| raw.wrong_kind("a URL", "`\"https://example.com/hooks\"`"))?;
        text.parse().map_err(|error| {
            Wrong::new(
                format!("no URL: {error}"),
                "write it whole, with its scheme, like \"https://example.com/hooks\"",
            )
        })
    }
}

/// One of a few names. The pairs are the names and what they mean.
///
/// # Errors
/// When the text is none of them, or no text.
pub fn one_of<T: Clone>(raw: Raw<'_>, names: &[(&str, T)]) -> Result<T, Wrong> {
    let all: Vec<_> = names.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let remedy = format!("write {}", all.join(" or "));
    let text = raw.text().ok_or_else(|| raw.wrong_kind("a name", &all[0]))?;
    let found = names
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, meaning)| meaning.clone());
    found.ok_or_else(|| Wrong::new(format!("{text:?} is not known"), remedy))
}

impl Readable for hooklane_types::ApplicationId {
    fn read(raw: Raw<'_>) -> Result<Self, Wrong> {
        parsed(raw, "an application id", hooklane_types::ApplicationId::parse)
    }
}

impl Readable for hooklane_types::EndpointId {
    fn read(raw: Raw<'_>) -> Result<Self, Wrong> {
        parsed(raw, "an endpoint id", hooklane_types::EndpointId::parse)
    }
}

impl Readable for hooklane_types::Channel {
    fn read(raw: Raw<'_>) -> Result<Self, Wrong> {
        parsed(raw, "a channel", hooklane_types::Channel::parse)
    }
}

impl Readable for hooklane_types::ThrottleRate {
    fn read(raw: Raw<'_>) -> Result<Self, Wrong> {
        let per_second = u64::read(raw)?;
        let remedy = "write a number from 1 to 65535, like `10`, or leave the key out for no limit";
        hooklane_types::ThrottleRate::try_from(per_second).map_err(|error| Wrong::new(error, remedy))
    }
}

impl Readable for hooklane_types::TypePattern {
    fn read(raw: Raw<'_>) -> Result<Self, Wrong> {
        let remedy =
            "write a type like \"invoice.paid\", a pattern like \"invoice.*\" (at any depth), or \"*\"";
        let read = parsed(raw, "an event type", hooklane_types::TypePattern::parse);
        read.map_err(|wrong| Wrong {
            remedy: remedy.to_owned(),
            ..wrong
        })
    }
}

fn parsed<T, E: fmt::Display>(
    raw: Raw<'_>,
    wanted: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<T, Wrong> {
    let text = raw.text().ok_or_else(|| raw.wrong_kind(wanted, "`\"acme\"`"))?;
    parse(text).map_err(|error| Wrong::new(error, "use 1 to 256 letters, digits, '-', '_' and '.'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Readable>(text: &str) -> Option<T> {
        T::read_text(text).ok()
    }

    #[test]
    fn sizes_have_units_of_powers_of_1024_only() {
        assert_eq!(read("1MiB"), Some(Size(1 << 20)));
        assert_eq!(read("3 KiB"), Some(Size(3072)));
        assert_eq!(read("17"), Some(Size(17)));
        assert_eq!(read("17B"), Some(Size(17)));
        for bad in ["", "1MB", "1.5MiB", "-1", "MiB", "99999999999GiB"] {
            assert_eq!(read::<Size>(bad), None, "{bad:?}");
        }
        for size in [0, 1, 1024, 1025, 3 << 30] {
            assert_eq!(
                read(&Size(size).to_string()),
                Some(Size(size)),
                "what is shown can be written"
            );
        }
    }

    #[test]
    fn networks_are_prefixes_or_single_addresses() {
        assert_eq!(read("10.0.0.0/8"), "10.0.0.0/8".parse::<IpNet>().ok());
        assert_eq!(read("::1"), "::1/128".parse::<IpNet>().ok());
        let wrong = IpNet::read_text("10.0.0.1/8").unwrap_err();
        assert!(wrong.remedy.contains("10.0.0.0/8"), "{wrong:?}");
        assert_eq!(read::<IpNet>("10.0.0.0/33"), None);
    }

    #[test]
    fn text_counts_as_number_or_truth_only_where_there_is_nothing_but_text() {
        let quoted = Value::new(None, "5");
        assert_eq!(
            u32::read(Raw {
                value: &quoted,
                is_text_only: true
            })
            .ok(),
            Some(5)
        );
        assert!(
            u32::read(Raw {
                value: &quoted,
                is_text_only: false
            })
            .is_err()
        );
        let quoted = Value::new(None, "true");
        assert!(
            bool::read(Raw {
                value: &quoted,
                is_text_only: true
            })
            .is_ok()
        );
        assert!(
            bool::read(Raw {
                value: &quoted,
                is_text_only: false
            })
            .is_err()
        );
        assert_eq!(read::<u16>("65536"), None);
    }
}
