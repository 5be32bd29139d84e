//! Drains the outbox to chat and webhooks.
