//! Pages of lists: how many rows, from where, and the token that goes on.

use coalition_proto::validate::Validate;
use coalition_rpc::Identity;
use coalition_rpc::page_token::{PageScope, PageTokens};
use coalition_rpc::request::page_size;
use coalition_rpc::status::Problem;
use tonic::Request;

/// A page that was asked for.
pub(crate) struct Page<'a> {
    tokens: &'a PageTokens,
    scope: PageScope<'a>,
    /// How many rows it has at most.
    pub(crate) size: usize,
    /// Behind which row it begins.
    pub(crate) after: Option<Vec<u8>>,
}

impl<'a> Page<'a> {
    /// The page that a request asks for. `filter` says what the list is narrowed to; `method` is
    /// the list's.
    pub(crate) fn asked(
        tokens: &'a PageTokens,
        method: &'a str,
        caller: &Identity,
        filter: &'a [u8],
        size: i32,
        token: &str,
    ) -> Result<Self, Problem> {
        let scope = PageScope {
            method,
            partner: caller.partner(),
            filter,
        };
        let after = tokens.open(&scope, token)?;
        // Bounded to a thousand by the function itself.
        let size = usize::try_from(page_size(size)?).unwrap_or(usize::MAX);
        Ok(Self {
            tokens,
            scope,
            size,
            after,
        })
    }

    /// One row more than the page has, to see whether another page follows.
    pub(crate) fn limit(&self) -> i64 {
        i64::try_from(self.size)
            .unwrap_or(i64::MAX)
            .saturating_add(1)
    }

    /// Cuts rows to the page; the token of the next one, empty on the last. `cursor` names a row.
    pub(crate) fn cut<T>(
        &self,
        rows: &mut Vec<T>,
        cursor: impl Fn(&T) -> Vec<u8>,
    ) -> Result<String, Problem> {
        if rows.len() <= self.size {
            return Ok(String::new());
        }
        rows.truncate(self.size);
        match rows.last() {
            Some(last) => self.tokens.sign(&self.scope, &cursor(last)),
            None => Ok(String::new()),
        }
    }

    /// Cuts rows that are all at hand, in the order of their cursors, to the page.
    pub(crate) fn of_all<T>(
        &self,
        mut rows: Vec<T>,
        cursor: impl Fn(&T) -> Vec<u8>,
    ) -> Result<(Vec<T>, String), Problem> {
        if let Some(after) = &self.after
            && let Some(place) = rows.iter().position(|row| cursor(row) == *after)
        {
            rows.drain(..=place);
        }
        let next = self.cut(&mut rows, cursor)?;
        Ok((rows, next))
    }
}

/// Who calls, after the rules on the fields have been checked.
pub(crate) fn caller<M: Validate>(request: &Request<M>) -> Result<&Identity, Problem> {
    let caller = coalition_rpc::request::identity(request)?;
    coalition_rpc::request::valid(request.get_ref())?;
    Ok(caller)
}
