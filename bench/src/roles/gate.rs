//! tmp
use std::path::Path;
pub(super) async fn run_agent(dir: &Path, next: u16) -> Result<(), String> { super::floor_agent::run(dir,next).await }
pub(super) async fn run_both(dir: &Path, o: u16, t: u16) -> Result<(), String> { let port = super::floor_gateway::start(dir,o,t).await?; super::floor_agent::run(dir, port).await }
