//! The pub/sub side of a watch: a connection of its own that is made, checked and made again by whoever waits on it.

use std::fmt;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, RedisResult};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep, timeout};

use super::link::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};

/// Between checks that the connection still carries anything; a peer can vanish without a word.
const PING_EVERY: Duration = Duration::from_secs(5);

const FIRST_RETRY_AFTER: Duration = Duration::from_millis(50);
const LAST_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A subscription to one channel. It has no task of its own: it works while [`Self::changed`] is awaited, and Redis or
/// the socket holds what arrives in between.
pub(crate) struct Subscription {
    client: Client,
    channel: String,
    connection: Option<Connection>,
    retry_after: Duration,
}

struct Connection {
    sink: PubSubSink,
    messages: PubSubStream,
    ping: Interval,
}

impl Subscription {
    pub(super) fn new(client: Client, channel: String) -> Self {
        Self { client, channel, connection: None, retry_after: FIRST_RETRY_AFTER }
    }

    /// Resolves after a message, and whenever the subscription was made (again).
    pub(crate) async fn changed(&mut self) {
        loop {
            if let Some(connection) = &mut self.connection {
                if connection.announced().await {
                    return;
                }
                self.connection = None;
            }
            match timeout(CONNECT_TIMEOUT, Connection::open(&self.client, &self.channel)).await {
                Ok(Ok(connection)) => {
                    self.connection = Some(connection);
                    self.retry_after = FIRST_RETRY_AFTER;
                    return;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%error, channel = self.channel, "cannot subscribe to events; trying again")
                }
                Err(_) => tracing::debug!(channel = self.channel, "subscribing to events took too long; trying again"),
            }
            sleep(self.retry_after).await;
            self.retry_after = LAST_RETRY_AFTER.min(self.retry_after * 2);
        }
    }
}

impl Connection {
    async fn open(client: &Client, channel: &str) -> RedisResult<Self> {
        let (mut sink, messages) = client.get_async_pubsub().await?.split();
        sink.subscribe(channel).await?;
        let mut ping = interval_at(Instant::now() + PING_EVERY, PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { sink, messages, ping })
    }

    /// Waits for a message; `false` when the connection is lost.
    async fn announced(&mut self) -> bool {
        loop {
            tokio::select! {
                message = self.messages.next() => {
                    // What else has arrived is part of the same news.
                    while let Some(Some(_)) = self.messages.next().now_or_never() {}
                    return message.is_some();
                }
                _ = self.ping.tick() => {
                    let answer = timeout(RESPONSE_TIMEOUT, self.sink.ping::<redis::Value>()).await;
                    if !matches!(answer, Ok(Ok(_))) {
                        return false;
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("channel", &self.channel)
            .field("connected", &self.connection.is_some())
            .finish_non_exhaustive()
    }
}
