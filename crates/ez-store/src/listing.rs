//! Pages, order and search of lists of configuration; what grows without bound is listed by cursor instead.

use sea_orm::sea_query::extension::postgres::PgExpr;
use sea_orm::sea_query::{Expr, ExprTrait, IntoColumnRef, LikeExpr};
use sea_orm::{Condition, DbBackend};

use crate::StoreError;

/// Which part of a list to return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows to skip.
    pub offset: u64,
    /// Rows to return at most.
    pub limit: u64,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// The rows of the page.
    pub items: Vec<T>,
    /// How many rows match, on all pages.
    pub total: u64,
}

/// A list that a damaged row does not keep from being read.
#[derive(Debug)]
pub struct Readable<T> {
    /// The rows that can be read.
    pub records: Vec<T>,
    /// Why each of the others cannot: [`StoreError::Corrupt`], which names table, column and id.
    pub faults: Vec<StoreError>,
}

/// What a list is ordered by; equal rows are ordered by id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortField {
    /// The id.
    #[default]
    Id,
    /// The name; a binding's public model.
    Name,
    /// When the record was created.
    CreatedAt,
    /// When it last changed.
    UpdatedAt,
}

/// The order of a list. The default is by id, lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sort {
    /// What by.
    pub by: SortField,
    /// Highest first.
    pub descending: bool,
}

impl<T> Readable<T> {
    pub(crate) fn take(&mut self, outcome: Result<T, StoreError>) {
        match outcome {
            Ok(record) => self.records.push(record),
            Err(fault) => self.faults.push(fault),
        }
    }
}

const ESCAPE: char = '\\';

/// Matches rows where any of `columns` contains `term`, upper and lower case being equal (on SQLite for ASCII only).
pub(crate) fn any_contains<C: IntoColumnRef + Copy>(backend: DbBackend, columns: &[C], term: &str) -> Condition {
    columns.iter().fold(Condition::any(), |any, column| any.add(contains(backend, Expr::col(*column), term)))
}

/// Matches rows whose JSON list in `column` holds `word`. Exact in case on PostgreSQL; on SQLite LIKE ignores the case
/// of ASCII letters, so this is for words that are lower case by rule.
pub(crate) fn list_holds<C: IntoColumnRef>(column: C, word: &str) -> Expr {
    // A word stands between quotes, and a quote inside of one is escaped, so this cannot hit a part of a word.
    let quoted = serde_json::Value::from(word).to_string();
    Expr::col(column).cast_as("text").like(pattern(&quoted).escape(ESCAPE))
}

/// Matches rows where `column` contains `term`, upper and lower case being equal (on SQLite for ASCII only).
pub(crate) fn contains(backend: DbBackend, column: Expr, term: &str) -> Expr {
    match backend {
        // SQLite's LIKE ignores case by itself.
        DbBackend::Sqlite => column.like(pattern(term).escape(ESCAPE)),
        // PostgreSQL's escape is the backslash unless told otherwise, and SeaORM's parentheses break an ESCAPE here.
        _ => column.ilike(pattern(term)),
    }
}

/// The pattern that finds `term` anywhere, with the wildcards inside of it taken literally.
fn pattern(term: &str) -> LikeExpr {
    let literal = term.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    LikeExpr::new(format!("%{literal}%"))
}
