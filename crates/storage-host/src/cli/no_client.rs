//! Systems without admin sockets: there is never a host to ask.

use storage_host::{
    Compacted, ComponentId, KeyPage, PageRequest, Problem, SnapshotVisitor, StorageValue, Verified,
};

use super::failure::Failure;
use super::quota_usage::QuotaUsage;

/// A connection to a running host, which cannot exist.
pub(super) enum Client {}

impl Client {
    pub(super) fn get(
        &mut self,
        _id: &ComponentId,
        _key: &str,
    ) -> Result<Option<StorageValue>, Failure> {
        match *self {}
    }

    pub(super) fn put(
        &mut self,
        _id: &ComponentId,
        _key: &str,
        _value: StorageValue,
    ) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn delete(&mut self, _id: &ComponentId, _key: &str) -> Result<(), Failure> {
        match *self {}
    }

    pub(super) fn usage(&mut self, _id: &ComponentId) -> Result<QuotaUsage, Failure> {
        match *self {}
    }

    pub(super) fn list_components(
        &mut self,
        _after: Option<&str>,
        _limit: usize,
    ) -> Result<KeyPage, Failure> {
        match *self {}
    }

    pub(super) fn list_page(
        &mut self,
        _id: &ComponentId,
        _request: PageRequest<'_>,
    ) -> Result<KeyPage, Failure> {
        match *self {}
    }

    pub(super) fn verify(&mut self, _report: &mut dyn FnMut(Problem)) -> Result<Verified, Failure> {
        match *self {}
    }

    pub(super) fn store_id(&self) -> Option<&str> {
        match *self {}
    }

    pub(super) fn wipe(&mut self, _id: &ComponentId) -> Result<u64, Failure> {
        match *self {}
    }

    pub(super) fn compact(&mut self) -> Result<Compacted, Failure> {
        match *self {}
    }

    pub(super) fn read_snapshot(
        &mut self,
        _prefix: &str,
        _visit: &mut SnapshotVisitor<'_>,
    ) -> Result<(), Failure> {
        match *self {}
    }
}
