//! Bindings: which provider groups serve a public model in a namespace.

use ez_contract::selector::SelectorType;
use ez_contract::snapshot::ClientGone;
use ez_contract::status::RecordStatus;
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::error::{Doing, on};
use crate::listing::any_contains;
use crate::record::record;
use crate::stored::Stored;
use crate::{Executor, Page, Paged, Sort, StoreError, StoreTx};

record! {
    table "bindings" named PublicModel;
    /// `(namespace, public model) -> provider group`; unique on the three.
    Binding / NewBinding {
        /// Name of the namespace.
        namespace: String,
        /// The model's public name.
        public_model: String,
        /// The provider group.
        group_id: i64,
        /// Share of calls within its priority.
        weight: u32,
        /// Higher is tried first.
        priority: i32,
        /// How the upstream model is picked.
        selector_type: SelectorType,
        /// The value it is picked by; empty means the public model.
        selector_value: String,
        /// Its state.
        status: RecordStatus,
        /// What becomes of a stream whose client left; `None` means as the gateway is set.
        on_client_gone: Option<ClientGone>,
    }
    counters {}
}

/// Which bindings to list.
#[derive(Debug, Clone, Default)]
pub struct BindingFilter {
    /// Only those of this namespace.
    pub namespace: Option<String>,
    /// Only those of this public model.
    pub public_model: Option<String>,
    /// Only those to this provider group.
    pub group_id: Option<i64>,
    /// Part of the public model or selector value, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<RecordStatus>,
}

/// A page of the bindings that match.
pub async fn list(
    db: &impl Executor,
    filter: &BindingFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<Binding>, StoreError> {
    let columns = [entity::Column::PublicModel, entity::Column::SelectorValue];
    let condition = Condition::all()
        .add_option(filter.namespace.as_ref().map(|namespace| entity::Column::Namespace.eq(namespace.as_str())))
        .add_option(filter.public_model.as_ref().map(|model| entity::Column::PublicModel.eq(model.as_str())))
        .add_option(filter.group_id.map(|group_id| entity::Column::GroupId.eq(group_id)))
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &columns, term)))
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())));
    page_of(db, condition, sort, page).await
}

/// The candidates of a public model in a namespace, by id.
pub async fn list_by_model(
    db: &impl Executor,
    namespace: &str,
    public_model: &str,
) -> Result<Vec<Binding>, StoreError> {
    let query = entity::Entity::find()
        .filter(entity::Column::Namespace.eq(namespace))
        .filter(entity::Column::PublicModel.eq(public_model));
    all(db, query).await
}

/// All bindings of a namespace, by id.
pub async fn list_by_namespace(db: &impl Executor, namespace: &str) -> Result<Vec<Binding>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::Namespace.eq(namespace))).await
}

/// All bindings of a public model, in every namespace, by id.
pub async fn list_by_public_model(db: &impl Executor, public_model: &str) -> Result<Vec<Binding>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::PublicModel.eq(public_model))).await
}

/// All bindings to a provider group, by id.
pub async fn list_by_group(db: &impl Executor, group_id: i64) -> Result<Vec<Binding>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::GroupId.eq(group_id))).await
}

/// All candidates, in whatever group, of the public models that are bound to a provider group, by id.
pub async fn list_of_models_of_group(db: &impl Executor, group_id: i64) -> Result<Vec<Binding>, StoreError> {
    let model = [entity::Column::Namespace, entity::Column::PublicModel];
    let models_of_group =
        Query::select().columns(model).from(entity::Entity).and_where(entity::Column::GroupId.eq(group_id)).to_owned();
    let is_among = Expr::tuple(model.map(Expr::col)).in_subquery(models_of_group);
    all(db, entity::Entity::find().filter(is_among)).await
}

/// Deletes all bindings of a namespace; how many there were.
pub async fn delete_by_namespace(tx: &StoreTx, namespace: &str) -> Result<u64, StoreError> {
    delete_where(tx, entity::Column::Namespace.eq(namespace)).await
}

/// Deletes all bindings to a provider group; how many there were.
pub async fn delete_by_group(tx: &StoreTx, group_id: i64) -> Result<u64, StoreError> {
    delete_where(tx, entity::Column::GroupId.eq(group_id)).await
}

async fn delete_where(tx: &StoreTx, condition: Expr) -> Result<u64, StoreError> {
    let outcome = entity::Entity::delete_many()
        .filter(condition)
        .exec(tx.transaction())
        .await
        .map_err(on(TABLE, Doing::Delete))?;
    Ok(outcome.rows_affected)
}
