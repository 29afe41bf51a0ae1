//! A PostgreSQL server that somebody named: what is measured gets databases of its own there, which
//! are dropped at the end. The database that is named is neither read nor written.

use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
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
    /// The server of the database at `url`.
    pub(super) fn at(url: &str) -> anyhow::Result<Self> {
        // Without the address itself, which may hold a password.
        let url = Url::parse(url).context("--database-url is no address")?;
        Ok(Self {
            url,
            made: Mutex::default(),
        })
    }

    /// A new database: its URL.
    pub(super) fn create(&self, name: &str) -> anyhow::Result<String> {
        let name = format!("{PREFIX}{name}");
        postgres::ask(self.url.as_str(), &format!("create database \"{name}\"")).context(
            "the bench makes databases of its own on the server that --database-url names, for which \
             its user needs the right (alter role … createdb)",
        )?;
        let url = self.url_of(&name);
        self.made().push(name);
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
            let drop = format!("drop database \"{name}\" with (force)");
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
        let other = Named::at(url).unwrap().url_of("other");
        assert_eq!(other, "postgres://u:p%40ss@h:5433/other?sslmode=require");
    }

    #[test]
    fn what_is_no_address_is_not_repeated() {
        let error = Named::at("secret").err().unwrap();
        assert!(!format!("{error:#}").contains("secret"), "{error:#}");
    }
}
