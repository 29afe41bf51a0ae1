//! Throw-away databases for tests, of both engines.
//!
//! Every test has a database of its own: a SQLite file in a temporary folder, or a PostgreSQL
//! database cloned from a template on a server that the test process starts from installed
//! binaries ([`server`]). `COALITION_TEST_DATABASE_URL` names an existing server instead, and a
//! user on it that may create databases. Where there is neither, tests on PostgreSQL say that they
//! did not run; with `CI=true` they fail.
//!
//! Problems here end the test: this module is for tests alone and panics freely.

#![expect(
    clippy::missing_panics_doc,
    reason = "tests alone come here: every problem panics"
)]

mod parts;
mod server;

pub use parts::Parts;
pub use server::Server;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use coalition_ledger::money::Currency;
use coalition_ledger::time::Timestamp;
use rust_decimal::Decimal;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::model::{Mode, Network, NetworkTerms};
use crate::open::{PoolSettings, open};
use crate::traits::Store;

/// What the database on a server of a test's own is called.
pub const OWN_DATABASE: &str = "coalition";

/// When tests begin, unless they say otherwise: 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Which engine a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

impl Engine {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sqlite, Self::Postgres];
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// A sandbox that keeps books in EUR and USD, a point worth a cent in either.
#[must_use]
pub fn sandbox() -> NetworkTerms {
    let cent = Decimal::new(1, 2);
    NetworkTerms {
        mode: Mode::Sandbox,
        face_values: vec![(Currency::EUR, cent), (Currency::USD, cent)],
    }
}

/// A database of one test, opened.
pub struct TestDb {
    /// Its engine.
    pub engine: Engine,
    /// The store that the test works on.
    pub store: Arc<dyn Store>,
    /// How to open it (again).
    pub url: String,
    database: Database,
}

impl TestDb {
    /// An empty database, the schema in it where the engine has one to clone; `None` where there is
    /// no PostgreSQL to be had and that is allowed.
    pub async fn empty(engine: Engine) -> Option<Self> {
        let database = Database::new(engine).await?;
        let url = database.url.clone();
        let store = open(&url, &settings()).await.expect("a new database opens");
        Some(Self {
            engine,
            store,
            url,
            database,
        })
    }

    /// A database with this network in it, laid down at [`START`].
    pub async fn with(engine: Engine, terms: &NetworkTerms) -> Option<(Self, Network)> {
        let db = Self::empty(engine).await?;
        let network = db
            .store
            .migrate(terms, START)
            .await
            .expect("an empty database migrates");
        Some((db, network))
    }

    /// A database with a [`sandbox`] in it.
    pub async fn sandbox(engine: Engine) -> Option<Self> {
        Some(Self::with(engine, &sandbox()).await?.0)
    }

    /// Where the SQLite file is.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        self.database.file()
    }

    /// Runs a statement past the store, as a hand in the database would; the rows it touched.
    pub async fn sql(&self, statement: &str) -> u64 {
        self.database.sql(statement).await
    }

    /// The single number that a query answers, past the store.
    pub async fn number(&self, query: &str) -> i64 {
        self.database.number(query).await
    }

    /// The names and numbers that a query answers, past the store.
    pub async fn numbers(&self, query: &str) -> Vec<(String, i64)> {
        self.database.numbers(query).await
    }

    /// Closes the store and removes the database. One that is only dropped goes with the process.
    pub async fn remove(self) {
        self.store.close().await;
        self.database.remove().await;
    }
}

/// A database of one test that no store of this process has opened: for whole nodes, which open it
/// by its URL.
pub struct Database {
    /// Its engine.
    pub engine: Engine,
    /// How to open it.
    pub url: String,
    /// What it is removed with.
    home: Home,
}

enum Home {
    Folder(TempDir),
    /// The database's name, and the server's maintenance database.
    Database(String, Box<PgConnectOptions>),
}

impl Database {
    /// An empty database, the schema in it where the engine has one to clone; `None` where there is
    /// no PostgreSQL to be had and that is allowed.
    pub async fn new(engine: Engine) -> Option<Self> {
        let (url, home) = match engine {
            Engine::Sqlite => {
                let folder = TempDir::with_prefix("coalition-").expect("a temporary folder");
                let url = format!("sqlite:{}", folder.path().join("books.db").display());
                (url, Home::Folder(folder))
            }
            Engine::Postgres => clone_template().await?,
        };
        Some(Self { engine, url, home })
    }

    /// An empty database on a server of the test's own.
    pub async fn on(server: &Server) -> Self {
        let maintenance: PgConnectOptions = server.url().parse().expect("a PostgreSQL URL");
        run(&maintenance, &format!("create database {OWN_DATABASE}")).await;
        let own = maintenance.clone().database(OWN_DATABASE);
        Self {
            engine: Engine::Postgres,
            url: own.to_url_lossy().to_string(),
            home: Home::Database(OWN_DATABASE.to_owned(), Box::new(maintenance)),
        }
    }

