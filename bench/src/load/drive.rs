//! Ways to drive a target: as fast as it goes, at a fixed rate, with new connections.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Connection, Sample, Target, histogram};

/// Connections of the closed loop: enough to keep one core busy, few enough that queues stay short.
const CLOSED_CONNECTIONS: usize = 64;

/// Connections of the open loop. Each has one slot in every `OPEN_CONNECTIONS` milliseconds.
const OPEN_CONNECTIONS: u32 = 32;

/// New connections under way at once.
const FRESH_CONNECTIONS: usize = 8;

/// How late a request may be sent and still count from its sending: the timer's own granularity is
/// 1 ms. What is later was held up by an answer that was late, and counts from when it was due.
const TIMER_SLACK: Duration = Duration::from_millis(2);

/// Longest wait for anything; far beyond every proxy's worst case on loopback.
const PATIENCE: Duration = Duration::from_secs(20);

type Outcome = Result<Sample, String>;

thread_local! {
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
}

fn next_id() -> u64 {
    NEXT_ID.with(|next| next.replace(next.get() + 1))
}

/// As fast as answers come: the maximum of requests per second. The first fifth warms up.
pub(crate) async fn closed_loop(target: &Target, length: Duration) -> Outcome {
    let mut connections = Vec::new();
    for _ in 0..CLOSED_CONNECTIONS {
        connections.push(Connection::open(target).await?);
    }
    let from = Instant::now() + length / 5;
    let until = Instant::now() + length;
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        tasks.spawn_local(async move {
            let mut latency = histogram();
            let mut sent = Instant::now();
            while sent < until {
                connection.exchange(next_id()).await?;
                let now = Instant::now();
                if sent >= from {
                    record(&mut latency, now - sent);
                }
                sent = now;
            }
            Ok(latency)
        });
    }
    collect(tasks, length * 4 / 5).await
}

/// One request every millisecond, whether or not earlier ones were answered.
pub(crate) async fn open_loop(target: &Target, length: Duration) -> Outcome {
    let mut tasks = JoinSet::new();
    let mut connections = Vec::new();
    for _ in 0..OPEN_CONNECTIONS {
        let mut connection = Connection::open(target).await?;
        connection.exchange(next_id()).await?;
        connections.push(connection);
    }
    let start = Instant::now() + Duration::from_millis(5);
    for (slot, mut connection) in (0..OPEN_CONNECTIONS).zip(connections) {
        let mut due = start + Duration::from_millis(u64::from(slot));
        tasks.spawn_local(async move {
            let mut latency = histogram();
            while due < start + length {
                tokio::time::sleep_until(due.into()).await;
                let sent = Instant::now();
                connection.exchange(next_id()).await?;
                let counted_from = if sent - due > TIMER_SLACK { due } else { sent };
                record(&mut latency, counted_from.elapsed());
                due += Duration::from_millis(u64::from(OPEN_CONNECTIONS));
            }
            Ok(latency)
        });
    }
    collect(tasks, length).await
}

/// One request per connection: new connections per second.
pub(crate) async fn fresh_loop(target: &Target, length: Duration) -> Outcome {
    let until = Instant::now() + length;
    let target = Rc::new(target.clone());
    let mut tasks = JoinSet::new();
    for _ in 0..FRESH_CONNECTIONS {
        let target = target.clone();
        tasks.spawn_local(async move {
            let mut latency = histogram();
            let mut began = Instant::now();
            while began < until {
                Connection::open(&target).await?.exchange(next_id()).await?;
                let now = Instant::now();
                record(&mut latency, now - began);
                began = now;
            }
            Ok(latency)
        });
    }
    collect(tasks, length).await
}

/// Opens connections, sends one request on each and keeps them.
pub(crate) async fn hold(target: &Target, count: usize) -> Result<Vec<Connection>, String> {
    let mut held = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = Connection::open(target).await?;
        connection.exchange(next_id()).await?;
        held.push(connection);
    }
    Ok(held)
}

fn record(latency: &mut hdrhistogram::Histogram<u64>, taken: Duration) {
    latency.saturating_record(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
}

async fn collect(mut tasks: JoinSet<Result<hdrhistogram::Histogram<u64>, String>>, counted: Duration) -> Outcome {
    let mut latency = histogram();
    let all = async {
        while let Some(joined) = tasks.join_next().await {
            latency.add(joined.map_err(|e| e.to_string())??).map_err(|e| e.to_string())?;
        }
        Ok::<_, String>(())
    };
    tokio::time::timeout(counted * 2 + PATIENCE, all).await.map_err(|_| "an answer never came".to_owned())??;
    Ok(Sample { requests: latency.len(), seconds: counted.as_secs_f64(), latency })
}
