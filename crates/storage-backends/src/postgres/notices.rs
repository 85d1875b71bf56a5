//! Notices: telling other hosts of commits, and hearing of theirs.
//!
//! One connection of its own sends and receives. A notice is a transaction after the commit
//! and not part of it, because transactions with notices wait for each other. No caller waits
//! for a notice, and while the connection is down, notices are lost: what they announce is
//! found in the database.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures_util::future::{self, Either};
use storage_core::Change;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_postgres::{AsyncMessage, Client, Error};

use super::connection::{Connector, NoticeDriver};
use crate::changes::Changes;

/// How many notices wait to be sent before others are dropped.
const MAX_WAITING: usize = 4096;

/// How many are sent in one transaction.
const MAX_SENT: usize = 64;

/// The shortest time between two transactions, so that a busy host sends its notices together.
const PACE: Duration = Duration::from_millis(2);

/// How long to wait before connecting again; doubled after each failure.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long notices may take to be sent when the store is closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The connection for notices, which is opened when it is first needed, and the thread that
/// moves its bytes.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// `None` if the thread could not be started.
    running: OnceLock<Option<Running>>,
}

/// What the thread is told to do.
#[derive(Debug)]
enum Order {
    /// Hear of the commits of other hosts.
    Listen,
    /// Send a notice.
    Send(String),
}

#[derive(Debug)]
struct Running {
    queue: mpsc::Sender<Order>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Notices {
    /// Begins to listen, and does so again whenever the connection was lost.
    pub(super) fn listen(&self, connector: &Arc<Connector>, changes: &Arc<Changes>) {
        self.order(connector, changes, Order::Listen);
    }

    /// Sends a notice in the background.
    pub(super) fn send(&self, connector: &Arc<Connector>, changes: &Arc<Changes>, change: &Change) {
        self.order(connector, changes, Order::Send(changes.encode(change)));
    }

    fn order(&self, connector: &Arc<Connector>, changes: &Arc<Changes>, order: Order) {
        let running = self.running.get_or_init(|| {
            let link = Link {
                connector: Arc::clone(connector),
                changes: Arc::clone(changes),
                listens: false,
            };
            Running::start(link)
        });
        if let Some(running) = running {
            // Dropped if the queue is full. `Listen` is the first order, or one of few.
            let _ = running.queue.try_send(order);
        }
    }
}

impl Running {
    fn start(link: Link) -> Option<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().ok()?;
        let (queue, orders) = mpsc::channel(MAX_WAITING);
        let (stop, stopped) = oneshot::channel::<()>();
        let run = move || {
            runtime.block_on(async {
                let link = pin!(link.run(orders));
                // The sender is dropped with the store.
                if let Either::Right((_, link)) = future::select(link, stopped).await {
                    let _ = timeout(CLOSING, link).await;
                }
            });
            // A name that is being resolved may take longer.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("postgres".to_owned()).spawn(run).ok()?;
        Some(Self { queue, stop, thread })
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        if let Some(Running { queue, stop, thread }) = self.running.take().flatten() {
            drop((queue, stop));
            // It ends soon, whatever the server does.
            let _ = thread.join();
        }
    }
}

/// What the task of the connection needs.
struct Link {
    connector: Arc<Connector>,
    changes: Arc<Changes>,
    listens: bool,
}

/// Why a connection is no longer used.
enum End {
    /// The store was closed.
    Closed,
    Lost,
}

impl Link {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let mut wait = FIRST_WAIT;
        loop {
            if let Ok((client, driver)) = self.connector.open_for_notices().await {
                match self.serve(&client, driver, &mut orders).await {
                    Ok(End::Closed) => return,
                    Ok(End::Lost) => wait = FIRST_WAIT,
                    Err(_) => {}
                }
            }
            if orders.is_closed() {
                return;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Follows orders until the connection or the store is closed.
    async fn serve(
        &mut self,
        client: &Client,
        driver: NoticeDriver,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<End, Error> {
        let (ended, mut end) = oneshot::channel::<()>();
        let changes = Arc::clone(&self.changes);
        tokio::spawn(async move {
            receive(driver, &changes).await;
            drop(ended);
        });
        let channel = format!("storage_{}", self.connector.store_id());
        let listen = format!("listen {channel}");
        if self.listens {
            client.batch_execute(&listen).await?;
        }
        // A notice is not durable, so it need not wait for the disk. The setting ends with the
        // transaction: behind a pooler the connection may serve other clients next.
        let notify = client
            .prepare(
                "select set_config('synchronous_commit', 'off', true), pg_notify($1, text) \
                 from unnest($2::text[]) text",
            )
            .await?;
        let mut taken = Vec::new();
        loop {
            let received = {
                let next = pin!(orders.recv_many(&mut taken, MAX_SENT));
                match future::select(next, &mut end).await {
                    Either::Left((received, _)) => received,
                    Either::Right(_) => return Ok(End::Lost),
                }
            };
            if received == 0 {
                return Ok(End::Closed);
            }
            let mut notices = Vec::new();
            for order in taken.drain(..) {
                match order {
                    Order::Send(notice) => notices.push(notice),
                    Order::Listen => self.listens = true,
                }
            }
            if notices.len() < received {
                client.batch_execute(&listen).await?;
            }
            if !notices.is_empty() {
                client.execute(&notify, &[&channel, &notices]).await?;
                sleep(PACE).await;
            }
        }
    }
}

/// Moves the bytes of the connection, and reports the changes of other hosts.
async fn receive(mut driver: NoticeDriver, changes: &Changes) {
    while let Some(Ok(message)) = future::poll_fn(|cx| driver.poll_message(cx)).await {
        if let AsyncMessage::Notification(notice) = message
            && let Some(change) = changes.decode(notice.payload())
        {
            changes.report(&change);
        }
    }
}
