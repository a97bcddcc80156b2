#![doc = include_str!("../README.md")]

mod log;
mod metric;
mod metrics;
mod operations;

pub use log::{LogFormat, LogSettingsError, check_log_level, init_log};
pub use metric::{Kind, Metric};
pub use metrics::Metrics;
pub use operations::{Readiness, operations_router};
