//! A listing that the guest reads as a stream, and a future that says how it ended.

use std::future;
use std::iter;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use storage_core::{KeyPage, PageRequest, StorageError};
use tokio::sync::oneshot;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Destination, FutureReader, Resource, StreamProducer, StreamReader, StreamResult, VecBuffer,
};

use super::calls::InProgress;
use super::linkage::Overlapping;
use crate::component_chain::ComponentChain;
use crate::guest::asynchronous::{Job, Offloading};
use crate::guest::bucket::Bucket;
use crate::guest::call::{Caller, Cost, Linkage, Step};
use crate::guest::errors::{Call, CallError};
use crate::guest::spin::Error;

/// The keys that are read at a time: 128 KiB of the longest ones.
const KEYS_PER_READ: usize = 128;

type Keys = StreamReader<String>;
type Ended = FutureReader<Result<(), Error>>;

/// Starts a listing of all keys. It counts as a call until its stream has ended or is
/// dropped.
pub(super) fn start<T: Send + 'static>(
    caller: &mut Caller<'_, T, Overlapping, Error>,
    handle: &Resource<Bucket>,
) -> wasmtime::Result<(Keys, Ended)> {
    let calls = Arc::clone(caller.state().calls());
    let begun = calls.begin(0);
    let (own, bucket, refused) = caller.call(handle.into(), "get-keys", |call| {
        let refused = begun.as_ref().err().map(|error| Error::from_storage(call, None, error));
        (Arc::clone(call.own), call.bucket.clone(), refused)
    })?;
    let Ok(in_progress) = begun else {
        let keys = StreamReader::new(caller.store(), iter::empty())?;
        let refused = refused.map_or(Ok(()), Err);
        let ended = future::ready(Ok::<_, wasmtime::Error>(refused));
        return Ok((keys, FutureReader::new(caller.store(), ended)?));
    };
    let (ended, receiver) = oneshot::channel();
    let listing = Listing {
        own,
        bucket,
        after: None,
        page: None,
        ended: Some(ended),
        _in_progress: in_progress,
    };
    let keys = StreamReader::new(caller.store(), listing)?;
    // The guest may drop the stream: what it has read was right.
    let ended = async move { Ok::<_, wasmtime::Error>(receiver.await.unwrap_or(Ok(()))) };
    Ok((keys, FutureReader::new(caller.store(), ended)?))
}

type Page = Result<KeyPage, Error>;

/// The host's end of a stream of keys. It reads a page when the guest asks for keys.
struct Listing {
    own: Arc<ComponentChain>,
    bucket: Bucket,
    /// The last key that was read.
    after: Option<String>,
    /// A read in progress.
    page: Option<Pin<Box<dyn Future<Output = wasmtime::Result<Page>> + Send>>>,
    ended: Option<oneshot::Sender<Result<(), Error>>>,
    _in_progress: InProgress,
}

impl Listing {
    fn next_page<T: Send + 'static>(
        &self,
    ) -> Pin<Box<dyn Future<Output = wasmtime::Result<Page>> + Send>> {
        let call = Call { own: &self.own, bucket: &self.bucket, operation: "get-keys", copied: 0 };
        let step = <Offloading as Linkage<T>>::ask(
            &call,
            Cost::Long,
            self.after.clone(),
            |_, _| None,
            |call, after| {
                let request =
                    PageRequest { prefix: "", after: after.as_deref(), limit: KEYS_PER_READ };
                call.convert(None, call.storage().list_page(request)).and_then(|page| {
                    if page.keys.is_empty() && page.more {
                        // The guest would take the keys so far for the whole listing.
                        let error = StorageError::IoError(
                            "the storage below reports more keys but lists none".to_owned(),
                        );
                        return Err(Error::from_storage(call, None, &error));
                    }
                    Ok(page)
                })
            },
        );
        match step {
            Step::Ready(page) => Box::pin(future::ready(Ok(page))),
            Step::Offload(job) => Box::pin(run(job)),
        }
    }

    fn end(&mut self, result: Result<(), Error>) -> Poll<wasmtime::Result<StreamResult>> {
        if let Some(ended) = self.ended.take() {
            // The guest may have dropped the future.
            let _ = ended.send(result);
        }
        Poll::Ready(Ok(StreamResult::Dropped))
    }
}

async fn run(job: Job<Page>) -> wasmtime::Result<Page> {
    job.run().await?.answer().ok_or_else(|| wasmtime::Error::msg("a page has no handles"))
}

impl<T: Send + 'static> StreamProducer<T> for Listing {
    type Item = String;
    type Buffer = VecBuffer<String>;

    fn poll_produce<'a>(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'a, T>,
        mut destination: Destination<'a, String, VecBuffer<String>>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        // A read of nothing asks whether keys are ready, which only a page could tell.
        if destination.remaining(&mut store) == Some(0) {
            return Poll::Ready(Ok(StreamResult::Completed));
        }
        let mut page = match self.page.take() {
            Some(page) => page,
            None => self.next_page::<T>(),
        };
        let Poll::Ready(page) = page.as_mut().poll(context) else {
            // Kept, so that a guest that cancels has one read in progress at most.
            self.page = Some(page);
            return match finish {
                true => Poll::Ready(Ok(StreamResult::Cancelled)),
                false => Poll::Pending,
            };
        };
        match page? {
            Ok(KeyPage { keys, more, .. }) => {
                self.after = keys.last().cloned();
                destination.set_buffer(keys.into());
                if more { Poll::Ready(Ok(StreamResult::Completed)) } else { self.end(Ok(())) }
            }
            Err(error) => self.end(Err(error)),
        }
    }
}
