//! Access tokens of Google service accounts: kept until they end, renewed ahead of it, and fetched by one task at a time
//! however many calls wait for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ez_contract::Clock;
use ez_contract::google::{ServiceAccount, TokenAnswer};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::sign_in::bearer;
use super::transport::Transport;
use crate::failure::chain;

/// A token is renewed when it lasts no longer than this, or than half of its life.
const RENEW_AHEAD: Duration = Duration::from_secs(300);
/// A token that ends sooner is not used, as it must still be good when it arrives.
const USABLE_AHEAD: Duration = Duration::from_secs(10);
/// Bound on one exchange.
const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a failure stands before the token endpoint is asked again.
const FAILURE_STANDS: Duration = Duration::from_secs(1);
/// A token that the vendor refuses sooner is not made anew: the next would be refused as well.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Bound on the answer, bytes; tokens have about 1,000.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What tokens are fetched with.
#[derive(Clone)]
pub(crate) struct TokenClient {
    pub(crate) transport: Transport,
    pub(crate) clock: Arc<dyn Clock>,
    /// Knows the task that fetches.
    pub(crate) tasks: TaskTracker,
    /// Ends it.
    pub(crate) stop: CancellationToken,
}

/// The tokens of one service account.
pub(super) struct AccessTokens {
    account: ServiceAccount,
    current: ArcSwapOption<AccessToken>,
    /// The exchange that runs, or the last one.
    exchange: Mutex<watch::Receiver<Option<Exchanged>>>,
}

struct AccessToken {
    header: HeaderValue,
    asked_at: Instant,
    renew_at: Instant,
    ends_at: Instant,
}

/// How an exchange ended.
#[derive(Clone)]
struct Exchanged {
    at: Instant,
    result: Result<HeaderValue, TokenError>,
}

/// Why there is no token. Never carries the account or the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// The credential is dead: the account was deleted, disabled, or its key revoked.
    #[error("the token endpoint refuses the service account: {0}")]
    Refused(String),
    /// The token endpoint cannot be reached, or fails.
    #[error("no access token could be fetched: {0}")]
    Unavailable(String),
}

impl AccessTokens {
    pub(super) fn new(account: ServiceAccount) -> Self {
        // The sender is gone at once: there is no exchange yet.
        let (_, none) = watch::channel(None);
        Self { account, current: ArcSwapOption::empty(), exchange: Mutex::new(none) }
    }

    pub(super) fn project_id(&self) -> Option<&str> {
        self.account.project_id()
    }

    /// The header with a token. A token near its end is renewed meanwhile, without anyone waiting for it.
    pub(super) async fn bearer(
        self: &Arc<Self>,
        client: &TokenClient,
    ) -> Result<(HeaderName, HeaderValue), TokenError> {
        let now = Instant::now();
        if let Some(token) = self.current.load_full().filter(|token| now < token.ends_at) {
            if now >= token.renew_at {
                self.exchange(client);
            }
            return Ok((AUTHORIZATION, token.header.clone()));
        }
        let mut exchange = self.exchange(client);
        let exchanged = exchange.wait_for(Option::is_some).await.ok().and_then(|exchanged| exchanged.clone());
        let stopped = || TokenError::Unavailable("the gateway stops".to_owned());
        Ok((AUTHORIZATION, exchanged.ok_or_else(stopped)?.result?))
    }

    /// Drops a token that the vendor refused before its end; the next call gets another.
    pub(super) fn forget(&self) {
        let is_old = |token: &AccessToken| token.asked_at.elapsed() >= FORGET_AFTER;
        if self.current.load().as_deref().is_some_and(is_old) {
            self.current.store(None);
        }
    }

