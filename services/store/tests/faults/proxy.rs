//! A network between the store and its server that can be made to hold, swallow and cut.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use coalition_store::faults::When;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that are passed on at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a client says before it closes a connection (PostgreSQL's protocol, Terminate).
const GOODBYE: &[u8] = b"X\0\0\0\x04";

/// A listener that passes bytes on to a server, as it is told.
pub(crate) struct Proxy {
    address: SocketAddr,
    network: Arc<Network>,
}

struct Network {
    /// Answers are kept back while this is true.
    holds: watch::Sender<bool>,
    /// Counts the questions that were passed on.
    asked: watch::Sender<u64>,
    /// Counts the cuts; every connection of an earlier count ends.
    cuts: watch::Sender<u64>,
    /// At which question from now on the connection is cut.
    cut_at: Mutex<Option<(u64, When)>>,
}

impl Proxy {
    /// Listens, and passes on to `server`.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("is bound");
        let network = Arc::new(Network {
            holds: watch::Sender::new(false),
            asked: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            cut_at: Mutex::new(None),
        });
        let for_all = Arc::clone(&network);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("somebody calls");
                let network = Arc::clone(&for_all);
                tokio::spawn(async move { network.connect(client, server).await });
            }
        });
        Self { address, network }
    }

    /// `url` by way of this network.
    pub(crate) fn url(&self, url: &str, server: SocketAddr) -> String {
        let through = url.replace(&server.to_string(), &self.address.to_string());
        assert_ne!(through, url, "{server}");
        through
    }

    /// Keeps answers back from now on.
    pub(crate) fn hold(&self) {
        self.network.holds.send_replace(true);
    }

    /// Lets answers through again.
    pub(crate) fn release(&self) {
        self.network.holds.send_replace(false);
    }

    /// Hears of the questions that are passed on.
    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        let mut asked = self.network.asked.subscribe();
        asked.mark_unchanged();
        asked
    }

    /// Cuts all connections at the question with this number from now on: before it is passed on, or
    /// once it has been answered, and the answer is swallowed.
    pub(crate) fn cut_at(&self, question: u64, when: When) {
        *self.network.plan() = Some((question, when));
    }

    /// Whether a cut still waits for its question; it is off then.
    pub(crate) fn take_plan(&self) -> bool {
        self.network.plan().take().is_some()
    }
}

impl Network {
    fn plan(&self) -> std::sync::MutexGuard<'_, Option<(u64, When)>> {
        self.cut_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is to happen at the question that has come.
    fn at_this_question(&self) -> Option<When> {
        let mut plan = self.plan();
        let (left, when) = (*plan)?;
        *plan = left.checked_sub(1).map(|left| (left, when));
        (left == 0).then_some(when)
    }

    async fn connect(self: Arc<Self>, client: TcpStream, server: SocketAddr) {
        let Ok(server) = TcpStream::connect(server).await else {
            return;
        };
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let swallow = watch::Sender::new(false);
        tokio::select! {
            () = self.ask(from_client, to_server, &swallow) => {}
            () = self.answer(from_server, to_client, &swallow) => {}
            _ = cuts.changed() => {}
        }
    }

    /// Passes questions on; returns when the connection is to end.
    async fn ask(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        swallow: &watch::Sender<bool>,
    ) {
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            match self.at_this_question() {
                Some(When::Before) => {
                    self.cuts.send_modify(|cuts| *cuts += 1);
                    return;
                }
                Some(When::After) => {
                    swallow.send_replace(true);
                }
                None => {}
            }
            if to.write_all(&chunk[..length]).await.is_err() {
                return;
            }
            if chunk[..length] != *GOODBYE {
                self.asked.send_modify(|asked| *asked += 1);
            }
        }
    }

    /// Passes answers on; returns when the connection is to end.
    async fn answer(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        swallow: &watch::Sender<bool>,
    ) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut holds = self.holds.subscribe();
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            if *swallow.borrow() {
                self.cuts.send_modify(|cuts| *cuts += 1);
                return;
            }
            if holds.wait_for(|holds| !holds).await.is_err()
                || to.write_all(&chunk[..length]).await.is_err()
            {
                return;
            }
        }
    }
}
