//! Words for codes.

use crate::model::finding::Cause;
use crate::model::remedy::{RefusalCode, Remedy};

/// What had been wrong, once it is over. [`Cause::title`] says it while it lasts.
pub(super) const fn past(cause: Cause) -> &'static str {
    match cause {
        Cause::PrimaryDown => "the primary was down",
        Cause::PrimaryUnreachable => "the primary answered neither us nor the Sentinels",
        Cause::PrimaryHung => "the primary hung",
        Cause::PrimaryBusy => "the primary ran a script that did not end",
        Cause::PrimaryLoading => "the primary was loading its data set",
        Cause::NetworkCut => "the network between here and the primary was cut",
        Cause::NetworkRejected => "connections to the primary were refused from here only",
        Cause::NameUnresolved => "the primary's name did not resolve on this host",
        Cause::ConnectionsExhausted => "the primary had no connection left to give",
        Cause::ProtectedMode => "the primary was in protected mode and refused other hosts",
        Cause::TlsMismatch => "one side spoke TLS and the other did not",
        Cause::TlsCertificate => "a certificate was not accepted",
        Cause::AuthMissing => "the primary wanted a password and the replica had none",
        Cause::AuthRejected => "the primary rejected the replica's password",
        Cause::AuthUnexpected => "the replica sent a password and the primary had none",
        Cause::AuthForbidden => "the replica's user was not allowed to replicate",
        Cause::AuthLatent => "its password would have been rejected at the next reconnect",
        Cause::SentinelAuthRejected => "Sentinel could not log in to a healthy server",
        Cause::WrongPrimary => "it did not follow the primary that the Sentinels named",
        Cause::UpstreamBroken => "it followed a replica whose own link was broken",
        Cause::NotAServer => "what answered on the primary's port was no Redis or Valkey data node",
        Cause::SelfReplication => "it followed itself",
        Cause::FailoverRunning => "a failover was under way",
        Cause::QuorumLost => "too few Sentinels were left to authorise a failover",
        Cause::NoPromotableReplica => "no replica could be promoted",
        Cause::PrimaryEmptied => "the primary came back without its data",
        Cause::PrimaryDiskFull => "the primary could not write the data set that the sync needed",
        Cause::PrimaryForkFailed => "the primary could not fork to make the data set",
        Cause::PrimarySaveFailing => "the primary failed to save and refused every new replica",
        Cause::ReplicaDiskFull => "this host's disk had no room for the data set",
        Cause::ReplicaSaveFailing => "this replica failed to save, and would have aborted at the next write",
        Cause::OutputBufferExceeded => "the primary cut the sync at its output buffer limit",
        Cause::BacklogTooSmall => "the backlog did not reach back to where the link broke",
        Cause::SyncTimeout => "a timeout cut the sync or the link before it could work",
        Cause::SyncRunning => "a sync was under way",
        Cause::SyncStalled => "a sync was under way and no bytes arrived",
        Cause::RdbIncompatible => "the primary's data set was in a format that this replica could not load",
        Cause::CommandMissing => "the primary did not know a command that replication needs",
        Cause::ReplconfRefused => "the link dropped every second: REPLCONF was refused",
        Cause::ReplicaDown => "the local server did not run",
        Cause::ReplicaHung => "the local server accepted connections and answered nothing",
        Cause::ReplicaLoading => "the local server was loading its data set",
        Cause::ReplicaDenied => "the local server did not let relinkd look",
        Cause::Unknown => "what was seen named no cause",
    }
}

/// "relinkd proposes to …"
pub(super) const fn remedy(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::RealignAuth => "set masterauth from the secret store and reconnect",
        Remedy::BounceLink => "reconnect at once",
        Remedy::Repoint => "point the replica at the primary that the Sentinels name",
        Remedy::RequestFailover => "ask Sentinel for a failover",
    }
}

/// "relinkd …", once it has been done.
pub(super) const fn done(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::RealignAuth => "set masterauth from the secret store",
        Remedy::BounceLink => "reconnected it at once",
        Remedy::Repoint => "pointed it at the primary that the Sentinels name",
        Remedy::RequestFailover => "asked Sentinel for a failover",
    }
}

/// "relinkd holds back: …"
pub(super) const fn refusal(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Paused => "a pause is in force",
        RefusalCode::ObserveOnly => "the policy is to look and tell, not to act",
        RefusalCode::ApprovalNeeded => "a person has to approve it first",
        RefusalCode::Cooldown => "the same remedy ran a moment ago",
        RefusalCode::AttemptsExhausted => "its attempts are used up",
        RefusalCode::TooEarly => "the cause has not stood for long enough",
        RefusalCode::FailoverRunning => "a failover is under way",
        RefusalCode::SentinelActing => "Sentinel is at work on it",
        RefusalCode::SentinelsDisagree => "the Sentinels do not agree with each other",
        RefusalCode::QuorumUnclear => "it is not clear that enough Sentinels agree",
        RefusalCode::PrimarySeenAlive => "the primary is still seen alive",
        RefusalCode::NotOurTurn => "another agent goes first",
        RefusalCode::RoleChanged => "the server's role has changed",
        RefusalCode::TargetNotPrimary => "the address to point at is not a primary",
        RefusalCode::LatentAuthMismatch => "a password that does not match elsewhere in the group makes it unsafe",
        RefusalCode::DataAtRisk => "data could be lost",
        RefusalCode::NoPromotableReplica => "no replica may be promoted",
        RefusalCode::SecretUnavailable => "the secret store gives no password",
        RefusalCode::SecretRejected => "the primary rejects the password of the secret store too",
        RefusalCode::PermissionDenied => "relinkd's user lacks a permission",
        RefusalCode::SyncRunning => "a sync is under way",
        RefusalCode::EvidenceMissing => "something that the decision needs was not seen",
        RefusalCode::EvidenceStale => "what was seen is too old to act on",
        RefusalCode::LedgerUnwritable => "the record cannot be written",
        RefusalCode::Tilt => "a Sentinel does not trust its own clock",
        RefusalCode::Stopping => "the server, or relinkd itself, is being stopped",
        RefusalCode::NoSafeRemedy => "there is no safe remedy",
    }
}