    /// The exchange that runs, the last one where it failed just now, else a new one. It belongs to no call: one that
    /// leaves takes nothing from the others.
    fn exchange(self: &Arc<Self>, client: &TokenClient) -> watch::Receiver<Option<Exchanged>> {
        let mut last = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let is_running = last.has_changed().is_ok();
        let failed_just_now = || {
            let exchanged = last.borrow();
            exchanged
                .as_ref()
                .is_some_and(|exchanged| exchanged.result.is_err() && exchanged.at.elapsed() < FAILURE_STANDS)
        };
        if is_running || failed_just_now() {
            return last.clone();
        }
        let (done, exchange) = watch::channel(None);
        *last = exchange.clone();
        drop(last);
        let (tokens, client) = (self.clone(), client.clone());
        client.tasks.clone().spawn(async move {
            tokio::select! {
                () = client.stop.cancelled() => {}
                result = tokens.renew(&client) => {
                    done.send_replace(Some(Exchanged { at: Instant::now(), result }));
                }
            }
        });
        exchange
    }

    async fn renew(&self, client: &TokenClient) -> Result<HeaderValue, TokenError> {
        let result = timeout(EXCHANGE_TIMEOUT, self.fetch(client)).await.unwrap_or_else(|_| {
            Err(TokenError::Unavailable(format!("no answer within {} seconds", EXCHANGE_TIMEOUT.as_secs())))
        });
        match result {
            Ok(token) => {
                let header = token.header.clone();
                self.current.store(Some(Arc::new(token)));
                Ok(header)
            }
            Err(e) => {
                tracing::warn!(error = %e, "access token of a service account not renewed");
                Err(e)
            }
        }
    }

