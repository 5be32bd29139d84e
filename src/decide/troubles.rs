//! What broke the link before the primary was lost, and would be met again after a promotion. The rest of the group may
//! suffer from it as this replica did, and a failover mends none of it.

use super::{Context, Held};
use crate::model::finding::Cause;
use crate::model::remedy::{RefusalCode, Remedy};

/// Evidence of rights, TLS, disks, buffers or versions in the present incident, in which the link was not whole since.
/// What the finding itself is about is for the other guards.
pub(super) fn trouble_stands(_: Remedy, c: &Context<'_>) -> Result<(), Held> {
    let earlier = c.history.causes.iter().filter(|cause| **cause != c.finding.cause);
    let Some((cause, code)) = earlier.filter_map(|cause| Some((cause, met_again(*cause)?))).next_back() else {
        return Ok(());
    };
    let why = match code {
        RefusalCode::LatentAuthMismatch => "whoever follows the promoted server may be refused for the same reason",
        _ => "replicas may be left without the data, or lose it at the next sync",
    };
    Err((
        code,
        format!(
            "{cause} stood before, and the link has not been whole since: {why}, and a failover mends nothing of it; a \
             person has to look first"
        ),
    ))
}

fn met_again(cause: Cause) -> Option<RefusalCode> {
    match cause {
        Cause::TlsMismatch | Cause::TlsCertificate | Cause::CommandMissing | Cause::ReplconfRefused => {
            Some(RefusalCode::LatentAuthMismatch)
        }
        Cause::PrimaryDiskFull
        | Cause::PrimaryForkFailed
        | Cause::PrimarySaveFailing
        | Cause::ReplicaDiskFull
        | Cause::ReplicaSaveFailing
        | Cause::OutputBufferExceeded
        | Cause::RdbIncompatible => Some(RefusalCode::DataAtRisk),
        _ => None,
    }
}
