//! The rows that a question is answered from: roll-ups, records that are not rolled up yet, records at the ends of the
//! stretch of time. Written as SQL by hand: no builder says `LATERAL`, nor the order that SQLite is to join in.

use std::ops::Range;

use sea_orm::sea_query::Value;
use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use crate::rollups::{Dims, Facet, Grain, HOUR, MODEL, NAMES, of_record};

use super::period::Period;
use super::query::RowKey;
use super::{Grouping, Question};

/// A statement that is being written.
pub(super) struct Sql {
    backend: DbBackend,
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(backend: DbBackend) -> Self {
        Self { backend, text: String::new(), values: Vec::new() }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub(super) fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
    }

    /// Values with commas between them.
    pub(super) fn bind_all(&mut self, values: impl IntoIterator<Item = Value>) {
        for (place, value) in values.into_iter().enumerate() {
            self.push(if place == 0 { "" } else { ", " });
            self.bind(value);
        }
    }

    /// `condition` with a value behind it.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.push(" AND ");
        self.push(condition);
        self.push(" ");
        self.bind(value);
    }

    pub(super) fn into_statement(self) -> Statement {
        Statement::from_sql_and_values(self.backend, self.text, self.values)
    }
}

/// Where a question is answered from.
pub(super) struct Source<'a> {
    question: &'a Question,
    facet: Option<&'static Facet>,
    period: &'a Period,
    backend: DbBackend,
}

impl<'a> Source<'a> {
    pub(super) fn new(question: &'a Question, period: &'a Period, backend: DbBackend) -> Self {
        Self { question, facet: question.facet(), period, backend }
    }

    /// Reads the key of a row, its first column.
    pub(super) fn key_of(&self, row: &QueryResult) -> Result<RowKey, DbErr> {
        match self.question.by {
            Grouping::Model => row.try_get_by_index(0).map(RowKey::Text),
            _ => row.try_get_by_index(0).map(RowKey::Number),
        }
    }

    /// Rows of a key `k` and what adds up.
    pub(super) fn sums(&self, sql: &mut Sql) {
        let rolled_up = format!("{} AS k, {}", self.rolled_up_key(), NAMES.join(", "));
        let measures = NAMES.map(|name| format!("{} AS {name}", of_record(name))).join(", ");
        let raw = format!("{} AS k, {measures}", self.raw_key());
        self.union(sql, "rollups", &rolled_up, &raw);
    }

    /// Rows of a key `k`, a bin of latencies and how many records are in it.
    pub(super) fn latencies(&self, sql: &mut Sql) {
        let rolled_up = format!("{} AS k, bin, requests", self.rolled_up_key());
        let raw = format!("{} AS k, logs.latency_bin AS bin, CAST(1 AS bigint) AS requests", self.raw_key());
        self.union(sql, "rollup_latencies", &rolled_up, &raw);
    }

    fn union(&self, sql: &mut Sql, table: &str, rolled_up: &str, raw: &str) {
        let mut separator = "";
        for range in &self.period.raw {
            sql.push(separator);
            self.records(sql, raw, range);
            separator = " UNION ALL ";
        }
        let Some(facet) = self.facet else { return };
        for (grain, range) in &self.period.parts {
            sql.push(separator);
            self.roll_ups(sql, facet, table, rolled_up, *grain, range);
            separator = " UNION ALL ";
        }
        if !self.period.rolled_up.is_empty() {
            sql.push(separator);
            self.standing(sql, raw);
        }
    }

    /// Records of a stretch of time, whether rolled up or not.
    fn records(&self, sql: &mut Sql, columns: &str, range: &Range<i64>) {
        sql.push(&format!("SELECT {columns} FROM logs WHERE TRUE"));
        sql.and("logs.created_at >=", range.start);
        sql.and("logs.created_at <", range.end);
        self.filter_records(sql);
    }