    async fn fetch(&self, client: &TokenClient) -> Result<AccessToken, TokenError> {
        let unavailable = |e: &dyn std::error::Error| TokenError::Unavailable(chain(e));
        let form = self.account.token_request(client.clock.now()).map_err(|e| TokenError::Refused(e.to_string()))?;
        let mut request = Request::new(Full::new(Bytes::from(form)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() =
            self.account.token_uri().as_str().parse().map_err(|e: http::uri::InvalidUri| unavailable(&e))?;
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form_type);
        let asked_at = Instant::now();
        let (head, body) = client.transport.send(request).await.map_err(|e| unavailable(&e))?.into_parts();
        let body =
            Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(|e| unavailable(e.as_ref()))?.to_bytes();
        if !head.status.is_success() {
            return Err(refused(head.status, &body));
        }
        let answer: TokenAnswer = serde_json::from_slice(&body)
            .map_err(|_| TokenError::Unavailable("the token endpoint's answer holds no token".to_owned()))?;
        let header = bearer(&answer.access_token)
            .ok_or_else(|| TokenError::Unavailable("the token cannot be sent in a header".to_owned()))?;
        Ok(AccessToken::new(header, asked_at, Duration::from_secs(answer.expires_in)))
    }
}

impl AccessToken {
    fn new(header: HeaderValue, asked_at: Instant, life: Duration) -> Self {
        // A token for years is none: no vendor gives more than half a day.
        let life = life.min(Duration::from_secs(86_400));
        let renew_at = asked_at + life.saturating_sub(RENEW_AHEAD.min(life / 2));
        Self { header, asked_at, renew_at, ends_at: asked_at + life.saturating_sub(USABLE_AHEAD.min(life / 4)) }
    }
}

/// OAuth's codes for a credential that is dead until somebody mends it: those of RFC 6749 (5.2), and those that Google
/// documents for service accounts besides.
const DEAD: [&str; 5] = ["invalid_grant", "invalid_client", "unauthorized_client", "deleted_client", "disabled_client"];

/// What a token endpoint's error means. Only a code that is known to mean so tells a dead credential; all else is the
/// endpoint's own trouble, that of something before it, or this gateway's.
fn refused(status: StatusCode, body: &[u8]) -> TokenError {
    #[derive(Deserialize)]
    struct OAuthError {
        error: String,
        #[serde(default)]
        error_description: String,
    }
    let status = status.as_u16();
    let answer = serde_json::from_slice::<OAuthError>(body).ok().filter(|_| matches!(status, 400 | 401 | 403));
    let code = answer.as_ref().and_then(|answer| DEAD.into_iter().find(|code| *code == answer.error));
    match (answer, code) {
        // Google finds the times of a request impossible (`iat`, `exp`) where the clock of whoever signed it is wrong.
        (Some(answer), Some("invalid_grant")) if answer.error_description.contains("iat and exp") => {
            TokenError::Unavailable("the token endpoint finds this gateway's time wrong: set its clock".to_owned())
        }
        (_, Some(code)) => TokenError::Refused(code.to_owned()),
        _ => TokenError::Unavailable(format!("the token endpoint answered with status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use ez_testkit::google::service_account;

    use super::*;

    #[test]
    fn a_token_is_renewed_well_before_its_end() {
        let now = Instant::now();
        let cases = [(3_600, 3_300, 3_590), (400, 200, 390), (20, 10, 15), (0, 0, 0)];
        for (life, renew, end) in cases {
            let token = AccessToken::new(HeaderValue::from_static("Bearer x"), now, Duration::from_secs(life));
            assert_eq!((token.renew_at - now).as_secs(), renew, "{life}");
            assert_eq!((token.ends_at - now).as_secs(), end, "{life}");
        }
    }

    #[test]
    fn a_refused_token_is_dropped_unless_it_was_just_made() {
        let account = ServiceAccount::parse(&service_account("https://oauth2.googleapis.com/token")).unwrap();
        let tokens = AccessTokens::new(account);
        let hour = Duration::from_secs(3_600);
        let made = |at| Some(Arc::new(AccessToken::new(HeaderValue::from_static("Bearer x"), at, hour)));
        for (age, stays) in [(Duration::ZERO, true), (FORGET_AFTER, false)] {
            tokens.current.store(made(Instant::now() - age));
            tokens.forget();
            assert_eq!(tokens.current.load().is_some(), stays, "{age:?}");
        }
    }

    #[test]
    fn only_words_that_say_so_mean_a_dead_credential() {
        let invalid = br#"{"error":"invalid_grant","error_description":"Invalid JWT Signature for canary."}"#;
        for (status, code) in [
            (StatusCode::BAD_REQUEST, "invalid_grant"),
            (StatusCode::UNAUTHORIZED, "invalid_client"),
            (StatusCode::UNAUTHORIZED, "deleted_client"),
            (StatusCode::FORBIDDEN, "disabled_client"),
            (StatusCode::UNAUTHORIZED, "unauthorized_client"),
        ] {
            let body = format!(r#"{{"error":"{code}","error_description":"canary"}}"#);
            assert_eq!(refused(status, body.as_bytes()), TokenError::Refused(code.to_owned()));
        }
        let other_time = br#"{"error":"invalid_grant","error_description":"Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."}"#;
        for (status, body) in [
            (StatusCode::SERVICE_UNAVAILABLE, invalid.as_slice()),
            (StatusCode::TOO_MANY_REQUESTS, invalid),
            (StatusCode::BAD_REQUEST, other_time),
            (StatusCode::BAD_REQUEST, br#"{"error":"temporarily_unavailable"}"#),
            (StatusCode::FORBIDDEN, br#"{"error":"server_error"}"#),
            (StatusCode::FORBIDDEN, br#"{"error":"rate_limit_exceeded"}"#),
            (StatusCode::BAD_REQUEST, br#"{"error":"invalid_request"}"#),
            (StatusCode::FORBIDDEN, br#"{"error":"a_word_of_tomorrow"}"#),
            (StatusCode::FORBIDDEN, b"<html>"),
            (StatusCode::BAD_REQUEST, br#"{"error":{"code":400}}"#),
            (StatusCode::BAD_REQUEST, br#"{"error":"Canary 1"}"#),
        ] {
            assert!(matches!(refused(status, body), TokenError::Unavailable(_)), "{status}");
        }
    }
}
