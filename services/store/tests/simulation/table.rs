//! A table of the database in memory: rows as committed, and what units at work have written.

use std::collections::BTreeMap;

use super::database::UnitId;

/// Rows by key. A row that a unit has written is the unit's until it ends: others see the row as it
/// was, and wait where they want to write it too.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V> {
    committed: BTreeMap<K, V>,
    /// What units at work have written; `None`: deleted.
    drafts: BTreeMap<K, (UnitId, Option<V>)>,
    /// By which commit a row was changed last.
    changed: BTreeMap<K, u64>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            committed: BTreeMap::new(),
            drafts: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone, V> Table<K, V> {
    /// The row as a unit sees it: its own writes, and what is committed by now.
    pub(crate) fn seen(&self, by: UnitId, key: &K) -> Option<&V> {
        match self.drafts.get(key) {
            Some((owner, draft)) if *owner == by => draft.as_ref(),
            _ => self.committed.get(key),
        }
    }

    /// All rows as a unit sees them; its new ones last.
    pub(crate) fn all_seen(&self, by: UnitId) -> impl Iterator<Item = (&K, &V)> {
        let own = move |key: &K| self.drafts.get(key).filter(|(owner, _)| *owner == by);
        let known = self.committed.iter().filter_map(move |(key, row)| {
            let row = own(key).map_or(Some(row), |(_, draft)| draft.as_ref());
            row.map(|row| (key, row))
        });
        let drafts = self
            .drafts
            .iter()
            .filter(move |(_, (owner, _))| *owner == by);
        let new = drafts.filter(|(key, _)| !self.committed.contains_key(key));
        known.chain(new.filter_map(|(key, (_, draft))| draft.as_ref().map(|row| (key, row))))
    }

    /// Who has written this row and not ended.
    pub(crate) fn writer(&self, key: &K) -> Option<UnitId> {
        self.drafts.get(key).map(|(owner, _)| *owner)
    }

    /// Writes a row; `None` deletes it.
    pub(crate) fn write(&mut self, by: UnitId, key: K, row: Option<V>) {
        self.drafts.insert(key, (by, row));
    }

    /// Ends a unit: `commit` is the number of its commit; without one, nothing of it stays.
    pub(crate) fn end(&mut self, unit: UnitId, commit: Option<u64>) {
        if self.drafts.values().all(|(owner, _)| *owner != unit) {
            return;
        }
        let mut ended = BTreeMap::new();
        for (key, (owner, draft)) in std::mem::take(&mut self.drafts) {
            if owner == unit {
                ended.insert(key, draft);
            } else {
                self.drafts.insert(key, (owner, draft));
            }
        }
        let Some(number) = commit else { return };
        for (key, draft) in ended {
            self.changed.insert(key.clone(), number);
            match draft {
                Some(row) => drop(self.committed.insert(key, row)),
                None => drop(self.committed.remove(&key)),
            }
        }
    }

    /// By which commit the row was changed last; 0: never.
    pub(crate) fn changed_by(&self, key: &K) -> u64 {
        self.changed.get(key).copied().unwrap_or_default()
    }

    /// The rows that everybody sees.
    pub(crate) const fn committed(&self) -> &BTreeMap<K, V> {
        &self.committed
    }

    /// Lays a row down before anything runs.
    pub(crate) fn lay_down(&mut self, key: K, row: V) {
        self.committed.insert(key, row);
    }
}
