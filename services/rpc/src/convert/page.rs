//! Pages of a list: how many rows, from where on, and the token for the rest.
//!
//! A handler fetches one row more than the page takes, so that it knows whether there is another
//! page without asking twice. Where a filter is applied to what was fetched, it fetches again, but at
//! most [`READS_PER_PAGE`] times: where rows that fit are rare, the page comes out short.

use coalition_ledger::ids::PartnerId;
use prost::Message;
use tonic::Request;
use uuid::Uuid;

use crate::auth::identity::Identity;
use crate::call::Call;
use crate::page_token::{PageScope, PageTokens};
use crate::request::page_size;
use crate::status::Problem;

/// Reads for one page of a list that is filtered after reading.
pub const READS_PER_PAGE: usize = 16;

/// The page that a call asks for.
#[derive(Clone, Debug)]
pub struct Page {
    tokens: PageTokens,
    method: &'static str,
    partner: Option<PartnerId>,
    filter: Vec<u8>,
    size: u32,
    cursor: Option<Vec<u8>>,
}

impl Page {
    /// The page that `request` asks for. `filter` is its message without page size and token: a token
    /// is good for the same filter only.
    ///
    /// # Errors
    ///
    /// INVALID_ARGUMENT for a negative size, or a token that was not signed for this list.
    pub fn of<M, F: Message>(
        tokens: &PageTokens,
        request: &Request<M>,
        caller: &Identity,
        (size, token): (i32, &str),
        filter: &F,
    ) -> Result<Self, Problem> {
        let method = request
            .extensions()
            .get::<Call>()
            .map_or("", |call| call.method().path());
        let mut page = Self {
            tokens: tokens.clone(),
            method,
            partner: caller.partner(),
            filter: filter.encode_to_vec(),
            size: page_size(size)?,
            cursor: None,
        };
        page.cursor = page.tokens.open(&page.scope(), token)?;
        Ok(page)
    }

    fn scope(&self) -> PageScope<'_> {
        PageScope {
            method: self.method,
            partner: self.partner,
            filter: &self.filter,
        }
    }

    /// Where the page begins: behind the row with this cursor; `None`: at the start.
    #[must_use]
    pub fn cursor(&self) -> Option<&[u8]> {
        self.cursor.as_deref()
    }

    /// The id in the cursor, where the list goes by ids.
    ///
    /// # Errors
    ///
    /// INTERNAL where our own cursor holds something else.
    pub fn id(&self) -> Result<Option<Uuid>, Problem> {
        let id = |cursor: &[u8]| Uuid::from_slice(cursor).map_err(Problem::internal);
        self.cursor().map(id).transpose()
    }

    /// How many rows the page takes.
    #[must_use]
    pub fn rows(&self) -> usize {
        // At most PAGE_SIZE_MAX.
        usize::try_from(self.size).unwrap_or_default()
    }

    /// How many rows to fetch: one more.
    #[must_use]
    pub fn limit(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Cuts `rows` to the page; the token for the rest, empty where there is none.
    ///
    /// # Errors
    ///
    /// INTERNAL where a cursor cannot be signed.
    pub fn cut<R, C: AsRef<[u8]>>(
        &self,
        rows: &mut Vec<R>,
        cursor: impl Fn(&R) -> C,
    ) -> Result<String, Problem> {
        let is_last = rows.len() <= self.rows();
        rows.truncate(self.rows());
        match rows.last() {
            Some(last) if !is_last => self.token(cursor(last).as_ref()),
            _ => Ok(String::new()),
        }
    }

    /// Cuts rows that are all at hand, in the ascending order of their cursors, to the page; and the
    /// token for the rest.
    ///
    /// # Errors
    ///
    /// As [`Page::cut`].
    pub fn of_all<R, C: AsRef<[u8]>>(
        &self,
        mut rows: Vec<R>,
        cursor: impl Fn(&R) -> C,
    ) -> Result<(Vec<R>, String), Problem> {
        if let Some(after) = self.cursor() {
            rows.retain(|row| cursor(row).as_ref() > after);
        }
        let token = self.cut(&mut rows, cursor)?;
        Ok((rows, token))
    }

    /// The token for a page behind this cursor.
    ///
    /// # Errors
    ///
    /// INTERNAL where the cursor is too long.
    pub fn token(&self, cursor: &[u8]) -> Result<String, Problem> {
        self.tokens.sign(&self.scope(), cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: u32) -> Page {
        Page {
            tokens: PageTokens::new(&[3; 32]),
            method: "/a.B/List",
            partner: None,
            filter: Vec::new(),
            size,
            cursor: None,
        }
    }

    #[test]
    fn a_token_is_given_only_where_there_is_more() {
        let page = page(2);
        assert_eq!(page.limit(), 3);
        let mut rows = vec![1_u8, 2];
        let token = page.cut(&mut rows, |row| [*row]).expect("short");
        assert!(token.is_empty());
        let mut rows = vec![1_u8, 2, 3];
        let token = page.cut(&mut rows, |row| [*row]).expect("short");
        assert_eq!(rows, [1, 2]);
        let cursor = page.tokens.open(&page.scope(), &token).expect("our own");
        assert_eq!(cursor, Some(vec![2]));
    }

    #[test]
    fn pages_of_what_is_at_hand_follow_each_other() {
        let mut page = page(2);
        let all = vec![1_u8, 3, 5, 7, 9];
        let mut seen = Vec::new();
        loop {
            let (rows, token) = page.of_all(all.clone(), |row| [*row]).expect("short");
            seen.extend(rows);
            if token.is_empty() {
                break;
            }
            page.cursor = page.tokens.open(&page.scope(), &token).expect("our own");
        }
        assert_eq!(seen, all);
        page.cursor = Some(vec![4]);
        let (rows, _) = page.of_all(all, |row| [*row]).expect("short");
        assert_eq!(rows, [5, 7], "also where the row of the cursor is gone");
    }
}
