//! Empty databases for tests, one per test, gone when it ends. They hand out URLs and know no schema.

#![allow(
    clippy::disallowed_methods,
    reason = "the server's address comes from the environment, and a drop cannot wait except in a thread"
)]

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

/// An empty database. Dropping it removes it; close what is connected to it first.
#[derive(Debug)]
pub struct TestDatabase {
    url: String,
    _owned: Owned,
}

/// What goes with the fixture.
#[derive(Debug)]
enum Owned {
    Directory(#[allow(dead_code, reason = "held for its drop")] TempDir),
    Database { server_url: String, name: String },
}

impl TestDatabase {
    /// A SQLite file in a directory of its own; the file is created by whoever connects first.
    pub fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let url = format!("sqlite://{}?mode=rwc", directory.path().join("ez-api.db").display());
        Self { url, _owned: Owned::Directory(directory) }
    }

    /// A new database on the throw-away PostgreSQL server that `EZ_TEST_POSTGRES_URL` names (a superuser's URL).
    ///
    /// Panics where that is unset: a test that needs a server is never skipped.
    pub async fn postgres() -> Self {
        let Ok(server_url) = std::env::var("EZ_TEST_POSTGRES_URL") else {
            panic!(
                "EZ_TEST_POSTGRES_URL is not set: run the tests through `make test`, which starts throw-away servers"
            );
        };
        let server = PgConnectOptions::from_str(&server_url).expect("EZ_TEST_POSTGRES_URL is a PostgreSQL URL");
        let name = format!("ez_test_{}", Uuid::new_v4().simple());
        execute::<PgConnection>(&server_url, format!("CREATE DATABASE {name}"))
            .await
            .expect("the test database can be created");
        let url = server.database(&name).to_url_lossy().to_string();
        Self { url, _owned: Owned::Database { server_url, name } }
    }

    /// What to connect to: `sqlite://…?mode=rwc` or `postgres://…`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Runs a statement behind the product's back, as a damaged or newer installation would have left it.
    pub async fn execute(&self, statement: &str) {
        let statement = statement.to_owned();
        let done = match &self._owned {
            Owned::Directory(_) => execute::<SqliteConnection>(&self.url, statement).await,
            Owned::Database { .. } => execute::<PgConnection>(&self.url, statement).await,
        };
        done.expect("the statement runs");
    }

    /// The number that a query answers. Panics where there is none.
    pub async fn count(&self, query: &str) -> i64 {
        count(&self.url, query).await
    }

    /// Every row of every table as `table: values`, one a line, in an order of its own: equal where nothing changed.
    pub async fn dump(&self) -> String {
        let rows = match &self._owned {
            Owned::Directory(_) => dump_sqlite(&self.url).await,
            Owned::Database { .. } => dump_postgres(&self.url).await,
        };
        let mut rows = rows.expect("the tables can be read");
        rows.sort_unstable();
        rows.join("\n")
    }
}

/// The number that a query answers, asked behind the product's back. Panics where there is none.
pub async fn count(url: &str, query: &str) -> i64 {
    let query = AssertSqlSafe(query.to_owned());
    let counted = match url.starts_with("sqlite:") {
        true => match SqliteConnection::connect(url).await {
            Ok(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await,
            Err(error) => Err(error),
        },
        false => match PgConnection::connect(url).await {
            Ok(mut connection) => sqlx::query_scalar(query).fetch_one(&mut connection).await,
            Err(error) => Err(error),
        },
    };
    counted.expect("the query answers a number")
}

impl Drop for Owned {
    fn drop(&mut self) {
        let Self::Database { server_url, name } = self else { return };
        let (server_url, statement) = (server_url.clone(), format!("DROP DATABASE {name} WITH (FORCE)"));
        // In a thread, because a drop inside of a runtime cannot wait for another one. A failure only leaves a database
        // behind on a server that is thrown away.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map(|runtime| runtime.block_on(execute::<PgConnection>(&server_url, statement)))
        });
        let _ = removal.join();
    }
}

async fn dump_sqlite(url: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = SqliteConnection::connect(url).await?;
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'";
    let mut rows = Vec::new();
    for table in sqlx::query_scalar::<_, String>(names).fetch_all(&mut connection).await? {
        let columns = format!("SELECT 'quote(\"' || name || '\")' FROM pragma_table_info('{table}')");
        let columns: Vec<String> = sqlx::query_scalar(AssertSqlSafe(columns)).fetch_all(&mut connection).await?;
        let values = format!("SELECT {} FROM \"{table}\"", columns.join(" || ',' || "));
        let values: Vec<String> = sqlx::query_scalar(AssertSqlSafe(values)).fetch_all(&mut connection).await?;
        rows.extend(values.into_iter().map(|values| format!("{table}: {values}")));
    }
    connection.close().await?;
    Ok(rows)
}

async fn dump_postgres(url: &str) -> Result<Vec<String>, sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    let names = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'";
    let mut rows = Vec::new();
    for table in sqlx::query_scalar::<_, String>(names).fetch_all(&mut connection).await? {
        let values = format!("SELECT this::text FROM \"{table}\" this");
        let values: Vec<String> = sqlx::query_scalar(AssertSqlSafe(values)).fetch_all(&mut connection).await?;
        rows.extend(values.into_iter().map(|values| format!("{table}: {values}")));
    }
    connection.close().await?;
    Ok(rows)
}

async fn execute<C: Connection>(url: &str, statement: String) -> Result<(), sqlx::Error>
where
    for<'c> &'c mut C: Executor<'c>,
{
    let mut connection = C::connect(url).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await
}
