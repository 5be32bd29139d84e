//! What our user may do at a Sentinel.

use std::time::Duration;

use super::node::dry_run;
use crate::collect::group::GroupTarget;
use crate::model::{Address, Endpoint};
use crate::wire::{Dial, Reader};

const WITHIN: Duration = Duration::from_millis(750);

/// The rights that are lacking; nothing where the Sentinel does not answer, which its main account says, or knows no
/// ACL DRYRUN (before Redis 7.0).
pub async fn lacks(target: &GroupTarget, endpoint: &Endpoint) -> Vec<String> {
    let Some(like) = target.sentinels.first() else { return Vec::new() };
    let dial = Dial { address: Address::Tcp(endpoint.clone()), ..like.clone() };
    let Ok(mut reader) = Reader::connect(&dial, WITHIN).await else { return Vec::new() };
    let set = ["SENTINEL", "SET", target.name.as_str(), "auth-pass", "x"];
    dry_run(&mut reader, &[&set], WITHIN).await
}
