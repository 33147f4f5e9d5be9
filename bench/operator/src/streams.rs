//! Ten thousand idle streams on one replica, and the death of that replica.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::agents::Agents;
use crate::process::Memory;
use crate::release::{Program, Release};
use crate::{SETTLE, Sizes, say};

/// Longest wait for the streams to be back; what takes longer is an error, and no figure.
const LOST: Duration = Duration::from_secs(300);

/// How long every second try still leads to the dead replica: kubelet and Service need some seconds to notice.
const STALE: Duration = Duration::from_secs(10);

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Streams {
    pub(crate) streams: usize,
    pub(crate) tenants: usize,
    /// Memory of the replica that has them all and leads.
    pub(crate) memory: Memory,
    /// Part of a core that it uses while they are idle.
    pub(crate) busy: f64,
    /// From its death until half of them, and all, are on the other replica.
    pub(crate) half_back_s: f64,
    pub(crate) back_s: f64,
    /// Memory of the other replica, which has taken them all.
    pub(crate) memory_after: Memory,
}

/// Waits for the streams, lets them stand, kills their replica.
pub(crate) async fn measure(
    agents: &Agents,
    release: &Release,
    first: Program,
    sizes: &Sizes,
) -> Result<Streams, String> {
    let streams = sizes.tenants * sizes.agents;
    agents.all_streams(streams, SETTLE).await?;
    let second = release.replica("b")?;
    second.ready().await?;
    say(&format!("{streams} idle streams"));
    tokio::time::sleep(sizes.idle).await;
    let (before, begun) = (first.processor(), Instant::now());
    tokio::time::sleep(sizes.idle).await;
    let busy = (first.processor() - before).as_secs_f64() / begun.elapsed().as_secs_f64();
    have(&first, streams).await?;
    let memory = first.memory()?;
    say("the replica that has them is killed");
    agents.again(vec![first.port(), second.port()]);
    let killed = Instant::now();
    first.kill()?;
    let notice = async {
        tokio::time::sleep(STALE).await;
        agents.replicas(vec![second.port()]);
    };
    let come_back = async {
        agents.all_streams(streams / 2, LOST).await?;
        let half_back = killed.elapsed();
        agents.all_streams(streams, LOST).await?;
        Ok::<_, String>((half_back, killed.elapsed()))
    };
    let ((), back) = tokio::join!(notice, come_back);
    let (half_back, back) = back?;
    tokio::time::sleep(sizes.idle).await;
    have(&second, streams).await?;
    Ok(Streams {
        streams,
        tenants: sizes.tenants,
        memory,
        busy,
        half_back_s: half_back.as_secs_f64(),
        back_s: back.as_secs_f64(),
        memory_after: second.memory()?,
    })
}

/// The replica itself must say that it has them.
async fn have(replica: &Program, streams: usize) -> Result<(), String> {
    match replica.streams().await {
        Some(have) if have >= streams => Ok(()),
        have => Err(format!("{streams} streams should be open, the replica says {have:?}")),
    }
}
