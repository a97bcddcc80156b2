//! Progress on standard error.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::commands::print;

/// How often progress is shown.
const EVERY: Duration = Duration::from_secs(1);

/// Shows how far it is, once a second; on a terminal always in the same line.
pub struct Meter {
    shown: Instant,
    is_terminal: bool,
    is_line_open: bool,
}

impl Meter {
    /// Begins now.
    pub fn new() -> Meter {
        Meter {
            shown: Instant::now(),
            is_terminal: std::io::stderr().is_terminal(),
            is_line_open: false,
        }
    }

    /// Shows this, if it is time.
    pub fn tell(&mut self, progress: impl Display) {
        if self.shown.elapsed() < EVERY {
            return;
        }
        self.shown = Instant::now();
        if self.is_terminal {
            print::progress(progress);
            self.is_line_open = true;
        } else {
            print::note(progress);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if self.is_line_open {
            print::note("");
        }
    }
}
