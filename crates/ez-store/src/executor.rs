//! Where a read runs: on the store, which sees what is committed, or in a transaction, which also sees its own changes.

use sea_orm::{ConnectionTrait, DatabaseExecutor, DbBackend};

use crate::connection::{Store, StoreTx};

/// A [`Store`] or a [`StoreTx`]; queries take either. Closed: nothing else can implement it.
pub trait Executor: Runs + Sync {}

impl Executor for Store {}
impl Executor for StoreTx {}

/// Keeps SeaORM out of the public API and [`Executor`] closed.
pub trait Runs {
    #[doc(hidden)]
    fn executor(&self) -> DatabaseExecutor<'_>;

    #[doc(hidden)]
    fn dialect(&self) -> DbBackend {
        self.executor().get_database_backend()
    }
}

impl Runs for Store {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Connection(self.reader())
    }
}

impl Runs for StoreTx {
    fn executor(&self) -> DatabaseExecutor<'_> {
        DatabaseExecutor::Transaction(self.transaction())
    }
}
