//! What can go wrong in the database, in the four kinds that a caller can act on.

use std::fmt;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::error::ErrorKind;

/// A failed database operation. A missing row is no error: look-ups return `None`, changes return `false`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A unique rule or a foreign key refused the change. The transaction must be dropped: PostgreSQL takes no further
    /// statement in it.
    #[error("{0}")]
    Conflict(Conflict),
    /// The database cannot be reached, is overloaded, or asked to try again. The same call may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] DbErr),
    /// A stored value cannot be read.
    #[error("{table}.{column} of row `{id}` cannot be read: {reason}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column, or `?` where the driver does not tell.
        column: String,
        /// Primary key of the row, or `?` where the driver does not tell.
        id: String,
        /// Why; never the value of a secret column.
        reason: String,
    },
    /// Anything else that the database refused.
    #[error("the database refused a statement")]
    Backend(#[source] DbErr),
}

/// What a [`Conflict`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictKind {
    /// Another row has the same values in a unique rule.
    Duplicate,
    /// The row refers to a row that does not exist.
    MissingReference,
    /// The row cannot go because others refer to it.
    StillReferenced,
}

/// Which rule of the schema refused a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// What it is about.
    pub kind: ConflictKind,
    /// The table that was written to.
    pub table: &'static str,
    /// `Duplicate`: the columns of the unique rule. `MissingReference`: the referring column. `StillReferenced`: the
    /// referring `table.column`. SQLite does not tell which foreign key failed, so there all that the table has stand.
    pub fields: Vec<String>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (table, fields) = (self.table, self.fields.join(", "));
        match self.kind {
            ConflictKind::Duplicate => write!(f, "another row of {table} has the same {fields}"),
            ConflictKind::MissingReference => write!(f, "{table} refers to a row that does not exist: {fields}"),
            ConflictKind::StillReferenced => write!(f, "the row of {table} is still referred to by {fields}"),
        }
    }
}

/// What was being done when an error came up; a foreign key error reads differently for a write and a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doing {
    Read,
    Write,
    Delete,
}

/// Returns the function that classifies a driver error met while doing `doing` on `table`.
pub(crate) fn on(table: &'static str, doing: Doing) -> impl FnOnce(DbErr) -> StoreError {
    move |error| classify(table, doing, error)
}

impl StoreError {
    /// Whether the rows are what the database refuses, or a row that it holds what cannot be read: without those, others
    /// of the same statement or transaction may be taken.
    pub fn is_about_rows(&self) -> bool {
        match self {
            Self::Conflict(_) | Self::Corrupt { .. } => true,
            Self::Unavailable(_) => false,
            Self::Backend(error) => !self.misses_partition() && refusal(error).is_some_and(refuses_values),
        }
    }

    /// Whether PostgreSQL ended a statement because it took longer than it may, or because somebody told it to.
    pub fn took_too_long(&self) -> bool {
        let Self::Unavailable(error) = self else { return false };
        refusal(error).is_some_and(|refusal| {
            refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some()
                && refusal.code().as_deref() == Some("57014")
        })
    }

    /// Whether PostgreSQL has no table for the day of a row. It calls that the violation of a check (23514), as it does a
    /// value that a constraint refuses; a constraint has a name.
    pub(crate) fn misses_partition(&self) -> bool {
        let Self::Backend(error) = self else { return false };
        refusal(error).is_some_and(|refusal| {
            refusal.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some()
                && refusal.code().as_deref() == Some("23514")
                && refusal.constraint().is_none()
        })
    }

    /// Classifies an error that no table stands for: connecting, beginning, committing, migrating.
    pub(crate) fn from_connection(error: DbErr) -> Self {
        classify("", Doing::Read, error)
    }

    /// The same for an error of the underlying driver.
    pub(crate) fn from_driver(error: sqlx::Error) -> Self {
        Self::from_connection(DbErr::Conn(RuntimeErr::SqlxError(error.into())))
    }
}

fn classify(table: &'static str, doing: Doing, error: DbErr) -> StoreError {
    let corrupt = |column: &str, reason: String| StoreError::Corrupt {
        table,
        column: column.to_owned(),
        id: "?".to_owned(),
        reason,
    };
    match &error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout | ConnAcquireErr::ConnectionClosed) => {
            StoreError::Unavailable(error)
        }
        DbErr::Type(reason) | DbErr::Json(reason) => corrupt("?", reason.clone()),
        DbErr::Conn(RuntimeErr::SqlxError(source))
        | DbErr::Exec(RuntimeErr::SqlxError(source))
        | DbErr::Query(RuntimeErr::SqlxError(source)) => match source.as_ref() {
            sqlx::Error::ColumnDecode { index, source } => corrupt(index.trim_matches('"'), source.to_string()),
            sqlx::Error::Database(refusal) => match conflict(table, doing, refusal.as_ref()) {
                Some(conflict) => StoreError::Conflict(conflict),
                None if asks_to_retry(refusal.as_ref()) => StoreError::Unavailable(error),
                None => StoreError::Backend(error),
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => StoreError::Unavailable(error),
            _ => StoreError::Backend(error),
        },
        _ => StoreError::Backend(error),
    }
}