    /// Where the SQLite file is.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match &self.home {
            Home::Folder(folder) => Some(folder.path().join("books.db")),
            Home::Database(..) => None,
        }
    }

    /// Runs a statement past the store, as a hand in the database would; the rows it touched.
    pub async fn sql(&self, statement: &str) -> u64 {
        let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
        if let Some(mut file) = self.open_file().await {
            let done = statement
                .execute(&mut file)
                .await
                .expect("the statement runs");
            file.close().await.expect("the file closes");
            done.rows_affected()
        } else {
            let mut server = self.connect().await;
            let done = statement
                .execute(&mut server)
                .await
                .expect("the statement runs");
            server.close().await.expect("the server is still there");
            done.rows_affected()
        }
    }

    /// The single number that a query answers, past the store.
    pub async fn number(&self, query: &str) -> i64 {
        let named = self.numbers(&format!("select '', ({query})")).await;
        named.first().expect("one number").1
    }

    /// The names and numbers that a query answers, past the store.
    pub async fn numbers(&self, query: &str) -> Vec<(String, i64)> {
        let query = AssertSqlSafe(query.to_owned());
        if let Some(mut file) = self.open_file().await {
            let answer = sqlx::query_as(query).fetch_all(&mut file).await;
            file.close().await.expect("the file closes");
            answer.expect("names and numbers")
        } else {
            let mut server = self.connect().await;
            let answer = sqlx::query_as(query).fetch_all(&mut server).await;
            server.close().await.expect("the server is still there");
            answer.expect("names and numbers")
        }
    }

    /// A connection of its own to the file, if it is one.
    async fn open_file(&self) -> Option<SqliteConnection> {
        let options = SqliteConnectOptions::new().filename(self.file()?);
        Some(options.connect().await.expect("the file opens"))
    }

    /// A connection of its own to the database on the server.
    async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url)
            .await
            .expect("the database is there")
    }

    /// Removes the database. One that is only dropped goes with the process.
    pub async fn remove(self) {
        match self.home {
            Home::Folder(folder) => folder.close().expect("the folder can be removed"),
            Home::Database(name, maintenance) => {
                run(
                    &maintenance,
                    &format!("drop database if exists {name} with (force)"),
                )
                .await;
            }
        }
    }
}

/// Runs a test on a sandbox of each engine, one after the other.
pub async fn for_each_engine<F, R>(test: F)
where
    F: Fn(Arc<TestDb>) -> R,
    R: Future<Output = ()>,
{
    for engine in Engine::ALL {
        if let Some(db) = TestDb::sandbox(engine).await {
            let db = Arc::new(db);
            test(Arc::clone(&db)).await;
            if let Some(db) = Arc::into_inner(db) {
                db.remove().await;
            }
        }
    }
}

/// Few connections, and longer waits than a till would bear: tests share a machine.
#[must_use]
pub fn settings() -> PoolSettings {
    let patience = std::time::Duration::from_secs(30);
    PoolSettings {
        unit_timeout: patience,
        reader_timeout: patience,
        lock_timeout: patience,
        ..PoolSettings::default()
    }
}

/// The server that tests of this process use, and the template on it.
static TEMPLATE: OnceCell<Option<(PgConnectOptions, String)>> = OnceCell::const_new();
/// Databases made so far.
static DATABASES: AtomicU32 = AtomicU32::new(0);

async fn clone_template() -> Option<(String, Home)> {
    let (maintenance, template) = TEMPLATE.get_or_init(make_template).await.as_ref()?;
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let name = format!("{template}_{number}");
    run(
        maintenance,
        &format!("create database {name} template {template}"),
    )
    .await;
    let url = maintenance
        .clone()
        .database(&name)
        .to_url_lossy()
        .to_string();
    Some((url, Home::Database(name, Box::new(maintenance.clone()))))
}

async fn make_template() -> Option<(PgConnectOptions, String)> {
    let url = match std::env::var("COALITION_TEST_DATABASE_URL") {
        Ok(url) => url,
        Err(_) => match tokio::task::spawn_blocking(server::start)
            .await
            .expect("no panic")
        {
            Some(url) => url,
            None if std::env::var("CI").is_ok_and(|ci| ci == "true") => {
                panic!("no PostgreSQL server binaries found, and CI=true: install postgresql")
            }
            None => {
                eprintln!("NOT RUN on PostgreSQL: no server binaries found");
                return None;
            }
        },
    };
    let maintenance: PgConnectOptions = url.parse().expect("a PostgreSQL URL");
    let name = format!("coalition_test_{}", uuid::Uuid::new_v4().simple());
    run(&maintenance, &format!("create database {name}")).await;
    let url = maintenance
        .clone()
        .database(&name)
        .to_url_lossy()
        .to_string();
    let store = crate::PostgresStore::connect(&url, &settings()).expect("a PostgreSQL URL");
    crate::session::Engine::migrate(&store)
        .await
        .expect("an empty database migrates");
    crate::session::Engine::close(&store).await;
    Some((maintenance, name))
}

async fn run(maintenance: &PgConnectOptions, statement: &str) {
    let mut connection = maintenance.connect().await.expect("the server is there");
    let statement = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    statement
        .execute(&mut connection)
        .await
        .expect("the statement runs");
    connection.close().await.expect("the server is still there");
}
