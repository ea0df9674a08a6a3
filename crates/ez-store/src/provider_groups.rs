//! Provider groups: upstream configurations.

use chrono::{DateTime, Utc};
use ez_contract::provider::{Protocol, ProviderType};
use ez_contract::status::RecordStatus;
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter};

use crate::api_keys::RequestCounts;
use crate::listing::{any_contains, list_holds};
use crate::record::{count_requests, record};
use crate::stored::Stored;
use crate::{Executor, Page, Paged, Sort, StoreError};

record! {
    table "provider_groups" named Name;
    /// One upstream configuration, with the API keys that refer to it.
    ProviderGroup / NewProviderGroup {
        /// Unique.
        name: String,
        /// What kind of upstream it is.
        provider_type: ProviderType,
        /// Wire protocols that the upstream speaks, best first; empty means the type's default.
        protocols: Vec<Protocol>,
        /// A label that routing rules and reports use.
        route_group: String,
        /// As the vendor's SDK takes it; empty means the type's default.
        base_url: String,
        /// Google Cloud project, or empty.
        google_project: String,
        /// Google Cloud location, or empty.
        google_location: String,
        /// Azure API version.
        api_version: Option<String>,
        /// Upstream models.
        models: Vec<String>,
        /// Its state.
        status: RecordStatus,
    }
    counters {
        /// Calls ever made through its API keys. Changed by [`add_requests`].
        total_requests: u64,
        /// Those that succeeded. Changed by [`add_requests`].
        success_requests: u64,
        /// Those that failed. Changed by [`add_requests`].
        failure_requests: u64,
        /// When one was last used. Changed by [`add_requests`].
        last_used_at: Option<DateTime<Utc>>,
    }
}

count_requests!();

/// Which provider groups to list.
#[derive(Debug, Clone, Default)]
pub struct ProviderGroupFilter {
    /// Part of the name or base URL, in any case.
    pub search: Option<String>,
    /// Only those in this state.
    pub status: Option<RecordStatus>,
    /// Only those of this type.
    pub provider_type: Option<ProviderType>,
    /// Only those with this label.
    pub route_group: Option<String>,
}

/// A page of the provider groups that match.
pub async fn list(
    db: &impl Executor,
    filter: &ProviderGroupFilter,
    sort: Sort,
    page: Page,
) -> Result<Paged<ProviderGroup>, StoreError> {
    let columns = [entity::Column::Name, entity::Column::BaseUrl];
    let condition = Condition::all()
        .add_option(filter.search.as_deref().map(|term| any_contains(db.dialect(), &columns, term)))
        .add_option(filter.status.map(|status| entity::Column::Status.eq(status.store())))
        .add_option(filter.provider_type.map(|of_type| entity::Column::ProviderType.eq(of_type.store())))
        .add_option(filter.route_group.as_ref().map(|label| entity::Column::RouteGroup.eq(label.as_str())));
    page_of(db, condition, sort, page).await
}

/// All provider groups with this upstream model, by id; on SQLite in whatever case of ASCII letters.
pub async fn list_by_model(db: &impl Executor, model: &str) -> Result<Vec<ProviderGroup>, StoreError> {
    all(db, entity::Entity::find().filter(list_holds(entity::Column::Models, model))).await
}

/// Those of `names` that exist, by id.
pub async fn list_by_names(db: &impl Executor, names: &[String]) -> Result<Vec<ProviderGroup>, StoreError> {
    all(db, entity::Entity::find().filter(entity::Column::Name.is_in(names))).await
}

/// The provider group of this name.
pub async fn get_by_name(db: &impl Executor, name: &str) -> Result<Option<ProviderGroup>, StoreError> {
    one(db, entity::Entity::find().filter(entity::Column::Name.eq(name))).await
}
