//! A PostgreSQL server that somebody named: what is measured gets databases of its own there, which
//! are dropped at the end. The database that is named is neither read nor written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, ensure};
use url::Url;

use super::postgres;

/// What the names of our databases begin with.
const PREFIX: &str = "coalition_bench_";

/// A server, and the databases that were made there.
pub(super) struct Named {
    url: Url,
    made: Mutex<Vec<String>>,
}

impl Named {
    /// The server of the database at `url`; at once refused where nothing can be measured there.
    pub(super) fn at(url: &str) -> anyhow::Result<Self> {
        let named = Self::parse(url)?;
        let may_create =
            "select rolcreatedb or rolsuper from pg_roles where rolname = current_user";
        let may_create = postgres::ask(named.url.as_str(), may_create)
            .context("the server that --database-url names does not answer")?;
        ensure!(
            may_create == "t",
            "the bench makes databases of its own on the server that --database-url names, for which \
             its user has no right: alter role … createdb"
        );
        Ok(named)
    }

    fn parse(url: &str) -> anyhow::Result<Self> {
        // Without the address itself, which may hold a password.
        let url = Url::parse(url).context("--database-url is no address")?;
        ensure!(
            url.query_pairs().all(|(name, _)| name != "dbname"),
            "--database-url names its database in its path, not as dbname"
        );
        Ok(Self {
            url,
            made: Mutex::default(),
        })
    }

    /// A new database: its URL.
    pub(super) fn create(&self, name: &str) -> anyhow::Result<String> {
        let name = format!("{PREFIX}{name}");
        let create = format!("create database \"{name}\"");
        let url = self.url_of(&name);
        // Before it is made: whoever is interrupted meanwhile may not hear that it was.
        self.made().push(name);
        postgres::ask(self.url.as_str(), &create)?;
        Ok(url)
    }

    fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    fn made(&self) -> MutexGuard<'_, Vec<String>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        for name in self.made().drain(..) {
            let drop = format!("drop database if exists \"{name}\" with (force)");
            if let Err(error) = postgres::ask(self.url.as_str(), &drop) {
                tracing::warn!(%error, "a database of the bench is left on the server");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_differs() {
        let url = "postgres://u:p%40ss@h:5433/books?sslmode=require";
        let other = Named::parse(url).unwrap().url_of("other");
        assert_eq!(other, "postgres://u:p%40ss@h:5433/other?sslmode=require");
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        let error = Named::parse("secret").err().unwrap();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }

    #[test]
    fn a_name_that_would_win_over_ours_is_refused() {
        let error = Named::parse("postgres://h/?dbname=books").err().unwrap();
        assert!(error.to_string().contains("in its path"), "{error:#}");
    }
}
