//! The database: records, queries and transactions on SQLite and PostgreSQL from one code path. The only crate that
//! knows SQL. No business rules and no clock: what a write means, and when it happens, is the caller's.

mod connection;
mod diagnosis;
mod error;
mod executor;
mod listing;
mod migrations;
mod pieces;
mod record;
mod stored;
mod words;

pub mod alerts;
pub mod api_keys;
pub mod audit;
pub mod bindings;
pub mod catalogues;
pub mod child_keys;
pub mod flushes;
pub mod idempotency;
pub mod log_bodies;
pub mod logs;
pub mod masters;
pub mod models;
pub mod namespaces;
pub mod outbox;
pub mod provider_groups;
pub mod rollups;
pub mod settings;
pub mod statistics;
pub mod usage;
pub mod webhook_deliveries;

pub use connection::{Backend, ConnectOptions, Store, StoreTx};
pub use diagnosis::DatabaseFacts;
pub use error::{Conflict, ConflictKind, StoreError};
pub use executor::Executor;
pub use listing::{Page, Paged, Readable, Sort, SortField};
pub use words::{ActorKind, AlertStatus, DeliveryStatus, FlushKind, IssuedBy, QuotaReset, RecordKind};
