use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::log::Request;
use crate::reply::Reply;

type Decide = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// Where a path is in its list of replies, or the closure that decides.
#[derive(Clone)]
enum Script {
    Sequence { replies: Arc<[Reply]>, next: usize },
    Decide(Decide),
}

/// The scripts of all paths.
pub(crate) struct Scripts {
    by_path: Mutex<HashMap<String, Script>>,
    default: Mutex<Script>,
}

impl Scripts {
    pub(crate) fn new() -> Scripts {
        Scripts {
            by_path: Mutex::default(),
            default: Mutex::new(sequence(vec![Reply::ok()])),
        }
    }

    pub(crate) fn set(&self, path: &str, replies: Vec<Reply>) {
        lock(&self.by_path).insert(path.to_owned(), sequence(replies));
    }

    pub(crate) fn set_closure(&self, path: &str, decide: Decide) {
        lock(&self.by_path).insert(path.to_owned(), Script::Decide(decide));
    }

    pub(crate) fn set_default(&self, replies: Vec<Reply>) {
        *lock(&self.default) = sequence(replies);
    }

    pub(crate) fn set_default_closure(&self, decide: Decide) {
        *lock(&self.default) = Script::Decide(decide);
    }

    /// The reply that is due for this request. Closures run outside the lock, so they may be slow or script again.
    pub(crate) fn next(&self, request: &Request) -> Reply {
        let of_path = lock(&self.by_path)
            .get_mut(request.path.as_ref())
            .map(Script::advance);
        let taken = of_path.unwrap_or_else(|| lock(&self.default).advance());
        match taken {
            Taken::Reply(reply) => reply,
            Taken::Decide(decide) => decide(request),
        }
    }
}

enum Taken {
    Reply(Reply),
    Decide(Decide),
}

impl Script {
    fn advance(&mut self) -> Taken {
        match self {
            Script::Decide(decide) => Taken::Decide(decide.clone()),
            Script::Sequence { replies, next } => {
                let reply = replies[*next].clone();
                // The last reply repeats.
                *next = (*next + 1).min(replies.len() - 1);
                Taken::Reply(reply)
            }
        }
    }
}

fn sequence(mut replies: Vec<Reply>) -> Script {
    if replies.is_empty() {
        replies.push(Reply::ok());
    }
    Script::Sequence {
        replies: replies.into(),
        next: 0,
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A closure of the user may panic; the data under our locks is whole at every such point.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
