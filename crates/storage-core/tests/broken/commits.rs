//! The commit of the storage with a defect.

use std::collections::BTreeMap;

use storage_core::{Budget, Check, Commit, Revision, StorageError, Usage, Write, split_full_key};

use crate::storage::{Broken, State};

impl Broken {
    fn verify(&self, state: &State, checks: &[Check]) -> Result<(), StorageError> {
        use storage_core::Expected::{Absent, Present, Revision as At, Value};
        let mut result = Ok(());
        for check in checks {
            let found = state.keys.get(&check.key);
            let lenient = match (self.defect, &check.expected, found) {
                ("absence is not checked", Absent, _) => true,
                ("an empty value counts as absent", Absent, Some(found)) => found.value.is_empty(),
                ("presence is not checked", Present, _) => true,
                ("values are compared by their length", Value(wanted), Some(found)) => {
                    wanted.len() == found.value.len()
                }
                ("a newer revision passes the check", At(wanted), Some(found)) => {
                    *wanted <= found.revision
                }
                _ => false,
            };
            if lenient {
                continue;
            }
            let failed = check.verify(found.map(|found| (&found.value, found.revision)));
            if failed.is_err() {
                result = failed;
                if !self.is("the last check that fails is reported") {
                    break;
                }
            }
        }
        result
    }

    pub(super) fn allow(
        &self,
        state: &State,
        budget: &Budget,
        writes: &[&Write],
    ) -> Result<(), StorageError> {
        let mut budget = *budget;
        let Some(first) = writes.first() else {
            return Ok(());
        };
        let (component, _) = split_full_key(&first.key);
        match self.defect {
            "a budget allows one byte more" => {
                budget.max_bytes = budget.max_bytes.saturating_add(1)
            }
            "a budget refuses the last byte" => {
                budget.max_bytes = budget.max_bytes.saturating_sub(1)
            }
            "a budget allows one key more" => budget.max_keys = budget.max_keys.saturating_add(1),
            "the limit of keys is ignored" => budget.max_keys = u64::MAX,
            "the first budget applies to all commits" => {
                budget = state.first_budget.unwrap_or(budget)
            }
            "unscoped keys have no budget" if component.is_empty() => return Ok(()),
            _ => {}
        }
        let before = match self.defect {
            "all components share a budget" => state.usage.values().copied().sum(),
            _ => state.usage.get(component).copied().unwrap_or_default(),
        };
        let mut after = before;
        for write in writes {
            let (_, user_key) = split_full_key(&write.key);
            let user_key = if self.is("a budget counts full keys") { &write.key } else { user_key };
            let old = state.keys.get(&write.key).map(|old| Usage::of(user_key, old.value.len()));
            let new = write.value.as_ref().map(|new| Usage::of(user_key, new.len()));
            if new.is_some() || !self.is("deletes free no budget") {
                let counts_difference = !self.is("an overwrite counts in full") || new.is_none();
                after = after - old.filter(|_| counts_difference).unwrap_or_default();
            }
            after = after + new.unwrap_or_default();
            if self.is("a budget is checked after each write") {
                budget.allow(before, after)?;
            }
        }
        let above = after.bytes > budget.max_bytes || after.keys > budget.max_keys;
        let refused = match self.defect {
            "a component above its budget cannot shrink" => above,
            "deletes are refused above a budget" => {
                above || before.bytes > budget.max_bytes && writes.iter().all(|w| w.value.is_none())
            }
            _ => false,
        };
        if refused { Err(StorageError::QuotaExceeded) } else { budget.allow(before, after) }
    }

    fn count_failed(&self, state: &mut State, writes: &[&Write]) {
        if self.is("a failed commit uses budget") {
            for write in writes {
                let (component, user_key) = split_full_key(&write.key);
                let usage = state.usage.entry(component.to_owned()).or_default();
                let asked = write.value.as_ref().map(|new| Usage::of(user_key, new.len()));
                *usage = *usage + asked.unwrap_or_default();
            }
        }
    }

