//! The connection to Redis: bounded in time, healing by itself, errors told in the crate's words.

use std::future::Future;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{
    Client, Cmd, ErrorKind, FromRedisValue, IntoConnectionInfo, Pipeline, ProtocolVersion, RedisError, RedisResult,
    ScriptInvocation, ServerErrorKind,
};

use crate::StateError;

/// For a connection to be made.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// For one answer.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

/// For an operation with all that it may wait for: a connection, an answer, another try.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(2);

/// After which a peer that vanished without a word is given up; without it the kernel tries for a quarter of an hour.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(3);

/// One multiplexed connection that all clones of a state share.
pub(super) struct Link {
    client: Client,
    manager: ConnectionManager,
    server: String,
}

impl Link {
    /// Prepares the connection; it is made by the first operation. Must run within a tokio runtime.
    pub(super) fn new(url: &str) -> Result<Self, StateError> {
        // The error never repeats the URL, as that may hold a password.
        let unusable = |error: RedisError| {
            let expected = "write it as redis://[user:password@]host[:port][/database]";
            StateError::Backend(format!("the Redis URL cannot be used ({}); {expected}", error.category()))
        };
        let info = url.into_connection_info().map_err(unusable)?;
        let server = info.addr().to_string();
        // Subscriptions speak RESP2, whatever the URL asks for.
        let redis_settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP2);
        let info = info.set_redis_settings(redis_settings).set_tcp_settings(tcp_settings());
        let client = Client::open(info).map_err(unusable)?;
        // No retries within the manager: an operation fails while Redis is down instead of queueing for its return.
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let manager = ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(unusable)?;
        Ok(Self { client, manager, server })
    }

    /// Host and port.
    pub(super) fn server(&self) -> &str {
        &self.server
    }

    /// For connections of their own.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Runs one command.
    pub(super) async fn query<Answer: FromRedisValue>(&self, command: &Cmd) -> Result<Answer, StateError> {
        self.run(|mut connection| async move { command.query_async(&mut connection).await }).await
    }

    /// Runs several commands in one round trip.
    pub(super) async fn pipe<Answer: FromRedisValue>(&self, commands: &Pipeline) -> Result<Answer, StateError> {
        self.run(|mut connection| async move { commands.query_async(&mut connection).await }).await
    }

    /// Runs a script.
    pub(super) async fn call<Answer: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<Answer, StateError> {
        self.run(|mut connection| async move { script.invoke_async(&mut connection).await }).await
    }

    /// Runs an operation, and once more where the connection turned out to be broken: the manager learns that Redis was
    /// restarted, or is back, only from an operation that fails. So an operation may take effect twice.
    async fn run<Answer, Attempt>(&self, attempt: impl Fn(ConnectionManager) -> Attempt) -> Result<Answer, StateError>
    where
        Attempt: Future<Output = RedisResult<Answer>>,
    {
        let attempts = async {
            match attempt(self.manager.clone()).await {
                Err(error) if error.is_connection_dropped() => attempt(self.manager.clone()).await,
                outcome => outcome,
            }
        };
        match tokio::time::timeout(OPERATION_TIMEOUT, attempts).await {
            Ok(outcome) => outcome.map_err(|error| from_redis(&error)),
            Err(_) => Err(StateError::Unavailable(format!("no answer within {OPERATION_TIMEOUT:?}"))),
        }
    }
}

fn tcp_settings() -> TcpSettings {
    let settings = TcpSettings::default().set_nodelay(true);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_TIMEOUT);
    settings
}

fn from_redis(error: &RedisError) -> StateError {
    let text = error.to_string();
    match error.kind() {
        // What cannot be parsed ends the connection, like one that breaks within an answer.
        ErrorKind::Io | ErrorKind::Parse => StateError::Unavailable(text),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::TryAgain,
        ) => StateError::Unavailable(text),
        ErrorKind::UnexpectedReturnType => StateError::Corrupt(text),
        _ if error.code() == Some("WRONGTYPE") => StateError::Corrupt(text),
        _ => StateError::Backend(text),
    }
}
