//! The one table from a server's words to a [`LogKind`]: Redis 6.2 to 8.2, Valkey 7.2 to 9.1.
//!
//! `{P}` stands for what the servers call a primary: `MASTER` and `master` in Redis and in Valkey 7.2, `PRIMARY`,
//! `Primary` and `primary` from Valkey 8.0 on. A phrase matches from the start of the message, after the prefixes
//! that name a thread or a channel. Each row names the function that writes the line (file `replication.c` where none
//! is given); rows without a version stand in all of them.
//!
//! The level character is left out on purpose: `Connection with master lost.` is a warning in Redis 7.0 and a notice
//! from 7.2 on.

use crate::model::evidence::LogKind;

/// A beginning, parts that must stand somewhere behind it, and what it means.
pub(super) struct Phrase {
    pub starts: &'static str,
    pub holds: &'static [&'static str],
    pub kind: LogKind,
}

const fn starts(starts: &'static str, kind: LogKind) -> Phrase {
    Phrase { starts, holds: &[], kind }
}

const fn holds(starts: &'static str, holds: &'static [&'static str], kind: LogKind) -> Phrase {
    Phrase { starts, holds, kind }
}

/// What may stand before a phrase.
pub(super) const BEFORE: &[&str] = &[
    "Replica bio thread: ",       // Valkey 9.1, the thread that downloads the data set
    "Dual channel replication: ", // Valkey 8.0, fullSyncWithPrimary
    "Guru Meditation: ",          // debug.c, _serverPanic
];

pub(super) const PHRASES: &[Phrase] = &[
    // A replica's handshake: syncWithMaster, from Valkey 8.0 on syncWithPrimary. Where the data set comes over a second
    // connection: rdbChannelFullSyncWithMaster (Redis 8.0), fullSyncWithPrimary (Valkey 8.0), in Valkey 9.1
    // dualChannelSetupMainConnForPsync.
    // Redis 6.2 puts a read or write that failed into the place of the answer (receiveSynchronousResponse).
    holds("Error reply to PING from {P}: ", &["-Reading from "], LogKind::HandshakeCut),
    holds("Error reply to PING from {P}: ", &["-Writing to "], LogKind::HandshakeCut),
    holds("Unable to AUTH to {P}: ", &["-Reading from "], LogKind::HandshakeCut),
    holds("Unable to AUTH to {P}: ", &["-Writing to "], LogKind::HandshakeCut),
    starts("Unable to AUTH to {P}: ", LogKind::AuthFailed),
    starts("Error reply to PING from {P}: ", LogKind::PingRefused),
    // A primary that refuses the replica's certificate sends an alert and closes. The alert is read in place of a PONG with
    // TLS 1.3, in the TLS handshake with 1.2; every second or third time the reset overtakes it, and the line that says so
    // must not take the place of the one that names the cause (Redis 7.0.15 and 8.2.3, Valkey 9.1.2).
    holds("Failed to read response from the server: ", &["SSL routines", " alert "], LogKind::SocketError),
    holds("Error condition on socket for SYNC: ", &["(null)"], LogKind::HandshakeCut),
    holds("Error condition on socket for SYNC: ", &["Connection reset by peer"], LogKind::HandshakeCut),
    starts("Error condition on socket for SYNC: ", LogKind::SocketError),
    starts("Error condition on socket for dual channel replication: ", LogKind::SocketError), // Valkey 8.0
    starts("Error condition on socket for rdb channel replication: ", LogKind::SocketError),  // Redis 8.0
    starts("{P} did not respond to command during SYNC handshake", LogKind::HandshakeCut),    // gone in Valkey 9.1
    starts("{P} did not respond to auth command during rdb channel handshake", LogKind::HandshakeCut), // Redis 8.0
    starts("{P} did not respond to replconf command during rdb channel handshake", LogKind::HandshakeCut), // Redis 8.0
    starts("{P} did not respond to auth command during SYNC handshake", LogKind::HandshakeCut), // Valkey 8.0
    starts("{P} did not respond to replconf command during SYNC handshake", LogKind::HandshakeCut), // Valkey 8.0
    starts("{P} did not respond to REPLCONF ip-address command during SYNC handshake", LogKind::HandshakeCut), // Valkey 9.1
    starts("Sending command to {P} in replication handshake: ", LogKind::HandshakeCut),
    starts("Error sending AUTH to {P} in rdb channel replication handshake", LogKind::HandshakeCut), // Redis 8.2
    starts("{P} replied error to replconf: ", LogKind::HandshakeCut),                                // Redis 8.2
    starts("Failed to read response from the server: ", LogKind::HandshakeCut), // receiveSynchronousResponse
    starts("Unable to connect to {P}: ", LogKind::ConnectFailed),               // connectWithMaster
    // PSYNC and its answer: slaveTryPartialResynchronization; Valkey 9.1: replicaSendPsyncCommand,
    // replicaProcessPsyncReply.
    starts("Unexpected reply to PSYNC from {P}: ", LogKind::PsyncRefused),
    starts("Received unexpected psync reply: ", LogKind::PsyncRefused), // Redis 8.2, the second connection
    starts("Unable to send PSYNC to {P}: ", LogKind::HandshakeCut),
    starts("{P} did not reply to PSYNC, will try later", LogKind::HandshakeCut),
    starts("{P} replied with wrong +FULLRESYNC syntax", LogKind::HandshakeCut),
    starts("{P} is currently unable to PSYNC", LogKind::PsyncLater),
    starts("{P} does not support PSYNC or is in error state", LogKind::PsyncUnsupported),
    starts("Trying a partial resynchronization (request ", LogKind::PsyncAsked),
    starts("Partial resynchronization not possible (no cached ", LogKind::PsyncAsked),
    starts("Full resync from {P}: ", LogKind::FullResync),
    // Redis 8.0 with repl-rdb-channel, its default: a full resync over two connections.
    starts("PSYNC is not possible, initialize RDB channel.", LogKind::FullResync),
    starts("Successful partial resynchronization with {P}.", LogKind::PartialResync),
    // The transfer: readSyncBulkPayload, the temp file's opening syncWithMaster; Valkey 9.1:
    // tryReadBulkPayloadMetadata, tryReadBulkPayload, replicaLoadPrimaryRDBFromDisk, replicaLoadPrimaryRDBFromSocket,
    // replicaAfterLoadPrimaryRDB.
    starts("{P} aborted replication with an error: ", LogKind::SyncAborted),
    starts("I/O error reading bulk count from {P}: ", LogKind::BulkCountError),
    starts("I/O error trying to sync with {P}: ", LogKind::TransferError),
    starts("Main channel error while reading from {P}: ", LogKind::TransferError), // Redis 8.0, rdbChannelReadIntoBuf
    starts("rdb channel sync failed with error: ", LogKind::TransferError), // Redis 8.0, rdbChannelFullSyncWithMaster
    starts("Error reading from {P}: ", LogKind::TransferError), // Valkey 8.0, readIntoReplDataBlock: the main channel
    starts("Dual channel sync failed with error", LogKind::TransferError), // Valkey 9.1
    starts("Bad protocol from {P}, the first byte is not '$'", LogKind::TransferError),
    starts("Replication stream EOF marker is broken", LogKind::TransferError),
    starts("Write error or short write writing to the DB dump file", LogKind::DumpWriteError),
    starts("Error truncating the RDB file received from the {P}", LogKind::DumpWriteError),
    starts("Opening the temp file needed for {P} <-> REPLICA synchronization: ", LogKind::DumpWriteError),
    starts("Failed trying to sync the temp DB to disk in", LogKind::DumpWriteError),
    starts("Failed trying to rename the temp DB into ", LogKind::DumpWriteError),
    starts("Failed trying to sync DB directory ", LogKind::DumpWriteError),
    starts("{P} <-> REPLICA sync: Flushing old data", LogKind::Loading),
    starts("RDB signature and version check passed. Flushing old data", LogKind::Loading), // Valkey 9.1
    starts("{P} <-> REPLICA sync: Loading DB in memory", LogKind::Loading),
    starts("{P} <-> REPLICA sync: Finished with success", LogKind::SyncFinished),
    // restartAOFAfterSYNC: ten tries, a second apart, and the process ends itself.
    starts("Failed enabling the AOF after successful {P} synchronization!", LogKind::AofFailed), // not in Redis 8.2
    starts("FATAL: this replica instance finished the synchronization with its {P}, but the AOF", LogKind::AofFailed),
    starts("FATAL: AOF can't be turned on. Exiting now.", LogKind::AofFailed), // Redis 8.2
    starts("Can't handle RDB format version ", LogKind::RdbVersion),           // rdb.c, rdbLoadRioWithLoadingCtx
    // The same function: what begins with neither REDIS nor a magic that it knows. Valkey 9.0 sends VALKEY080 to whoever
    // asks, and a replica of Redis or of Valkey up to 8.0 does not get as far as the version.
    starts("Wrong signature trying to load DB from file", LogKind::RdbVersion),
    starts("Short read or OOM loading DB.", LogKind::RdbUnreadable), // rdb.c, rdbLoadRioWithLoadingCtx
    starts("Failed trying to load the {P} synchronization DB from ", LogKind::LoadFailed),
    // Time limits: replicationCron.
    starts("Timeout connecting to the {P}...", LogKind::ConnectTimeout),
    starts("Timeout receiving bulk data from {P}...", LogKind::TransferTimeout),
    starts("{P} timeout: no data nor PING received...", LogKind::LinkTimeout),
    // An established link: networking.c, freeClient and processInlineBuffer; server.c, processCommand.
    starts("Connection with {P} lost.", LogKind::LinkLost),
    starts("WARNING: Receiving inline protocol from {P}, {P} stream corruption?", LogKind::StreamBroken),
    starts("Replica was unable to write command to disk", LogKind::ReplicaWriteFailed),
    starts("Replica is applying a command even though it is unable to write to disk", LogKind::ReplicaWriteFailed),
    // On a primary. `flags=S` tells a replica's connection from a client's (networking.c, catClientInfoString). In
    // order: networking.c, closeClientOnOutputBufferLimitReached; masterTryPartialResynchronization; replicationCron.
    holds("Client id=", &[" flags=S", "overcoming of output buffer limits"], LogKind::OutputBufferCut),
    holds("Unable to partial resync with replica ", &["for lack of backlog"], LogKind::BacklogTooShort),
    starts("Disconnecting timedout replica (", LogKind::ReplicaTimedOut),
    // Saving: rdb.c, backgroundSaveDoneHandlerDisk, rdbSave, rdbSaveBackground, rdbSaveToSlavesSockets.
    starts("Background saving error", LogKind::SaveFailed),
    starts("Write error saving DB on disk", LogKind::SaveFailed), // Redis up to 7.0
    starts("Write error while saving DB to the disk(", LogKind::SaveFailed), // Redis 7.2, Valkey
    starts("Failed opening the temp RDB file ", LogKind::SaveFailed),
    starts("Failed opening the RDB file ", LogKind::SaveFailed), // Redis 6.2
    starts("Error moving temp DB file ", LogKind::SaveFailed),
    starts("Can't save in background: fork: ", LogKind::ForkFailed),
    // The process: server.c, prepareForShutdown, sigShutdownHandler, main.
    starts("User requested shutdown...", LogKind::Shutdown),
    starts("Received SIGTERM scheduling shutdown...", LogKind::Shutdown),
    starts("Received SIGINT scheduling shutdown...", LogKind::Shutdown),
    starts("Received shutdown signal", LogKind::Shutdown),
    starts("Ready to accept connections", LogKind::Ready),
    starts("The server is now ready to accept connections", LogKind::Ready), // server.c, main: on a unix socket
];

/// Kinds that say nothing about the instance's own link: they tell of some other replica, which has an agent of its
/// own. And PSYNC, which tells nothing before its answer. They are kept as evidence and wake nobody.
pub(super) fn wakes(kind: LogKind) -> bool {
    !matches!(
        kind,
        LogKind::OutputBufferCut | LogKind::BacklogTooShort | LogKind::ReplicaTimedOut | LogKind::PsyncAsked
    )
}