    fn effective<'c>(&self, commit: &'c Commit) -> Vec<&'c Write> {
        match self.defect {
            "the first write to a key counts" => {
                let mut writes: BTreeMap<&str, &Write> = BTreeMap::new();
                for write in &commit.writes {
                    writes.entry(&write.key).or_insert(write);
                }
                writes.into_values().collect()
            }
            "only 100 writes are applied" => {
                commit.effective_writes().into_iter().take(100).collect()
            }
            "a commit ignores its deletes" => commit
                .effective_writes()
                .into_iter()
                .filter(|write| write.value.is_some())
                .collect(),
            _ => commit.effective_writes(),
        }
    }

    pub(super) fn apply(&self, mut commit: Commit) -> Result<Revision, StorageError> {
        let is_unvalidated = self.is("a commit does not validate its keys");
        let checked = commit.checks.iter_mut().map(|check| &mut check.key);
        let written = commit.writes.iter_mut().map(|write| &mut write.key);
        for key in checked.chain(written).filter(|_| !is_unvalidated) {
            *key = self.stored(key)?;
        }
        if commit.budget.is_some() && !self.is("a budget covers any components") {
            commit.component_prefix()?;
        }
        if self.is("commits cover one component") {
            commit.component_prefix()?;
        }
        if self.is("an empty commit fails") && commit == Commit::new() {
            return Err(StorageError::InvalidKey("the commit is empty".into()));
        }
        let writes = self.effective(&commit);
        let mut state = self.state();
        for write in &writes {
            let found = state.keys.contains_key(&write.key);
            if self.is("a commit only creates") && found {
                return Err(StorageError::AlreadyExists(write.key.clone()));
            }
            let deletes = write.value.is_none();
            if self.is("a commit cannot delete a missing key") && deletes && !found {
                return Err(StorageError::NotFound(write.key.clone()));
            }
        }
        let unchanged = state.clone();
        let budget = commit.budget;
        if let Some(budget) = &budget {
            state.first_budget.get_or_insert(*budget);
            if self.is("the budget is checked first") {
                self.allow(&state, budget, &writes)?;
            }
            if self.is("existing keys are not counted") && unchanged.first_budget.is_none() {
                state.usage.clear();
            }
        }
        if self.is("checks see the writes") {
            for write in &writes {
                let revision = self.next_revision(&mut state, &write.key);
                self.write(&mut state, &write.key, write.value.clone(), revision, budget.is_some());
            }
        }
        if let Err(error) = self.verify(&state, &commit.checks) {
            *state = unchanged;
            let kept = usize::from(self.is("a failed commit keeps its first write"));
            for write in writes.iter().take(kept) {
                self.write(&mut state, &write.key, write.value.clone(), Revision::new(1), false);
            }
            self.count_failed(&mut state, &writes);
            return Err(error);
        }
        if let Some(budget) = &budget {
            let counted: Vec<&Write> = match self.defect {
                "every write to a key is counted" => commit.writes.iter().collect(),
                _ => writes.clone(),
            };
            if let Err(error) = self.allow(&state, budget, &counted) {
                if self.is("a commit over its budget still deletes") {
                    for write in writes.iter().filter(|write| write.value.is_none()) {
                        self.write(&mut state, &write.key, None, Revision::new(1), true);
                    }
                }
                self.count_failed(&mut state, &writes);
                return Err(error);
            }
        }
        if self.is("a commit unlocks between checks and writes") {
            drop(state);
            self.let_others_run();
            state = self.state();
        }
        let revision = self.next_revision(&mut state, "");
        for write in writes {
            if self.is("a commit locks one key at a time") {
                drop(state);
                self.let_others_run();
                state = self.state();
            }
            state.committed.insert(write.key.clone());
            self.write(&mut state, &write.key, write.value.clone(), revision, budget.is_some());
        }
        if self.is("checks create their keys") && commit.writes.is_empty() {
            for check in &commit.checks {
                if !state.keys.contains_key(&check.key) {
                    self.write(&mut state, &check.key, Some("".into()), revision, false);
                }
            }
        }
        Ok(match self.defect {
            "a commit returns another revision" => Revision::new(revision.get() + 1),
            "an empty commit has no revision" if commit.writes.is_empty() => Revision::new(0),
            _ => revision,
        })
    }
}
