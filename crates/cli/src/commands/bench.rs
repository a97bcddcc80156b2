//! `hooklane bench`: what is measured, and how, is the `bench` crate's.

use clap::{Args, ValueEnum};
use hooklane_bench::{Case, Format, Options, PREFIX};

use super::owner::END_WITH_STDIN;
use super::{block_on, usage};

#[derive(Args)]
pub struct Bench {
    /// A RabbitMQ on this machine, amqp://user:password@127.0.0.1:5672; the bench makes queues of its own and deletes them [default: the
    /// embedded queue, in a temporary directory]
    #[arg(
        long,
        value_name = "URL",
        env = "HOOKLANE_BENCH_BROKER",
        hide_env_values = true
    )]
    broker: Option<String>,
    /// For h on a broker: an empty PostgreSQL database on this machine, postgres://user:password@127.0.0.1:5432/database
    #[arg(
        long,
        value_name = "URL",
        env = "HOOKLANE_BENCH_STORE",
        hide_env_values = true
    )]
    store: Option<String>,
    /// In front of the names of the bench's exchanges and queues; refused when it is in use
    #[arg(long, value_name = "TEXT", default_value = PREFIX)]
    prefix: String,
    /// What to measure: a publishing, b draining a backlog, c both at once and latency, d many endpoints, e endpoints that hang, f retries due
    /// at once, g memory with a large backlog, h with a store beside without [default: all; h on a broker only with --store]
    #[arg(long, value_name = "LETTERS", value_delimiter = ',')]
    what: Vec<Case>,
    /// Runs of each kind; medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Events in each run
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    events: u64,
    /// Retries that fall due at once, in f
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=50_000))]
    retries: u64,
    /// Endpoints registered, in d
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    registered: u64,
    /// Events that wait, in g
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(100..=5_000_000))]
    backlog: u64,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = Rows::Table)]
    format: Rows,
}

#[derive(Clone, Copy, ValueEnum)]
enum Rows {
    /// For people
    Table,
    /// One JSON object per line
    Json,
}

impl Bench {
    /// Measures, and writes a row for each thing measured.
    pub fn run(self) -> anyhow::Result<()> {
        let has_store = self.broker.is_none() || self.store.is_some();
        if self.what.contains(&Case::History) && !has_store {
            return Err(usage(
                "h needs a store: give --store postgres://user:password@127.0.0.1:5432/database, an empty database, beside --broker",
            ));
        }
        let cases = match self.what.is_empty() {
            true => Case::ALL
                .into_iter()
                .filter(|case| *case != Case::History || has_store)
                .collect(),
            false => self.what,
        };
        let options = Options {
            broker: self.broker,
            store: self.store,
            prefix: self.prefix,
            cases,
            rounds: self.rounds.into(),
            events: self.events,
            retries: self.retries,
            registered: self.registered,
            backlog: self.backlog,
            format: match self.format {
                Rows::Table => Format::Table,
                Rows::Json => Format::Json,
            },
            executable: std::env::current_exe()?,
            end_with_stdin: END_WITH_STDIN,
        };
        block_on(async { hooklane_bench::run(&options).await })
    }
}
