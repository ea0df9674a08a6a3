//! Namespaces: named views on the model catalogue.

use ez_contract::status::RecordStatus;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::listing::any_contains;
use crate::record::record;
use crate::stored::Stored;
use crate::{Executor, Page, Paged, Sort, StoreError};

/// Name of the namespace that exists from the first migration.
pub const DEFAULT_NAMESPACE: &str = "default";

record! {
    table "namespaces" named Name;
    /// A named view on the model catalogue.
    Namespace / NewNamespace {
        /// Unique; bindings refer to it and follow a change.
        name: String,
        /// For people.
        description: String,
        /// A suspended one serves nothing.
        status: RecordStatus,
    }
    counters {}
}

/// Which namespaces to list.
#[derive(Debug, Clone, Default)]
pub struct NamespaceFilter {
    /// Part of the name or description, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<RecordStatus>,
}

/// A page of the namespaces that match.
pub async fn list(
    db: &impl Executor,
    filter: &NamespaceFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Namespace>, StoreError> {
    let columns = [entity::Column::Name, entity::Column::Description];
    let condition = Condition::all()
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &columns, term)))
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())));
    page_of(db, condition, sort, page).await
}

/// The namespace of this name.
pub async fn get_by_name(db: &impl Executor, name: &str) -> Result<Option<Namespace>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::Name.eq(name))).await
}

/// Those of `names` that exist, by id.
pub async fn list_by_names(db: &impl Executor, names: &[String]) -> Result<Vec<Namespace>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::Name.is_in(names))).await
}