    /// Records that are not rolled up yet: those of batches that stand. Batch by batch, as there are few: neither database
    /// may come to read all records for them.
    fn standing(&self, sql: &mut Sql, columns: &str) {
        let Range { start, end } = self.period.rolled_up;
        if self.backend == DbBackend::Postgres {
            sql.push(&format!(
                "SELECT standing.* FROM log_batches CROSS JOIN LATERAL (SELECT {columns} FROM logs \
                 WHERE logs.batch_id = log_batches.id \
                 AND logs.created_at >= log_batches.first_at AND logs.created_at <= log_batches.last_at"
            ));
            sql.and("logs.created_at >=", start);
            sql.and("logs.created_at <", end);
            self.filter_records(sql);
            sql.push(" OFFSET 0) AS standing WHERE TRUE");
        } else {
            // The sign keeps the index on times from being chosen.
            sql.push(&format!(
                "SELECT {columns} FROM log_batches CROSS JOIN logs ON logs.batch_id = log_batches.id \
                 AND +logs.created_at >= log_batches.first_at AND +logs.created_at <= log_batches.last_at WHERE TRUE"
            ));
            sql.and("+logs.created_at >=", start);
            sql.and("+logs.created_at <", end);
            self.filter_records(sql);
        }
        sql.and("log_batches.last_at >=", start);
        sql.and("log_batches.first_at <", end);
    }

    fn roll_ups(&self, sql: &mut Sql, facet: &Facet, table: &str, columns: &str, grain: Grain, range: &Range<i64>) {
        let filter = &self.question.filter;
        sql.push(&format!("SELECT {columns} FROM {table} WHERE TRUE"));
        sql.and("facet =", facet.dims.number());
        sql.and("grain =", grain.number());
        sql.and("at >=", range.start);
        sql.and("at <", range.end);
        // Said even where the facet keeps none: the key of the table begins with it.
        let master_id = if facet.dims.holds(Dims::MASTER) { filter.master_id } else { Some(0) };
        for (column, id) in [
            ("master_id =", master_id),
            ("key_id =", filter.key_id),
            ("group_id =", filter.group_id),
            ("api_key_id =", filter.api_key_id),
        ] {
            if let Some(id) = id {
                sql.and(column, id);
            }
        }
        if let Some(model) = &filter.model {
            sql.and("model =", model.as_str());
        }
    }

    fn filter_records(&self, sql: &mut Sql) {
        let filter = &self.question.filter;
        for (column, id) in [
            ("logs.master_id =", filter.master_id),
            ("logs.key_id =", filter.key_id),
            ("COALESCE(logs.group_id, 0) =", filter.group_id),
            ("COALESCE(logs.api_key_id, 0) =", filter.api_key_id),
        ] {
            if let Some(id) = id {
                sql.and(column, id);
            }
        }
        if let Some(model) = &filter.model {
            sql.and(&format!("{MODEL} ="), model.as_str());
        }
    }

    fn rolled_up_key(&self) -> &'static str {
        match self.question.by {
            Grouping::Total => "CAST(0 AS bigint)",
            Grouping::Model => "model",
            Grouping::Master => "master_id",
            Grouping::Key => "key_id",
            Grouping::Provider => "group_id",
            Grouping::ApiKey => "api_key_id",
            Grouping::Month | Grouping::Day | Grouping::Hour | Grouping::Minute => "at",
        }
    }

    fn raw_key(&self) -> String {
        let floor = |length: i64| {
            // Rounds down before 1970, too.
            let past = format!("(logs.created_at % {length} + {length}) % {length}");
            format!("(logs.created_at - {past})")
        };
        match self.question.by {
            Grouping::Total => "CAST(0 AS bigint)".to_owned(),
            Grouping::Model => MODEL.to_owned(),
            Grouping::Master => "logs.master_id".to_owned(),
            Grouping::Key => "logs.key_id".to_owned(),
            Grouping::Provider => "COALESCE(logs.group_id, 0)".to_owned(),
            Grouping::ApiKey => "COALESCE(logs.api_key_id, 0)".to_owned(),
            Grouping::Minute => floor(60_000_000),
            Grouping::Month | Grouping::Day | Grouping::Hour => floor(HOUR),
        }
    }
}