/// Reads the broken rule from its name (PostgreSQL; see [`crate::migrations`] for the naming) or message (SQLite).
fn conflict(table: &'static str, doing: Doing, refusal: &dyn sqlx::error::DatabaseError) -> Option<Conflict> {
    let kind = match refusal.kind() {
        ErrorKind::UniqueViolation => ConflictKind::Duplicate,
        ErrorKind::ForeignKeyViolation if doing != Doing::Delete => ConflictKind::MissingReference,
        ErrorKind::ForeignKeyViolation => ConflictKind::StillReferenced,
        _ if restricts_in_sqlite(refusal) => ConflictKind::StillReferenced,
        _ => return None,
    };
    let fields = match (kind, refusal.constraint()) {
        (ConflictKind::Duplicate, Some(name)) => rule_columns(name),
        (ConflictKind::Duplicate, None) => columns_in_sqlite_message(refusal.message()),
        (ConflictKind::MissingReference, Some(name)) => rule_columns(name),
        (ConflictKind::MissingReference, None) => crate::migrations::references_of(table),
        (ConflictKind::StillReferenced, Some(name)) => vec![referrer(name)],
        (ConflictKind::StillReferenced, None) => crate::migrations::referrers_of(table),
    };
    Some(Conflict { kind, table, fields })
}

/// `uq__bindings__namespace__group_id` -> `["namespace", "group_id"]`; a primary key's own name stands as it is.
fn rule_columns(rule: &str) -> Vec<String> {
    let columns: Vec<String> = rule.split("__").skip(2).map(str::to_owned).collect();
    if columns.is_empty() { vec![rule.to_owned()] } else { columns }
}

/// `fk__api_keys__group_id` -> `api_keys.group_id`.
fn referrer(rule: &str) -> String {
    rule.split("__").skip(1).collect::<Vec<_>>().join(".")
}

/// `UNIQUE constraint failed: bindings.namespace, bindings.group_id` -> `["namespace", "group_id"]`.
fn columns_in_sqlite_message(message: &str) -> Vec<String> {
    let columns = message.rsplit(": ").next().unwrap_or(message);
    columns.split(", ").map(|column| column.rsplit('.').next().unwrap_or(column).to_owned()).collect()
}

/// SQLite carries RESTRICT out as a trigger of its own, and reports SQLITE_CONSTRAINT_TRIGGER (1811). The schema has no
/// other triggers.
fn restricts_in_sqlite(refusal: &dyn sqlx::error::DatabaseError) -> bool {
    refusal.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() && refusal.code().as_deref() == Some("1811")
}

/// What the database itself said, where it did.
fn refusal(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    let (DbErr::Conn(RuntimeErr::SqlxError(source))
    | DbErr::Exec(RuntimeErr::SqlxError(source))
    | DbErr::Query(RuntimeErr::SqlxError(source))) = error
    else {
        return None;
    };
    source.as_database_error()
}

/// Whether PostgreSQL gave up waiting for a lock: after `lock_timeout`, or because those that wait would for ever.
pub(crate) fn is_lock_refused(error: &DbErr) -> bool {
    refusal(error).is_some_and(|refusal| matches!(refusal.code().as_deref(), Some("55P03" | "40P01")))
}

/// Whether the database refuses values for what they are.
fn refuses_values(refusal: &dyn sqlx::error::DatabaseError) -> bool {
    let code = refusal.code().unwrap_or_default();
    if refusal.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // Primary result code in the low byte: TOOBIG 18, CONSTRAINT 19, MISMATCH 20.
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 18..=20));
    }
    // PostgreSQL, appendix A: data exceptions, integrity constraint violations, program limits.
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

/// Whether the database says that the same statement may work later.
fn asks_to_retry(refusal: &dyn sqlx::error::DatabaseError) -> bool {
    let code = refusal.code().unwrap_or_default();
    if refusal.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // Primary result code in the low byte: BUSY 5, LOCKED 6, IOERR 10, FULL 13, CANTOPEN 14.
        return code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6 | 10 | 13 | 14));
    }
    // PostgreSQL, appendix A: connection exceptions, transaction rollback (serialization, deadlock), insufficient
    // resources, operator intervention (shutdown, cancelled), a lock that was not to be had in time.
    ["08", "40", "53", "57", "55P03"].iter().any(|class| code.starts_with(class))
}
