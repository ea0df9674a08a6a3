//! The database: entities, migrations, one module per record kind, on SQLite and PostgreSQL from one code path. The only crate that knows SQL.
