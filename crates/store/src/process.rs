//! The window in the process: it ends with it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use hooklane_types::{ApplicationId, EventId};

use crate::claims::{ClaimError, ClaimWindow, Claims, Verdict};
use crate::key::Key;
use crate::window::Window;

/// Claims for as long as the process lives. Each process has its own: a repeat that another one takes is not noticed.
pub struct ProcessClaims {
    window: Mutex<Window>,
}

impl ProcessClaims {
    /// An empty window for this many ids.
    pub fn new(entries_max: usize) -> ProcessClaims {
        ProcessClaims {
            window: Mutex::new(Window::new(entries_max)),
        }
    }

    /// The window itself, for who keeps it elsewhere too.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Window> {
        // No code under this lock panics; were it poisoned all the same, a lost claim only lets a repeat through.
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Claims for ProcessClaims {
    async fn claim(
        &self,
        application: &ApplicationId,
        event: &EventId,
        redelivered: bool,
        now_ms: u64,
    ) -> Result<Verdict, ClaimError> {
        let key = Key::of(application, event);
        Ok(self.lock().claim(key, redelivered, now_ms))
    }

    async fn settle(&self, application: &ApplicationId, event: &EventId) {
        let key = Key::of(application, event);
        self.lock().settle(key);
    }

    fn release(&self, application: &ApplicationId, event: &EventId) {
        let key = Key::of(application, event);
        self.lock().release(key);
    }

    fn window(&self, now_ms: u64) -> ClaimWindow {
        self.lock().measure(now_ms)
    }
}
