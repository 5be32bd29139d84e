//! Messages: what they say, and that they arrive, over real sockets.

#[path = "notify/stories.rs"]
mod stories;
#[path = "notify/schema.rs"]
mod schema;
#[path = "notify/rendered.rs"]
mod rendered;
#[path = "notify/receiver.rs"]
mod receiver;
#[path = "notify/sent.rs"]
mod sent;
#[path = "notify/tls.rs"]
mod tls;
