//! A broker that answers as told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use hooklane_broker::{
    Broker, BrokerError, BrokerState, ConsumeOptions, Consumption, Depth, Destination, Outgoing, Queue,
};
use hooklane_types::{Event, Internal};
use tokio::sync::watch;

pub struct Scripted {
    /// Answers to come; when there is none, a confirm.
    answers: Mutex<VecDeque<BrokerError>>,
    published: Mutex<Vec<Event>>,
    arrivals: watch::Sender<usize>,
    open: watch::Sender<bool>,
    state: watch::Sender<BrokerState>,
}

impl Scripted {
    pub fn new() -> Arc<Scripted> {
        Arc::new(Scripted {
            answers: Mutex::default(),
            published: Mutex::default(),
            arrivals: watch::Sender::new(0),
            open: watch::Sender::new(true),
            state: watch::Sender::new(BrokerState::Connected),
        })
    }

    /// The next publish fails so.
    pub fn fail_next(&self, error: BrokerError) {
        self.answers.lock().unwrap().push_back(error);
    }

    /// Publishes wait until `confirm_all`.
    pub fn hold(&self) {
        self.open.send_replace(false);
    }

    pub fn confirm_all(&self) {
        self.open.send_replace(true);
    }

    pub fn set_state(&self, state: BrokerState) {
        self.state.send_replace(state);
    }

    pub fn published(&self) -> Vec<Event> {
        self.published.lock().unwrap().clone()
    }

    /// Waits until this many publishes began.
    pub async fn wait_for_publishes(&self, count: usize) {
        let mut arrivals = self.arrivals.subscribe();
        let waiting = arrivals.wait_for(|arrived| *arrived >= count);
        tokio::time::timeout(Duration::from_secs(20), waiting)
            .await
            .expect("the publishes come")
            .unwrap();
    }
}

#[async_trait]
impl Broker for Scripted {
    async fn publish(
        &self,
        to: Destination,
        message: Outgoing,
        _within: Duration,
    ) -> Result<(), BrokerError> {
        assert_eq!(to, Destination::IngestedEvents);
        let Ok(Internal::Event(event)) = Internal::decode(message.body) else {
            panic!("ingest publishes events");
        };
        self.published.lock().unwrap().push(event);
        self.arrivals.send_modify(|count| *count += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn consume(&self, _queue: Queue, _options: ConsumeOptions) -> Box<dyn Consumption> {
        panic!("ingest does not consume")
    }

    fn listen(&self) -> Box<dyn Consumption> {
        panic!("ingest does not listen")
    }

    async fn depth(&self, _queue: Queue) -> Result<Depth, BrokerError> {
        Ok(Depth {
            messages: 0,
            consumers: 0,
        })
    }

    async fn delay_depths(&self) -> Result<Vec<Depth>, BrokerError> {
        Ok(Vec::new())
    }

    fn state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    fn consume_state(&self) -> watch::Receiver<BrokerState> {
        self.state.subscribe()
    }

    async fn shut_down(&self) {}
}
